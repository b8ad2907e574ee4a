"""Release against release: what is worse is reported, and chance is not."""

from __future__ import annotations

import numpy as np
import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.evaluation.compare import compare, discordant, mcnemar
from veca_edge.evaluation.exact import group_of
from veca_edge.evaluation.metrics import METRICS, metrics_of, overlaps, recalls, wilson
from veca_edge.evaluation.statistics import ImageTruth, Totals, TruthStatistics, VariantStatistics, packed_bits
from veca_edge.evaluation.store import Evaluation, EvaluationFacts

IMAGES = 5000
TOLERANCE = 0.005


def evaluation_of(right: np.ndarray, cosines: np.ndarray | None = None, digest: str = "0" * 64) -> Evaluation:
    """A made-up evaluation of as many images as `right` has, with one classifier."""
    statistics = VariantStatistics()
    for i, hit in enumerate(right):
        name, logits = str(i), np.zeros(3)
        logits[i % 3 if hit else (i + 1) % 3] = 1
        statistics.truth.add({"logits": logits}, ImageTruth(i % 3), group_of(name), name)
        if cosines is not None:
            statistics.own.cls.add(cosines[i : i + 1], group_of(name), name)
    for start in range(0, len(right), 100):
        statistics.truth.right[str(start)] = packed_bits([bool(r) for r in right[start : start + 100]])
    facts = EvaluationFacts("made up", "folder", digest, len(right), (), None, {}, "0" * 64, 100, 1, {})
    return Evaluation(facts, Totals(images=len(right), variants={"a": statistics}), "", 1.0, len(right), "")


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (1, 0), (5, 5), (3, 9), (75, 25), (1100, 900), (40_000, 39_000)])
def test_mcnemar_is_the_exact_binomial_test(lost, won):
    from scipy.stats import binomtest  # takes a second, in every worker

    expected = binomtest(lost, lost + won).pvalue if lost + won else 1.0
    assert mcnemar(lost, won) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("hits", "total"), [(0, 10), (10, 10), (81, 263), (40_123, 50_000)])
def test_wilson(hits, total):
    from scipy.stats import binomtest

    expected = binomtest(hits, total).proportion_ci(0.95, "wilson")
    found = wilson(hits, total)
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


@pytest.mark.parametrize("total", [1, 13, 15, 17, 263, 50_000])
def test_an_interval_holds_its_share_and_no_impossible_one(total):
    for hits in {0, 1, total - 1, total}:
        found = wilson(hits, total)
        assert 0 <= found.low <= found.value <= found.high <= 1
    assert (wilson(0, total).low, wilson(total, total).high) == (0.0, 1.0)


def test_a_point_of_top1_is_caught():
    before = np.random.default_rng(0).random(IMAGES) < 0.8
    after = before.copy()
    after[np.flatnonzero(before)[:50]] = False
    found = compare(evaluation_of(before), evaluation_of(after), TOLERANCE)
    (regression,) = found.regressions
    assert (regression.metric, regression.variant) == ("top1", "a")
    assert regression.worse == pytest.approx(0.01)
    assert regression.chance < 1e-10
    assert compare(evaluation_of(before), evaluation_of(after), 0.02).regressions == ()
    assert compare(evaluation_of(after), evaluation_of(before), TOLERANCE).regressions == ()


