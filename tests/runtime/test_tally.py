"""What steps add up to, however many there are."""

from __future__ import annotations

import numpy as np
import pytest

from veca_edge.images.pictures import Picture
from veca_edge.runtime.governor import Decision
from veca_edge.runtime.live import Step
from veca_edge.runtime.sources import Frame
from veca_edge.runtime.tally import Durations, Tally

PICTURE = Picture("rgb", (np.zeros((1, 1, 3), np.uint8),))


def test_the_tally_adds_up():
    tally = Tally(10.0, 14.0)
    decisions = {3: Decision(0.3, 16, 8, 1.0, 5.0, "late"), 5: Decision(0.5, 8, 8, 1.0, 5.0, "helpless")}
    for i, ms in enumerate([8.0, 10.0, 11.0, 14.0, 4.0, 5.0, 6.0, 7.0]):
        count, decision = 16 if i < 4 else 8, decisions.get(i)
        step = Step(Frame(i, "x", PICTURE), 5 + i / 10, count, 2.0, ms, {}, (), decision, 4.0, 3 * i, i // 4, 30.0 + i)
        tally.add(step, record_ms=i)
    assert tally.recent_fps == pytest.approx(10)
    assert tally.recent_percentiles_ms == (7.5, pytest.approx(12.95))
    assert tally.recent_frame_percentiles_ms == (13.5, pytest.approx(18.95))
    summary = tally.summary()
    assert (summary.frames, summary.within_budget, summary.switches) == (8, 6 / 8, 1)
    assert (summary.budget_ms, summary.frame_budget_ms, summary.within_frame_budget) == (10.0, 14.0, 5 / 8)
    assert (summary.dropped, summary.reconnected, summary.prepare_p50_ms) == (21, 1, 2.0)
    assert summary.seconds == pytest.approx(5.713)
    assert summary.fps == pytest.approx(8 / 5.713)
    assert summary.switches_per_second == pytest.approx(1 / 5.713)
    assert [(r.core_count, r.frames, r.p50_ms) for r in summary.core_counts] == [(8, 4, 5.5), (16, 4, 10.5)]
    assert summary.core_counts[1].p95_ms == pytest.approx(13.55)
    assert summary.decisions == (decisions[3], decisions[5])
    assert {s.name: (s.mean_ms, s.p50_ms, s.p95_ms) for s in summary.stages} == {
        "capturing": (33.5, 33.5, pytest.approx(36.65)),
        "waiting": (4, 4, 4),
        "preparing": (2, 2, 2),
        "model": (8.125, 7.5, pytest.approx(12.95)),
        "frame": (14.125, 13.5, pytest.approx(18.95)),
        "recording": (3.5, 3.5, pytest.approx(6.65)),
    }


def test_a_run_without_frames_has_a_summary():
    summary = Tally(10.0, 20.0).summary()
    assert (summary.frames, summary.fps, summary.within_budget, summary.prepare_p50_ms) == (0, 0.0, None, None)
    assert (summary.within_frame_budget, summary.switches_per_second, summary.stages) == (None, 0.0, ())


def test_a_run_without_a_budget_keeps_none_and_one_frame_has_no_rate():
    tally = Tally(None)
    tally.add(Step(Frame(0, "x", PICTURE), 0.0, 8, 1.0, 20.0, {}, (), None))
    assert tally.recent_fps is None
    summary = tally.summary()
    assert (summary.within_budget, summary.within_frame_budget) == (None, None)


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_quantiles_are_those_of_all_to_half_a_percent(count):
    taken, made = np.random.default_rng(count).lognormal(3, 1, count), Durations()
    for ms in taken:
        made.add(ms)
    assert made.count == count
    assert made.mean == pytest.approx(taken.mean())
    for share in (0, 0.05, 0.5, 0.95, 1):
        assert made.quantile(share) == pytest.approx(np.quantile(taken, share), rel=0.005)


def test_a_long_run_takes_no_more_memory():
    made = Durations()
    for ms in np.random.default_rng(0).lognormal(3, 0.5, 100_000):
        made.add(ms)
    assert len(made._counts) < 2500
    tally = Tally(None)
    for i in range(5000):
        tally.add(Step(Frame(i, "x", PICTURE), i / 30, 8, 1.0, 20.0 + i % 7, {}, (), None))
    assert tally.frames == 5000
    assert max(len(stage._counts) for stage in tally._stages.values()) == 7
    assert len(tally.recent) == 120
