"""What a report shows of one image size: figures, and bundles and machines side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..actions.candidate import Candidate
from ..base.spec import ImageSize
from .drawing import Figure
from .facts import Conditions, ReportedBundle, Series, series_of
from .figures import core_count_figure, sustained_figure, trade_off_figure
from .methods import by_target


class SideBySideRow(NamedTuple):
    """One core count and precision; `cells` as the columns, None where it was not measured."""

    core_count: int
    precision: str
    cells: tuple[Candidate | None, ...]


@dataclass(frozen=True)
class SideBySide:
    """Bundles and machines side by side, at one image size: a row for each core count and precision."""

    columns: tuple[str, ...]
    rows: tuple[SideBySideRow, ...]


@dataclass(frozen=True)
class SizeSection:
    """Everything of one image size."""

    size: ImageSize
    series: tuple[Series, ...]
    speed: tuple[Figure, ...]
    fidelity: tuple[Figure, ...]
    sustained: Figure | None
    comparison: SideBySide | None

    @property
    def rows(self) -> list[Candidate]:
        return [c for s in self.series for c in s.points]


class Quality(NamedTuple):
    """What is drawn against latency: `value` of a candidate, None where it is not known; higher is better."""

    name: str
    title: str
    caption: str
    axis: str
    value: Callable[[Candidate], float | None]
    percent: bool = False


QUALITIES = (
    Quality(
        "cosine",
        "Fidelity against latency",
        "Mean cosine with the float32 model at its full core bank, the lower of cls and dense. "
        "Filled: on the machine's Pareto front, with the core count.",
        "cosine",
        lambda c: c.cosine,
    ),
    Quality(
        "top1",
        "Top-1 against latency",
        "Share of labelled images whose most likely class is right. Filled: on the machine's Pareto "
        "front, with the core count.",
        "top-1",
        lambda c: c.top1,
        percent=True,
    ),
    Quality(
        "miou",
        "mIoU against latency",
        "Of label maps, with masks where the images had them, else with the float32 model at its full core bank.",
        "mIoU",
        lambda c: c.miou,
        percent=True,
    ),
    Quality(
        "depth",
        "Depth against latency",
        "One less the mean relative error of depth, with known depths where there were some, else with the float32 "
        "model at its full core bank.",
        "1 - error",
        lambda c: None if c.depth_error is None else 1.0 - c.depth_error,
    ),
)


def size_section(subjects: Sequence[ReportedBundle], size: ImageSize) -> SizeSection:
    series = series_of(subjects, size)
    batches = {c.artifact.batch for s in series for c in s.points}
    call = "one image" if batches == {1} else f"a batch of {', '.join(map(str, sorted(batches)))}"
    name = f"at-{size}"
    speed = [
        core_count_figure(
            f"latency-{name}",
            "Latency against core count",
            f"Median of {call}; the band reaches to p95.",
            "ms",
            series,
            lambda c: c.measurement.p50_ms,
            lambda c: c.p95_ms,
        ),
        core_count_figure(
            f"memory-{name}",
            "Memory against core count",
            _memory_caption(series),
            "MB",
            series,
            lambda c: None if c.memory_bytes is None else c.memory_bytes / 1e6,
        ),
        core_count_figure(
            f"energy-{name}",
            "Energy against core count",
            "Of one call, idle power included.",
            "mJ",
            series,
            lambda c: c.energy_mj,
        ),
    ]
    fidelity = [
        trade_off_figure(f"{q.name}-{name}", q.title, q.caption, q.axis, series, q.value, percent=q.percent)
        for q in QUALITIES
    ]
    sustained = sustained_figure(
        f"sustained-{name}",
        "Under sustained load",
        "Median of every second, relative to the beginning of the run (1: not slowed down).",
        series,
    )
    return SizeSection(
        size, series, tuple(f for f in speed if f), tuple(f for f in fidelity if f), sustained, _comparison(series)
    )


def _memory_caption(series: Sequence[Series]) -> str:
    measured = [c.measurement for s in series for c in s.points if c.memory_bytes is not None]
    return f"{by_target(measured, 'memory')}." if measured else ""


def _comparison(series: Sequence[Series]) -> SideBySide | None:
    """A column for each bundle, machine and setting; None where there is but one."""
    columns: dict[Conditions, str] = {}
    cells: dict[tuple[int, str], dict[Conditions, Candidate]] = defaultdict(dict)
    for s in series:
        for c in s.points:
            column = Conditions.of(s.subject, c.measurement)
            # The precision is the last part of a series' label, and a row here.
            columns[column] = s.label.removesuffix(s.precision).removesuffix(", ")
            cells[c.artifact.core_count, c.artifact.precision][column] = c
    if len(columns) < 2:
        return None
    rows = tuple(
        SideBySideRow(count, precision, tuple(found.get(column) for column in columns))
        for (count, precision), found in sorted(cells.items(), key=lambda item: item[0][0])
    )
    return SideBySide(tuple(columns.values()), rows)
