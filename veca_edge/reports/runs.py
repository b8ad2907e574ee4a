"""What a report says of live runs: how long every stage took, what a budget came to, and what got lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..actions.recorded_run import RecordedRun, load_run
from ..base.errors import EdgeError
from ..base.spec import ImageSize
from ..base.text import counted
from ..runtime.tally import CoreCountSummary, StageSummary
from .facts import ReportedBundle
from .text import machine_facts

# In the order of a frame's way, as a reader of the table is told what they are.
MEANINGS = {
    "capturing": "reading and decoding; of a camera, until its next frame comes",
    "waiting": "between the stages",
    "preparing": "resizing and normalising",
    "model": "the model",
    "frame": "from capture to result: waiting, preparing and the model",
    "recording": "drawing and writing, after the result",
}


class StageRow(NamedTuple):
    """One part of a frame's way, and what it is."""

    stage: StageSummary
    meaning: str


class RunSection(NamedTuple):
    """One live run; `sentences` say what it came to."""

    label: str
    sentences: tuple[str, ...]
    stages: tuple[StageRow, ...]
    core_counts: tuple[CoreCountSummary, ...]


def run_sections(paths: Sequence[Path], subjects: Sequence[ReportedBundle]) -> tuple[RunSection, ...]:
    """Raises `EdgeError` for a file that is no run, and for a run of a model that the report is not about."""
    return tuple(_section(path, load_run(path), subjects) for path in paths)


def _section(path: Path, run: RecordedRun, subjects: Sequence[ReportedBundle]) -> RunSection:
    if run.checkpoint not in [subject.bundle.checkpoint.digest for subject in subjects]:
        raise EdgeError(
            f"{path} is a run of {run.model} ({run.checkpoint[:12]}), which none of these bundles was made from.",
            "Leave it out of --runs, or give its bundle as well.",
        )
    summary = run.summary
    threads = "" if run.threads is None else f", {counted(run.threads, 'thread')}"
    sentences = [
        f"{run.precision} at {ImageSize(*run.image_size)}{threads} on {run.machine.name} "
        f"({machine_facts(run.machine)}), {run.created_at[:10]}.",
        f"{counted(summary.frames, 'frame')} in {summary.seconds:.1f} s, {summary.fps:.1f} a second; "
        f"{counted(summary.dropped, 'frame')} gave way to a newer one; "
        f"the source came back {counted(summary.reconnected, 'time')}.",
    ]
    held = [
        f"{within:.1%} of the frames within {budget:g} ms {what}"
        for within, budget, what in (
            (summary.within_budget, summary.budget_ms, "for the model"),
            (summary.within_frame_budget, summary.frame_budget_ms, "from capture to result"),
        )
        if within is not None
    ]
    if held:
        sentences.append(f"{', '.join(held)}; the core count changed {counted(summary.switches, 'time')}.")
    stages = tuple(StageRow(stage, MEANINGS.get(stage.name, "")) for stage in summary.stages)
    return RunSection(f"{run.model} on {run.source}", tuple(sentences), stages, summary.core_counts)
