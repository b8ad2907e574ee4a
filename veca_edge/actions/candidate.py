"""A measured variant, what it may be limited in, and what it may be chosen by."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..bundle.types import Artifact
from ..profiles.comparison import name_of
from ..profiles.measurement import Measurement
from ..proof.fidelity import Fidelity
from .limits import Limits


@dataclass(frozen=True)
class Candidate:
    """A variant as it was measured in one setting on one machine."""

    artifact: Artifact
    measurement: Measurement
    fidelity: Fidelity | None

    @property
    def name(self) -> str:
        """`16 cores, int8, 256x256, 2 threads`."""
        return name_of(self.measurement)

    @property
    def p95_ms(self) -> float:
        return self.measurement.p95_ms

    @property
    def cosine(self) -> float | None:
        return self.fidelity and self.fidelity.elastic.lowest_mean

    @property
    def is_broken(self) -> bool:
        """Whether some of its outputs were not numbers when it was evaluated."""
        return self.fidelity is not None and self.fidelity.is_broken

    @property
    def top1(self) -> float | None:
        return self.fidelity and self.fidelity.reference.top1

    @property
    def miou(self) -> float | None:
        """Against masks where the images had them, else against the float32 model at its full core bank."""
        maps = self.fidelity and (self.fidelity.reference.segmentation_truth or self.fidelity.elastic.segmentation)
        return maps.miou if maps else None

    @property
    def depth_error(self) -> float | None:
        """Mean relative error, against known depths where there were some, else against the model likewise."""
        depth = self.fidelity and (self.fidelity.reference.depth_truth or self.fidelity.elastic.depth)
        return depth.mean_error if depth else None

    @property
    def memory_bytes(self) -> int | None:
        return self.measurement.peak_memory_bytes

    @property
    def energy_mj(self) -> float | None:
        return energy_mj(self.measurement)

    def to_json(self) -> dict[str, Any]:
        return {
            "artifact": self.artifact.name,
            "path": self.artifact.path,
            "function": self.artifact.function,
            "core_count": self.artifact.core_count,
            "precision": self.artifact.precision,
            "image_size": list(self.artifact.image_size),
            "threads": self.measurement.threads,
            "setting": self.measurement.setting,
            "machine_id": self.measurement.machine.machine_id,
            "p50_ms": self.measurement.p50_ms,
            "p95_ms": self.p95_ms,
            "cosine": self.cosine,
            "top1": self.top1,
            "miou": self.miou,
            "depth_error": self.depth_error,
            "peak_memory_bytes": self.memory_bytes,
            "energy_mj": self.energy_mj,
        }


@dataclass(frozen=True)
class Quantity:
    """Something that a limit can be put on.

    Attributes:
        name, option: in messages, and on the command line.
        limit, of: its value in the limits, and of a candidate (None where it was not measured).
        sign: 1 where less is better, -1 where more is.
        text: a value with its unit; `short` is how the option takes it.
    """

    name: str
    option: str
    limit: Callable[[Limits], float | None]
    of: Callable[[Candidate], float | None]
    sign: int
    text: Callable[[float], str]
    short: Callable[[float], str]


def allowing(value: float, unit: str) -> str:
    """The next number of three significant digits above, as an option takes it: a limit that lets the value pass."""
    step = 10.0 ** (math.floor(math.log10(value)) - 2) if value else 1.0
    return f"{math.ceil(round(value / step, 7)) * step:g}{unit}"


def cosine_text(value: float) -> str:
    """Enough digits to tell a cosine from 1."""
    return f"{value:.4f}" if value < 0.9995 else f"{value:.5f}"


QUANTITIES = (
    Quantity(
        "p95 latency",
        "--p95",
        lambda x: x.p95_ms,
        lambda c: c.p95_ms,
        1,
        lambda v: f"{v:.3g} ms" if v < 100 else f"{v:.0f} ms",
        lambda v: allowing(v, "ms"),
    ),
    Quantity(
        "cosine",
        "--min-cosine",
        lambda x: x.min_cosine,
        lambda c: c.cosine,
        -1,
        cosine_text,
        lambda v: f"{math.floor(v * 1e4) / 1e4:g}",
    ),
    Quantity(
        "peak memory",
        "--max-memory",
        lambda x: x.max_memory_bytes,
        lambda c: c.memory_bytes,
        1,
        lambda v: f"{v / 1e6:.1f} MB",
        lambda v: allowing(v / 1e6, "MB"),
    ),
    Quantity(
        "energy",
        "--max-energy",
        lambda x: x.max_energy_mj,
        lambda c: c.energy_mj,
        1,
        lambda v: f"{v:.3g} mJ",
        lambda v: allowing(v, "mJ"),
    ),
)


@dataclass(frozen=True)
class Criterion:
    """What a best variant can have most of, or, where `sign` is 1, least of.

    Attributes:
        missing: what to say, and to do, where no variant has it.
    """

    label: str
    of: Callable[[Candidate], float | None]
    sign: int
    text: Callable[[float], str]
    missing: tuple[str, str]


BY = {
    "top1": Criterion(
        "top-1",
        lambda c: c.top1,
        -1,
        lambda v: f"{v:.1%}",
        (
            "The bundle knows no top-1 accuracy: it has no classifier, or its images had no labels.",
            "Export with --evaluation on a folder that has one subfolder a class, or choose --by cosine.",
        ),
    ),
    "miou": Criterion(
        "mIoU",
        lambda c: c.miou,
        -1,
        lambda v: f"{v:.2%}",
        (
            "The bundle knows no mIoU: 'segmentation' is not among its outputs.",
            "Export with --head FILE for segment, or choose --by cosine.",
        ),
    ),
    "depth": Criterion(
        "depth error",
        lambda c: c.depth_error,
        1,
        lambda v: f"{v:.3%}",
        (
            "The bundle knows no error of depth: 'depth' is not among its outputs.",
            "Export with --head FILE for depth, or choose --by cosine.",
        ),
    ),
    "cosine": Criterion(
        "cosine",
        lambda c: c.cosine,
        -1,
        lambda v: f"{v:.5f}",
        ("The bundle knows no cosine with the float32 model.", "Export it again, or choose --by latency."),
    ),
    "latency": Criterion("latency", lambda c: c.p95_ms, 1, QUANTITIES[0].text, ("", "")),
}
# Of different image sizes, only what is measured against what images show can be compared.
SIZE_FREE = ("top1",)


def energy_mj(measurement: Measurement) -> float | None:
    """Energy of one call in millijoules, idle power included, or None where it was not measured."""
    return measurement.facts.energy_mj
