"""The machine that a measurement belongs to."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from ..base.cpu_features import cpu_count, cpu_flags, int8_instructions, usable_cpu_count
from ..base.versions import own_version
from ..bundle.types import Count


@dataclass(frozen=True)
class Machine:
    """What a latency depends on beside the model.

    Attributes:
        name: the CPU's or the board's model name.
        architecture: as `uname -m` says it.
        cores: logical CPUs of the machine.
        usable_cores: those that the measuring process may run on.
        memory_bytes: physical memory.
        system: operating system and release.
        versions: of Python, the runtime and this package.
        int8: how its CPU multiplies INT8, as `int8_instructions` names it, which decides what INT8 gains;
            empty where that is unknown, or the model does not run on the CPU.
        identity: tells two machines of one model apart: a hash, or empty where the system offers nothing.
    """

    name: str
    architecture: str
    cores: Count
    usable_cores: Count
    memory_bytes: Count
    system: str
    versions: Mapping[str, str] = field(default_factory=dict)
    identity: str = ""
    int8: str = ""

    @property
    def machine_id(self) -> str:
        """Twelve hexadecimal digits, the same for every run on this machine; versions do not enter."""
        return _digest(self.name, self.architecture, str(self.cores), self.identity, self.int8)

    def to_json(self) -> dict[str, Any]:
        return {"machine_id": self.machine_id, **msgspec.to_builtins(self)}


def this_machine(packages: tuple[str, ...] = ()) -> Machine:
    """The machine this process runs on, with the versions of the named packages that are installed."""
    import psutil

    versions = {"python": platform.python_version(), "veca-edge": own_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return Machine(
        name=_processor_name(),
        architecture=platform.machine(),
        cores=cpu_count(),
        usable_cores=usable_cpu_count(),
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()}",
        versions=versions,
        identity=_identity(),
        int8=int8_instructions(platform.machine(), cpu_flags()),
    )


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _identity() -> str:
    """A hash of the installation's id, so that the id itself is not passed on with a bundle."""
    text = _text_of("/etc/machine-id")
    return _digest("veca-edge", text) if text else ""


def _text_of(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip("\x00\n ")
    except OSError:
        return ""


def _processor_name() -> str:
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "Mac"
    for line in _text_of("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    # Arm kernels name the board, not the processor.
    return _text_of("/proc/device-tree/model") or platform.processor() or platform.machine()
