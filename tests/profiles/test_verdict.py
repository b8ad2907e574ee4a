import re
from dataclasses import replace

import numpy as np
import pytest

from veca_edge.base.spec import ImageSize
from veca_edge.profiles.machine import Machine
from veca_edge.profiles.measurement import Measurement
from veca_edge.profiles.verdict import (
    Verdict,
    few_rounds_factor,
    other_load,
    resampled_percentiles,
    samples_needed,
    speedup,
    student_quantile,
    verdicts,
)

SLOWER = " For latency, fp32 is the better choice on this machine."
MACHINE = Machine("Some CPU", "x86_64", 4, 4, 8 << 30, "Linux 6")


def measurement(precision, ms, core_count=16, machine=MACHINE, target="cpu", size=1000) -> Measurement:
    return Measurement(
        artifact=f"cores{core_count}_{precision}_256x256",
        path="m.onnx",
        sha256="ab" * 32,
        format="onnx",
        target=target,
        core_count=core_count,
        precision=precision,
        image_size=ImageSize(256, 256),
        batch=1,
        samples_ms=tuple(ms * (1 + i / 1000) for i in range(30)),
        file_bytes=size,
        machine=machine,
        started_at="2026-01-02T03:04:05+00:00",
        threads=2,
        peak_memory_bytes=size * 2,
    )


@pytest.mark.parametrize(
    ("int8", "said"),
    [
        (4.0, "int8 is 2.50x faster than fp32 (2.4"),
        (20.0, "int8 is 2.00x SLOWER than fp32 (1.9"),
        (9.99, "There is no measurable difference in speed between int8 and fp32 at 16 cores, 256x256: "),
    ],
)
def test_says_plainly_what_int8_brings(int8, said):
    (verdict,) = verdicts([measurement("int8", int8, size=250), measurement("fp32", 10.0)])
    assert verdict.sentence.startswith(said)
    assert verdict.speedup == pytest.approx(10 / int8)
    assert verdict.size_ratio == 0.25
    assert verdict.sentence.endswith("0.25x the size and 0.25x the memory." + SLOWER * verdict.is_slower)


def test_compares_with_the_next_precision_of_the_same_variant_only():
    other = Machine("Other", "aarch64", 4, 4, 8 << 30, "Linux 6")
    found = verdicts(
        [
            measurement("fp32", 10, target="jetson"),
            measurement("int8", 3, target="jetson"),
            measurement("fp16", 5, target="jetson"),
            measurement("int8", 2, core_count=8, target="jetson"),
            measurement("fp16", 9, core_count=8, target="jetson", machine=other),
        ]
    )
    assert [(v.lower.precision, v.higher.precision, v.lower.core_count) for v in found] == [
        ("int8", "fp16", 16),
        ("fp16", "fp32", 16),
    ]


# ---------------------------------------------------------------------------- what samples carry

RATIO = re.compile(r"\d(\.\d+)?x (faster|SLOWER)")


def noisy(precision, ms, rounds=6, samples=40, noise=0.02, drift=0.0, busy=None, seed=0) -> Measurement:
    """`rounds` of `samples` with `noise` around a median that differs from round to round by about `drift`."""
    rng = np.random.default_rng(seed)
    centres = ms * np.exp(drift * rng.standard_normal(rounds))
    times = np.concatenate([c * np.exp(noise * rng.standard_normal(samples)) for c in centres])
    details = {} if busy is None else {"rounds": [{"other_load": 0.01}, {"other_load": busy}]}
    return replace(
        measurement(precision, ms),
        samples_ms=tuple(map(float, times)),
        round_sizes=(samples,) * rounds,
        details=details,
    )


def test_a_quiet_machine_gives_a_narrow_interval_around_the_ratio():
    verdict = Verdict(noisy("int8", 4.0, seed=1), noisy("fp32", 10.8, seed=2))
    low, high = verdict.interval
    assert low < 2.7 < high
    assert high - low < 0.06
    assert f"int8 is {verdict.speedup:.2f}x faster than fp32 ({low:.2f}x to {high:.2f}x)" in verdict.sentence


def test_a_difference_that_the_samples_cannot_carry_is_not_a_ratio():
    """The medians of the rounds differ more than the two precisions do."""
    verdict = Verdict(noisy("int8", 9.7, drift=0.1, seed=1), noisy("fp32", 10.0, drift=0.1, seed=2))
    low, high = verdict.interval
    assert low < 1 < high
    assert verdict.is_close
    assert not verdict.is_slower
    assert "no measurable difference" in verdict.sentence
    assert not RATIO.search(verdict.sentence)


