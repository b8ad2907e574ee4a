"""What quantizing each layer alone does to the outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.errors import EdgeError, unknown_name
from ..base.progress import Progress, silent
from ..base.tasks import Task
from ..bundle.store import open_bundle, verify_file
from ..bundle.types import Bundle
from ..calibration.recipe import QuantizationRecipe
from ..images.geometry import Resize
from ..images.preprocessing import Preprocessing
from ..model.folding import inference_weights
from .export import make_recipe
from .images import choose_images
from .request import ExportRequest, ImageSource
from .resolve import checkpoint_of, spec_of

if TYPE_CHECKING:
    from ..calibration.sensitivity import LayerSensitivity

IMAGES = 16
# The head that each criterion reads.
NEEDED = {"top1": Task.CLASSIFY, "miou": Task.SEGMENT, "depth": Task.DEPTH}


@dataclass(frozen=True)
class Sensitivity:
    """What each layer's quantization does, in order of execution, and on how many images it was measured.

    Attributes:
        by: the criterion of `calibration.sensitivity.LOSSES` that was asked for.
    """

    layers: tuple[LayerSensitivity, ...]
    core_counts: tuple[int, ...]
    images: int
    by: str = "cosine"


def sensitivity(
    request: ExportRequest,
    bundle: Path | None = None,
    count: int = IMAGES,
    progress: Progress = silent,
    by: str = "cosine",
) -> Sensitivity:
    """Quantizes one layer at a time and measures the outputs.

    Args:
        request: the checkpoint with its images and core counts, as for `export`; `output` is not used.
        bundle: take this bundle's recipe, core counts, image size and preprocessing instead of calibrating; the
            checkpoint must be the one that it was made from. Its weights are then rounded to nearest, which costs a
            little more than the rounding that the bundle's models have.
        count: images to measure on, none of which calibrated.
        by: a criterion of `calibration.sensitivity.LOSSES`.

    Raises:
        EdgeError: no such checkpoint, bundle, images or criterion, or they do not belong together.
    """
    from ..calibration.sensitivity import LOSSES, measure_sensitivity

    if by not in LOSSES:
        raise unknown_name("criterion", by, LOSSES)

    opened = open_bundle(bundle) if bundle else None
    if opened is not None:
        counts = request.core_counts or opened.core_counts
        images = prepared_as(opened, request.images)
        sizes = request.image_sizes or opened.image_sizes[:1]
        if others := [size for size in sizes if size not in opened.image_sizes]:
            raise EdgeError(
                f"The bundle {opened.directory} has no models of {others[0]}.",
                f"Its sizes are {', '.join(map(str, opened.image_sizes))}; give one, or the checkpoint alone.",
            )
        request = replace(request, core_counts=counts, image_sizes=sizes, images=images)
    checkpoint = checkpoint_of(request.checkpoint, progress)
    if by in NEEDED and checkpoint.head_for(NEEDED[by]) is None:
        raise EdgeError(
            f"This model can't be judged by {by}: it has no head for {NEEDED[by]}.",
            "Give one with --head FILE, or choose --by cosine.",
        )
    recipe = None if opened is None else recipe_of(opened, checkpoint.digest)
    spec = spec_of(replace(request, precisions=()), checkpoint)
    weights = inference_weights(checkpoint)
    images = choose_images(request, checkpoint, spec.image_sizes[:1], progress)
    recipe = recipe or make_recipe(request, spec, checkpoint, weights, images, progress)
    assert recipe is not None
    judged = images[spec.image_sizes[0]].evaluation
    labels = None if judged.labels is None else judged.labels[:count]
    layers = measure_sensitivity(weights, recipe, judged.frames[:count], spec.core_counts, labels, progress)
    return Sensitivity(layers, spec.core_counts, len(judged.frames[:count]), by)


def prepared_as(bundle: Bundle, images: ImageSource) -> ImageSource:
    """The images, prepared as the bundle's were. Raises `EdgeError` where another way was asked for."""
    how = Preprocessing.from_json(bundle.preprocessing)
    asked = images.preprocessing
    if (asked.resize, asked.crop_ratio) not in ((how.resize, how.crop_ratio), (Resize.CROP, 1.0)):
        raise EdgeError(
            f"The images of the bundle {bundle.directory} were prepared with --resize {how.resize} --crop-ratio "
            f"{how.crop_ratio:g}, not as asked.",
            "Leave out --resize and --crop-ratio: the bundle's are taken.",
        )
    return replace(images, resize=how.resize, crop_ratio=how.crop_ratio, interpolation=how.interpolation)


def recipe_of(bundle: Bundle, digest: str) -> QuantizationRecipe:
    """A bundle's recipe. Raises `EdgeError` where it has none, was changed, or was made from another checkpoint."""
    if digest != bundle.checkpoint.digest:
        raise EdgeError(
            f"The bundle {bundle.directory} was made from another checkpoint ('{bundle.checkpoint.name}').",
            "Give the one it was made from with --checkpoint FILE.",
        )
    if bundle.recipe is None:
        raise EdgeError(
            f"The bundle {bundle.directory} holds nothing that is quantized.", "Export it with --precision int8."
        )
    return QuantizationRecipe.load(verify_file(bundle, bundle.recipe))
