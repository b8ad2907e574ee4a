"""What a bundle's evaluations say takes the place of what its export said, task by task."""

from __future__ import annotations

import numpy as np
import pytest
from measured import made_up_bundle

from veca_edge.evaluation import known
from veca_edge.evaluation.known import known_fidelity
from veca_edge.evaluation.statistics import ImageTruth, Totals, VariantStatistics
from veca_edge.evaluation.store import Evaluation, EvaluationFacts

NAME = "cores8_int8_32x32"
COSINE, EXPORTED_TOP1 = 0.949, 0.70  # of the made-up export


@pytest.fixture
def bundle(tmp_path):
    return made_up_bundle(tmp_path / "out", machine=None)


def evaluation(data: str, images: int, cosine: float | None = None, right: bool | None = None, depth: float = 0.0):
    """Of one variant: whether every image is right, and by which share every depth is wrong."""
    statistics, logits = VariantStatistics(), np.eye(3)[0]
    for i in range(images):
        truth = ImageTruth(None if right is None else int(not right), depth=np.ones((1, 1)) if depth else None)
        statistics.truth.add({"logits": logits, "depth": np.full((1, 1), 1 + depth)}, truth, 0, str(i))
        if cosine is not None:
            statistics.own.cls.add(np.array([cosine]), 0, str(i))
            statistics.full.cls.add(np.array([cosine]), 0, str(i))
    truths = (*(["classify"] if right is not None else []), *(["depth"] if depth else []))
    reference = None if cosine is None else "1" * 64
    facts = EvaluationFacts(data, "folder", "0" * 64, images, truths, reference, {}, "0" * 64, 100, 1, {})
    return Evaluation(facts, Totals(images=images, variants={NAME: statistics}), "", 1.0, images, "")


def found(bundle, monkeypatch, *evaluations):
    monkeypatch.setattr(known, "read_evaluations", lambda _: list(evaluations))
    made = known_fidelity(bundle)
    assert made.by_variant.keys() == {f.name for f in bundle.fidelity}
    others = {f.name: f for f in bundle.fidelity if f.name != NAME}
    assert {name: made.by_variant[name] for name in others} == others
    return made.by_variant[NAME], made.sources


def test_without_evaluations_the_export_is_believed(bundle, monkeypatch):
    fidelity, sources = found(bundle, monkeypatch)
    assert fidelity in bundle.fidelity
    assert sources == ()


def test_cosines_are_of_the_largest_that_compared_and_labels_of_the_largest_that_had_them(bundle, monkeypatch):
    fidelity, sources = found(
        bundle,
        monkeypatch,
        evaluation("videos", 1500),
        evaluation("photos", 40, cosine=0.5),
        evaluation("classes", 30, right=True),
        evaluation("rooms", 20, cosine=0.25, right=False, depth=0.5),
    )
    assert fidelity.elastic.lowest_mean == pytest.approx(0.5)
    assert (fidelity.reference.top1, fidelity.elastic.top1) == (1.0, 1.0)
    assert fidelity.reference.depth_truth.mean_error == pytest.approx(0.5)
    assert sources == (
        "Cosines are of the 40 images of photos.",
        "Top-1 is of the 30 images of classes.",
        "Depths were judged on the 20 images of rooms.",
    )


def test_what_no_evaluation_had_stays_the_exports(bundle, monkeypatch):
    fidelity, sources = found(bundle, monkeypatch, evaluation("photos", 1500, cosine=0.5))
    assert (fidelity.elastic.lowest_mean, fidelity.reference.top1) == (pytest.approx(0.5), EXPORTED_TOP1)
    assert sources == ("Cosines are of the 1,500 images of photos.",)
    fidelity, sources = found(bundle, monkeypatch, evaluation("classes", 30, right=False))
    assert (fidelity.elastic.lowest_mean, fidelity.reference.top1) == (pytest.approx(COSINE), 0.0)
    assert sources == ("Top-1 is of the 30 images of classes.",)
