"""What a report says, as plain rows: nothing here knows how it is drawn or written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..actions.candidate import Candidate
from ..actions.recommend import candidates
from ..base.errors import EdgeError
from ..base.spec import PRECISIONS, ImageSize
from ..bundle.store import open_bundle
from ..bundle.types import Bundle
from ..model.config import ModelConfig
from ..profiles.machine import Machine
from ..profiles.measurement import Measurement
from ..profiles.verdict import Verdict, verdicts
from .text import milliseconds


@dataclass(frozen=True)
class ReportedBundle:
    """One bundle of the report, by the name it has there, and its measurements."""

    label: str
    bundle: Bundle
    measured: tuple[Candidate, ...]

    @property
    def machines(self) -> tuple[Machine, ...]:
        return tuple({c.measurement.machine.machine_id: c.measurement.machine for c in self.measured}.values())

    @property
    def config(self) -> ModelConfig:
        return self.bundle.checkpoint.config


@dataclass(frozen=True)
class Series:
    """Measurements that differ in nothing but the core count, in its order.

    Attributes:
        label: what tells this series from the others of the same figures.
        index: its place among them, which decides its colour.
    """

    label: str
    index: int
    subject: str
    precision: str
    image_size: ImageSize
    points: tuple[Candidate, ...]


class VerdictRow(NamedTuple):
    """A verdict at one core count, with the mean cosines of both at the full core bank; None where unknown."""

    verdict: Verdict
    lower_cosine: float | None
    higher_cosine: float | None


@dataclass(frozen=True)
class VerdictSummary:
    """One precision against the next higher one over all core counts, on one machine.

    Attributes:
        label: what it is about, where the report has several.
        rows: one a core count, ascending.
    """

    label: str
    rows: tuple[VerdictRow, ...]

    @property
    def sentence(self) -> str:
        """`int8 is 1.90x to 2.31x faster (95% intervals) than fp32 at all 8 core counts. ...`.

        The span is of the intervals: from the lowest bound to the highest.
        """
        first = self.rows[0].verdict
        low, high = first.lower.precision, first.higher.precision
        measured = [v for v, _, _ in self.rows if v.is_measurable]
        clear = [v for v in measured if not v.is_close]
        faster, slower = [v for v in clear if not v.is_slower], [v for v in clear if v.is_slower]
        parts = []
        if faster:
            bounds = [bound for v in faster for bound in v.interval]
            parts.append(f"{_span(bounds)} faster (95% intervals) than {high} at {self._counts(len(faster))}")
        if slower:
            bounds = [1 / bound for v in slower for bound in v.interval]
            parts.append(f"{_span(bounds)} SLOWER (95% intervals) than {high} at {self._counts(len(slower))}")
        close, unknown = len(measured) - len(clear), len(self.rows) - len(measured)
        if close:
            parts.append(
                f"no different in speed from {high}, within the spread of the samples, at {self._counts(close)}"
            )
        if unknown:
            parts.append(
                f"not measurable against {high} at {self._counts(unknown)}, because other processes used the CPU "
                "or there were too few samples or rounds"
            )
        text = f"{low} is {'; '.join(parts)}. Its files take {_span([v.size_ratio for v, _, _ in self.rows])} the space"
        memory = [v.memory_ratio for v, _, _ in self.rows if v.memory_ratio is not None]
        text += f" and it needs {_span(memory)} the memory" if memory else ""
        costs = [high - low for _, low, high in self.rows if low is not None and high is not None]
        return text + (f"; it costs at most {max(0.0, max(costs)):.4f} of cosine." if costs else ".")

    def _counts(self, n: int) -> str:
        total = len(self.rows)
        if total == 1:
            return "the one core count measured"
        return f"all {total} core counts" if n == total else f"{n} of {total} core counts"


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.2f}x" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f}x to {high:.2f}x"


# ---------------------------------------------------------------------------------- collecting


def read_subjects(paths: Sequence[Path], machine: str | None) -> tuple[ReportedBundle, ...]:
    """Every bundle with its measurements, under names that tell them apart.

    Raises:
        EdgeError: one is not a bundle, is given twice, has no measurements, or mixes those of several machines.
    """
    if not paths:
        raise EdgeError("No bundle was given.", "Give the directories that export wrote.")
    resolved = [path.resolve() for path in paths]
    for i, path in enumerate(resolved):
        if path in resolved[:i]:
            raise EdgeError(f"{paths[i]} was given twice.", "Give each bundle once.")
    bundles = [open_bundle(path) for path in paths]
    return tuple(
        ReportedBundle(label, bundle, tuple(candidates(bundle, machine)))
        for label, bundle in zip(labels_of(resolved), bundles, strict=True)
    )


def labels_of(paths: Sequence[Path]) -> list[str]:
    """The directories' names, with as many parents as it takes to tell them apart."""
    deepest = max(len(path.parts) for path in paths)
    for depth in range(1, deepest + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def image_sizes(subjects: Sequence[ReportedBundle]) -> list[ImageSize]:
    return sorted({c.artifact.image_size for s in subjects for c in s.measured})


class Range(NamedTuple):
    """From the fastest to the most faithful variant, in a sentence; `label` says of what, where there are several."""

    label: str
    sentence: str


class Conditions(NamedTuple):
    """What measurements share that may be compared core count by core count."""

    subject: str
    machine_id: str
    format: str
    setting: str
    threads: int | None

    @classmethod
    def of(cls, subject: str, m: Measurement) -> Conditions:
        return cls(subject, m.machine.machine_id, m.format, m.setting, m.threads)

    def parts(self, machine: Machine) -> tuple[str, ...]:
        """The same for a label; `machine` is the one of this id."""
        return (
            self.subject,
            f"{machine.name} ({self.machine_id[:4]})",
            self.format,
            self.setting,
            "" if self.threads is None else f"{self.threads} thread{'' if self.threads == 1 else 's'}",
        )


def series_of(subjects: Sequence[ReportedBundle], size: ImageSize) -> tuple[Series, ...]:
    """The measurements of one image size, grouped into lines over the core count."""
    groups: dict[tuple[Conditions, str], list[Candidate]] = defaultdict(list)
    for subject in subjects:
        for c in sorted(subject.measured, key=lambda c: PRECISIONS.index(c.artifact.precision)):
            if c.artifact.image_size == size:
                groups[Conditions.of(subject.label, c.measurement), c.artifact.precision].append(c)
    labels = telling_labels(
        [
            (*conditions.parts(points[0].measurement.machine), precision)
            for (conditions, precision), points in groups.items()
        ],
        always=len(Conditions._fields),
    )
    return tuple(
        Series(
            label, i, conditions.subject, precision, size, tuple(sorted(points, key=lambda c: c.artifact.core_count))
        )
        for i, (((conditions, precision), points), label) in enumerate(zip(groups.items(), labels, strict=True))
    )


def telling_labels(every: Sequence[tuple[str, ...]], always: int | None = None) -> list[str]:
    """Names made of the parts that tell them apart: the first ones that do, and the one at `always`."""
    kept = [] if always is None else [always]
    for i in range(len(every[0]) if every else 0):
        if i != always and len({_of(parts, [*kept, i]) for parts in every}) > len({_of(p, kept) for p in every}):
            kept.append(i)
    return [", ".join(part for part in _of(parts, sorted(kept)) if part) for parts in every]


def _of(parts: tuple[str, ...], kept: Sequence[int]) -> tuple[str, ...]:
    return tuple(parts[i] for i in kept)


def ranges(subjects: Sequence[ReportedBundle]) -> list[Range]:
    """From the fastest to the most faithful variant of every bundle, image size and machine."""
    groups: dict[tuple[str, str, str], list[Candidate]] = defaultdict(list)
    for subject in subjects:
        for c in subject.measured:
            machine = c.measurement.machine
            groups[subject.label, f"{machine.name} ({machine.machine_id[:4]})", f"at {c.artifact.image_size}"].append(c)
    found = []
    for label, among in zip(telling_labels(list(groups)), groups.values(), strict=True):
        fastest = min(among, key=lambda c: c.measurement.p50_ms)
        known = [c for c in among if c.cosine is not None]
        if known:
            best = max(known, key=lambda c: (c.cosine, -c.measurement.p50_ms))
            found.append(
                Range(
                    label,
                    f"{_place('From', fastest)} {_place('to', best)}."
                    if best is not fastest
                    else f"{_place('The fastest and most faithful:', best)}.",
                )
            )
    return found


def _place(word: str, c: Candidate) -> str:
    cosine = "" if c.cosine is None else f" (cosine {c.cosine:.5f})"
    return (
        f"{word} {milliseconds(c.measurement.p50_ms)} ms with {c.artifact.core_count} cores in "
        f"{c.artifact.precision}{cosine}"
    )


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of points that no other beats: less of the first (latency), more of the second (fidelity)."""
    best, front = float("-inf"), []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[i][1] > best:
            best = points[i][1]
            front.append(i)
    return front


def verdict_summaries(subjects: Sequence[ReportedBundle]) -> tuple[VerdictSummary, ...]:
    """Every pair of neighbouring precisions, over the core counts."""
    groups: dict[tuple[Conditions, ImageSize, str, str], list[VerdictRow]] = defaultdict(list)
    for subject in subjects:
        cosines = {(c.measurement.artifact, c.measurement.format): c.cosine for c in subject.measured}
        for v in verdicts(c.measurement for c in subject.measured):
            low, high = v.lower, v.higher
            key = (Conditions.of(subject.label, low), low.image_size, low.precision, high.precision)
            groups[key].append(VerdictRow(v, cosines[low.artifact, low.format], cosines[high.artifact, high.format]))
    labels = telling_labels(
        [
            (*conditions.parts(rows[0].verdict.lower.machine), f"at {size}")
            for (conditions, size, _, _), rows in groups.items()
        ]
    )
    return tuple(
        VerdictSummary(label, tuple(sorted(rows, key=lambda row: row.verdict.lower.core_count)))
        for rows, label in zip(groups.values(), labels, strict=True)
    )
