"""From what was read and calibrated to files that were compared with it: the part of an export that a worker can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.files import empty
from ..base.progress import Progress
from ..base.spec import INPUT_FORMS, MAP_OUTPUTS, QUANTIZED_PRECISIONS, ExportSpec, ImageSize
from ..base.tasks import Task
from ..base.versions import own_version
from ..bundle.types import Artifact
from ..calibration.recipe import QuantizationRecipe, quantized_variants
from ..images.folder import ImageSet
from ..images.preprocessing import Preprocessing
from ..model.checkpoint import Checkpoint
from ..model.folding import InferenceWeights
from ..model.heads import active_heads
from ..model.plan import Variant
from ..proof.evaluate import golden_cosine, measure_fidelity, run_reference
from ..proof.fidelity import Fidelity, Truth
from ..proof.gate import below_gate, check_gate, gate_of
from ..proof.golden import write_golden
from ..targets.base import Target, Written
from ..targets.table import open_artifact, target_named

if TYPE_CHECKING:
    import numpy as np

GOLDEN_IMAGES = 2
# On so many images what was written is compared with what it was written from: four of 256 px, and as many pixels of
# smaller ones, as a label map of few pixels says little.
PROOF_PIXELS = 4 * 256 * 256
LEAST_PROOF_IMAGES, MOST_PROOF_IMAGES = 4, 32


@dataclass(frozen=True)
class Sources:
    """Everything that variants are made from. Reading and calibrating it is the slow part of an export.

    Attributes:
        judges: the images that judge, by size; `truth` is what they are known to show.
        ranking: frames uint8 `[n, H, W, 3]` of the first size that calibrated, on which layers are ranked should some
            have to stay float; None where nothing calibrated.
        notes: what the user should know of the images.
    """

    spec: ExportSpec
    checkpoint: Checkpoint
    weights: InferenceWeights
    recipe: QuantizationRecipe | None
    judges: Mapping[ImageSize, ImageSet]
    truth: Mapping[ImageSize, Truth]
    ranking: np.ndarray | None
    preprocessing: Preprocessing
    threads: int | None
    notes: tuple[str, ...] = ()

    @property
    def target(self) -> Target:
        return target_named(self.spec.target)

    def first_frames(self, count: int) -> dict[ImageSize, np.ndarray]:
        """The first frames that judge, uint8 `[n, H, W, 3]`, by image size."""
        return {size: images.frames[:count] for size, images in self.judges.items()}

    def proof_frames(self) -> dict[ImageSize, np.ndarray]:
        """The frames on which files are compared with what they were written from, uint8 `[n, H, W, 3]`, by size."""
        return {size: images.frames[: proof_image_count(size)] for size, images in self.judges.items()}


@dataclass(frozen=True)
class Made:
    """Artifacts on disk with their fidelity.

    Attributes:
        kept_float: the layers that the gate kept out of INT8.
        golden_cosines: by artifact, of its answers to the golden frames.
    """

    artifacts: tuple[Artifact, ...]
    fidelity: tuple[Fidelity, ...]
    kept_float: tuple[str, ...]
    golden_cosines: Mapping[str, float] = field(default_factory=dict)


# Makes the files of an export in an empty directory, wherever it computes.
Make = Callable[[Sources, Path, Progress], Made]


def make_here(sources: Sources, directory: Path, progress: Progress) -> Made:
    """Writes every variant and golden frames into an empty directory, and proves them.

    Raises:
        BelowGate: a variant stays below the gate.
        EdgeError: a variant can't be written, or computes something else than it should.
    """
    made = make_within_gate(sources, directory, progress)
    made = compile_and_prove(sources, made, directory, progress)
    write_golden_data(sources, directory)
    cosines = {a.name: golden_cosine(directory, a, open_artifact, sources.threads) for a in made.artifacts}
    return replace(made, golden_cosines=cosines)


def make_within_gate(sources: Sources, directory: Path, progress: Progress) -> Made:
    """Writes and compares; layers go back to float where INT8 misses the gate. Raises `GateError` where that fails."""

    def make(kept_float: tuple[str, ...]) -> Made:
        empty(directory)
        return write_and_compare(sources, kept_float, directory, progress)

    made = make(())
    if worst_miss(made, sources.spec) is not None:
        made = with_float_layers(sources, made, make, progress)
    check_gate(made.fidelity, gate_of(sources.spec))
    return made


def write_and_compare(sources: Sources, kept_float: tuple[str, ...], directory: Path, progress: Progress) -> Made:
    """Writes every variant and compares it with the reference."""
    spec = sources.spec
    variants = make_variants(sources, spec, kept_float)
    artifacts = sources.target.write(spec, variants, directory, file_metadata(sources), progress)
    fidelity = measure_fidelity(
        sources.checkpoint,
        spec,
        artifacts,
        directory,
        sources.judges,
        sources.truth,
        open_artifact,
        sources.threads,
        progress,
    )
    return Made(tuple(artifacts), fidelity, kept_float)


def compile_and_prove(sources: Sources, made: Made, directory: Path, progress: Progress) -> Made:
    """What takes long and is done once, with files that hold the gate."""
    target, spec = sources.target, sources.spec
    variants = make_variants(sources, spec, made.kept_float)
    written = Written(directory, spec, variants, made.artifacts, sources.preprocessing, file_metadata(sources))
    written = replace(written, artifacts=target.compile(written, progress))
    target.prove(written, sources.proof_frames(), progress)
    return replace(made, artifacts=tuple(written.artifacts))


def proof_image_count(size: ImageSize) -> int:
    """How many images of a size prove what was written."""
    return min(max(PROOF_PIXELS // (size.height * size.width), LEAST_PROOF_IMAGES), MOST_PROOF_IMAGES)


def make_variants(sources: Sources, spec: ExportSpec, kept_float: tuple[str, ...] = ()) -> list[Variant]:
    """One variant per image size, core count and precision; the quantized ones share their weights."""
    weights, recipe = sources.weights, sources.recipe
    integer = quantized_variants(weights, recipe, spec.core_counts, kept_float) if recipe else {}
    return [
        Variant(spec.graph(count, size), precision, integer[count] if precision in QUANTIZED_PRECISIONS else weights)
        for size in spec.image_sizes
        for count in spec.core_counts
        for precision in spec.precisions
    ]


def with_float_layers(
    sources: Sources, made: Made, make: Callable[[tuple[str, ...]], Made], progress: Progress
) -> Made:
    """Leaves the fewest layers float with which the gate holds, ranked on calibration images of the first size."""
    from ..calibration.float_layers import FloatLayerAsk, FloatLayerSearch, fewest_float_layers

    spec = sources.spec
    assert sources.recipe is not None
    assert sources.ranking is not None
    asked = FloatLayerAsk(spec.core_counts, spec.outputs, spec.map_stride, gate_of(spec))
    ranking = FloatLayerSearch(sources.weights, sources.recipe, sources.ranking, asked, progress)
    return fewest_float_layers(ranking, made, make, lambda it: worst_miss(it, spec))


def worst_miss(made: Made, spec: ExportSpec) -> float | None:
    """The largest loss of the quantized variants that miss the gate, as a multiple of what is allowed; None without."""
    gate = gate_of(spec)
    missed = below_gate(made.fidelity, gate, QUANTIZED_PRECISIONS)
    return max((gate.excess(f.reference) for f in missed), default=None)


def file_metadata(sources: Sources) -> dict[str, str]:
    """What every model file says of itself, beside its own core count and size."""
    checkpoint = sources.checkpoint
    facts = {
        "producer": f"veca-edge {own_version()}",
        "checkpoint": checkpoint.name,
        "checkpoint_sha256": checkpoint.digest,
        "input": INPUT_FORMS[sources.spec.input],
        **sources.preprocessing.metadata,
    }
    if checkpoint.labels is not None:
        facts["labels"] = "\n".join(checkpoint.labels)
    for head in active_heads(checkpoint.heads, sources.spec.outputs):
        if head.task != Task.CLASSIFY and head.labels is not None:
            facts[f"labels_{head.task}"] = "\n".join(head.labels)
        if head.depth_range is not None:
            facts["depth_range"] = " ".join(map(str, head.depth_range))
    if set(sources.spec.outputs) & set(MAP_OUTPUTS):
        facts["map_stride"] = str(sources.spec.map_stride)
    return facts


def write_golden_data(sources: Sources, directory: Path) -> None:
    """Two frames that did not calibrate, with the reference's outputs at every core count."""
    from ..model.reference import reference_model

    model = reference_model(sources.checkpoint)
    for size, frames in sources.first_frames(GOLDEN_IMAGES).items():
        for count in sources.spec.core_counts:
            outputs = run_reference(model, sources.checkpoint, frames, count, sources.spec.map_stride)
            write_golden(directory, count, size, frames, {name: outputs[name] for name in sources.spec.outputs})