def test_a_difference_below_two_decimals_is_not_a_ratio():
    verdict = Verdict(noisy("int8", 9.98, noise=1e-6), noisy("fp32", 10.0, noise=1e-6))
    assert verdict.interval[0] > 1
    assert verdict.is_close


def test_one_round_states_no_ratio():
    """It hides how rounds differ; where it is not known how samples were taken, they are taken as they come."""
    pairs = [(noisy("int8", 4.0, rounds=a, seed=1), noisy("fp32", 10.8, rounds=b, seed=2)) for a, b in ((1, 6), (6, 1))]
    for verdict in (Verdict(*pair) for pair in pairs):
        assert not verdict.is_measurable
        assert not verdict.is_close
        assert "not measurable here: one round hides how rounds differ" in verdict.sentence
        assert verdict.sentence.endswith("Measure again in 2 rounds or more.")
        assert not RATIO.search(verdict.sentence)
    assert Verdict(replace(pairs[0][0], round_sizes=()), pairs[0][1]).is_measurable
    assert Verdict(noisy("int8", 4.0, rounds=2), noisy("fp32", 10.8, rounds=6)).is_measurable


@pytest.mark.parametrize("busy_is", ["int8", "fp32"])
def test_a_busy_machine_gives_no_ratio_at_all(busy_is):
    loads = {"int8": 0.02, "fp32": 0.02, busy_is: 0.93}
    verdict = Verdict(noisy("int8", 1.0, busy=loads["int8"]), noisy("fp32", 15.65, busy=loads["fp32"]))
    assert not verdict.is_measurable
    assert not verdict.is_close
    assert not verdict.is_slower
    assert "not measurable here: other processes used 93% of the CPU" in verdict.sentence
    assert verdict.sentence.endswith("Measure again on a quiet machine.")
    assert not RATIO.search(verdict.sentence)
    alike = Verdict(noisy("int8", 10.0, busy=loads["int8"]), noisy("fp32", 10.0, busy=loads["fp32"]))
    assert not alike.is_close


@pytest.mark.parametrize("disturbed", ["int8", "fp32"])
@pytest.mark.parametrize("ms", [5.0, 10.0, 20.0])
def test_a_warning_on_either_measurement_is_passed_on(ms, disturbed):
    pair = [noisy("int8", ms, seed=1), noisy("fp32", 10.0, seed=1)]
    warned = [replace(m, recorded_warnings=("It got hot.",)) if m.precision == disturbed else m for m in pair]
    doubt = " Measure again on a quiet machine before you rely on the times."
    assert Verdict(*warned).sentence == Verdict(*pair).sentence + doubt


def test_no_memory_is_stated_where_it_was_not_measured():
    int8, fp32 = noisy("int8", 5.0), noisy("fp32", 10.0)
    for pair in ((replace(int8, peak_memory_bytes=None), fp32), (int8, replace(fp32, peak_memory_bytes=None))):
        assert Verdict(*pair).sentence.endswith("; 1.00x the size.")


def test_the_load_is_the_largest_of_the_rounds_and_may_be_unknown():
    assert other_load(noisy("int8", 1.0, busy=0.4)) == 0.4
    assert other_load(noisy("int8", 1.0)) is None
    for rounds in (None, "x", [], [None], [{}], [{"other_load": None}]):
        assert other_load(replace(noisy("int8", 1.0), details={"rounds": rounds})) is None


def test_rounds_that_disagree_widen_the_interval():
    """The same samples: in one round they hide how rounds differ, in their own they show it."""
    int8, fp32 = noisy("int8", 4.0, drift=0.1, seed=3), noisy("fp32", 10.0, drift=0.1, seed=4)
    low, high = speedup(int8, fp32).interval
    one_low, one_high = speedup(replace(int8, round_sizes=()), replace(fp32, round_sizes=())).interval
    assert high - low > 1.5 * (one_high - one_low)


@pytest.mark.parametrize("rounds", [1, 2, 3])
@pytest.mark.parametrize("samples", [1, 2, 5])
def test_few_samples_have_an_interval_too(rounds, samples):
    found = speedup(noisy("int8", 5, rounds, samples, seed=5), noisy("fp32", 10, rounds, samples, seed=6))
    assert found.interval[0] <= found.ratio <= found.interval[1]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("percent", [50, 95])
def test_the_interval_holds_the_estimate_and_narrows_with_more_samples(seed, percent):
    widths = []
    for samples in (8, 128):
        int8 = noisy("int8", 5, 4, samples, noise=0.1, seed=seed)
        found = speedup(int8, noisy("fp32", 10, 4, samples, noise=0.1, seed=seed + 100), percent)
        assert found.interval[0] <= found.ratio <= found.interval[1]
        widths.append(found.interval[1] - found.interval[0])
    assert widths[1] < widths[0]


