"""How a head is trained."""

from __future__ import annotations

import numpy as np
import pytest

from veca_edge.base.tasks import Task
from veca_edge.fitting.features import Features
from veca_edge.fitting.train import HeadSpec, TrainingOptions, evaluate_head, fit_head


def noisy_features(images: int, width: int) -> Features:
    """Two classes that one of many features tells apart, most of the time."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, images)
    arrays = {}
    for count in (8, 16):
        array = rng.normal(size=(images, 2, width)).astype(np.float16)
        array[:, 0, 0] += 2.5 * labels - 1.25
        arrays[count] = array
    return Features(arrays, labels, (1, 1))


def test_a_classifier_of_few_images_does_not_learn_them_by_heart():
    features = noisy_features(images=640, width=60)
    train, judging = np.arange(80), np.arange(80, 640)

    def right(penalty: float | None) -> float:
        options = TrainingOptions(steps=400, penalty=penalty)
        head = fit_head(features, HeadSpec(Task.CLASSIFY, classes=2, block=0), train, options)
        return min(found.top1 or 0.0 for found in evaluate_head(head, features, judging))

    assert right(None) > right(0.0) + 0.02


def test_a_single_row_makes_a_finite_head():
    features = Features({8: np.ones((1, 2, 3), np.float16)}, np.array([1]), (1, 1))
    head = fit_head(features, HeadSpec(Task.CLASSIFY, classes=2, block=0), np.arange(1), TrainingOptions(steps=3))
    assert np.isfinite(head.weight).all()
    assert np.isfinite(head.bias).all()


@pytest.mark.parametrize(("low", "high"), [(8.0, 8.0), (8.0, 8.0 + 2**-7), (0.0, 0.0), (0.0, 1e-6)])
def test_a_feature_that_float16_does_not_resolve_has_no_weight(low, high):
    """It is constant, or flickers between neighbours in the cache, and would be scaled up to what the others are."""
    features = noisy_features(images=64, width=4)
    for array in features.by_count.values():
        array[:, 1, 2] = np.where(np.arange(64) % 2, low, high)
    head = fit_head(features, HeadSpec(Task.CLASSIFY, classes=2, block=0), np.arange(64), TrainingOptions(steps=5))
    assert not head.weight[:, 6].any()
    assert head.weight[:, np.arange(8) != 6].all()
    assert np.abs(head.bias).max() < 1
