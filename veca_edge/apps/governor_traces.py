"""Recorded traces of the governor: what each frame took, and the core count that it chose next.

The conditions that a port gets wrong by one are each met exactly: a frame that takes the budget, the last frame before
a move is due, the moment that a pause ends. Times are of a clock that counts in 1/64 s, so that no rounding decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

from ..base.json_files import read_json
from ..runtime.governor import Governor, Rules
from .base import TEMPLATES

# Of a frame: from its core count, its number, and the time.
Latency = Callable[[int, int, float], float]
# What a frame took before the model, by stage: from its number.
Before = Callable[[int], dict[str, float]]
STEPS = {8: 16.0, 16: 24.0, 32: 32.0}
TWO = {8: 16.0, 32: 28.0}


def governor_traces() -> list[dict[str, Any]]:
    """Every trace, as JSON; a budget that is null sets no limit.

    `frames` are `[core count, latency in ms, time in s, next core count, ms before the model]`.
    """
    made = [
        _trace("the budget itself is no miss", STEPS, 32, 32, lambda c, i, t: 32.0, 30),
        _trace("a little above the budget is one", STEPS, 32, 32, lambda c, i, t: 32.01 if c == 32 else 24.0, 30),
        _trace("at most one move a second", STEPS, 32, 32, lambda c, i, t: STEPS[c] * 1.8, 40, 1 / 8),
        _trace(
            "a second move after exactly one second", STEPS, 32, 32, lambda c, i, t: 36.0 if c > 8 else 16.0, 40, 1 / 8
        ),
        _trace("a jump over core counts that would not fit", STEPS, 32, 32, lambda c, i, t: STEPS[c] * 1.8, 40),
        _trace("two misses of eight wait for twenty frames", STEPS, 32, 32, _every(4, 0, 40.0), 60, 1 / 16),
        _trace("three misses of eight do not wait", STEPS, 32, 32, _every(3, 0, 40.0), 30, 1 / 16),
        _trace("three misses of nine wait", STEPS, 32, 32, _every(4, 1, 40.0), 30, 1 / 16),
        _trace("the eighth frame back counts", STEPS, 32, 32, _at({0: 40.0, 3: 40.0, 7: 40.0}), 18, 1 / 16),
        _trace("the ninth frame back does not", STEPS, 32, 32, _at({0: 40.0, 3: 40.0, 8: 40.0}), 18, 1 / 16),
        _trace("three of sixty", STEPS, 32, 32, _at({0: 40.0, 29: 40.0, 59: 40.0}), 80, 1 / 16),
        _trace("three of sixty-one are too few", STEPS, 32, 32, _at({0: 40.0, 30: 40.0, 60: 40.0}), 80, 1 / 16),
        _trace("a frame that is late at every core count", STEPS, 32, 32, _every(10, 0, 64.01), 80, 1 / 16),
        _trace("one that is just not late at the smallest", STEPS, 32, 32, _every(10, 0, 64.0), 80, 1 / 16),
        _trace("nothing smaller is left", STEPS, 10, 8, lambda c, i, t: 16.0, 40),
        _trace("twenty frames before the first climb", TWO, 32, 8, lambda c, i, t: TWO[c], 40, 1 / 32),
        _trace("exactly the room that a climb needs", {8: 16.0, 32: 32 * 0.92}, 32, 8, _idle({8: 16.0}), 30),
        _trace("a little less room", {8: 16.0, 32: 29.45}, 32, 8, _idle({8: 16.0}), 30),
        _trace("a climb past a core count", STEPS, 48, 8, lambda c, i, t: STEPS[c], 30),
        _trace(
            "what a measurement says of more cores is levelled", {8: 20.0, 16: 18.0, 32: 28.0}, 19, 16, _flat(20), 40
        ),
        _trace("pauses that double", TWO, 32, 8, _falls_after(10.0, 1 / 4), 900, 1 / 4),
        _trace("held for longer than the probation", TWO, 32, 8, _falls_after(10.25, 1 / 4), 360, 1 / 4),
        _trace("relief ends a pause", TWO, 32, 8, _relieved(0.8475), 260, 1 / 4),
        _trace("too little relief does not", TWO, 32, 8, _relieved(0.8525), 260, 1 / 4),
        _trace("the longest pause", TWO, 32, 8, _falls_after(3.0, 1.0), 720, 1.0),
    ]
    return [*made, *_frame_traces(), recorded_trace()]


def _frame_traces() -> list[dict[str, Any]]:
    """Budgets of the whole frame, of which the model gets what the stages before it usually leave."""

    def rare(period: int) -> Latency:
        return lambda count, i, now: 20.0 if i % period == period - 1 else 4.0

    def usual(count: int, i: int, now: float) -> float:
        return STEPS[count]

    def heavy(first: int, last: int) -> Latency:
        return lambda count, i, now: 50.0 if first <= i < last else 8.0

    return [
        _trace("what is left is taken whole", STEPS, None, 32, usual, 60, 1 / 8, 40.0, lambda c, i, t: 8.0),
        _trace("a little less is left", STEPS, None, 32, usual, 60, 1 / 8, 40.0, lambda c, i, t: 8.01),
        _trace("a tenth of the frames waits", STEPS, None, 32, usual, 150, 1 / 8, 40.0, rare(10)),
        _trace("a twelfth of the frames waits", STEPS, None, 32, usual, 150, 1 / 8, 40.0, rare(12)),
        _trace("an eighth of the frames waits", STEPS, None, 32, usual, 150, 1 / 8, 40.0, rare(8)),
        _trace("room that grows is climbed into", TWO, None, 8, lambda c, i, t: TWO[c], 120, 1 / 8, 40.0, heavy(0, 20)),
        _trace("nothing is left, and then too little", STEPS, None, 32, _flat(38), 120, 1 / 8, 40.0, heavy(0, 20)),
        _trace("exactly nothing is left", STEPS, None, 32, _flat(45), 40, 1 / 8, 40.0, lambda c, i, t: 40.0),
        _trace("a frame's budget beside the model's", STEPS, 24, 32, usual, 60, 1 / 8, 40.0, lambda c, i, t: 8.0),
        _trace("a model's budget beside the frame's", STEPS, 30, 32, usual, 90, 1 / 8, 40.0, heavy(20, 24)),
    ]


def _trace(
    name: str,
    expected: Mapping[int, float],
    budget: float | None,
    start: int,
    latency: Latency,
    frames: int,
    step: float = 1 / 16,
    frame_budget: float | None = None,
    before: Latency = lambda count, i, now: 0.0,
) -> dict[str, Any]:
    """One trace at a constant frame rate. The latency sees the core count, the frame's number and the time, and so does
    what was before it."""
    governor = Governor(expected, budget, start, frame_budget_ms=frame_budget)
    rows = _governed(governor, latency, before, frames, step)
    return _as_json(name, expected, budget, start, rows, frame_budget)


def _governed(
    governor: Governor, latency: Latency, before: Callable[[int, int, float], Any], frames: int, step: float
) -> list[list[Any]]:
    """The rows of a trace: what so many frames took, and what a governor that saw them said."""
    rows = []
    for i in range(frames):
        count, now = governor.core_count, (i + 1) * step
        ms, spent = latency(count, i, now), before(count, i, now)
        rows.append([count, ms, now, governor.observe(count, ms, now, _by_stage(spent)), spent])
    return rows


def _by_stage(before: float | Mapping[str, float]) -> Mapping[str, float]:
    """What came before the model, of which a trace says all or each stage."""
    return before if isinstance(before, Mapping) else {"preparing": before}


def _as_json(
    name: str,
    expected: Mapping[int, float],
    budget: float | None,
    start: int,
    rows: list,
    frame_budget: float | None = None,
) -> dict[str, Any]:
    return {
        "name": name,
        "expectedMs": [[count, ms] for count, ms in expected.items()],
        "budgetMs": None if budget is None else float(budget),
        "frameBudgetMs": frame_budget,
        "coreCount": start,
        "frames": rows,
    }


def _every(period: int, first: int, slow: float) -> Latency:
    return lambda count, i, now: slow if count == 32 and i % period == first else STEPS[count] * 0.9


def _at(slow: Mapping[int, float]) -> Latency:
    return lambda count, i, now: slow.get(i, STEPS[count] * 0.9)


def _idle(known: Mapping[int, float]) -> Latency:
    return lambda count, i, now: known.get(count, 20.0)


def _flat(ms: float) -> Latency:
    return lambda count, i, now: float(ms)


def _falls_after(held: float, step: float) -> Latency:
    """Frames at 32 cores that begin to be late so that the third of them ends `held` seconds after the climb."""
    reached: list[float] = []

    def latency(count: int, i: int, now: float) -> float:
        if count == 8:
            reached.clear()
            return 16.0
        if not reached:
            reached.append(now - step)
        return 33.0 if now - reached[0] > held - 3 * step else 28.0

    return latency


def _relieved(share: float) -> Latency:
    """A core count fails three times; during its third pause the machine is faster by a share, at every core count."""
    before = _falls_after(2.0, 1 / 4)
    return lambda count, i, now: TWO[count] * share if now > 44 else before(count, i, now)


# ------------------------------------------------------------------------------ the whole frame


def frame_traces() -> list[dict[str, Any]]:
    """Traces of a budget for the whole frame, as JSON.

    As those of `governor_traces`, but each frame says what came before the model by stage, and `decisions` say what
    bound, and why.
    """
    return [
        _frame_trace("the stages before leave just enough", 48, 32, _steady(8.0, 8.0)),
        _frame_trace("a little less is too little", 48, 32, _steady(8.0, 8.01)),
        _frame_trace("five late of sixty do not count", 48, 32, _late(range(55, 60), 64.0), 60),
        _frame_trace("six late of sixty do", 48, 32, _late(range(54, 60), 24.0), 62),
        _frame_trace("the model's own budget binds", 96, 32, _steady(8.0, 8.0), budget=30),
        _frame_trace("the frame's budget binds beside the model's own", 48, 32, _steady(8.0, 12.0), budget=31),
        _frame_trace("preparing alone takes it all", 33, 32, _steady(1.0, 64.0), 80),
        _frame_trace("waiting alone takes it all, to the very budget", 32, 16, _steady(32.0, 0.0)),
        _frame_trace("what takes it all is said again after two minutes", 33, 8, _steady(0.0, 40.0), 130, 1.0),
        _frame_trace("it climbs when preparing becomes quick", 60, 8, _quick_after(40), 110),
        _frame_trace("no smaller core count is left", 24, 8, _steady(4.0, 6.0), 30),
        _frame_trace("stages that are not known take nothing", 32, 32, lambda i: {}, 30),
    ]


def _frame_trace(
    name: str,
    frame_budget: float,
    start: int,
    before: Before,
    frames: int = 40,
    step: float = 1 / 16,
    budget: float | None = None,
) -> dict[str, Any]:
    """One trace at a constant frame rate, of a machine on which the model takes what is expected."""
    governor = Governor(STEPS, budget, start, frame_budget_ms=frame_budget)
    rows = _governed(governor, lambda c, i, t: STEPS[c], lambda c, i, t: before(i), frames, step)
    trace = _as_json(name, STEPS, budget, start, rows, float(frame_budget))
    return {**trace, "decisions": _decisions(governor)}


def _decisions(governor: Governor) -> list[dict[str, Any]]:
    shown = ("at", "before", "after", "reason", "stage")
    return [{name: getattr(made, name) for name in shown} for made in governor.log]


def _steady(waiting: float, preparing: float) -> Before:
    return lambda i: {"waiting": waiting, "preparing": preparing}


def _late(numbers: range, waiting: float) -> Before:
    return lambda i: {"waiting": waiting if i in numbers else 8.0, "preparing": 8.0}


def _quick_after(number: int) -> Before:
    return lambda i: {"waiting": 2.0, "preparing": 40.0 if i < number else 6.0}


@cache
def _recorded() -> Any:
    return read_json(TEMPLATES / "recorded_latencies.json")


def recorded_trace() -> dict[str, Any]:
    """Latencies measured at 256 pixels on a shared machine: alone, beside a process that never rests, alone again."""
    known = _recorded()
    counts = known["coreCounts"]
    expected = {count: 256.0 + count for count in counts}
    governor, now, rows = Governor(expected, 155.0, counts[-1]), 0.0, []
    for i in range(900):
        count = governor.core_count
        among = known["loaded" if 200 <= i < 500 else "idle"][counts.index(count)]
        ms = among[i * 37 % len(among)]
        now = round(now + ms / 1000, 5)
        rows.append([count, ms, now, governor.observe(count, ms, now), 0.0])
    return _as_json("recorded latencies", expected, 155.0, counts[-1], rows)


def replayed(trace: Mapping[str, Any], rules: Rules | None = None) -> int | None:
    """The first frame after which the governor says something else than the trace; None where it never does.

    After it, the core count of the trace is not the governor's any more, so what follows says nothing. Where only the
    reasons differ, as far as the trace has them, it is the number of frames.
    """
    budgets = trace["budgetMs"], trace["frameBudgetMs"]
    governor = Governor(dict(trace["expectedMs"]), budgets[0], trace["coreCount"], rules, budgets[1])
    for i, (count, ms, now, chosen, before) in enumerate(trace["frames"]):
        if governor.observe(count, ms, now, _by_stage(before)) != chosen:
            return i
    return None if trace.get("decisions") in (None, _decisions(governor)) else len(trace["frames"])


def rules_json() -> dict[str, float]:
    """The rules that the traces were made with, by the names of `Rules`."""
    return asdict(Rules())
