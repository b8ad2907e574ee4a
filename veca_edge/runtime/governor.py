"""Holds a latency budget by moving between core counts. Pure logic: latencies and times come in, a core count goes out.

Each core count has an expected latency. A measured latency over the expected one is the machine's *load*,
whichever core count it was measured at, so the recent loads predict what any other core count would take now.

- Down, when too many recent frames missed the budget: to the largest core count that is predicted to meet it.
- Up, when the slowest of the recent frames would have met it with room to spare at a larger core count.
- A budget of the whole frame leaves the model what the stages before it do not take: most of the recent frames' waiting
  and preparing is subtracted. Where they alone take it all, no core count can help, which is said instead of moving.
- At most one move a second. A core count that had to be left soon after it was reached is not tried again
  for a while that doubles each time, unless the machine has become clearly faster since: no oscillation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from ..base.errors import EdgeError


@dataclass(frozen=True)
class Rules:
    """When to move. Times are in seconds, shares are of the budget or of frames.

    Attributes:
        interval: least time between two moves.
        burst, burst_misses: down at once when this many of the last `burst` frames missed the budget.
        window, miss_share: down when this share of the last `window` frames missed it.
        least: frames at the current core count before a move up is considered, and before `miss_share` counts.
        room: a larger core count must be predicted to take at most this share of the budget.
        probation: a core count that is left within this time of reaching it has failed.
        backoff, longest_backoff: how long one that failed is not tried; doubles with each failure.
        relief: it is tried earlier once its prediction is below this share of the one that failed.
        usual: of a frame's budget is subtracted what this share of the recent frames' earlier stages did not exceed.
    """

    interval: float = 1.0
    burst: int = 8
    burst_misses: int = 3
    window: int = 60
    miss_share: float = 0.05
    least: int = 20
    room: float = 0.92
    probation: float = 10.0
    backoff: float = 5.0
    longest_backoff: float = 120.0
    relief: float = 0.85
    usual: float = 0.9


@dataclass(frozen=True)
class Decision:
    """One move, or the finding that there is none to make.

    Attributes:
        at: seconds on the clock that `observe` was given.
        before, after: core counts; the same where nothing can be done.
        load: measured over expected latency that it was decided on (the median of the recent frames).
        predicted_ms: what `after` is expected to take.
        stage: what binds: `model`, or the stage that takes most of the frame's budget before it.
    """

    at: float
    before: int
    after: int
    load: float
    predicted_ms: float
    reason: str
    stage: str = "model"


@dataclass
class _Failed:
    """A core count that could not be held."""

    until: float
    backoff: float
    predicted_ms: float


class Governor:
    """Chooses the core count of the next frame.

    Args:
        expected_ms: latency of each allowed core count on the idle machine; only their ratios matter.
        budget_ms: what the model may take for a frame; None sets no limit.
        core_count: the current one, one of `expected_ms`.
        frame_budget_ms: what a frame may take from its capture to its result; None sets no limit.
    """

    def __init__(
        self,
        expected_ms: Mapping[int, float],
        budget_ms: float | None,
        core_count: int,
        rules: Rules | None = None,
        frame_budget_ms: float | None = None,
    ):
        for budget in (budget_ms, frame_budget_ms):
            if budget is not None and not budget > 0:
                raise EdgeError(f"A budget of {budget} ms cannot be held.", "Give a positive number of milliseconds.")
        if budget_ms is None and frame_budget_ms is None:
            raise EdgeError("There is no budget to hold.", "Give one for the model, for the frame, or both.")
        self.rules = rules or Rules()
        self.frame_budget_ms = frame_budget_ms
        self._model_budget_ms = float("inf") if budget_ms is None else budget_ms
        # What the model may take: its own budget, or what the stages before it leave of the frame's.
        self.budget_ms = min(self._model_budget_ms, frame_budget_ms or float("inf"))
        self._before: deque[dict[str, float]] = deque(maxlen=self.rules.window)
        self.core_count = core_count
        # More cores never cost less: what a noisy measurement says otherwise is levelled.
        self.expected_ms: dict[int, float] = {}
        for count in sorted(expected_ms):
            self.expected_ms[count] = max([expected_ms[count], *self.expected_ms.values()])
        self.log: deque[Decision] = deque(maxlen=1000)
        self._loads: deque[float] = deque(maxlen=self.rules.window)
        self._since_move = 0
        self._moved_at = float("-inf")
        self._climbed_at: dict[int, tuple[float, float]] = {}
        self._failed: dict[int, _Failed] = {}
        self._helpless_at = float("-inf")

    def observe(
        self, core_count: int, latency_ms: float, now: float, before_ms: Mapping[str, float] | None = None
    ) -> int:
        """Takes the latency of one frame and returns the core count for the next.

        Args:
            core_count: what the frame ran at; one that has been left meanwhile (by another thread) is ignored.
            now: seconds, never decreasing.
            before_ms: what the frame took before the model, by stage.
        """
        if core_count != self.core_count:
            return self.core_count
        self._loads.append(latency_ms / self.expected_ms[core_count])
        self._since_move += 1
        if self.frame_budget_ms is not None:
            self._before.append(dict(before_ms or {}))
        if now - self._moved_at < self.rules.interval:
            return self.core_count
        if self.frame_budget_ms is not None and not self._leave_for_model(now, self.frame_budget_ms):
            return self.core_count
        if not self._down(now):
            self._up(now)
        return self.core_count

    def _leave_for_model(self, now: float, frame_budget_ms: float) -> bool:
        """Sets what the stages before the model leave it; whether they leave anything."""
        before = _quantile([sum(stages.values()) for stages in self._before], self.rules.usual)
        left = frame_budget_ms - before
        self.budget_ms = min(self._model_budget_ms, left)
        if left > 0:
            return True
        self.budget_ms = min(self._model_budget_ms, frame_budget_ms)
        if len(self._before) >= self.rules.burst and now - self._helpless_at >= self.rules.longest_backoff:
            self._helpless_at = now
            self._note(
                now,
                self.core_count,
                self._loads[-1],
                f"{self._slowest_before} takes {self._usual(self._slowest_before):.1f} of {frame_budget_ms:g} ms: "
                "no core count can help",
                self._slowest_before,
            )
        return False

    def _usual(self, stage: str) -> float:
        return _quantile([stages.get(stage, 0.0) for stages in self._before], self.rules.usual)

    @property
    def _slowest_before(self) -> str:
        """The stage before the model that takes most."""
        names = {name for stages in self._before for name in stages} or {"model"}
        return max(sorted(names), key=lambda name: sum(stages.get(name, 0.0) for stages in self._before))

    @property
    def _limit(self) -> str:
        """What the model may take, in words."""
        if self.frame_budget_ms is None or self.budget_ms >= self._model_budget_ms:
            return f"{self.budget_ms:g} ms"
        return (
            f"the {self.budget_ms:.1f} ms that {self._slowest_before} and the rest leave of {self.frame_budget_ms:g} ms"
        )

    # --------------------------------------------------------------------------------- down

    def _down(self, now: float) -> bool:
        """Whether the budget is being missed."""
        missed, frames, load = self._burst()
        if not missed:
            missed, frames, load = self._scattered()
        if not missed:
            return False
        why = f"{missed} of the last {frames} frames took longer than {self._limit}"
        smaller = [count for count in self.expected_ms if count < self.core_count]
        if not smaller:
            if now - self._helpless_at >= self.rules.longest_backoff:
                self._helpless_at = now
                self._note(now, self.core_count, load, f"{why}, and there is no smaller core count")
            return True
        fitting = [count for count in smaller if load * self.expected_ms[count] <= self.budget_ms * self.rules.room]
        self._fail(now)
        self._move(now, max(fitting, default=min(smaller)), load, why)
        return True

    def _burst(self) -> tuple[int, int, float]:
        """Misses among the last few frames, how many these are, and the load of a typical miss; no misses if few."""
        recent = self._own(self.rules.burst)
        missed = [load for load in recent if load * self.expected_ms[self.core_count] > self.budget_ms]
        if len(missed) < self.rules.burst_misses:
            return 0, 0, 0.0
        return len(missed), len(recent), _quantile(missed, 0.5)

    def _scattered(self) -> tuple[int, int, float]:
        """The same of more frames, with the load of the slowest but a few. A frame that is late at every core
        count is not a reason to move, and does not count."""
        recent, fastest = self._own(self.rules.window), min(self.expected_ms.values())
        missed = [
            load for load in recent if load * fastest <= self.budget_ms < load * self.expected_ms[self.core_count]
        ]
        enough = max(self.rules.burst_misses, self.rules.miss_share * len(recent))
        if len(recent) < self.rules.least or len(missed) < enough:
            return 0, 0, 0.0
        return len(missed), len(recent), _quantile(recent, 1 - self.rules.miss_share)

    def _own(self, count: int) -> list[float]:
        """The last loads that were measured at the current core count."""
        own = min(count, self._since_move, len(self._loads))
        return list(islice(self._loads, len(self._loads) - own, None))

    def _fail(self, now: float) -> None:
        """Remembers that the current core count could not be held, if it was climbed to a short while ago."""
        climbed_at, predicted = self._climbed_at.get(self.core_count, (float("-inf"), 0.0))
        if now - climbed_at > self.rules.probation:
            self._failed.pop(self.core_count, None)
            return
        before = self._failed.get(self.core_count)
        backoff = min(2 * before.backoff, self.rules.longest_backoff) if before else self.rules.backoff
        self._failed[self.core_count] = _Failed(now + backoff, backoff, predicted)

    # ----------------------------------------------------------------------------------- up

    def _up(self, now: float) -> None:
        """Climbs to the largest core count that would meet the budget with room to spare."""
        if self._since_move < self.rules.least:
            return
        loads = list(self._loads)
        load = _quantile(loads, 1 - self.rules.miss_share)
        for count in sorted(self.expected_ms, reverse=True):
            if count <= self.core_count:
                return
            predicted = load * self.expected_ms[count]
            if predicted <= self.budget_ms * self.rules.room and not self._barred(count, predicted, now):
                self._climbed_at[count] = (now, predicted)
                self._move(now, count, load, f"{count} cores would take {predicted:.1f} ms")
                return

    def _barred(self, count: int, predicted: float, now: float) -> bool:
        """Whether this core count, or a smaller one, failed a short while ago under no more load than now."""
        return any(
            count >= other
            and now < failed.until
            and predicted > self.rules.relief * failed.predicted_ms * self.expected_ms[count] / self.expected_ms[other]
            for other, failed in self._failed.items()
        )

    # --------------------------------------------------------------------------------------

    def _move(self, now: float, count: int, load: float, reason: str) -> None:
        self._note(now, count, load, reason)
        self.core_count = count
        self._moved_at = now
        self._since_move = 0

    def _note(self, now: float, count: int, load: float, reason: str, stage: str = "model") -> None:
        self.log.append(Decision(now, self.core_count, count, load, load * self.expected_ms[count], reason, stage))


def _quantile(values: list[float], share: float) -> float:
    """The value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
