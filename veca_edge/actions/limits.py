"""What a user asks of a recommendation. The command line is made from these fields."""

from __future__ import annotations

from dataclasses import dataclass

from ..base.errors import EdgeError
from ..base.lists import one_image_size
from ..base.options import made_of, option
from ..base.spec import ImageSize
from ..base.units import parse_bytes, parse_millijoules, parse_milliseconds

CRITERIA = ("top1", "miou", "depth", "cosine", "latency")
DEFAULT_CRITERION = "cosine"
ALL_MACHINES = "all"


@dataclass(frozen=True)
class Choice:
    """What is chosen from, and what the best of it has; see `actions.recommend.recommend`.

    Attributes:
        by: one of `CRITERIA`.
        image_size: only variants of this size; None takes all.
        machine: the id of the machine that measured, or `ALL_MACHINES`; None is the only one there is.
    """

    by: str = option(
        DEFAULT_CRITERION, f"What the best has: {', '.join(CRITERIA)}.", metavar="NAME", shown=DEFAULT_CRITERION
    )
    image_size: ImageSize | None = option(
        None, "Only variants of this image size: 256 or HxW.", metavar="SIZE", shown="all", parse=one_image_size
    )
    machine: str | None = option(
        None, f"Measurements of this machine, or {ALL_MACHINES} to compare machines on purpose.", metavar="ID"
    )


@dataclass(frozen=True)
class Limits:
    """What a variant must keep within; None sets no limit.

    Attributes:
        p95_ms: of one call, whatever its batch.
        min_cosine: mean cosine with the float32 model *at its full core bank*, the lower of `cls` and `dense`: what
            conversion, quantization and fewer cores cost together.
        max_memory_bytes: peak resident memory above an idle process that has the runtime loaded.
        max_energy_mj: of one call, idle power included.
    """

    p95_ms: float | None = option(
        None, "At most this p95 latency (20ms).", flag="--p95", metavar="TIME", parse=parse_milliseconds
    )
    min_cosine: float | None = option(
        None, "At least this mean cosine with the FP32 model at its full core bank.", kind=float
    )
    max_memory_bytes: int | None = option(
        None, "At most this peak memory (400MB).", flag="--max-memory", metavar="SIZE", parse=parse_bytes
    )
    max_energy_mj: float | None = option(
        None, "At most this energy per call (50mJ).", flag="--max-energy", metavar="ENERGY", parse=parse_millijoules
    )

    def __post_init__(self) -> None:
        if self.min_cosine is not None and not -1.0 <= self.min_cosine <= 1.0:
            raise EdgeError(
                f"--min-cosine is {self.min_cosine}, but a cosine lies between -1 and 1.", "Give 0.99 or another."
            )

    @classmethod
    def parse(
        cls,
        p95: str | None = None,
        min_cosine: float | None = None,
        max_memory: str | None = None,
        max_energy: str | None = None,
    ) -> Limits:
        """From text with units (`20ms`, `400MB`, `50mJ`). Raises `EdgeError` that lists the units."""
        texts = {"--p95": p95, "--min-cosine": min_cosine, "--max-memory": max_memory, "--max-energy": max_energy}
        return made_of(cls, texts)
