"""What a report says of where the time of artifacts goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..actions.candidate import Candidate
from ..base.progress import Progress
from ..base.spec import PRECISIONS
from ..base.text import counted
from ..bundle.store import verify_artifacts
from ..profiles.machine import this_machine
from ..proof.golden import read_golden
from ..targets.table import target_named
from .facts import ReportedBundle
from .left_out import LeftOut
from .operators import CALLS, OperatorTimes, TimeRow, layer_rows, measured_layers, operator_rows, operator_times
from .options import ReportOptions
from .pictures import spread


class TimeTable(NamedTuple):
    """Rows of one kind, `operator` or `layer`."""

    kind: str
    rows: list[TimeRow]


@dataclass(frozen=True)
class Operators:
    """Where the time of one bundle's artifacts goes.

    Attributes:
        where: machine and tool, in words.
        how: a sentence on what the times are.
    """

    label: str
    where: str
    how: str
    times: tuple[OperatorTimes, ...]

    @property
    def tables(self) -> list[TimeTable]:
        tables = [TimeTable("operator", operator_rows(self.times)), TimeTable("layer", layer_rows(self.times))]
        return [table for table in tables if table.rows]


def operator_sections(
    subjects: Sequence[ReportedBundle], options: ReportOptions, left_out: list[LeftOut], progress: Progress
) -> tuple[Operators, ...]:
    found = []
    for subject in subjects:
        measured = [c for c in subject.measured if measured_layers(c)]
        runnable = [c for c in subject.measured if target_named(c.artifact.target).is_local]
        what = f"Operator and layer times of {subject.label}"
        target = target_named(subject.bundle.spec.target)
        hint = target.layers_hint
        if measured:
            times = tuple(t for c in _ends(subject, measured) if (t := measured_layers(c)))
            found.append(
                Operators(
                    subject.label,
                    f"{measured[0].measurement.machine.name}, {target.runtime}",
                    f"{target.runtime}'s own profile on the board: the mean of every layer, from a run of its own.",
                    times,
                )
            )
        elif not runnable:
            left_out.append(LeftOut(what, f"They were not measured; {hint}" if hint else "There are none to show."))
        elif not options.operators:
            left_out.append(
                LeftOut(
                    what, "They were not asked for; make the report with --operators on the machine to be profiled."
                )
            )
        else:
            found.append(_profile_here(subject, _ends(subject, runnable), progress))
    return tuple(found)


def _profile_here(subject: ReportedBundle, chosen: Sequence[Candidate], progress: Progress) -> Operators:
    here = this_machine(("onnxruntime",))
    directory, first = subject.bundle.directory, chosen[0].artifact
    verify_artifacts(subject.bundle, [candidate.artifact for candidate in chosen])
    frames = read_golden(directory, first.core_count, first.image_size).frames
    times = tuple(operator_times(directory, chosen, frames, progress))
    threads = {t.threads for t in times if t.threads}
    settings = "".join(f", {counted(n, 'thread')}" for n in sorted(threads))
    return Operators(
        subject.label,
        f"{here.name}, ONNX Runtime {here.versions.get('onnxruntime', '')}{settings}",
        f"ONNX Runtime's own profile on a golden frame, taken when this report was made: for every node "
        f"the median of {CALLS} calls. Profiling itself takes time, and the machine may have been busier "
        "or idler than before, so compare shares, not sums with latencies.",
        times,
    )


def _ends(subject: ReportedBundle, among: Sequence[Candidate]) -> list[Candidate]:
    """The smallest and the largest core count in every precision, at the smallest image size; one setting of each."""
    size = min(c.artifact.image_size for c in among)
    unique = {(c.artifact.name, c.artifact.format): c for c in among if c.artifact.image_size == size}.values()
    counts = spread(sorted({c.artifact.core_count for c in unique}), 2)
    order = PRECISIONS
    return sorted(
        (c for c in unique if c.artifact.core_count in counts),
        key=lambda c: (order.index(c.artifact.precision), c.artifact.core_count),
    )
