"""What this machine can export, prove and profile, and what is missing for the rest.

Every check says what it found; nothing is changed and nothing is downloaded.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..base.cpu_features import cpu_flags, int8_instructions

PYTHONS = ((3, 10), (3, 12))
TORCHES = ((2, 7), (2, 13))
TRTEXEC = ("/usr/src/tensorrt/bin/trtexec", "/usr/local/tensorrt/bin/trtexec")
GROUPS = {
    "all": "Everywhere",
    "cpu": "Target cpu",
    "jetson": "Target jetson",
    "apple": "Target apple",
    "machine": "This machine",
}


@dataclass(frozen=True)
class Check:
    """One requirement or fact.

    Attributes:
        target: who needs it: `all`, `cpu`, `jetson`, `apple`, or `machine` for what latencies depend on.
        name: of the requirement.
        ok: True: there and right; False: missing or broken, and needed; None: worth knowing, but stops nothing.
        found: what is there.
        advice: what to do about it, where there is something to do.
    """

    target: str
    name: str
    ok: bool | None
    found: str
    advice: str = ""


def examine() -> list[Check]:
    """All checks of all targets, in the order in which a reader wants them."""
    return [check for group in (_common, _cpu, _jetson, _apple, _machine) for check in group()]


# -------------------------------------------------------------------------------------- packages


def package(
    target: str, name: str, extra: str, module: str | None = None, needed: bool = True, purpose: str = ""
) -> Check:
    """Whether a package is installed and can be imported."""
    install = f"pip install 'veca-edge[{extra}]'" if extra else "pip install --force-reinstall veca-edge"
    advice = f"{purpose}: {install}" if purpose else install
    missing = False if needed else None
    try:
        found = version(name)
    except PackageNotFoundError:
        return Check(target, name, missing, "not installed", advice)
    try:
        import_module(module or name.replace("-", "_"))
    except Exception as error:  # a broken native library fails in many ways
        reason = (str(error).strip().splitlines() or [""])[0]
        return Check(
            target,
            name,
            missing,
            f"{found}, but it can't be imported: {reason or type(error).__name__}",
            "pip install --force-reinstall " + name,
        )
    return Check(target, name, True, found)


def numbers(text: str) -> tuple[int, ...]:
    """`2.13.0+cpu` as (2, 13, 0)."""
    return tuple(int(n) for n in re.findall(r"\d+", text.split("+")[0])[:3])


def within(check: Check, lowest: tuple[int, int], highest: tuple[int, int]) -> Check:
    """A found version, doubted when it lies outside of those that were tried."""
    if not check.ok or lowest <= numbers(check.found)[:2] <= highest:
        return check
    tried = f"{'.'.join(map(str, lowest))} to {'.'.join(map(str, highest))}"
    return Check(check.target, check.name, None, check.found, f"veca-edge is tested with {tried}.")


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
    yield package("all", "nncf", "export")
    for name in ("matplotlib", "jinja2"):
        yield package("all", name, "report", needed=False, purpose="veca-edge report")
    opencv = next(
        (name for name in ("opencv-python", "opencv-contrib-python") if _installed(name)), "opencv-python-headless"
    )
    yield package("all", opencv, "camera", "cv2", needed=False, purpose="videos and cameras in veca-edge run")


def _cpu() -> Iterable[Check]:
    yield package("cpu", "onnxruntime", "")
    for rival in ("onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"):
        if _installed(rival) and _installed("onnxruntime"):
            yield Check(
                "cpu",
                "one onnxruntime",
                False,
                f"onnxruntime and {rival} overwrite each other's files",
                f"pip uninstall onnxruntime {rival}, then pip install onnxruntime",
            )
    yield int8_products(int8_instructions(platform.machine(), cpu_flags()))


def int8_products(instructions: str) -> Check:
    """How this CPU multiplies INT8, which decides whether INT8 is fast here."""
    if not instructions:
        return Check("cpu", "INT8 products", None, "unknown: this system does not list the features of its CPU", "")
    if "without VNNI" in instructions:
        return Check(
            "cpu",
            "INT8 products",
            None,
            instructions,
            "INT8 gains less here: ONNX Runtime's exact kernel is slower, and its fast one, the default "
            "outside veca-edge, saturates (set session.x64quantprecision to 1 in your own code).",
        )
    if instructions in ("no AVX2", "NEON without dot products"):
        return Check(
            "cpu",
            "INT8 products",
            None,
            instructions,
            "INT8 will hardly be faster than fp32 here: profile it beside fp32.",
        )
    return Check("cpu", "INT8 products", True, f"{instructions}: INT8 is fast", "")


# -------------------------------------------------------------------------------------- targets


def _jetson() -> Iterable[Check]:
    from_here = platform.system() == "Linux" and platform.machine() == "x86_64"
    if from_here:
        yield package(
            "jetson", "tensorrt-rtx", "jetson", needed=False, purpose="compiles every file without a GPU, as a check"
        )
    release = Path("/etc/nv_tegra_release")
    if release.exists():
        yield Check("jetson", "this is a Jetson", True, release.read_text(errors="replace").splitlines()[0])
    tensorrt = _installed("tensorrt")
    yield Check(
        "jetson",
        "tensorrt",
        True if tensorrt else None,
        tensorrt or "not installed",
        "" if tensorrt else "Builds engines on this machine; on a Jetson it comes with JetPack.",
    )
    if tensorrt and release.exists() and _is_wheel("tensorrt"):
        yield Check(
            "jetson",
            "tensorrt from pip",
            False,
            "pip's TensorRT does not support a Jetson's GPU",
            "Uninstall it, and make the environment with: python3 -m venv --system-site-packages",
        )
    trtexec = shutil.which("trtexec") or next((path for path in TRTEXEC if os.access(path, os.X_OK)), None)
    yield Check(
        "jetson",
        "trtexec",
        True if trtexec else None,
        trtexec or "not found",
        "" if trtexec else "Builds and times engines here; on a Jetson it comes with JetPack.",
    )
    ssh = shutil.which("ssh")
    said = (_output("ssh", "-V", errors=True).splitlines() or [""])[0]
    yield Check(
        "jetson",
        "ssh",
        True if ssh else None,
        said or ("installed" if ssh else "not found"),
        "" if ssh else "Reaches a board with --device: install your system's OpenSSH client.",
    )


def _apple() -> Iterable[Check]:
    coremltools = package("apple", "coremltools", "apple")
    if not coremltools.ok and (platform.system(), platform.machine()) == ("Linux", "aarch64"):
        coremltools = Check(
            *("apple", "coremltools", False, "has no wheels for ARM Linux"),
            "Export Core ML packages on x86-64 Linux or on a Mac.",
        )
    yield coremltools
    if coremltools.ok and numbers(coremltools.found)[0] < 9:
        yield Check("apple", "coremltools >= 9", False, coremltools.found, "pip install 'veca-edge[apple]'")
    torch = _installed("torch")
    if coremltools.ok and torch and numbers(torch)[:2] > (2, 7) and numbers(coremltools.found)[:2] <= (9, 0):
        yield Check(
            "apple",
            "coremltools with torch",
            None,
            f"coremltools {coremltools.found} was released for torch 2.7, this is {torch}",
            "The packages that veca-edge writes are executed and compared in any case.",
        )
    mac = platform.system() == "Darwin"
    yield Check(
        "apple",
        "macOS",
        True if mac else None,
        platform.mac_ver()[0] if mac else "no",
        "" if mac else "Exports and proves here; profiling and the Neural Engine need a Mac.",
    )


# -------------------------------------------------------------------------------------- machine


def _machine() -> Iterable[Check]:
    import psutil

    cores = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
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


def cgroup_limits(root: Path = Path("/sys/fs/cgroup")) -> tuple[float | None, int | None]:
    """CPUs and bytes of memory that the control group allows, each None where it sets no limit."""
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
    return quota, limit


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _is_wheel(name: str) -> bool:
    """Whether pip brought a package (JetPack's Debian packages leave no installer record of pip)."""
    from importlib.metadata import distribution

    return (distribution(name).read_text("INSTALLER") or "").strip() == "pip"


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def _output(*command: str, errors: bool = False) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stderr if errors else done.stdout).strip()


def lacking(checks: Iterable[Check], target: str) -> list[Check]:
    """What stops an export for a target."""
    return [check for check in checks if check.ok is False and check.target in ("all", target)]
