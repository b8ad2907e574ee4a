"""What a report says of whole data sets: a table for each, with intervals, and where a model does worst."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..base.tasks import Task
from ..base.text import counted
from ..bundle.types import Bundle
from ..evaluation.metrics import MetricValue, metric_table, overlaps, recalls
from ..evaluation.statistics import VariantStatistics
from ..evaluation.store import Evaluation, read_evaluations
from .facts import ReportedBundle
from .text import NOTHING

WORST_CLASSES = 5
WORST_IMAGES = 3


class EvaluationRow(NamedTuple):
    """A variant, or the float32 model at a core count; `cells` as the columns."""

    name: str
    cells: tuple[str, ...]


class EvaluationSection(NamedTuple):
    """One data set of one bundle.

    `sentence` says what it was; `remarks` are of variants: classes and images on which they do worst.
    """

    label: str
    sentence: str
    columns: tuple[str, ...]
    rows: tuple[EvaluationRow, ...]
    remarks: tuple[str, ...]


def evaluation_sections(subjects: Sequence[ReportedBundle]) -> tuple[EvaluationSection, ...]:
    several = len(subjects) > 1
    return tuple(
        _section(f"{subject.label}, {e.facts.data}" if several else e.facts.data, e, subject.bundle)
        for subject in subjects
        for e in read_evaluations(subject.bundle)
    )


def _section(label: str, evaluation: Evaluation, bundle: Bundle) -> EvaluationSection:
    totals, facts = evaluation.totals, evaluation.facts
    shown, metrics = metric_table(totals, "float32, ")
    rows = tuple(EvaluationRow(n, tuple(_cell(found.get(m.name)) for m in shown)) for n, found in metrics.items())
    left_out = "all of them could be read"
    if totals.failed:
        left_out = f"{totals.failed} could not be used: {totals.named_failures(WORST_IMAGES)}"
    sentence = (
        f"{counted(totals.images, 'image')} ({facts.kind}, sha256 of names, sizes and labels "
        f"{facts.data_digest[:12]}); {left_out}. {evaluation.created_at[:10]}, {evaluation.workers}."
    )
    remarks = [r for name, v in totals.variants.items() if (r := _remark(name, v, bundle)) is not None]
    return EvaluationSection(label, sentence, tuple(m.label for m in shown), rows, tuple(remarks))


def _cell(value: MetricValue | None) -> str:
    if value is None:
        return NOTHING
    if value.low != value.low:
        return f"{value.value:.4f}"
    return f"{value.value:.4f} ({value.low:.4f} to {value.high:.4f})"


def _remark(name: str, statistics: VariantStatistics, bundle: Bundle) -> str | None:
    """On which classes and images a variant does worst; None where nothing tells."""
    said = []
    classes = {c.index: c.share.value for c in recalls(statistics.truth)}
    if classes:
        said.append(f"top-1 is lowest of {_lowest(classes, bundle, Task.CLASSIFY)}")
    maps = {c: iou for c, (_, iou) in overlaps(statistics.truth.segmentation).items()}
    if maps:
        said.append(f"IoU is lowest of {_lowest(maps, bundle, Task.SEGMENT)}")
    worst = statistics.own.worst
    if worst:
        images = ", ".join(f"{image} ({cosine:.4f})" for cosine, image in worst[:WORST_IMAGES])
        said.append(f"least like the float32 model on {images}")
    return f"{name}: {'; '.join(said)}." if said else None


def _lowest(shares: dict[int, float], bundle: Bundle, task: Task) -> str:
    head = bundle.head_for(task)
    labels = (head.labels if head is not None else None) or ()
    lowest = sorted(shares.items(), key=lambda item: (item[1], item[0]))[:WORST_CLASSES]
    return ", ".join(f"{labels[c] if c < len(labels) else c} ({share:.1%})" for c, share in lowest)
