"""What this machine can export, prove and profile, and what is missing for the rest.

Every check says what it found; nothing is changed and nothing is downloaded.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..base.checks import Check, installed, package, within
from ..base.cpu_features import cpu_count, usable_cpu_count
from ..targets.table import TARGETS

PYTHONS = ((3, 10), (3, 12))
TORCHES = ((2, 7), (2, 13))
EVERYWHERE, MACHINE = "all", "machine"


def groups() -> dict[str, str]:
    """Whose checks there are, in the order in which a reader wants them, with a title each."""
    return {EVERYWHERE: "Everywhere", **{name: f"Target {name}" for name in TARGETS}, MACHINE: "This machine"}


def examine() -> list[Check]:
    """All checks of all targets, in the order in which a reader wants them."""
    each = (_common, *(target.doctor for target in TARGETS.values()), _machine)
    return [check for group in each for check in group()]


# -------------------------------------------------------------------------------------- packages


def _common() -> Iterable[Check]:
    found = platform.python_version()
    ok = PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]
    yield Check("all", "python", ok, found, "" if ok else "Use Python 3.10, 3.11 or 3.12.")
    yield Check("all", "system", True, f"{platform.system()} {platform.release()} {platform.machine()}")
    yield package("all", "veca-edge", "", "veca_edge")
    yield package("all", "numpy", "")
    yield package("all", "pillow", "", "PIL")
    yield within(package("all", "torch", "export", purpose="reads checkpoints, is the reference"), *TORCHES)
    yield package("all", "safetensors", "export")
    yield package("all", "onnx", "export")
    yield package("all", "onnx_ir", "export")
    yield package("all", "nncf", "nncf", needed=False, purpose="calibrates with --calibration-method nncf")
    for name in ("matplotlib", "jinja2"):
        yield package("all", name, "report", needed=False, purpose="veca-edge report")
    opencv = next(
        (name for name in ("opencv-python", "opencv-contrib-python") if installed(name)), "opencv-python-headless"
    )
    yield package("all", "av", "camera", needed=False, purpose="videos in veca-edge run and evaluate")
    yield package("all", opencv, "camera", "cv2", needed=False, purpose="cameras in veca-edge run")


# -------------------------------------------------------------------------------------- machine


def _machine() -> Iterable[Check]:
    import psutil

    cores, usable = cpu_count(), usable_cpu_count()
    yield Check(
        "machine",
        "CPUs",
        None if usable < cores else True,
        f"{usable} usable of {cores}",
        "An affinity mask keeps this process off the others." if usable < cores else "",
    )
    quota, limit = cgroup_limits()
    if quota is not None:
        yield Check(
            "machine",
            "CPU quota",
            None if quota < usable else True,
            f"{quota:g} CPUs",
            "The control group throttles beyond that: latencies will have a long tail." if quota < usable else "",
        )
    governor = _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor:
        ok = True if governor == "performance" else None
        yield Check(
            "machine",
            "CPU governor",
            ok,
            governor,
            "" if ok else "Latencies spread less with: sudo cpupower frequency-set -g performance",
        )
    memory = psutil.virtual_memory()
    free = memory.available if limit is None else min(memory.available, limit)
    yield Check(
        "machine",
        "memory",
        True if free > 4e9 else None,
        f"{free / 1e9:.1f} GB free of {min(memory.total, limit or memory.total) / 1e9:.1f} GB",
        "" if free > 4e9 else "Calibrating a base model takes about 4 GB.",
    )
    disk = shutil.disk_usage(".").free
    yield Check(
        "machine",
        "disk",
        True if disk > 2e9 else None,
        f"{disk / 1e9:.1f} GB free here",
        "" if disk > 2e9 else "A bundle of several core counts takes up to a gigabyte while it is made.",
    )
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    yield Check(
        "machine",
        "load",
        True if busy < usable / 2 else None,
        f"{busy:.1f}",
        "" if busy < usable / 2 else "Other work is running: profile when it has ended.",
    )


class CgroupLimits(NamedTuple):
    """What the control group allows; None where it sets no limit."""

    cpus: float | None
    memory_bytes: int | None


def cgroup_limits(root: Path = Path("/sys/fs/cgroup")) -> CgroupLimits:
    """Of the control group that is mounted at `root`, version 1 or 2."""
    quota = limit = None
    if (root / "cpu.max").exists():  # version 2
        share, _, period = _text(root / "cpu.max").partition(" ")
        quota = int(share) / int(period) if share.isdigit() and period.isdigit() else None
        memory = _text(root / "memory.max")
        limit = int(memory) if memory.isdigit() else None
    else:
        share, period = _text(root / "cpu/cpu.cfs_quota_us"), _text(root / "cpu/cpu.cfs_period_us")
        quota = int(share) / int(period) if share.isdigit() and period.isdigit() else None
        memory = _text(root / "memory/memory.limit_in_bytes")
        limit = int(memory) if memory.isdigit() and int(memory) < 1 << 60 else None
    return CgroupLimits(quota, limit)


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def lacking(checks: Iterable[Check], target: str) -> list[Check]:
    """What stops an export for a target."""
    return [check for check in checks if check.ok is False and check.target in ("all", target)]