def test_a_point_of_top1_is_caught_among_images_that_change_by_chance():
    """20 pairs of releases that are right on other images, 2 of 100 either way, and one a point worse beside that."""
    caught = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        before = rng.random(IMAGES) < 0.8
        changed = rng.random(IMAGES) < 0.05
        after = np.where(changed, rng.random(IMAGES) < 0.8, before)
        after[rng.permutation(np.flatnonzero(after))[: IMAGES // 100]] = False
        found = compare(evaluation_of(before), evaluation_of(after), TOLERANCE)
        caught += [d.metric for d in found.regressions] == ["top1"]
    assert caught >= 19


def test_noise_is_not_reported():
    """Two releases that are equally good, and right on other images: 20 pairs, at most one of them reported."""
    reported = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        before = rng.random(1000) < 0.8
        flipped = rng.random(1000) < 0.05
        after = np.where(flipped, rng.random(1000) < 0.8, before)
        cosines = 1 - rng.lognormal(-6, 0.5, (2, 1000))
        found = compare(evaluation_of(before, cosines[0]), evaluation_of(after, cosines[1]), 0.0)
        assert {d.metric for d in found.differences} >= {"top1", "cosine_cls"}
        reported += bool(found.regressions)
    assert reported <= 1


def test_the_same_twice_is_no_difference():
    right = np.random.default_rng(1).random(300) < 0.7
    found = compare(evaluation_of(right), evaluation_of(right), 0.0)
    assert all(d.worse == 0 and d.chance == 1 for d in found.differences)


def test_a_cosine_that_falls_is_caught():
    rng = np.random.default_rng(0)
    right, cosines = rng.random(1000) < 0.7, 1 - rng.lognormal(-6, 0.5, 1000)
    found = compare(evaluation_of(right, cosines), evaluation_of(right, cosines - 0.01), TOLERANCE)
    assert [d.metric for d in found.regressions] == ["cosine_cls"]


def test_what_falls_alike_for_all_images_is_no_chance():
    right = np.ones(200, bool)
    before, after = (evaluation_of(right, np.full(200, cosine)) for cosine in (1.0, 0.5))
    (regression,) = compare(before, after, TOLERANCE).regressions
    assert (regression.metric, regression.worse, regression.chance) == ("cosine_cls", 0.5, 0.0)


def outputs_beside(noise: float) -> Evaluation:
    """An evaluation of outputs that differ by so much noise from a reference that is right."""
    rng, statistics = np.random.default_rng(0), VariantStatistics()
    for i in range(300):
        name, reference = str(i), {"cls": rng.normal(size=8), "dense": rng.normal(size=(9, 8)), "logits": np.zeros(7)}
        reference["logits"][i % 7] = 1
        reference["segmentation"], reference["depth"] = rng.integers(0, 4, (5, 5)), rng.random((5, 5)) + 1
        reference["attention"] = rng.random((3, 3))
        found = {key: value + noise * rng.normal(size=value.shape) for key, value in reference.items()}
        found["segmentation"] = found["segmentation"].round().clip(0, 3).astype(int)
        truth = ImageTruth(i % 7, reference["segmentation"], reference["depth"])
        for compared in (statistics.own, statistics.full):
            compared.add(found, reference, group_of(name), name)
        statistics.truth.right[name] = packed_bits([statistics.truth.add(found, truth, group_of(name), name)])
    facts = EvaluationFacts("made up", "folder", "0" * 64, 300, (), None, {}, "0" * 64, 1, 1, {})
    return Evaluation(facts, Totals(images=300, variants={"a": statistics}), "", 1.0, 300, "")


def test_every_metric_tells_worse_from_better():
    good, bad = outputs_beside(0.1), outputs_beside(2.0)
    found = compare(good, bad, TOLERANCE)
    assert [d.metric for d in found.regressions] == [m.name for m in METRICS]
    for difference in found.differences:
        assert difference.worse == pytest.approx(abs(difference.now - difference.baseline))
    assert compare(bad, good, TOLERANCE).regressions == ()
    values = metrics_of(good.totals.variants["a"])
    assert {n: v for n, v in values.items() if not v.low <= v.value <= v.high} == {}


def test_what_only_one_of_the_two_was_asked_is_not_compared():
    right = np.ones(50, bool)
    pair = evaluation_of(right), evaluation_of(right, np.full(50, 0.5))
    for baseline, now in (pair, pair[::-1]):
        assert {d.metric for d in compare(baseline, now, 0.0).differences} == {"top1", "top5"}


@pytest.mark.parametrize("broken", [slice(7, 8), slice(None)], ids=["one", "all"])
def test_outputs_that_are_not_numbers_any_more_are_caught(broken):
    rng = np.random.default_rng(0)
    right, cosines = rng.random(500) < 0.7, 1 - rng.lognormal(-6, 0.5, 500)
    damaged = cosines.copy()
    damaged[broken] = np.nan
    sound, new = evaluation_of(right, cosines), evaluation_of(right, damaged)
    assert [d.metric for d in compare(sound, new, TOLERANCE).regressions] == ["cosine_cls"]
    assert compare(new, sound, TOLERANCE).regressions == ()
    assert compare(new, new, TOLERANCE).regressions == ()


def test_images_are_compared_one_by_one():
    one, other = TruthStatistics(), TruthStatistics()
    one.right = {"0": packed_bits([True, True, None, False]), "1": packed_bits([True])}
    other.right = {"0": packed_bits([False, True, True, True]), "2": packed_bits([False])}
    assert discordant(one, other) == (1, 1)


def test_what_can_not_be_compared():
    right = np.ones(10, bool)
    with pytest.raises(EdgeError, match="of other images"):
        compare(evaluation_of(right), evaluation_of(right, digest="1" * 64), 0.0)
    renamed = evaluation_of(right)
    renamed.totals.variants["b"] = renamed.totals.variants.pop("a")
    with pytest.raises(EdgeError, match="no variant in common"):
        compare(evaluation_of(right), renamed, 0.0)


def test_intervals_hold_what_they_should():
    """Of 100 samples of a population, a 95% interval of the mean cosine holds its mean about 95 times."""
    held = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        cosines = 1 - rng.exponential(0.01, 400)
        found = metrics_of(evaluation_of(np.ones(400, bool), cosines).totals.variants["a"])["cosine_cls"]
        held += found.low <= 0.99 <= found.high
    assert 85 <= held <= 100


def test_classes_and_maps():
    rng = np.random.default_rng(0)
    statistics, labels = VariantStatistics(), rng.integers(0, 4, (30, 6, 6))
    found = np.where(rng.random(labels.shape) < 0.2, rng.integers(0, 4, labels.shape), labels)
    for i in range(30):
        truth = ImageTruth(i % 3, labels[i])
        outputs = {"logits": np.eye(3)[0], "segmentation": found[i]}
        statistics.truth.add(outputs, truth, group_of(str(i)), str(i))
    assert [(c.index, c.count, c.share.value) for c in recalls(statistics.truth)] == [
        (0, 10, 1),
        (1, 10, 0),
        (2, 10, 0),
    ]
    expected = [((labels == c) & (found == c)).sum() / ((labels == c) | (found == c)).sum() for c in range(4)]
    assert [iou for _, iou in overlaps(statistics.truth.segmentation).values()] == pytest.approx(expected)
    estimate = metrics_of(statistics)["miou"]
    assert estimate.value == pytest.approx(np.mean(expected))
    assert estimate.low < estimate.value < estimate.high
    assert len({m.name for m in METRICS}) == len(METRICS)
