"""How a head is trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from veca_edge.base.tasks import Task
from veca_edge.fitting.features import Features
from veca_edge.fitting.train import HeadSpec, TrainingOptions, evaluate_head, fit_head

SHORT = TrainingOptions(steps=30, penalty=0.0)


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


def test_a_head_says_the_same_of_features_on_another_scale():
    features, train = noisy_features(images=64, width=4), np.arange(64)
    moved = {count: 64 * array.astype(np.float32) + 320 for count, array in features.by_count.items()}
    heads = [
        fit_head(replace(features, by_count=arrays), HeadSpec(Task.CLASSIFY, classes=2, block=0), train, SHORT)
        for arrays in (features.by_count, moved)
    ]
    for count, array in features.by_count.items():
        given = (array.reshape(64, 8).astype(np.float64), moved[count].reshape(64, 8))
        plain, again = (x @ head.weight.T + head.bias for x, head in zip(given, heads, strict=True))
        assert np.abs(plain).max() > 0.1
        np.testing.assert_allclose(again, plain, atol=2e-3)


@pytest.mark.parametrize("task", [Task.SEGMENT, Task.DEPTH])
def test_a_head_for_maps_learns_what_patches_show_where_it_is_known(task):
    """The left and the right half of an image, each of one class or depth that one feature tells."""
    rng, kinds = np.random.default_rng(0), np.random.default_rng(1).integers(0, 2, (60, 1, 2))
    arrays = {count: rng.normal(size=(60, 4, 6)).astype(np.float16) for count in (8, 16)}
    for array in arrays.values():
        array[..., 2] = 4.0 * kinds.repeat(2, 1).reshape(60, 4) + 2
    maps = kinds.repeat(8, 1).repeat(4, 2)
    if task == Task.SEGMENT:
        targets, unknown = maps.astype(np.int16), -1
    else:
        targets, unknown = np.where(maps, 6.0, 2.0).astype(np.float32), 0
    # Between the halves is both, and nothing is known; neither is it of one whole image.
    targets[:, :, 2:6] = targets[0] = unknown
    features, spec = Features(arrays, targets, (2, 2)), HeadSpec(task, classes=2, block=0)
    head = fit_head(features, spec, np.arange(40), TrainingOptions(steps=300, learning_rate=1e-2))
    for found in evaluate_head(head, features, np.arange(40, 60)):
        assert found.images == 20
        if task == Task.SEGMENT:
            assert found.segmentation.miou > 0.99
        else:
            assert found.depth.mean_error < 0.1
