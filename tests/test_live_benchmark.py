"""What the benchmark of live runs compares with, and what it says of minutes; its numbers are not looked at."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import live
from benchmarks.bundles import made_bundle
from veca_edge.base.spec import ImageSize
from veca_edge.images.preprocessing import Preprocessing, normalised, prepare
from veca_edge.model.config import Family

TINY = Family("small", 2, 64, 2, 2.0)


@pytest.mark.parametrize("size", [(1080, 1920), (97, 61), (20, 33)])
def test_the_loop_is_what_bundles_of_the_release_before_declare(size):
    """It makes the same frames as their preprocessing does now, and takes none of today's shortcuts."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    frame = live.prepared_before(pixels, ImageSize(32, 48))
    np.testing.assert_array_equal(frame, prepare(pixels, (32, 48), Preprocessing(interpolation="bicubic-antialiased")))
    np.testing.assert_allclose(live.normalised_before(frame[None]), normalised(frame[None]), atol=1e-6)


def test_both_run_the_same_video(tmp_path, monkeypatch):
    monkeypatch.setitem(live.VIDEO_SIZES, "1080p", (72, 128))
    bundle = made_bundle(TINY, ImageSize(32, 32), [8], tmp_path)
    found = live.compare(bundle, "1080p", 1, 2, 12, tmp_path)
    assert len(found["loop_fps"]) == len(found["live"]) == len(found["ratios"]) == 2
    assert found["findings"]["adds up"][0]
    said = live.summary({"videos": [found], "endurance": None, "others_share": 0.0})
    assert "| 1080p |" in said
    assert "wanted 1.35x" in said


def test_a_drift_is_told_from_noise_and_from_a_warm_up():
    random = np.random.default_rng(1)
    times = np.arange(300.0)
    noisy = 50 + random.normal(0, 2, 300)
    noisy[:20] += 100
    noisy[::17] += 200  # as other work on the machine makes them
    still = live.drift_of(times, noisy)
    assert still.low < 0 < still.high
    assert abs(still.change) < 2
    grows = live.drift_of(times, noisy + times / 30)
    assert grows.change == pytest.approx(9, abs=1)
    assert grows.low > 5


@pytest.mark.parametrize(
    ("slope_ms", "slope_bytes", "missing", "missed"),
    [(0, 0, 7, set()), (0.05, 0, 7, {"steady"}), (0, 10_000, 7, {"small"}), (0, 0, 8, {"honest"})],
)
def test_what_minutes_promise(slope_ms, slope_bytes, missing, missed):
    samples = [live.Sample(float(at), 50 + slope_ms * at, 10**8 + slope_bytes * at) for at in range(300)]
    found = live.endurance_findings(samples, missing, 7)
    assert {name for name, (kept, _) in found.items() if not kept} == missed
    with pytest.raises(SystemExit, match="give more --minutes"):
        live.endurance_findings(samples[:9], missing, 7)
