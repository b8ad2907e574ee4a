"""Jetson modules and JetPacks as plain data, and what a module could reach at best.

Peaks are those of the GPU's tensor cores, dense: INT8 operations per second = 4096 x SMs x clock, half
of that in FP16. They reproduce NVIDIA's marketed TOPS within one. A figure that could not be derived
that way is None: an estimate is then refused instead of guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...base.errors import EdgeError, unknown_name
from ...base.version_numbers import major_minor, parse_version

INT8_OPS_PER_SM_CLOCK = 4096


@dataclass(frozen=True)
class JetPack:
    """One JetPack release: what its TensorRT is, and which modules it is made for."""

    version: str
    l4t: str
    tensorrt: str
    cuda: str
    families: tuple[str, ...]


JETPACKS: dict[str, JetPack] = {
    jetpack.version: jetpack
    for jetpack in (
        JetPack("5.1", "35.x", "8.5.2", "11.4", ("xavier", "orin")),
        JetPack("6.0", "36.3", "8.6.2", "12.2", ("orin",)),
        JetPack("6.1", "36.4", "10.3.0", "12.6", ("orin",)),
        JetPack("6.2", "36.4.3, 36.5", "10.3.0", "12.6", ("orin",)),
        JetPack("7.0", "38.2", "10.13.3", "13.0", ("thor",)),
        JetPack("7.1", "38.4", "10.13.3", "13.0", ("thor",)),
        JetPack("7.2", "39.2", "10.16.2", "13.2", ("orin", "thor")),
    )
}
DEFAULT_JETPACK = "6.2"

# The longest prefix that fits decides; 36.4.0 came with JetPack 6.1, every later 36.4 with 6.2.
_JETPACK_OF_L4T = (
    ("35", "5.1"),
    ("36.2", "6.0"),
    ("36.3", "6.0"),
    ("36.4", "6.2"),
    ("36.4.0", "6.1"),
    ("36.5", "6.2"),
    ("38", "7.1"),
    ("38.1", "7.0"),
    ("38.2", "7.0"),
    ("39", "7.2"),
)


@dataclass(frozen=True)
class Module:
    """One Jetson module.

    Attributes:
        name: as engine keys and tables write it.
        part_numbers: what the device tree's `compatible` calls it.
        compute_capability: of its GPU, for example `8.7`.
        ram_gb: shared by CPU and GPU; bandwidth_gbs: gigabytes per second (vendor's figure).
        sm_count, gpu_mhz: streaming multiprocessors and the highest GPU clock; None where not known.
        super_gpu_mhz, super_bandwidth_gbs: the same in the Super power modes, where the module has them.
        total_rails: the tegrastats rails whose sum is the module's power.
    """

    name: str
    family: str
    part_numbers: tuple[str, ...]
    compute_capability: str
    ram_gb: int
    bandwidth_gbs: float | None
    sm_count: int | None
    gpu_mhz: int | None
    total_rails: tuple[str, ...]
    super_gpu_mhz: int | None = None
    super_bandwidth_gbs: float | None = None

    def int8_tops(self, super_mode: bool = False) -> float | None:
        """Dense INT8 peak in 10^12 operations per second (two per multiply-accumulate)."""
        mhz = self.super_gpu_mhz if super_mode else self.gpu_mhz
        if self.sm_count is None or mhz is None:
            return None
        return INT8_OPS_PER_SM_CLOCK * self.sm_count * mhz * 1e6 / 1e12

    @property
    def has_super(self) -> bool:
        """Whether JetPack 6.2 or newer gives it a Super power mode."""
        return self.super_gpu_mhz is not None

    @property
    def jetpacks(self) -> tuple[str, ...]:
        return tuple(j.version for j in JETPACKS.values() if self.family in j.families)


_IN = ("VDD_IN",)
_AGX_XAVIER = ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")
_AGX_ORIN = ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
# On Thor, VIN is the whole board's input; the module is these three.
_THOR = ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0")

MODULES: dict[str, Module] = {
    module.name: module
    for module in (
        Module("Orin Nano 4GB", "orin", ("p3767-0004",), "8.7", 4, 34, 4, 625, _IN, 1020, 51),
        Module("Orin Nano 8GB", "orin", ("p3767-0003", "p3767-0005"), "8.7", 8, 68, 8, 625, _IN, 1020, 102),
        Module("Orin NX 8GB", "orin", ("p3767-0001",), "8.7", 8, 102, 8, 765, _IN, 1173, 102),
        Module("Orin NX 16GB", "orin", ("p3767-0000",), "8.7", 16, 102, 8, 918, _IN, 1173, 102),
        Module("AGX Orin 32GB", "orin", ("p3701-0004",), "8.7", 32, 205, 14, 930, _AGX_ORIN),
        Module("AGX Orin 64GB", "orin", ("p3701-0005",), "8.7", 64, 205, 16, 1300, _AGX_ORIN),
        # The first developer kits: the 64GB module's GPU with half its memory.
        Module(
            "AGX Orin Developer Kit 32GB", "orin", ("p3701-0000", "p3701-0001"), "8.7", 32, 205, 16, 1300, _AGX_ORIN
        ),
        Module("AGX Thor T5000", "thor", ("p3834-0008",), "11.0", 128, 273, None, None, _THOR),
        Module("Xavier NX", "xavier", ("p3668-0000", "p3668-0001", "p3668-0003"), "7.2", 8, None, None, None, _IN),
        Module(
            "AGX Xavier",
            "xavier",
            ("p2888-0001", "p2888-0004", "p2888-0005", "p2888-0006", "p2888-0008"),
            "7.2",
            32,
            None,
            None,
            None,
            _AGX_XAVIER,
        ),
    )
}


def jetpack_named(version: str) -> JetPack:
    """`6.2`, or a patch release of it (`6.2.1`). Raises `EdgeError` listing the known ones."""
    try:
        release = parse_version(version).release
    except EdgeError as error:
        raise unknown_name("JetPack", version, JETPACKS) from error
    jetpack = JETPACKS.get(".".join(map(str, release[:2])))
    if jetpack is None:
        raise unknown_name("JetPack", version, JETPACKS)
    return jetpack


def jetpack_tensorrt(version: str) -> str:
    """The TensorRT generation of a JetPack, as `major.minor`: "6.2" -> "10.3"."""
    return major_minor(jetpack_named(version).tensorrt)


def jetpack_of_l4t(l4t: str) -> str | None:
    """The JetPack that an L4T release (`36.4.3`) belongs to, or None for one that is not in the table."""
    fits = [(len(prefix), version) for prefix, version in _JETPACK_OF_L4T if f"{l4t}.".startswith(f"{prefix}.")]
    return max(fits)[1] if fits else None


def identify_module(model: str, compatible: str, ram_mb: int) -> Module | None:
    """The module behind a device tree, or None when it is not in the table.

    The part number in `compatible` decides; where there is none (as in some images), the model's name and
    the memory do.

    Args:
        model: `/proc/device-tree/model`.
        compatible: `/proc/device-tree/compatible`, its entries separated by blanks.
        ram_mb: `MemTotal`, which is a little below the nominal size.
    """
    parts = re.findall(r"p\d{4}-\d{4}", compatible)
    for module in MODULES.values():
        if set(parts) & set(module.part_numbers):
            return module
    if parts:
        return None
    words = model.lower()
    kinds = (
        ("orin nano", "Orin Nano"),
        ("orin nx", "Orin NX"),
        ("agx orin", "AGX Orin"),
        ("thor", "AGX Thor"),
        ("xavier nx", "Xavier NX"),
        ("xavier", "AGX Xavier"),
    )
    for word, kind in kinds:
        if word in words:
            fits = [m for m in MODULES.values() if m.name.startswith(kind)]
            return min(fits, key=lambda m: abs(m.ram_gb * 1024 - ram_mb))
    return None


# ------------------------------------------------------------------------------------ roofline


@dataclass(frozen=True)
class Estimate:
    """What the hardware's peaks allow for one frame: a lower bound, not a measurement.

    Attributes:
        compute_ms: arithmetic at the tensor cores' dense peak.
        memory_ms: weights and activations once through RAM at its peak bandwidth.
    """

    compute_ms: float
    memory_ms: float

    @property
    def milliseconds(self) -> float:
        return max(self.compute_ms, self.memory_ms)

    @property
    def bound(self) -> str:
        return "compute" if self.compute_ms >= self.memory_ms else "bandwidth"


def estimate(
    module: Module,
    *,
    int8_macs: float = 0,
    fp16_macs: float = 0,
    fp32_macs: float = 0,
    moved_bytes: float = 0,
    super_mode: bool = False,
) -> Estimate:
    """Roofline of one frame on one module: no engine can be faster, real ones are slower.

    Args:
        int8_macs, fp16_macs, fp32_macs: multiply-accumulates in each precision (FP32 counts at the TF32
            rate, a quarter of INT8, which TensorRT uses where it may).
        moved_bytes: bytes that must cross the memory bus at least once: weights, input, output.
        super_mode: with the clocks and memory of the Super power modes.
    """
    if super_mode and not module.has_super:
        raise EdgeError(
            f"{module.name} has no Super power mode.",
            f"Modules that have one: {', '.join(m.name for m in MODULES.values() if m.has_super)}.",
        )
    tops = module.int8_tops(super_mode)
    bandwidth = module.super_bandwidth_gbs if super_mode else module.bandwidth_gbs
    if tops is None or bandwidth is None:
        known = ", ".join(m.name for m in MODULES.values() if m.int8_tops() is not None)
        raise EdgeError(
            f"There is no estimate for {module.name}: its peak rate is not in the table.",
            f"Modules with an estimate: {known}.",
        )
    operations = 2 * (int8_macs + 2 * fp16_macs + 4 * fp32_macs)
    return Estimate(operations / (tops * 1e12) * 1e3, moved_bytes / (bandwidth * 1e9) * 1e3)


def estimate_frame(
    module: Module, precision: str, macs: float, attention_macs: float, moved_bytes: float, super_mode: bool = False
) -> Estimate:
    """`estimate` of a model in one precision; in `int8` attention itself stays in FP16, as it is exported.

    Args:
        macs: of one frame, attention included (`profiles.cost`); attention_macs: scores and their sums of v,
            2 x width for each pair of a query and a key.
    """
    counted = {
        "int8": {"int8_macs": macs - attention_macs, "fp16_macs": attention_macs},
        "fp16": {"fp16_macs": macs},
        "fp32": {"fp32_macs": macs},
    }
    if precision not in counted:
        raise unknown_name("precision", precision, counted)
    return estimate(module, moved_bytes=moved_bytes, super_mode=super_mode, **counted[precision])
