"""A model of a bundle on image files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..base.errors import EdgeError
from ..base.files import disk_errors, written_aside
from ..base.options import path_of
from ..base.spec import ImageSize
from ..bundle.store import find_artifact, opened, verify_artifacts
from ..bundle.types import Artifact, Bundle
from ..images.preprocessing import Preprocessing, load_pixels, prepare
from ..proof.evaluate import run_frames
from ..runtime.classes import LikelyClass, top_classes
from ..targets.table import open_artifact
from .load import runnable_format


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image: its outputs without the batch axis, and the most likely classes."""

    path: Path
    outputs: Mapping[str, np.ndarray]
    classes: tuple[LikelyClass, ...]


@dataclass(frozen=True)
class Predictions:
    """What one artifact says of some images, in their order."""

    artifact: Artifact
    images: tuple[Prediction, ...]

    def __iter__(self) -> Iterator[Artifact | tuple[Prediction, ...]]:
        """As it was in version 0.1, a pair."""
        warnings.warn("What run returns has fields: artifact and images.", DeprecationWarning, stacklevel=2)
        yield self.artifact
        yield self.images


def run(
    path: str | Path | Bundle,
    images: Sequence[str | Path] | str | Path,
    core_count: int | None = None,
    precision: str | None = None,
    image_size: ImageSize | None = None,
    threads: int | None = None,
    format: str | None = None,
) -> Predictions:
    """Runs one artifact of a bundle on image files, prepared exactly as in calibration.

    Args:
        path: the bundle's, or one that was opened.
        images: files; one alone will do.
        core_count, precision, image_size: which; needed where the bundle holds several.
        format: see `load_bundle`.

    Raises:
        EdgeError: no bundle, no such artifact, several that fit, or an image that cannot be read.
    """
    bundle = opened(path)
    how = Preprocessing.from_json(bundle.preprocessing)
    artifact = chosen_artifact(bundle, core_count, precision, image_size, format)
    verify_artifacts(bundle, [artifact])
    predictions = []
    with closing(open_artifact(bundle.directory, artifact, threads)) as runner:
        for image in [path_of(i, "An image") for i in ([images] if isinstance(images, str | Path) else images)]:
            frame = prepare(image, artifact.image_size, how)[None]
            outputs = {name: value[0] for name, value in run_frames(runner, artifact, frame).items()}
            predictions.append(Prediction(image, outputs, top_classes(outputs.get("logits"), bundle.labels)))
    return Predictions(artifact, tuple(predictions))


def chosen_artifact(
    bundle: Bundle,
    core_count: int | None = None,
    precision: str | None = None,
    image_size: ImageSize | None = None,
    format: str | None = None,
) -> Artifact:
    """The one that `run` runs. Raises `EdgeError` where there is none, or several."""
    return find_artifact(bundle, core_count, precision, image_size, runnable_format(bundle, format).name)


def check_painting(artifact: Artifact, images: Sequence[Path], show: Sequence[str]) -> None:
    """Raises `EdgeError` for what `paint` would refuse, before anything is run."""
    from ..runtime.painting import chosen_shows

    chosen_shows(show, artifact.outputs)
    names = [image.stem for image in images]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise EdgeError(
            f"Two images are called {twice}, and would be one file.", "Run one of them with another --overlay."
        )


def paint(path: Path | Bundle, predictions: Predictions, directory: Path, show: Sequence[str] = ()) -> list[Path]:
    """Writes every image with what the model says of it as a PNG file of the same name.

    Args:
        path: of the bundle that made the predictions, or that bundle.
        directory: to make; it must not exist.
        show: of `painting.SHOWN`; empty is what the tasks say, or else the patch features.

    Raises:
        EdgeError: an unknown thing to show, two images of one name, or the directory exists or can't be written.
    """
    from PIL import Image

    from ..runtime.painting import Painter, chosen_shows

    artifact = predictions.artifact
    check_painting(artifact, [prediction.path for prediction in predictions.images], show)
    painter = Painter(opened(path), artifact, chosen_shows(show, artifact.outputs))
    names = [prediction.path.stem for prediction in predictions.images]
    with disk_errors(directory), written_aside(directory) as aside:
        aside.mkdir()
        for prediction, name in zip(predictions.images, names, strict=True):
            painted = painter(load_pixels(prediction.path), prediction.outputs, prediction.classes)
            Image.fromarray(painted).save(aside / f"{name}.png")
    return [directory / f"{name}.png" for name in names]
