"""From what was read and calibrated to files that were compared with it: the part of an export that a worker can do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.errors import GateError
from ..base.files import empty
from ..base.progress import Progress
from ..base.spec import INPUT_FORMS, MAP_OUTPUTS, QUANTIZED_PRECISIONS, ExportSpec, ImageSize
from ..base.tasks import Task
from ..base.versions import own_version
from ..bundle.runner import Runner
from ..bundle.types import Artifact
from ..calibration.recipe import QuantizationRecipe, quantized_variants
from ..images.preprocessing import Preprocessing
from ..model.checkpoint import Checkpoint
from ..model.folding import InferenceWeights
from ..model.heads import active_heads
from ..model.plan import Variant
from ..proof.evaluate import EvaluationImages, golden_cosine, measure_fidelity, run_reference
from ..proof.fidelity import Fidelity
from ..proof.gate import NOT_NUMBERS, below_gate, check_gate, gate_of
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
        judges: the images that judge, by size.
        ranking: frames uint8 `[n, H, W, 3]` of the first size that calibrated, on which layers are ranked should some
            have to stay float; None where nothing calibrated.
        notes: what the user should know of the images.
    """

    spec: ExportSpec
    checkpoint: Checkpoint
    weights: InferenceWeights
    recipe: QuantizationRecipe | None
    judges: Mapping[ImageSize, EvaluationImages]
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
    golden_cosines: Mapping[str, float]


@dataclass(frozen=True)
class Attempt:
    """Files as one choice of float layers makes them, and how close they are to the reference."""

    written: Written
    fidelity: tuple[Fidelity, ...]
    kept_float: tuple[str, ...]


# Makes the files of an export in an empty directory, wherever it computes.
Make = Callable[[Sources, Path, Progress], Made]


def make_here(sources: Sources, directory: Path, progress: Progress) -> Made:
    """Writes every variant and golden frames into an empty directory, and proves them.

    Raises:
        BelowGate: a variant stays below the gate.
        EdgeError: a variant can't be written, or computes something else than it should.
    """
    held = write_within_gate(sources, directory, progress)
    artifacts = compile_and_prove(sources, held.written, progress)
    write_golden_data(sources, directory)
    cosines = {a.name: golden_cosine(directory, a, open_artifact, sources.threads) for a in artifacts}
    refuse_broken([name for name, value in cosines.items() if math.isnan(value)], "golden frames")
    return Made(artifacts, held.fidelity, held.kept_float, cosines)


def write_within_gate(sources: Sources, directory: Path, progress: Progress) -> Attempt:
    """Writes and compares; layers go back to float where INT8 misses the gate. Raises `GateError` where that fails, or
    where outputs are not numbers, whether a gate looks at them or not."""

    def attempt(kept_float: tuple[str, ...]) -> Attempt:
        empty(directory)
        return write_and_compare(sources, kept_float, directory, progress)

    held = attempt(())
    if worst_miss(held, sources.spec) is not None:
        held = with_float_layers(sources, held, attempt, progress)
    check_gate(held.fidelity, gate_of(sources.spec))
    refuse_broken([f.name for f in held.fidelity if f.is_broken], "evaluation images")
    return held


def refuse_broken(names: Sequence[str], where: str) -> None:
    """Raises `GateError` where there are variants whose outputs are not numbers."""
    if names:
        raise GateError(
            f"Some outputs for the {where} are not numbers: {', '.join(names)}. No bundle was written.", NOT_NUMBERS
        )


def write_and_compare(sources: Sources, kept_float: tuple[str, ...], directory: Path, progress: Progress) -> Attempt:
    """Writes every variant and compares it with the reference."""
    spec, metadata = sources.spec, file_metadata(sources)
    variants = make_variants(sources, spec, kept_float)
    artifacts = sources.target.write(spec, variants, directory, metadata, progress)

    def opened(artifact: Artifact) -> Runner:
        return open_artifact(directory, artifact, sources.threads)

    fidelity = measure_fidelity(sources.checkpoint, spec, artifacts, sources.judges, opened, progress)
    written = Written(directory, spec, variants, artifacts, sources.preprocessing, metadata)
    return Attempt(written, fidelity, kept_float)


def compile_and_prove(sources: Sources, written: Written, progress: Progress) -> tuple[Artifact, ...]:
    """What takes long and is done once, with files that hold the gate; returns all artifacts."""
    written = replace(written, artifacts=sources.target.compile(written, progress))
    sources.target.prove(written, sources.proof_frames(), progress)
    return tuple(written.artifacts)


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
    sources: Sources, first: Attempt, attempt: Callable[[tuple[str, ...]], Attempt], progress: Progress
) -> Attempt:
    """Leaves the fewest layers float with which the gate holds, ranked on calibration images of the first size."""
    from ..calibration.float_layers import FloatLayerAsk, FloatLayerSearch, fewest_float_layers
    from ..calibration.sensitivity import ComparedOutputs

    spec = sources.spec
    assert sources.recipe is not None
    assert sources.ranking is not None
    outputs = ComparedOutputs(spec.outputs, spec.map_stride)
    asked = FloatLayerAsk(spec.core_counts, outputs, gate_of(spec))
    ranking = FloatLayerSearch(sources.weights, sources.recipe, sources.ranking, asked, progress)
    return fewest_float_layers(ranking, first, attempt, lambda it: worst_miss(it, spec))


def worst_miss(attempt: Attempt, spec: ExportSpec) -> float | None:
    """The largest loss of the quantized variants that miss the gate, as a multiple of what is allowed; None without."""
    gate = gate_of(spec)
    missed = below_gate(attempt.fidelity, gate, QUANTIZED_PRECISIONS)
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
