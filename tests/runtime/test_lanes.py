"""Two frames at a time: how fast and how fresh, on a clock that stages spend; what `test_pipeline` asks of both ways is
asked there."""

from __future__ import annotations

import random
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from veca_edge.images.pictures import Picture
from veca_edge.runtime.live import steps_of
from veca_edge.runtime.model import Output
from veca_edge.runtime.pipeline import Pace
from veca_edge.runtime.sources import Frame

from .virtual_time import on_virtual_time


@pytest.fixture
def clock(monkeypatch):
    return on_virtual_time(monkeypatch)


class Stages:
    """A source and a model that take their time, give or take a share of it; `steps` runs them side by side."""

    input, outputs, labels, decisions = "tensor", ("cls",), None, ()

    def __init__(self, clock, read_ms, prepare_ms, model_ms, jitter=0.0):
        self.clock, self.milliseconds, self.jitter = clock, (read_ms, prepare_ms, model_ms), jitter
        self.random = random.Random(1)
        self.reading = self.running = self.most = 0
        self.given: dict[int, int] = {}

    def spend(self, stage):
        milliseconds = self.milliseconds[stage] * self.random.uniform(1 - self.jitter, 1 + self.jitter)
        self.clock.sleep(milliseconds / 1000)
        return milliseconds

    def frames(self, count):
        for number in range(count):
            self.reading += 1
            assert self.reading == 1, "one at a time"
            self.spend(0)
            self.reading -= 1
            pixels = np.full((1, 1, 3), number % 256, np.uint8)
            yield Frame(number, "", Picture("rgb", (pixels,)), self.clock.perf_counter())

    def prepare(self, picture):
        self.spend(1)
        return picture.planes[0]

    def __call__(self, given, before_ms):
        """What came in is still there when the model is done with it."""
        before = given.copy()
        self.running += 1
        self.most = max(self.most, self.running)
        latency_ms = self.spend(2)
        self.running -= 1
        np.testing.assert_array_equal(given, before)
        return Output(given[0, :1, :1], None, None, 8, latency_ms)

    def steps(self, count, **pace):
        return steps_of(self, self.frames(count), Pace(**pace), lambda: False, side_by_side=True)


PATTERNS = [(4, 4, 40), (18, 6, 41), (2, 2, 20), (30, 8, 15)]


@pytest.mark.parametrize("pattern", [(*pattern, jitter) for pattern in PATTERNS for jitter in (0.0, 0.02)])
def test_results_are_twice_as_many_and_less_than_two_frame_times_old(clock, pattern):
    read_ms, prepare_ms, model_ms, jitter = pattern
    stages = Stages(clock, *pattern)
    ages, times = zip(*((step.frame_ms, 1000 * clock.now) for step in stages.steps(300)), strict=True)
    frame_ms = np.diff(times[20::2]).mean() / 2
    # Reading can't be faster than one frame after the other.
    assert frame_ms == pytest.approx(max(read_ms, (read_ms + prepare_ms + model_ms) / 2), rel=0.001 + jitter)
    assert np.percentile(ages, 95) < 2 * frame_ms
    assert stages.most == (2 if read_ms < model_ms else 1)


def test_who_takes_results_slowly_does_not_get_old_ones(clock):
    stages, ages = Stages(clock, 4, 4, 40), []
    for step in stages.steps(60):
        ages.append(step.frame_ms)
        clock.sleep(0.1)
    assert max(ages) <= 100 + 48


def test_a_slow_frame_holds_up_the_next_ones_result_and_nothing_else(clock):
    stages, seen = Stages(clock, 4, 4, 40), []
    usual = stages.spend

    def spend(stage):
        if stage == 2 and not seen:
            clock.sleep(0.2)
        return usual(stage)

    stages.spend = spend
    for step in stages.steps(9):
        seen.append((step.frame.number, step.wait_ms))
    assert [number for number, _ in seen] == list(range(9))
    assert seen[1][1] > 150
    assert max(wait for _, wait in seen[2:]) < 60


def test_ends_after_its_seconds(clock):
    at = [step.at for step in Stages(clock, 10, 5, 15).steps(1000, seconds=0.3)]
    assert 0.25 < at[-1] < 0.3
    assert at == sorted(at)


def test_closing_waits_for_no_frame_that_does_not_come():
    """Both threads end: the one that reads, when the source says so, and the one that waits for its turn to read."""
    ending = threading.Event()

    def silent():
        yield Frame(0, "", Picture("rgb", (np.zeros((1, 1, 3), np.uint8),)), 1.0)
        ending.wait()

    model = Stages(SimpleNamespace(sleep=lambda seconds: None), 0, 0, 0)
    running = steps_of(model, silent(), Pace(), lambda: False, ending=ending, side_by_side=True)
    assert next(running).frame.number == 0
    running.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("veca-edge")]
