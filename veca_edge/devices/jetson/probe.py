"""What a board is and what is installed on it, read in one go with a POSIX shell and no root."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...base.errors import EdgeError
from ...base.version_numbers import major_minor
from ..answers import Reader
from ..connection import Connection, LocalConnection, connect, parse_device
from ..shell import BOARD_DIRECTORY
from .modules import Module, identify_module, jetpack_of_l4t
from .trtexec import banner_version

# Tests stand a directory in for the root of a board's file system; nothing else sets this variable.
BOARD_ROOT = '"${VECA_EDGE_BOARD_ROOT:-}"'

# Where a Jetson's GPU has its clocks, below `$root`: Xavier and Orin of JetPack 5, Orin since, Thor.
GPU_CLOCKS = tuple(f'"$root"/sys/class/devfreq/{name}' for name in ("*.gv11b", "*.ga10b", "*.gpu", "*gpu-gpc-0"))

_SCRIPT = f"""
root={BOARD_ROOT}
python=$1
section() {{ printf '\\n@%s\\n' "$1"; }}
section hostname; uname -n
section kernel; uname -sr
section architecture; uname -m
section cpus; grep -c ^processor /proc/cpuinfo
section meminfo; grep -E '^(MemTotal|MemAvailable):' /proc/meminfo
section disk; mkdir -p {BOARD_DIRECTORY} && df -Pk {BOARD_DIRECTORY} | awk 'NR == 2 {{ print $4 }}'
section model; tr -d '\\0' <"$root/proc/device-tree/model" 2>/dev/null
section compatible; tr '\\0' ' ' <"$root/proc/device-tree/compatible" 2>/dev/null
section l4t; cat "$root/etc/nv_tegra_release" 2>/dev/null
section machine
[ ! -s "$root/etc/machine-id" ] ||
    cat "$root/etc/machine-id" "$root/proc/device-tree/serial-number" 2>/dev/null | sha256sum
section jetpack; dpkg-query -W -f '${{Version}}' nvidia-jetpack 2>/dev/null
section cuda; cat "$root/usr/local/cuda/version.json" 2>/dev/null
section power
nvpmodel -q 2>/dev/null || cat "$root/var/lib/nvpmodel/status" 2>/dev/null
section clocks
for gpu in {" ".join(GPU_CLOCKS)}; do
    [ ! -r "$gpu/cur_freq" ] || echo "$(cat "$gpu/min_freq") $(cat "$gpu/max_freq") $(cat "$gpu/cur_freq")"
done
section smi
nvidia-smi --query-gpu=name,compute_cap --format=csv,noheader 2>/dev/null | head -n 1
section trtexec
for trtexec in "$(command -v trtexec)" "$root/usr/src/tensorrt/bin/trtexec"; do
    if [ -n "$trtexec" ] && [ -x "$trtexec" ]; then
        echo "$trtexec"
        "$trtexec" --help 2>&1 | grep -m 1 -o 'TensorRT v[0-9]*'
        break
    fi
done
section python
for python in "$python" /usr/bin/python3 "$(command -v python3)"; do
    if [ -n "$python" ] && version=$("$python" -c 'import tensorrt; print(tensorrt.__version__)' 2>/dev/null); then
        echo "$python"
        echo "$version"
        break
    fi
done
section dpkg
dpkg-query -W -f '${{Version}}\\n' libnvinfer11 libnvinfer10 libnvinfer8 2>/dev/null
section tegrastats; command -v tegrastats
section sudo; sudo -n true >/dev/null 2>&1 && echo yes
exit 0
"""


@dataclass(frozen=True)
class Clocks:
    """The GPU's frequency limits and its frequency now, in MHz."""

    low: float
    high: float
    now: float

    @property
    def locked(self) -> bool:
        """`jetson_clocks` raises the lower limit to the upper one."""
        return self.low == self.high


