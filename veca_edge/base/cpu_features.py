"""How many CPUs there are, and what they have for INT8 products, as far as the system says."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from functools import cache
from pathlib import Path


def cpu_count() -> int:
    """Logical CPUs of this machine."""
    return os.cpu_count() or 1


def usable_cpu_count() -> int:
    """Logical CPUs that this process may use, as its affinity mask says where the system has one."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cpu_count()


@cache
def cpu_flags() -> frozenset[str]:
    """The CPU's features as the system names them; empty where it does not say."""
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "-a"]
        text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return frozenset(re.findall(r"^hw\.optional\.(?:arm\.)?(\w+): 1$", text, re.MULTILINE))
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return frozenset()
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(line[1].split()) if line else frozenset()


# What a system calls the features that matter, best first, and the field's name for them.
_X86 = (
    ("amx_int8", "AMX"),
    ("avx512_vnni", "AVX-512 VNNI"),
    ("avx_vnni", "AVX-VNNI"),
    ("avx512bw", "AVX-512 without VNNI"),
    ("avx2", "AVX2 without VNNI"),
)
_ARM = (
    ("i8mm", "NEON i8mm"),
    ("FEAT_I8MM", "NEON i8mm"),
    ("asimddp", "NEON dot products"),
    ("FEAT_DotProd", "NEON dot products"),
)


def int8_saturates(architecture: str, flags: frozenset[str]) -> bool:
    """Whether ONNX Runtime's default u8 x s8 product saturates on this CPU, or may, for all that is known of it.

    Without VNNI it adds two products in 16 bits (onnxruntime.ai, "Quantize ONNX models", on U8S8).
    """
    return architecture.lower() in ("x86_64", "amd64") and not flags & {"amx_int8", "avx512_vnni", "avx_vnni"}


def int8_instructions(architecture: str, flags: frozenset[str]) -> str:
    """The best that a CPU has for INT8 products; empty where `flags` says nothing."""
    arm = architecture.lower() in ("arm64", "aarch64")
    for flag, name in _ARM if arm else _X86:
        if flag in flags:
            return name
    if not flags:
        return ""
    return "NEON without dot products" if arm else "no AVX2"
