"""Sums, quantiles, counts: the same to the last digit in whatever parts and order they are taken."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
from bundles import bundle_around

from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ImageSize
from veca_edge.bundle.types import Agreement, Artifact
from veca_edge.evaluation.exact import ExactSum, QuantileSketch, group_of
from veca_edge.evaluation.metrics import fidelity_of, metrics_of, recalls
from veca_edge.evaluation.statistics import (
    ImageTruth,
    Totals,
    TruthStatistics,
    VariantStatistics,
    merge,
    packed_bits,
    reference_key,
    totals_from,
    totals_text,
    unpacked_bits,
)
from veca_edge.evaluation.store import Evaluation, EvaluationFacts
from veca_edge.proof.fidelity import Comparison, Truth, cosine


def statistics_of(images) -> Totals:
    totals = Totals()
    for i in images:
        rng = np.random.default_rng(i)
        found = {
            "cls": rng.normal(size=8),
            "dense": rng.normal(size=(9, 8)),
            "logits": rng.normal(size=7),
            "segmentation": rng.integers(0, 4, (5, 5)),
            "depth": rng.random((5, 5)) + 0.1,
        }
        expected = {k: v if v.dtype.kind == "i" else v + 0.1 * rng.random(v.shape) for k, v in found.items()}
        truth = ImageTruth(i % 7, rng.integers(-1, 4, (5, 5)), rng.random((5, 5)))
        name = f"image {i}"
        variant = totals.variants.setdefault("a", VariantStatistics())
        variant.own.add(found, expected, group_of(name), name)
        variant.truth.right[str(i)] = packed_bits([variant.truth.add(found, truth, group_of(name), name)])
        totals.images += 1
    return totals


def test_parts_in_any_order_are_the_whole():
    images = list(range(60))
    whole = totals_text(statistics_of(images))
    for seed in range(5):
        rng = random.Random(seed)
        rng.shuffle(images)
        cuts = sorted(rng.sample(range(1, 60), 4))
        total = Totals()
        for start, stop in zip([0, *cuts], [*cuts, 60], strict=True):
            part = totals_text(statistics_of(images[start:stop]))
            merge(total, totals_from(json.loads(part), "a part"))
        assert totals_text(total) == whole


def outputs_of(rng, count):
    return {
        "cls": rng.normal(size=(count, 8)),
        "dense": rng.normal(size=(count, 9, 8)),
        "logits": rng.normal(size=(count, 7)),
        "segmentation": rng.integers(0, 4, (count, 5, 5)),
        "depth": rng.random((count, 5, 5)) + 0.5,
    }


def test_the_numbers_are_those_of_an_export(tmp_path):
    """The same outputs through the code that proves an export; of some images nothing is labelled."""
    rng, count = np.random.default_rng(0), 40
    found, own, full = (outputs_of(rng, count) for _ in range(3))
    labels, masks = rng.integers(0, 7, count), rng.integers(-1, 4, (count, 5, 5))
    depths = np.where(rng.random((count, 5, 5)) < 0.2, 0.0, rng.random((count, 5, 5)) + 0.5)
    masks[3], depths[4] = -1, 0.0

    artifact = Artifact("m", "onnx", "cpu", 8, "int8", ImageSize(32, 32), 1, "image", ("cls",), "0" * 64, 1)
    totals = Totals(images=count)
    variant = totals.variants.setdefault(artifact.name, VariantStatistics())
    reference = totals.references.setdefault(reference_key(8, artifact.image_size), TruthStatistics())
    for i in range(count):
        name, truth = f"image {i}", ImageTruth(int(labels[i]), masks[i], depths[i])
        outputs, of_own, of_full = ({k: v[i] for k, v in each.items()} for each in (found, own, full))
        variant.own.add(outputs, of_own, group_of(name), name)
        variant.full.add(outputs, of_full, group_of(name), name)
        assert variant.truth.add(outputs, truth, group_of(name), name) == (outputs["logits"].argmax() == labels[i])
        reference.add(of_own, truth, group_of(name), name)
    facts = EvaluationFacts("made up", "folder", "0" * 64, count, (), None, {}, "0" * 64, 100, 1, {})
    evaluation = Evaluation(facts, totals, "", 1.0, count, "")
    fidelity = fidelity_of(evaluation, bundle_around(tmp_path, [artifact]))[artifact.name]

    def proved(outputs, expected) -> Agreement:
        comparison = Comparison()
        for rows in (slice(0, 30), slice(30, count)):
            batches = ({k: v[rows] for k, v in each.items()} for each in (outputs, expected))
            comparison.add(*batches, Truth(labels, masks, depths).of(rows.start, rows.stop))
        return comparison.agreement(labels)

    for agreement, expected in ((fidelity.reference, own), (fidelity.elastic, full)):
        wanted = proved(found, expected)
        for name in ("images", "top1", "top1_agreement", "segmentation", "segmentation_truth"):
            assert getattr(agreement, name) == getattr(wanted, name)
        for name in ("depth", "depth_truth"):
            assert vars(getattr(agreement, name)) == pytest.approx(vars(getattr(wanted, name)))
        for name in ("cls", "dense"):
            one, other = getattr(agreement, name), getattr(wanted, name)
            assert (one.mean, one.worst) == (pytest.approx(other.mean), pytest.approx(other.worst))
            # A sketch takes a value where numpy goes between two.
            assert 1 - one.first_percentile == pytest.approx(1 - other.first_percentile, rel=0.1)
    wanted = proved(own, own)
    assert (fidelity.reference_top1, fidelity.reference_segmentation) == (wanted.top1, wanted.segmentation_truth)
    assert vars(fidelity.reference_depth) == pytest.approx(vars(wanted.depth_truth))

    ranks = (found["logits"] > found["logits"][np.arange(count), labels][:, None]).sum(1)
    assert metrics_of(variant)["top5"].value == pytest.approx((ranks < 5).mean())
    images = [(labels == c).sum() for c in range(7)]
    assert [c.count for c in recalls(variant.truth)] == [n for n in images if n]
    likest_last = np.argsort(cosine(found["dense"], own["dense"]).mean(1))
    assert [name for _, name in variant.own.worst] == [f"image {i}" for i in likest_last[:20]]
    variant.own.dense.worst.clear()
    assert len(variant.own.worst) == 20, "by `cls`, where a model has no `dense`"


def test_what_only_one_side_has_is_not_counted():
    outputs = {name: value[0] for name, value in outputs_of(np.random.default_rng(0), 1).items()}
    totals = Totals(variants={"a": VariantStatistics()})
    untouched, variant = totals_text(totals), totals.variants["a"]
    for name, value in outputs.items():
        others = {other: v for other, v in outputs.items() if other != name}
        variant.own.add({name: value}, others, 0, "an image")
    assert variant.truth.add(outputs, ImageTruth(), 0, "an image") is None
    truth = ImageTruth(1, outputs["segmentation"], outputs["depth"])
    assert variant.truth.add({"cls": outputs["cls"]}, truth, 0, "an image") is None
    assert totals_text(totals) == untouched
    assert metrics_of(variant) == {}


def test_a_chunk_that_is_counted_twice_is_refused():
    total = statistics_of([1, 2])
    with pytest.raises(ValueError, match="counted twice"):
        merge(total, statistics_of([2, 3]))


def test_an_exact_sum_has_no_order():
    values = [1e16, 1.0, -1e16, 0.1, 1e-9, 3.0] * 50
    sums = []
    for seed in range(4):
        random.Random(seed).shuffle(values)
        total = ExactSum()
        for value in values:
            total.add(value)
        sums.append(total.units)
    assert len(set(sums)) == 1
    total.add(-total.value)
    assert total.value == pytest.approx(0, abs=1e-12)
    assert ExactSum.decoded(total.encoded()) == total


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_sum_with_no_number_in_it_is_none(value):
    total = ExactSum()
    total.add(1.0)
    total.add(value)
    assert math.isnan(total.value)
    assert ExactSum.decoded(total.encoded()) == total
    whole = ExactSum()
    whole.add(2.0)
    whole.merge(total)
    assert math.isnan(whole.value), "whichever part it was in"
    assert whole != total


def test_a_quantile_is_within_one_percent():
    values = np.random.default_rng(0).lognormal(-8, 3, 20_000)
    one, other = QuantileSketch(), QuantileSketch()
    one.add(values[:5_000].tolist())
    other.add(values[5_000:].tolist())
    one.merge(QuantileSketch.decoded(json.loads(json.dumps(other.encoded()))))
    for share in (0.01, 0.5, 0.99, 0.999):
        assert one.quantile(share) == pytest.approx(np.quantile(values, share, method="lower"), rel=0.0101)


def test_a_sketch_of_nothing_and_of_what_is_no_number():
    sketch = QuantileSketch()
    assert math.isnan(sketch.quantile(0.5))
    sketch.add([0.0, -1e-17, 1e-13, 0.5, math.nan])
    for again in (sketch, QuantileSketch.decoded(json.loads(json.dumps(sketch.encoded())))):
        assert again.encoded()["zero"] == 3
        assert [again.quantile(share) for share in (0.0, 0.5)] == [0.0, 0.0]
        assert again.quantile(0.75) == pytest.approx(0.5, rel=0.01)
        assert again.quantile(1.0) == pytest.approx(1e9, rel=0.01), "the worst there is"


def test_outputs_that_are_no_numbers_are_kept_as_the_worst_there_is():
    totals = Totals(images=1)
    variant = totals.variants.setdefault("a", VariantStatistics())
    broken, sound = np.full((2, 4), np.nan), np.ones((2, 4))
    variant.own.add({"dense": broken, "depth": broken}, {"dense": sound, "depth": sound}, 0, "broken")
    again = totals_from(json.loads(totals_text(totals)), "the totals").variants["a"].own
    assert again.dense.lowest == -1.0
    assert again.dense.worst == [(-1.0, "broken")]
    assert math.isnan(again.dense.sums[0].value)
    assert again.depth.largest >= 1e9


def test_bits_come_back():
    right = [True, None, False, True, None]
    bits = unpacked_bits(packed_bits(right))
    assert [(bool(b) if known else None) for known, b in bits[:5]] == right
    assert not bits[5:].any()


def test_damaged_totals_are_refused():
    text = totals_text(statistics_of([1]))
    for old, new in (
        (b'"images":1', b'"images":"one"'),
        (b'"zero":0', b'"zero":-1'),
        (b'"zero":0', b'"zero":0.5'),
        (b'"zero":0', b'"zero":9007199254740992'),
        (b'"zero":0', b'"1048576":1,"zero":0'),
        (b'"zero":0', b'"one":1,"zero":0'),
        (b'"losses":{', b'"losses":1,"ignored":{'),
        (b'"squares":[', b'"squares":["x",'),
    ):
        assert old in text
        with pytest.raises(EdgeError, match="not what veca-edge writes"):
            totals_from(json.loads(text.replace(old, new)), "The totals")
