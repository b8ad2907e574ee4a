"""How old results are, and how many there are, on a clock that stages spend to the microsecond."""

from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import pytest

from veca_edge.images.pictures import Picture
from veca_edge.runtime.live import steps_of
from veca_edge.runtime.model import Output
from veca_edge.runtime.pipeline import Pace
from veca_edge.runtime.schedule import Duration, Schedule
from veca_edge.runtime.sources import Frame

from .virtual_time import on_virtual_time

PIXELS = np.zeros((1, 1, 3), np.uint8)


@pytest.fixture
def clock(monkeypatch):
    return on_virtual_time(monkeypatch)


def varied(ms, jitter, seed):
    """Seconds that a stage takes, time after time: evenly around `ms`, and now and then twice as long."""
    random_ms = random.Random(seed)
    while True:
        long = 2 if jitter and random_ms.random() < 0.01 else 1
        yield long * ms * random_ms.uniform(1 - jitter, 1 + jitter) / 1000


class Stages:
    """A source and a model that take their time; `results` runs them as a live run does."""

    def __init__(self, clock, read_ms, prepare_ms, model_ms, jitter=0.0):
        self.clock = clock
        self.read, self.prepare, self.run = (
            varied(ms, jitter, seed) for seed, ms in enumerate((read_ms, prepare_ms, model_ms))
        )
        self.busy = {"read": 0, "prepare": 0, "run": 0}

    def spend(self, stage):
        self.busy[stage] += 1
        assert self.busy[stage] == 1
        self.clock.sleep(next(getattr(self, stage)))
        self.busy[stage] -= 1

    def frames(self, count):
        for number in range(count):
            self.spend("read")
            yield Frame(number, "", Picture("rgb", (PIXELS,)), self.clock.perf_counter())

    def results(self, count, drops=False, record_ms=0.0):
        """Age and time of every result, in milliseconds."""

        def prepared(picture):
            self.spend("prepare")
            return PIXELS

        class Model(SimpleNamespace):
            def __call__(_, given, before_ms):
                began = self.clock.now
                self.spend("run")
                return Output(np.zeros((1, 1)), None, None, 8, 1000 * (self.clock.now - began))

        model = Model(input="image", outputs=("cls",), labels=None, decisions=(), prepare=prepared)
        steps = steps_of(model, self.frames(10**6 if drops else count), Pace(frames=count), lambda: False, drops)
        ages, times = [], []
        for step in steps:
            ages.append(step.frame_ms)
            times.append(1000 * self.clock.now)
            self.clock.sleep(record_ms / 1000)
        return np.array(ages), np.array(times)


PATTERNS = [(8, 5, 60), (8, 8, 30), (15, 8, 15), (30, 8, 15), (8, 30, 15), (2, 2, 20)]
# Two equal stages that vary so much hold each other up: either they get slower or frames get older.
ROUGH = [(*pattern, 0.25) for pattern in PATTERNS if pattern != (15, 8, 15)]


@pytest.mark.parametrize("pattern", [*((*pattern, jitter) for pattern in PATTERNS for jitter in (0.0, 0.1)), *ROUGH])
def test_a_files_results_are_fresh_and_no_stage_waits_for_them(clock, pattern):
    ages, times = Stages(clock, *pattern).results(400)
    assert len(ages) == 400
    frame_ms = np.diff(times[20:]).mean()
    assert np.percentile(ages, 95) < 2 * frame_ms
    assert frame_ms < (1.05 if pattern[3] else 1.001) * max(pattern)


def test_four_stages_overlap(clock):
    """A frame takes as long as the slowest of them, not as all together."""
    _, times = Stages(clock, 15, 15, 20).results(60, record_ms=15)
    assert np.diff(times[10:]) == pytest.approx(20, abs=0.1)


def test_without_variation_a_frame_waits_for_little(clock):
    """From the end of reading: preparing, the model, and a twentieth of a frame time for what nobody foresees."""
    ages, _ = Stages(clock, 8, 5, 60).results(50)
    assert ages[5:] == pytest.approx(5 + 60 + 0.05 * 60, abs=0.1)


def test_who_records_slowly_does_not_get_old_results(clock):
    """The model waits for the one who takes the results, as it would for nothing else."""
    stages = Stages(clock, 8, 5, 20, 0.1)
    ages, times = stages.results(100, record_ms=50)
    assert np.diff(times[10:]).mean() == pytest.approx(50, rel=0.01)
    assert np.percentile(ages, 95) < 50


def test_a_model_that_changes_its_speed(clock):
    """As the governor does by another core count: a few frames wait longer, and none is late for long."""
    stages = Stages(clock, 5, 5, 20)
    stages.run = iter([0.02] * 100 + [0.06] * 100 + [0.02] * 100)
    ages, times = stages.results(300)
    intervals = np.diff(times)
    assert ages[110:200].max() < 2 * 60
    assert intervals[120:199] == pytest.approx(60, rel=0.02)
    assert intervals[215:] == pytest.approx(20, rel=0.02)
    assert max(ages[220:]) < 2 * 20


@pytest.mark.parametrize(("read_ms", "model_ms"), [(33, 60), (33, 20), (10, 45)])
def test_a_cameras_frame_is_taken_when_preparing_begins(clock, read_ms, model_ms):
    """It is at most as old then as the camera takes for the next one."""
    ages, times = Stages(clock, read_ms, 5, model_ms, 0.1).results(200, drops=True)
    frame_ms = np.diff(times[20:]).mean()
    assert frame_ms < 1.05 * max(read_ms, model_ms)
    assert np.percentile(ages, 95) < 1.2 * (read_ms * (model_ms > read_ms) + 5 + model_ms)


def test_begins_when_the_model_is_going_to_be_free():
    schedule = Schedule(reads=True)
    assert schedule.wait_s(0.0) == 0
    for duration, seconds in ((schedule.reading, 0.01), (schedule.preparing, 0.02), (schedule.running, 0.1)):
        duration.add(seconds)
    schedule.frame_began()
    # The one before it is prepared from 0 to 0.02 and run until 0.12; a twentieth of 0.1 is left in reserve.
    schedule.preparing_began(0.0)
    assert schedule.wait_s(0.0) == pytest.approx(0.12 - 0.02 - 0.01 - 0.005)
    schedule.preparing_ended(0.02)
    schedule.running_began(0.02)
    assert schedule.wait_s(0.05) == pytest.approx(0.12 - 0.02 - 0.01 - 0.005 - 0.05)
    assert schedule.wait_s(0.2) < 0
    schedule.frame_began()
    schedule.frame_began()
    assert schedule.wait_s(0.2) is None


def test_durations_follow_what_happens_without_outliers():
    duration = Duration(8)
    assert not duration.is_known
    assert duration.usual == 0
    for ms in [10] * 6 + [500, 11]:
        duration.add(ms)
    assert duration.usual == 10
    for _ in range(8):
        duration.add(20)
    assert duration.quantile(0.0) == duration.usual == 20