@dataclass(frozen=True)
class Board:
    """A machine that builds and runs engines.

    Attributes:
        hostname, architecture, kernel, cpus: as the system says.
        model: the device tree's name of the board, or the GPU's on a machine that is not a Jetson.
        module: the table's module, or None.
        compute_capability: of the GPU (`8.7`), or None where nothing tells.
        l4t: release (`36.4.3`), or None on a machine that is not a Jetson.
        tensorrt: version of what would build here (`10.3.0`), or None.
        cuda: version, or None.
        trtexec: its path, or None.
        python: a Python interpreter with the `tensorrt` package, or None.
        python_tensorrt: that package's version.
        power_mode: nvpmodel's name of it, or None.
        clocks: the GPU's, or None where they cannot be read.
        memory_bytes, available_bytes: RAM, which a Jetson's GPU shares.
        disk_bytes: free where our files go.
        tegrastats: its path, or None.
        sudo: whether root can be had without a password.
        identity: a hash that tells two boards apart: of the system's identity, which boards that were flashed from one
            backup have in common (machine-id(5)), and of the module's serial number.
    """

    hostname: str
    architecture: str
    kernel: str
    cpus: int
    model: str
    module: Module | None
    compute_capability: str | None
    l4t: str | None
    tensorrt: str | None
    cuda: str | None
    trtexec: str | None
    python: str | None
    python_tensorrt: str | None
    power_mode: str | None
    clocks: Clocks | None
    memory_bytes: int
    available_bytes: int
    disk_bytes: int
    tegrastats: str | None
    sudo: bool
    identity: str

    @property
    def name(self) -> str:
        """The module's name where it is known, else what the board calls itself."""
        return self.module.name if self.module else self.model or self.hostname

    @property
    def jetpack(self) -> str | None:
        return jetpack_of_l4t(self.l4t) if self.l4t else None

    def to_json(self) -> dict[str, Any]:
        """For `doctor` and reports."""
        return {
            "hostname": self.hostname,
            "name": self.name,
            "model": self.model,
            "architecture": self.architecture,
            "kernel": self.kernel,
            "cpus": self.cpus,
            "compute_capability": self.compute_capability,
            "l4t": self.l4t,
            "jetpack": self.jetpack,
            "tensorrt": self.tensorrt,
            "cuda": self.cuda,
            "trtexec": self.trtexec,
            "python": self.python,
            "power_mode": self.power_mode,
            "gpu_clock_mhz": self.clocks and [self.clocks.low, self.clocks.high, self.clocks.now],
            "clocks_locked": self.clocks and self.clocks.locked,
            "memory_bytes": self.memory_bytes,
            "available_bytes": self.available_bytes,
            "disk_bytes": self.disk_bytes,
            "tegrastats": self.tegrastats,
            "sudo": self.sudo,
        }


@dataclass(frozen=True)
class ConnectedBoard:
    """A board as it was read, and the connection to it.

    Attributes:
        interval_s: seconds between two looks at a job that runs there.
    """

    connection: Connection
    board: Board
    interval_s: float = 1.0

    @property
    def name(self) -> str:
        """What the board is called in messages."""
        return self.connection.name


@contextmanager
def open_board(device: str) -> Iterator[ConnectedBoard]:
    """What `--device` names. Raises `EdgeError` when it cannot be reached."""
    connection = connect(parse_device(device))
    try:
        yield ConnectedBoard(connection, probe(connection))
    finally:
        connection.close()


def check_power_mode(there: ConnectedBoard, wanted: str | None) -> None:
    """Raises `EdgeError` where a board is in another power mode than it has to be; it is never changed from here."""
    mode = there.board.power_mode
    if wanted is not None and mode != wanted:
        raise EdgeError(
            f"{there.name} is in the power mode {mode or 'that it does not say'}, not in {wanted}.",
            "Change it there with sudo nvpmodel -m NUMBER (it may have to start again), or change the fleet's file.",
        )


def board_tensorrt(there: ConnectedBoard) -> str:
    """The TensorRT to export for, `major.minor`. Raises `EdgeError` where there is none."""
    if there.board.tensorrt is None:
        raise no_tensorrt(there)
    return major_minor(there.board.tensorrt)


def no_tensorrt(there: ConnectedBoard) -> EdgeError:
    """What is said where nothing can build or run an engine."""
    if there.board.l4t:
        hint = "Install JetPack's on the board: sudo apt install nvidia-jetpack"
    else:
        hint = "Give the board with --device ssh://host, or install the Python package tensorrt here."
    return EdgeError(
        f"{there.name} has no TensorRT: neither trtexec (below /usr/src/tensorrt/bin or on the PATH) "
        "nor the Python package tensorrt.",
        hint,
    )


def probe(connection: Connection) -> Board:
    """Reads a board. Raises `EdgeError` when it cannot be reached or understood; what is not there is None."""
    python = ""
    if isinstance(connection, LocalConnection):
        python = sys.executable
    done = connection.run(_SCRIPT, python, most_bytes=_MOST_BYTES)
    if done.exit_code:
        raise EdgeError(
            f"{connection.name} could not be read: {done.error_text[-500:] or f'exit code {done.exit_code}'}.",
            "It needs a POSIX shell (sh) with the usual tools.",
        )
    reader = Reader(connection.name)
    return board_from_sections(reader.sections(done.text, _SECTIONS), reader)


_SECTIONS = tuple(re.findall(r"^section ([a-z0-9]+)", _SCRIPT, re.MULTILINE))
_MOST_BYTES = 256 << 10


