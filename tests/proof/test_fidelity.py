"""Cosine statistics, agreement and the gate on outputs whose answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from veca_edge.base.errors import GateError
from veca_edge.base.json_files import typed
from veca_edge.base.spec import ImageSize
from veca_edge.proof.fidelity import (
    Agreement,
    Comparison,
    CosineStatistics,
    DepthAgreement,
    DepthErrors,
    Fidelity,
    LabelCounts,
    MapAgreement,
    Truth,
    cosine,
    likeness,
)
from veca_edge.proof.gate import Gate, below_gate, check_gate


def test_cosine_of_known_vectors():
    a = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]], np.float32)
    b = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]], np.float32)
    np.testing.assert_allclose(cosine(a, b), [1.0, 0.5**0.5, 1.0, 0.0], atol=1e-7)


def test_batches_are_pooled():
    rng = np.random.default_rng(0)
    made = {"cls": rng.normal(size=(6, 8)), "dense": rng.normal(size=(6, 5, 8)), "logits": rng.normal(size=(6, 3))}
    wanted = {name: value + 0.1 * rng.normal(size=value.shape) for name, value in made.items()}
    labels = np.array([0, 1, 2, 0, 1, 2])
    whole, parts = Comparison(), Comparison()
    whole.add(made, wanted)
    for rows in (slice(0, 4), slice(4, 6)):
        parts.add({n: v[rows] for n, v in made.items()}, {n: v[rows] for n, v in wanted.items()})
    assert whole.agreement(labels) == parts.agreement(labels)
    assert whole.agreement(labels).images == 6
    assert whole.agreement(labels).top1 == (made["logits"].argmax(1) == labels).mean()
    assert whole.agreement().top1 is None


def test_scores_of_patches_stand_for_the_map_where_there_is_none():
    scores = np.zeros((2, 3, 2, 2))
    scores[:, 1] = 1
    other = scores.copy()
    other[0, 2, 0, 0] = 2
    compared = Comparison()
    compared.add({"segmentation_logits": other}, {"segmentation_logits": scores, "segmentation": np.ones((2, 8, 8))})
    assert compared.agreement().segmentation.pixels == 7 / 8
    compared = Comparison()
    labels = np.ones((2, 8, 8), np.int64)
    both = {"segmentation_logits": other, "segmentation": labels}
    compared.add(both, {"segmentation_logits": scores, "segmentation": labels})
    assert compared.agreement().segmentation.pixels == 1


def test_attention_is_compared_as_one_vector_an_image():
    looks = np.array([[[1.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]]])
    other = np.array([[[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
    compared = Comparison()
    compared.add({"attention": other}, {"attention": looks})
    agreement = compared.agreement()
    assert (agreement.attention.mean, agreement.attention.worst) == (pytest.approx(0.75), pytest.approx(0.5))
    assert agreement.lowest_mean == pytest.approx(0.75)
    (missed,) = Gate(0.9).misses(agreement)
    assert (missed.name, missed.option) == ("mean cosine of attention", "--min-cosine")


def fidelity(cls: float, dense: float | None, precision: str = "int8") -> Fidelity:
    def statistics(mean: float) -> CosineStatistics:
        return CosineStatistics(mean, mean, mean)

    agreement = Agreement(4, statistics(cls), None if dense is None else statistics(dense), 1.0, None)
    return Fidelity(8, precision, ImageSize(32, 32), agreement, agreement)


def test_the_gate_looks_at_the_lower_mean():
    check_gate([fidelity(0.995, 0.991)], Gate(0.99))
    with pytest.raises(GateError, match=r"0\.98500") as caught:
        check_gate([fidelity(0.995, 0.985), fidelity(1.0, None)], Gate(0.99))
    assert caught.value.exit_code == 1
    assert below_gate([fidelity(0.9, 0.9, "fp32")], Gate(0.99), ("int8",)) == []


def test_not_a_number_does_not_pass():
    with pytest.raises(GateError, match="nan") as caught:
        check_gate([fidelity(0.9, 1.0), fidelity(float("nan"), 1.0)], Gate(0.99))
    assert "65504" in caught.value.hint


def test_what_reaches_a_limit_passes_and_the_least_beyond_it_is_seen():
    depths = [replace(fidelity(1.0, 1.0).reference, depth=DepthAgreement(e, 1, 1, 1)) for e in (0.02, 0.0200001)]
    gate = Gate(0.99, 0.9, 0.02)
    check_gate([fidelity(0.99, 0.99), replace(fidelity(1, 1), reference=depths[0])], gate)
    with pytest.raises(GateError, match=r"cosine of dense .* below --min-cosine 0\.99: .*: 0\.9899999\."):
        check_gate([fidelity(0.99, 0.9899999)], gate)
    with pytest.raises(GateError, match=r"depth difference .* above --max-depth-error 0\.02: .*: 0\.0200001\."):
        check_gate([replace(fidelity(1, 1), reference=depths[1])], gate)


def test_how_far_beyond_a_limit_is_in_losses_that_it_allows():
    assert Gate(0.99).excess(fidelity(1.0, 0.97).reference) == pytest.approx(3)
    assert Gate(0.99).excess(fidelity(0.99, 1.0).reference) == pytest.approx(1)
    assert Gate(1.0).excess(fidelity(1.0, 1.0).reference) == 0
    assert Gate(1.0).excess(fidelity(1.0, 0.9999).reference) == float("inf")
    nothing = Agreement(4, None, None)
    assert (Gate(0.99, 0.9, 0.1).excess(nothing), Gate(0.99, 0.9, 0.1).misses(nothing)) == (0, [])


def test_json_round_trip():
    one = fidelity(0.99, 0.98)
    assert typed(one.to_json(), Fidelity, "It") == one


def test_the_gate_of_tasks():
    agreement = Agreement(
        4, None, None, 0.97, None, MapAgreement(0.99, 0.9, 0.8, 1), DepthAgreement(0.03, 0.5, 1.0, 0.1)
    )
    gate = Gate(0.99, 0.98, 0.02)
    assert [c.name for c in gate.misses(agreement)] == ["top-1 agreement", "mean depth difference"]
    assert gate.excess(agreement) == pytest.approx(1.5)
    assert Gate(0.99).misses(agreement) == [], "what nobody asked for is no gate"
    assert (
        Gate(0.99, max_depth_error=0.02).excess(replace(agreement, depth=DepthAgreement(float("nan"), 1, 0, 1))) > 1e9
    )


def test_label_maps_are_counted_pixel_by_pixel():
    counts = LabelCounts()
    counts.add(np.array([[0, 1], [1, 2]]), np.array([[0, 1], [2, -1]]))
    found = counts.agreement()
    assert found.pixels == pytest.approx(2 / 3), "the unlabelled pixel is not counted"
    assert found.miou == pytest.approx((1 + 0.5 + 0) / 3)
    assert (found.worst_class, found.worst_iou) == (2, 0.0)
    counts.add(np.array([3]), np.array([3]))
    assert counts.agreement().pixels == pytest.approx(3 / 4), "classes may turn up later"
    assert LabelCounts().agreement() is None


def test_depth_is_compared_where_it_is_known():
    errors = DepthErrors()
    errors.add(np.array([4.0, 9.0, 1.0]), np.array([1.0, 0.0, 1.0]))
    errors.add(np.array([2.4, 5.0]), np.array([2.0, 4.0]))
    errors.add(np.array([3.0, 4.0]), np.array([0.0, 5.0]))
    found = errors.agreement()
    assert found.mean_error == pytest.approx((3 + 0 + 0.2 + 0.25 + 0.2) / 5)
    assert (found.worst_error, found.delta1) == (3.0, 2 / 5), "1.25 times as far is not close any more"
    assert found.rmse == pytest.approx(((9 + 0 + 0.16 + 1 + 1) / 5) ** 0.5)
    assert DepthErrors().agreement() is None


def test_maps_are_compared_with_the_reference_and_with_what_is_known():
    outputs = {"segmentation": np.array([[[0, 1]], [[1, 1]]]), "depth": np.array([[[1.0, 2.0]], [[3.0, 4.0]]])}
    expected = {"segmentation": np.array([[[0, 1]], [[1, 0]]]), "depth": np.array([[[1.0, 2.0]], [[3.0, 5.0]]])}
    truth = Truth(masks=np.array([[[0, 0]], [[-1, -1]]]), depth=np.array([[[2.0, 0.0]], [[0.0, 8.0]]]))
    comparison = Comparison()
    for i in range(2):
        comparison.add(
            *({n: v[i : i + 1] for n, v in each.items()} for each in (outputs, expected)), truth.of(i, i + 1)
        )
    found = comparison.agreement()
    assert (found.segmentation.pixels, found.segmentation_truth.pixels) == (3 / 4, 1 / 2)
    assert found.depth.mean_error == pytest.approx(0.2 / 4)
    assert found.depth_truth.mean_error == 0.5
    comparison = Comparison()
    comparison.add(outputs, {"segmentation": expected["segmentation"]}, Truth())
    assert comparison.agreement().depth is None
    assert comparison.agreement().segmentation_truth is None


def test_the_likeness_of_vectors_is_their_mean_cosine():
    """Of an image's token, of its patches, of its attention maps as one, and of the scores of each place."""
    rng = np.random.default_rng(0)
    for name, shape, vectors in (
        ("cls", (2, 8), lambda a: a),
        ("dense", (2, 5, 8), lambda a: a),
        ("attention", (2, 3, 8), lambda a: a.reshape(2, 24)),
        ("segmentation_logits", (2, 8, 3, 4), lambda a: a.transpose(0, 2, 3, 1)),
    ):
        one, other = rng.normal(size=shape), rng.normal(size=shape)
        assert likeness(name, one, other) == pytest.approx(cosine(vectors(one), vectors(other)).mean())


def test_the_likeness_of_maps():
    assert likeness("segmentation", np.array([1, 2, 3, 3]), np.array([1, 2, 3, 4])) == 3 / 4
    assert likeness("depth", np.array([1.0, 3.0]), np.array([2.0, 4.0])) == pytest.approx(1 - (0.5 + 0.25) / 2)
