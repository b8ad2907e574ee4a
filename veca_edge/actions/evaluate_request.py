"""What a user asks of an evaluation. The command line is made from these fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.options import MOST_THREADS, option
from ..base.units import parse_points
from ..cluster.options import cluster_option
from ..evaluation.forms import BY_NAME, DATA, FOLDER_CLASSES
from .request import CheckpointSource

if TYPE_CHECKING:
    from ..bundle.types import Bundle

DEFAULT_TOLERANCE = 0.005
DEFAULT_FAILURES = 10


@dataclass(frozen=True)
class EvaluateRequest:
    """A data set through every variant of a bundle.

    Attributes:
        bundle: a path, or one that was opened.
        data: see `evaluation/data.py` for its forms.
        checkpoint: what the bundle was made from, to compare with; None compares with labels alone, but for bundles
            of the demo model, whose checkpoint is at hand.
        format: of the files to run; None is what runs on the device.
        tolerance: of a regression against `baseline`: of shares, cosines and relative errors alike; None is 0.005.
    """

    bundle: Path | Bundle
    data: str = option("", f"{DATA[:1].upper()}{DATA[1:]}.", metavar="DATA")
    checkpoint: CheckpointSource | None = field(default=None)
    folder_classes: str = option(
        BY_NAME,
        f"How folders say classes: {FOLDER_CLASSES[0]} (by their names) or {FOLDER_CLASSES[1]} (by their order).",
        metavar="HOW",
        shown=BY_NAME,
    )
    max_failures: int = option(
        DEFAULT_FAILURES, "Images that may fail; each is named.", kind=int, shown=str(DEFAULT_FAILURES), lowest=0
    )
    workers: int | None = option(None, "Worker processes.", kind=int, shown="one for each CPU", lowest=1, highest=512)
    threads: int = option(1, "CPU threads of each worker.", kind=int, shown="1", lowest=1, highest=MOST_THREADS)
    cluster: str | None = cluster_option()
    format: str | None = option(None, "Run files of this kind.", metavar="NAME", shown="what runs on the device")
    again: bool = option(False, "Evaluate anew, whatever is there.", kind=bool)
    baseline: Path | None = option(
        None, "Compare with this bundle; exit code 1 where this one is worse.", kind=Path, metavar="BUNDLE"
    )
    tolerance: float | None = option(
        None,
        "How much worse a metric may be than the baseline's, unless it is chance.",
        metavar="POINTS",
        shown="0.5pp",
        parse=parse_points,
    )

    @property
    def allowed(self) -> float:
        """The tolerance of a comparison."""
        return DEFAULT_TOLERANCE if self.tolerance is None else self.tolerance