def board_from_sections(found: Mapping[str, str], reader: Reader) -> Board:
    """Reads what the probe printed, by section; an empty section is what the board does not have or say.

    Raises:
        UnreadableAnswer: a section holds something else than it should.
    """
    memory = _memory(found["meminfo"], reader)
    total = memory.get("MemTotal", 0)
    model = reader.line("the model", found["model"])
    module = identify_module(model, reader.line("the device tree's name", found["compatible"]), total >> 20)
    gpu, capability = _gpu(reader.line("the GPU", found["smi"]))
    trtexec, trtexec_version = _lines(found["trtexec"], "trtexec", reader)
    python, python_version = _lines(found["python"], "Python", reader)
    python_version = _release(python_version, "the version of Python's TensorRT", reader)
    tensorrt = (banner_version(trtexec_version) if trtexec_version else None) or python_version
    if tensorrt is None and found["dpkg"]:
        tensorrt = _release(found["dpkg"].splitlines()[0], "the version of the TensorRT package", reader)
    cuda = re.search(r'"cuda"\s*:\s*\{[^{}]{0,400}"version"\s*:\s*"([0-9]{1,3}\.[0-9]{1,3})', found["cuda"])
    mode = power_mode(found["power"])
    return Board(
        hostname=reader.line("the host's name", found["hostname"]),
        architecture=reader.line("the architecture", found["architecture"]),
        kernel=reader.line("the kernel", found["kernel"]),
        cpus=reader.whole("the number of CPUs", found["cpus"], most=1 << 16) if found["cpus"] else 1,
        model=model or gpu,
        module=module,
        compute_capability=module.compute_capability if module else capability,
        l4t=l4t_release(found["l4t"]),
        tensorrt=tensorrt,
        cuda=cuda[1] if cuda else None,
        trtexec=trtexec,
        python=python,
        python_tensorrt=python_version,
        power_mode=reader.line("the power mode", mode) if mode else None,
        clocks=_clocks(found["clocks"], reader),
        memory_bytes=total,
        available_bytes=memory.get("MemAvailable", 0),
        disk_bytes=reader.whole("the free space of its disk", found["disk"]) * 1024 if found["disk"] else 0,
        tegrastats=reader.line("the path of tegrastats", found["tegrastats"]) or None,
        sudo=found["sudo"] == "yes",
        identity=_identity(found["machine"], reader),
    )


def _memory(text: str, reader: Reader) -> dict[str, int]:
    """Bytes by the name that `/proc/meminfo` gives them."""
    found = {}
    for line in text.splitlines():
        name, _, amount = line.partition(":")
        if name not in ("MemTotal", "MemAvailable") or not amount.endswith(" kB"):
            raise reader.refused("the memory", line)
        found[name] = reader.whole("the memory", amount.removesuffix(" kB").strip(), most=1 << 40) * 1024
    return found


def _clocks(text: str, reader: Reader) -> Clocks | None:
    """Of the first GPU; a frequency that the board would not tell is left out, and then there are none."""
    hertz = [reader.whole("a GPU clock", word, most=10**12) for word in text.partition("\n")[0].split()]
    return Clocks(*(hz / 1e6 for hz in hertz)) if len(hertz) == 3 else None


def _gpu(text: str) -> tuple[str, str | None]:
    """Name and compute capability of what nvidia-smi lists; an Orin's lists nothing of use."""
    name, _, capability = (part.strip() for part in text.rpartition(","))
    return (name, capability) if re.fullmatch(r"[0-9]{1,3}\.[0-9]{1,2}", capability) else ("", None)


def _identity(text: str, reader: Reader) -> str:
    return reader.digest("the digest of its identity", text.split()[0])[:12] if text else ""


def _lines(text: str, what: str, reader: Reader) -> tuple[str | None, str | None]:
    """A path and a version, each None where there is none."""
    lines = [reader.line(f"the path or version of {what}", line) or None for line in text.splitlines()]
    if len(lines) > 2:
        raise reader.refused(f"the path and version of {what}", text)
    first, second, *_ = [*lines, None, None]
    return first, second


def _release(version: str | None, what: str, reader: Reader) -> str | None:
    """`10.3.0.30-1+cuda12.5` -> `10.3.0`."""
    return ".".join(map(str, reader.version(what, version).release[:3])) if version else None


def l4t_release(text: str) -> str | None:
    """`# R36 (release), REVISION: 4.3, ...` -> `36.4.3`."""
    match = re.search(r"R([0-9]{1,3}) \(release\), REVISION: ([0-9]{1,3}(?:\.[0-9]{1,3}){0,2})(?![0-9])", text)
    return f"{match[1]}.{match[2]}" if match else None


def power_mode(text: str) -> str | None:
    """nvpmodel's name of the mode (`MAXN_SUPER`), or its number from the status file (`pmode:0002`)."""
    match = re.search(r"NV Power Mode:[ \t]*(\S{1,100})", text)
    if match:
        return match[1]
    match = re.search(r"pmode:([0-9]{1,6})", text)
    return f"mode {int(match[1])}" if match else None