def test_the_same_samples_give_the_same_interval_and_the_inverse_comparison_the_inverse():
    int8, fp32 = noisy("int8", 5, seed=7), noisy("fp32", 10, seed=8)
    assert speedup(int8, fp32) == speedup(int8, fp32)
    there, back = speedup(int8, fp32).interval, speedup(fp32, int8).interval
    assert there == pytest.approx((1 / back[1], 1 / back[0]), rel=0.01)


@pytest.mark.parametrize(("samples", "measurable"), [(1, False), (5, False), (6, True)])
def test_too_few_samples_give_no_ratio_at_all(samples, measurable):
    """One sample against one has an interval without width, and its ratio is noise."""
    short = replace(noisy("int8", 5, 1, samples, seed=1), round_sizes=())
    verdict = Verdict(short, noisy("fp32", 10, seed=2))
    assert verdict.is_measurable is measurable
    if not measurable:
        assert f"not measurable here: {samples} samples are too few, 6 are needed" in verdict.sentence
        assert not RATIO.search(verdict.sentence)


@pytest.mark.parametrize(("percent", "needed"), [(50, 6), (95, 59), (5, 59), (99, 299)])
def test_so_many_samples_bound_a_percentile(percent, needed):
    """The extremes of n samples miss a percentile only where all lie on one side of it."""
    assert samples_needed(percent / 100) == needed
    with pytest.raises(ValueError, match="no number of samples"):
        samples_needed(1.0)


@pytest.mark.parametrize(
    ("freedom", "table"), [(2, 4.303), (3, 3.182), (4, 2.776), (6, 2.447), (10, 2.228), (60, 2.000)]
)
def test_the_quantile_is_that_of_the_tables(freedom, table):
    assert student_quantile(freedom) == pytest.approx(table, rel=0.035 if freedom < 4 else 0.003)


def test_fewer_rounds_tell_less():
    factors = [few_rounds_factor(rounds, rounds) for rounds in (2, 3, 6, 30)]
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == pytest.approx(1.04, abs=0.01)
    assert few_rounds_factor(1, 30) == 1.0
    # Rounds are too few by those that there are fewest of; what is not known of them is by all.
    assert few_rounds_factor(2, 30) == few_rounds_factor(30, 2) == pytest.approx(2**0.5 * 2.042 / 1.960, rel=0.003)


def test_the_interval_of_one_round_is_as_wide_as_theory_has_it():
    """The logarithm of a median of n samples deviates by sqrt(pi / 2) of the mean's deviation, noise / sqrt(n)."""
    expected = 1.96 * np.sqrt(2) * np.sqrt(np.pi / 2) * 0.05 / np.sqrt(900)
    below, above = [], []
    for seed in range(20):
        pair = [noisy(p, ms, 1, 900, 0.05, seed=2 * seed + i) for i, (p, ms) in enumerate((("int8", 5), ("fp32", 10)))]
        found = speedup(*pair)
        below.append(np.log(found.ratio / found.interval[0]))
        above.append(np.log(found.interval[1] / found.ratio))
    assert np.mean(below) == pytest.approx(expected, rel=0.1)
    assert np.mean(above) == pytest.approx(expected, rel=0.1)


def test_percentiles_of_other_runs_are_those_of_whole_rounds_drawn_again():
    rng = np.random.default_rng(0)
    two = replace(noisy("int8", 5), samples_ms=(1.0, 2.0), round_sizes=(2,))
    assert set(resampled_percentiles(two, 25, rng)) == {1.0, 1.25, 2.0}
    unequal = replace(noisy("int8", 5), samples_ms=(1.0, 3.0, 3.0, 3.0), round_sizes=(1, 3))
    found, times = np.unique(resampled_percentiles(unequal, 25, rng), return_counts=True)
    assert found.tolist() == [1.0, 2.5, 3.0], "the short round twice, one of each, the long round twice"
    assert times / times.sum() == pytest.approx([0.25, 0.5, 0.25], abs=0.06)


@pytest.mark.parametrize("rounds", [2, 3])
def test_the_interval_of_few_rounds_holds_the_truth(rounds, monkeypatch):
    """Rounds differ by 3%; `export` measures two, `profile` three. Without Student's factor 72% and 87% hold it."""
    monkeypatch.setattr("veca_edge.profiles.verdict.RESAMPLES", 100)
    pairs = [
        (
            noisy("int8", 5, rounds, 20, drift=0.03, seed=2 * s),
            noisy("fp32", 10, rounds, 20, drift=0.03, seed=2 * s + 1),
        )
        for s in range(100)
    ]
    found = [speedup(*pair).interval for pair in pairs]
    assert sum(low <= 2 <= high for low, high in found) >= 93
