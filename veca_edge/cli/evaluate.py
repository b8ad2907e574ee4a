"""`veca-edge evaluate`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..actions.evaluate_request import EvaluateRequest
from ..actions.request import CheckpointSource
from ..base.options import made_of
from ..base.text import by_number, counted, quoted
from . import options
from .console import Column, Terminal, command
from .fields import Group, Typed, with_fields

if TYPE_CHECKING:
    from ..actions.evaluate import Evaluated
    from ..evaluation.compare import ReleaseComparison
    from ..evaluation.metrics import MetricValue

SHOWN_FAILURES = 5
SHOWN_WORST = 3


@with_fields(Group(EvaluateRequest), Group(CheckpointSource))
def evaluate(
    bundle: options.BundlePath,
    typed: Typed,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The checkpoint that the bundle was made from, to compare with.",
            show_default="labels alone; the demo model's own",
        ),
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Run every variant on a whole data set, and compare releases.

    Streamed and resumable: the same command goes on where it was stopped. The results go into the bundle. Exit code 1
    where a metric is worse than the baseline's.
    """
    with command(json, debug) as terminal:
        from ..actions.evaluate import evaluate as evaluate_bundle

        source = made_of(CheckpointSource, typed, path=checkpoint)
        request = made_of(EvaluateRequest, typed, bundle=bundle)
        if source != CheckpointSource():
            request = replace(request, checkpoint=source)
        with terminal.progress() as progress:
            found = evaluate_bundle(request, progress)
        show(terminal, found)
        terminal.result(as_json(found))
        if found.comparison is not None and found.comparison.regressions:
            raise typer.Exit(1)
        terminal.next(quoted("veca-edge", "recommend", bundle), quoted("veca-edge", "report", bundle))


def show(terminal: Terminal, found: Evaluated) -> None:
    from ..evaluation.metrics import metric_table

    evaluation = found.evaluation
    totals, facts = evaluation.totals, evaluation.facts
    shown, metrics = metric_table(totals, "FP32 ")
    columns = [Column("variant", False), *(Column(m.label) for m in shown)]
    rows = [[name, *(estimate_text(each.get(m.name)) for m in shown)] for name, each in metrics.items()]
    terminal.table(columns, rows, f"{counted(totals.images, 'image')} of {facts.data}, with 95% intervals")
    for name in sorted(totals.variants, key=by_number):
        if least := totals.variants[name].own.worst:
            named = ", ".join(f"{image} ({cosine:.4f})" for cosine, image in least[:SHOWN_WORST])
            terminal.say(f"{name}: least like the reference on {named}")
    if totals.failed:
        named = totals.named_failures(SHOWN_FAILURES)
        terminal.note(f"Without {counted(totals.failed, 'image')} that could not be used: {named}")
    for note in found.notes:
        terminal.note(note)
    if evaluation.timed:
        rate = evaluation.timed / max(evaluation.seconds, 1e-9)
        terminal.say(
            f"{counted(evaluation.timed, 'image')} in {evaluation.seconds:.1f} s with {evaluation.workers}: "
            f"{rate:.1f}/s"
        )
    else:
        terminal.note("All of them were evaluated before, and read; --again evaluates them anew.")
    if found.comparison is not None:
        show_comparison(terminal, found.comparison)


def show_comparison(terminal: Terminal, comparison: ReleaseComparison) -> None:
    rows = [
        [
            terminal.mark(False if d.is_regression else True if d.worse <= 0 else None),
            d.variant,
            d.metric,
            f"{d.baseline:.5f}",
            f"{d.now:.5f}",
            f"{-d.worse:+.5f}",
            f"{d.chance:.2g}",
        ]
        for d in comparison.differences
    ]
    columns = [Column("", False), Column("variant", False), Column("metric", False)]
    numbers = ("baseline", "now", "better by", "chance")
    terminal.table([*columns, *(Column(name) for name in numbers)], rows, "Against the baseline")
    if comparison.missing:
        terminal.note(f"Only one of the two bundles has: {', '.join(comparison.missing)}")
    for d in comparison.regressions:
        how = f"worse by {d.worse:.5f}; by chance with {d.chance:.2g} ({d.test})"
        terminal.say(f"{d.variant}: {d.metric} is {'not a number any more' if math.isnan(d.now) else how}.", "red")
    if not comparison.regressions:
        terminal.say("No metric is worse than the baseline's by more than the tolerance, beyond chance.", "green")


def estimate_text(estimate: MetricValue | None) -> str:
    if estimate is None:
        return ""
    if estimate.low != estimate.low:
        return f"{estimate.value:.5f}"
    return f"{estimate.value:.5f} ({estimate.low:.5f} to {estimate.high:.5f})"


def as_json(found: Evaluated) -> Mapping[str, object]:
    from ..evaluation.metrics import metrics_of, recalls, reference_metrics

    evaluation, comparison = found.evaluation, found.comparison
    totals = evaluation.totals
    return {
        "bundle": found.bundle.directory,
        "facts": evaluation.facts,
        "images": totals.images,
        "failed": totals.failed,
        "failures": [{"name": name, "reason": why} for name, why in totals.failures],
        "seconds": evaluation.seconds,
        "timed_images": evaluation.timed,
        "workers": evaluation.workers,
        "variants": {
            name: {
                "metrics": metrics_of(statistics),
                "classes": recalls(statistics.truth),
                "worst": [{"name": image, "cosine": cosine} for cosine, image in statistics.own.worst],
            }
            for name, statistics in totals.variants.items()
        },
        "references": reference_metrics(totals),
        "differences": None if comparison is None else comparison.differences,
        "regressions": None if comparison is None else comparison.regressions,
        "notes": found.notes,
    }
