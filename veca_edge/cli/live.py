"""`veca-edge run --source`: the live view, and the summary at the end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..base.errors import EdgeError
from ..base.text import counted
from .console import Column, Terminal
from .next_steps import show_next
from .signals import ENDING

if TYPE_CHECKING:
    from ..actions.run_request import LiveRequest
    from ..runtime.governor import Decision
    from ..runtime.live import Step
    from ..runtime.record import Record
    from ..runtime.tally import Summary, Tally

MOST_DECISIONS = 10


def live(terminal: Terminal, request: LiveRequest, record: Record) -> None:
    """Runs until the source, `--frames`, `--duration`, Ctrl-C or SIGTERM ends it, and says what it came to."""
    from ..actions.live import open_live
    from ..actions.recorded_run import recorded_run, save_run
    from ..runtime.recording import check_record, recorder
    from ..runtime.tally import Tally

    check_record(record)
    tally, failure = Tally(request.budget_ms, request.frame_budget_ms), None
    with interruptible() as stopped:
        opened = open_live(request, stopped)
        model = opened.model
        counts = ", ".join(map(str, model.core_counts))
        at_a_time = ", two frames at a time" if opened.side_by_side else ""
        terminal.say(f"{model.precision} at {model.image_size}, {counts} cores, on {request.source}{at_a_time}", "bold")
        with opened, recorder(record, opened) as write, terminal.live() as view:
            try:
                for step in opened:
                    if not tally.frames:
                        terminal.say(gives(step, request))
                    began = time.perf_counter()
                    write(step)
                    tally.add(step, 1000 * (time.perf_counter() - began))
                    if step.decision is not None:
                        view.event(said(step.decision))
                    view.show(lambda step=step: facts(step, tally))
            except EdgeError as error:
                # A camera may go after hours: what was recorded until then is kept.
                if not tally.frames:
                    raise
                failure = error
    summary = tally.summary()
    show(terminal, summary)
    if record.summary is not None:
        save_run(record.summary, recorded_run(opened, summary, request.threads))
    for path in record.paths:
        terminal.say(f"Wrote {path}", "green")
    result = {
        "bundle": request.bundle,
        "source": request.source,
        "precision": model.precision,
        "image_size": model.image_size,
        "summary": summary,
        "files": record.paths,
    }
    if failure is not None:
        terminal.known = result
        raise failure
    terminal.result(result)
    show_next(terminal, model.bundle)


def gives(step: Step, request: LiveRequest) -> str:
    """What the source gives, and what it was asked for."""
    height, width = step.frame.picture.size
    rate = "" if step.frame.rate is None else f" at {step.frame.rate:g} frames/s"
    asked = "" if request.capture is None else f", asked for {request.capture}"
    return f"{request.source} gives {width}x{height}{rate} as {step.frame.picture.layout}{asked}"


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """While the block runs, the first Ctrl-C only makes what is yielded say True, and so do SIGTERM (of who stops a
    service) and SIGHUP (of a connection that is closed); a second one has the effect that it had before."""
    asked, before = False, {number: signal.getsignal(number) for number in ENDING}

    def put_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(*_: object) -> None:
        nonlocal asked
        asked = True
        put_back()

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, ask)
    try:
        yield lambda: asked
    finally:
        put_back()


def facts(step: Step, tally: Tally) -> Mapping[str, str]:
    """The live view; plain text puts these on one line."""
    p50, p95 = tally.recent_percentiles_ms
    shown = {
        "frame": f"{step.frame.number + 1} ({step.frame.name})",
        "cores": str(step.core_count),
        "latency": f"{step.latency_ms:.1f} ms, p50 {p50:.1f}, p95 {p95:.1f}",
    }
    if tally.budget_ms is not None:
        shown["budget"] = f"{tally.budget_ms:g} ms, {tally.within_budget:.1%} within"
    total = tally.recent_frame_percentiles_ms
    shown["frame time"] = (
        f"{step.frame_ms:.1f} ms, p50 {total.p50:.1f}, p95 {total.p95:.1f} "
        f"(waiting {step.wait_ms:.1f}, preparing {step.prepare_ms:.1f})"
    )
    if tally.frame_budget_ms is not None:
        shown["frame budget"] = f"{tally.frame_budget_ms:g} ms, {tally.within_frame_budget:.1%} within"
    if tally.dropped:
        shown["dropped"] = str(tally.dropped)
    if tally.reconnected:
        shown["reconnected"] = str(tally.reconnected)
    if tally.recent_fps is not None:
        shown["speed"] = f"{tally.recent_fps:.1f} frames/s"
    if step.classes:
        shown["label"] = "{} {:.1%}".format(*step.classes[0])
    return shown


def said(decision: Decision) -> str:
    if decision.before == decision.after:
        return f"{decision.at:7.1f} s  stays at {decision.after} cores: {decision.reason}"
    return (
        f"{decision.at:7.1f} s  {decision.before} -> {decision.after} cores, "
        f"{decision.predicted_ms:.1f} ms expected: {decision.reason}"
    )


def show(terminal: Terminal, summary: Summary) -> None:
    terminal.say(
        f"{counted(summary.frames, 'frame')} in {summary.seconds:.1f} s, {summary.fps:.1f} frames/s"
        + ("" if summary.prepare_p50_ms is None else f"; preparing took {summary.prepare_p50_ms:.1f} ms of each")
    )
    if summary.within_budget is not None:
        terminal.say(
            f"{summary.within_budget:.1%} of them within {summary.budget_ms:g} ms; "
            f"{summary.switches} switches, {summary.switches_per_second:.2f} a second"
        )
    if summary.within_frame_budget is not None:
        terminal.say(
            f"{summary.within_frame_budget:.1%} of them within {summary.frame_budget_ms:g} ms from capture to result"
        )
    if summary.dropped:
        terminal.say(f"{summary.dropped} frames were dropped for newer ones")
    if summary.reconnected:
        terminal.say(f"the source was lost and came back {counted(summary.reconnected, 'time')}")
    terminal.say()
    if summary.stages:
        terminal.table(
            [Column("stage", False), *(Column(name) for name in ("mean ms", "p50 ms", "p95 ms"))],
            [[s.name, f"{s.mean_ms:.2f}", f"{s.p50_ms:.2f}", f"{s.p95_ms:.2f}"] for s in summary.stages],
        )
    if summary.core_counts:
        terminal.table(
            [Column(name) for name in ("cores", "frames", "p50 ms", "p95 ms")],
            [[row.core_count, row.frames, f"{row.p50_ms:.2f}", f"{row.p95_ms:.2f}"] for row in summary.core_counts],
        )
    if summary.decisions:
        terminal.say(
            "What was decided" + (f", the last {MOST_DECISIONS}" if len(summary.decisions) > MOST_DECISIONS else ""),
            "bold",
        )
        for decision in summary.decisions[-MOST_DECISIONS:]:
            terminal.say(said(decision))
        terminal.say()
