"""The threads of a live run, stage by stage and side by side: order, drops, failures, ends; and what a frame's time is
made of."""

from __future__ import annotations

import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.images.pictures import Picture
from veca_edge.runtime.handover import Ended, Handover
from veca_edge.runtime.live import steps_of
from veca_edge.runtime.model import Output
from veca_edge.runtime.pipeline import Pace
from veca_edge.runtime.sources import Frame
from veca_edge.runtime.tally import Tally

from .virtual_time import on_virtual_time

PICTURE = np.zeros((8, 8, 3), np.uint8)


class Room(threading.local):
    """What a model of one thread fills."""

    def __init__(self):
        self.said = np.zeros((1, 4), np.float32)


class Model(SimpleNamespace):
    """Says of a frame what its number is, after a while; every call of a thread fills the same array."""

    input, outputs, labels, decisions = "image", ("cls",), None, ()

    def __init__(self, seconds=0.0, prepare_seconds=0.0, fails_at=None, prepare_fails_at=None):
        super().__init__(seconds=seconds, prepare_seconds=prepare_seconds, room=Room())
        self.fails_at, self.prepare_fails_at, self.before = fails_at, prepare_fails_at, []

    def prepare(self, picture):
        time.sleep(self.prepare_seconds)
        number = int(picture.planes[0][0, 0, 0])
        if number == self.prepare_fails_at:
            raise EdgeError(f"Frame {number} can't be prepared.")
        return picture.planes[0]

    def __call__(self, frame, before_ms):
        time.sleep(self.seconds)
        number = int(frame[0, 0, 0])
        if number == self.fails_at:
            raise EdgeError(f"The model failed at {number}.")
        self.room.said[:] = number
        self.before.append(before_ms)
        return Output(self.room.said, None, None, 8, 1000 * self.seconds)


def frames(count, seconds=0.0, fails=False, closed=None):
    try:
        for number in range(count):
            time.sleep(seconds)
            pixels = PICTURE.copy()
            pixels[0, 0, 0] = number
            yield Frame(number, str(number), Picture("rgb", (pixels,)), time.perf_counter())
        if fails:
            raise EdgeError("The camera is gone.")
    finally:
        if closed is not None:
            closed.append(True)


def steps(model, source, pace=None, stopped=lambda: False, drops=False, side_by_side=False):
    return steps_of(model, source, pace or Pace(), stopped, drops, None, side_by_side)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("veca-edge")]


either_way = pytest.mark.parametrize("side_by_side", [False, True], ids=["by stage", "side by side"])


@either_way
def test_files_lose_no_frame_and_keep_their_order(side_by_side):
    said = []
    for step in steps(Model(0.002, 0.001), frames(40), side_by_side=side_by_side):
        assert (step.outputs["cls"] == step.frame.number).all()
        before = step.outputs["cls"].copy()
        time.sleep(0.003)  # the model works on beside it
        np.testing.assert_array_equal(step.outputs["cls"], before)
        said.append(step.frame.number)
    assert said == list(range(40))
    assert not threads()


@either_way
def test_stages_add_up(side_by_side):
    tally = Tally(None)
    for step in steps(Model(0.02, 0.015), frames(30, 0.015), side_by_side=side_by_side):
        time.sleep(0.015)
        tally.add(step, 15.0)
        assert step.frame_ms == pytest.approx(step.wait_ms + step.prepare_ms + step.latency_ms)
    mean = {stage.name: stage.mean_ms for stage in tally.summary().stages}
    assert mean["frame"] == pytest.approx(mean["waiting"] + mean["preparing"] + mean["model"])
    assert mean["recording"] == 15.0


@pytest.fixture
def virtual_time(monkeypatch):
    """The sleeps of this file last as long as they say, on however busy a machine."""
    return on_virtual_time(monkeypatch, sys.modules[__name__])


def test_a_governor_hears_nothing_of_what_the_first_frame_waited_for():
    """Everything begins with it: what that took once sent a run down to its fewest cores."""
    model = Model()
    assert len(list(steps(model, frames(4)))) == 4
    first, *others = model.before
    assert first is None
    assert all(before.keys() == {"waiting", "preparing"} for before in others)


def test_a_file_is_not_read_far_ahead(virtual_time):
    """What a frame waits for is the model, not a queue of others."""
    waits = [step.wait_ms for step in steps(Model(0.03, 0.002), frames(30, 0.002))]
    assert np.median(waits[10:]) < 30


def test_a_camera_gives_its_newest_frame(virtual_time):
    numbers, ages = [], []
    for step in steps(Model(0.04), frames(60, 0.005), drops=True):
        numbers.append(step.frame.number)
        ages.append(step.frame_ms)
        assert step.dropped == step.frame.number - len(numbers) + 1
    assert numbers == sorted(set(numbers))
    assert len(numbers) < 30
    assert np.median(ages) < 2 * 40 + 20


@either_way
@pytest.mark.parametrize(
    ("model", "source", "said", "count"),
    [
        (Model(), lambda: frames(5, fails=True), "The camera is gone", 5),
        (Model(prepare_fails_at=3), lambda: frames(9), "Frame 3 can't be prepared", 3),
        (Model(fails_at=4), lambda: frames(9), "The model failed at 4", 4),
    ],
)
def test_what_fails_ends_the_run_after_what_came_through(model, source, said, count, side_by_side):
    seen = []
    with pytest.raises(EdgeError, match=said):
        seen.extend(step.frame.number for step in steps(model, source(), side_by_side=side_by_side))
    assert seen == list(range(count))
    assert not threads()


@either_way
def test_ends_wherever_it_is_left(side_by_side):
    closed: list[bool] = []
    running = steps(Model(0.01), frames(1000, closed=closed), side_by_side=side_by_side)
    assert [next(running).frame.number for _ in range(3)] == [0, 1, 2]
    running.close()
    assert closed == [True]
    assert not threads()
    assert len(list(steps(Model(), frames(1000), Pace(frames=7), side_by_side=side_by_side))) == 7
    assert not list(steps(Model(), frames(5), stopped=lambda: True, side_by_side=side_by_side))
    assert not list(steps(Model(), frames(0), side_by_side=side_by_side))
    assert not threads()


def test_a_camera_ends_after_so_many_frames():
    assert len(list(steps(Model(0.01), frames(1000, 0.002), Pace(frames=7), drops=True))) == 7


def test_a_hand_over_holds_one():
    handed: Handover[int] = Handover()
    handed.put(1)
    late = threading.Timer(0.05, handed.abandon)
    late.start()
    with pytest.raises(Ended):
        handed.wait_for_room()
    with pytest.raises(Ended):
        handed.put(2)
    newest: Handover[int] = Handover(keeps_newest=True)
    for number in range(4):
        newest.put(number)
    newest.close(ValueError("the end"))
    assert newest.take() == 3
    with pytest.raises(Ended) as ended:
        newest.take()
    assert str(ended.value.__cause__) == "the end"
    assert Handover().take(0.01) is None
