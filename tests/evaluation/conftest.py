"""A small bundle with a classifier, generated images for it, and jobs over both."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from bundles import bundle_around

CLASSES = ("airplane", "automobile", "bird", "cat")
CHUNK = 8


def write_images(folder: Path, count: int, side: int = 32, classes: Iterable[str] = CLASSES) -> Path:
    """PNG files of coarse noise in a folder for each class, the same for the same numbers."""
    from PIL import Image

    names = list(classes)
    for i in range(count):
        coarse = np.random.default_rng(i).integers(0, 256, (4, 4, 3), np.uint8)
        path = folder / names[i % len(names)] / f"{i:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(path)
    return folder


def write_bundle(checkpoint, directory: Path, core_counts=(16, 64), change: Callable | None = None):
    """A float32 bundle for the CPU, 32 x 32 pixels, with `cls`, `dense` and `logits`."""
    from veca_edge.actions.export import head_facts
    from veca_edge.base.spec import GraphSpec, ImageSize
    from veca_edge.bundle.new_bundle import new_bundle
    from veca_edge.bundle.store import open_bundle, write_manifest
    from veca_edge.bundle.types import CheckpointFacts
    from veca_edge.converters.cpu import onnx_models_from_variants
    from veca_edge.model.folding import inference_weights
    from veca_edge.model.plan import Variant

    written = change(checkpoint) if change is not None else checkpoint
    weights = inference_weights(written)
    with new_bundle(directory) as work:
        specs = [GraphSpec(count, ImageSize(32, 32), outputs=("cls", "dense", "logits")) for count in core_counts]
        artifacts = onnx_models_from_variants([Variant(spec, "fp32", weights) for spec in specs], work, {})
        facts = CheckpointFacts("short", checkpoint.digest, checkpoint.config)
        heads = tuple(head_facts(head) for head in checkpoint.heads if head.task == "classify")
        write_manifest(bundle_around(work, artifacts, facts, labels=checkpoint.labels, heads=heads))
    return open_bundle(directory)


@pytest.fixture(scope="session")
def short_bundle(short_demo, tmp_path_factory):
    """A bundle of `short_demo` with 16 and 64 cores. Read only but for evaluations of other data."""
    return write_bundle(short_demo, tmp_path_factory.mktemp("evaluated") / "short")


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """40 images of 4 classes; one of them can't be read."""
    folder = write_images(tmp_path_factory.mktemp("images"), 40)
    (folder / "bird" / "00010.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="session")
def job_of():
    """A function: a bundle, and perhaps a checkpoint, to the job of evaluating it."""
    from veca_edge.evaluation.compute import EvaluationJob
    from veca_edge.images.preprocessing import Preprocessing
    from veca_edge.targets.table import open_artifact

    def made(bundle, checkpoint=None):
        how = Preprocessing.from_json(bundle.preprocessing)
        return EvaluationJob(bundle.directory, bundle.artifacts, how, open_artifact, checkpoint, 0, 1)

    return made


@pytest.fixture(scope="session")
def classes_of():
    """A function: a bundle to the classes of its classifier."""
    from veca_edge.base.tasks import Task
    from veca_edge.evaluation.samples import Classes

    return lambda bundle: Classes(bundle.labels, bundle.head_for(Task.CLASSIFY).classes)


@pytest.fixture(scope="session")
def whole(short_bundle, short_demo, images, job_of, classes_of):
    """What one process says of the images: the text of the totals. Everything else has to say the same."""
    from veca_edge.evaluation.data import open_data
    from veca_edge.evaluation.engine import here
    from veca_edge.evaluation.statistics import totals_text

    data = open_data(str(images), classes_of(short_bundle), CHUNK)
    return totals_text(summed(here(job_of(short_bundle, short_demo), data.chunks())))


def summed(outcomes):
    """The totals of what an engine gives, in the order in which it comes."""
    import json

    from veca_edge.evaluation.statistics import Totals, merge, totals_from

    totals = Totals()
    for _, payload in outcomes:
        assert isinstance(payload, bytes), payload
        merge(totals, totals_from(json.loads(payload), "a chunk"))
    return totals
