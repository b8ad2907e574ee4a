"""The demo carries a whole model and disjoint, balanced images."""

import hashlib

from veca_edge.demo import demo_calibration, demo_evaluation


def test_the_model_has_head_and_labels(demo):
    assert demo.config.core_counts == (8, 16, 24, 32, 40, 48, 56, 64)
    assert demo.heads[0].terms[0].weight.shape == (10, 192)
    assert len(demo.labels) == 10


def test_images_are_balanced_and_disjoint(demo):
    digests = []
    for folder in (demo_calibration(), demo_evaluation()):
        paths = sorted(folder.rglob("*.jpg"))
        assert {p.parent.name for p in paths} == set(demo.labels)
        assert len(paths) == 70
        digests.append({hashlib.sha256(p.read_bytes()).hexdigest() for p in paths})
    assert not digests[0] & digests[1]
