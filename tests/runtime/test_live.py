from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from veca_edge.actions import live
from veca_edge.actions.live import open_live
from veca_edge.actions.run import run
from veca_edge.actions.run_request import LiveRequest
from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ImageSize
from veca_edge.bundle.types import Agreement, CosineStatistics, Fidelity
from veca_edge.runtime import sources
from veca_edge.runtime.live import Step
from veca_edge.runtime.tally import Tally

from .virtual_time import on_virtual_time


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three pictures of different shapes."""
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(1)
    for i, (height, width) in enumerate(((50, 80), (32, 32), (90, 40))):
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def request(bundle, photos, **fields) -> LiveRequest:
    return LiveRequest(bundle.directory, str(photos), threads=1, **fields)


def kept(step: Step) -> dict[str, np.ndarray]:
    return {name: value.copy() for name, value in step.outputs.items()}


def test_computes_what_run_computes(exported_square, photos):
    for count in (8, 32):
        opened = open_live(request(exported_square, photos, core_count=count))
        made = [(step.core_count, kept(step)) for step in opened.steps]
        wanted = run(exported_square.directory, sorted(photos.iterdir()), count, threads=1).images
        assert [core_count for core_count, _ in made] == [count] * 3
        for (_, outputs), prediction in zip(made, wanted, strict=True):
            assert outputs.keys() == prediction.outputs.keys()
            for name, value in outputs.items():
                np.testing.assert_array_equal(value, prediction.outputs[name])


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, True),
        ({"core_count": 8, "frames": 2}, True),
        ({"threads": 1}, False),
        ({"threads": 3}, False),
        ({"fps": 50.0}, False),
        ({"budget_ms": 1e4}, False),
        ({"frame_budget_ms": 1e4}, False),
    ],
)
def test_two_frames_at_a_time_where_nothing_is_said_of_how_long_one_may_take(exported_square, photos, fields, wanted):
    """Each on half of the threads; what comes out, and its order, is the same."""
    asked = replace(request(exported_square, photos), **{"threads": 2, **fields})
    with open_live(asked) as opened, open_live(replace(asked, threads=1)) as alone:
        assert (opened.side_by_side, alone.side_by_side) == (wanted, False)
        for step, other in zip(opened, alone, strict=True):
            assert (step.frame.number, step.core_count) == (other.frame.number, other.core_count)
            for name, value in step.outputs.items():
                np.testing.assert_allclose(value, other.outputs[name], atol=1e-5)


def test_without_a_budget_only_the_largest_is_loaded(exported_square, photos):
    opened = open_live(request(exported_square, photos))
    assert opened.model.core_counts == (32,)
    assert [step.core_count for step in opened.steps] == [32, 32, 32]


def test_a_budget_moves_the_core_count_and_says_so_once(exported_square, photos):
    opened = open_live(request(exported_square, photos, budget_ms=1e-6, repeat=True, frames=20))
    assert opened.model.core_counts == (8, 16, 32)
    tally = Tally(1e-6)
    for step in opened.steps:
        tally.add(step)
    summary = tally.summary()
    assert (summary.frames, summary.within_budget, summary.switches) == (20, 0.0, 1)
    # On a busy machine 20 frames last so long that it says, too, that there is no smaller core count.
    (decision,) = [d for d in summary.decisions if d.before != d.after]
    assert (decision.before, decision.after) == (32, 8)
    assert 0 <= decision.at <= summary.seconds
    # Three misses are what it takes to move.
    assert {row.core_count: row.frames for row in summary.core_counts} == {8: 17, 32: 3}
    opened = open_live(request(exported_square, photos, budget_ms=10_000.0))
    assert [(step.core_count, step.decision) for step in opened.steps] == [(32, None)] * 3


def test_a_budget_keeps_to_the_floor_of_fidelity(square_bundle, photos):
    from veca_edge.bundle.store import write_manifest

    rows = [
        Fidelity(count, "fp32", ImageSize(32, 32), agreement(0.99), agreement(cosine))
        for count, cosine in ((8, 0.9), (16, 0.95), (32, 0.99))
    ]
    bundle = write_manifest(replace(square_bundle, fidelity=tuple(rows)))
    opened = open_live(request(bundle, photos, budget_ms=1e-6, min_cosine=0.93, repeat=True, frames=10))
    assert {step.core_count for step in opened.steps} == {16, 32}
    with pytest.raises(EdgeError, match=r"mean cosine of 0\.999 or more"):
        open_live(request(bundle, photos, budget_ms=1.0, min_cosine=0.999))


def agreement(cosine: float) -> Agreement:
    stats = CosineStatistics(cosine, cosine, cosine)
    return Agreement(2, stats, stats)


@pytest.fixture
def clock(monkeypatch):
    """On which the model takes no time, and only pauses do."""
    return on_virtual_time(monkeypatch, live, sources)


def test_ends_when_asked(exported_square, photos, clock):
    def count(**fields) -> int:
        return sum(1 for _ in open_live(request(exported_square, photos, core_count=8, **fields)).steps)

    assert count() == 3
    assert count(frames=2) == 2
    assert count(frames=7, repeat=True) == 7
    assert count(seconds=0.19, fps=50, repeat=True) == 10
    answers = iter([False] * 4 + [True] * 9)
    stoppable = open_live(request(exported_square, photos, repeat=True), lambda: next(answers))
    assert sum(1 for _ in stoppable.steps) == 4
    started = clock.now
    steps = open_live(request(exported_square, photos, fps=0.01), lambda: clock.now - started > 1.5).steps
    assert sum(1 for _ in steps) == 1, "the pause before the second frame is cut short"
    assert clock.now - started < 2


def test_keeps_the_pace_of_a_camera_without_bursts(exported_square, photos, clock):
    steps = open_live(request(exported_square, photos, core_count=8, fps=20, repeat=True, frames=14)).steps
    at = []
    for step in steps:
        at.append(step.at)
        if step.frame.number == 3:
            clock.sleep(0.6)  # who takes the results is late once: twelve frames' time, with four frames in hand
    gaps = np.diff(at)
    assert gaps.max() >= 0.2
    assert gaps.min() >= 0.049


def test_refuses_what_excludes_each_other(exported_square, photos):
    for fields, said in (
        ({"budget_ms": 33.0, "core_count": 8}, "chooses the core count"),
        ({"min_cosine": 0.9}, "floor of fidelity"),
        ({"core_count": 24}, "no fp32 with 24 cores"),
        ({"source": "0", "repeat": True}, "no end to repeat at"),
        ({"source": "0", "fps": 3.0}, "sets its own pace"),
        ({"source": " "}, "--source is empty"),
        ({"fps": 0}, "fps is 0.0, but it has to be at least 0.001"),
        ({"frames": 0}, "frames is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"seconds": 0.0}, "A run of 0.0 s is none"),
    ):
        with pytest.raises(EdgeError, match=said):
            open_live(replace(request(exported_square, photos), **fields))
