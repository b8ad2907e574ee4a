"""The whole flow: checkpoint to bundle, on one screen, and what can be done with a bundle afterwards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..base.errors import EdgeError, GateError, unknown_name
from ..base.files import empty
from ..base.progress import Progress, silent
from ..base.spec import ExportSpec, ImageSize
from ..base.versions import own_version, tool_versions
from ..bundle.readme import write_readme
from ..bundle.store import (
    Artifact,
    Bundle,
    CheckpointFacts,
    check_output,
    find_artifact,
    new_bundle,
    open_bundle,
    verify_files,
    write_manifest,
)
from ..calibration.recipe import QuantizationRecipe, quantized_variants
from ..images.preprocessing import ImageSet, Preprocessing, find_images, load_frame, load_images, sample
from ..model.checkpoint import Checkpoint, load_checkpoint
from ..model.config import IMAGE_MEAN, IMAGE_STD
from ..model.folding import InferenceWeights, Variant, inference_weights
from ..proof.evaluate import below_gate, check_gate, golden_cosine, measure_fidelity, run_frames, run_reference
from ..proof.fidelity import Fidelity
from ..proof.golden import FOLDER as GOLDEN_FOLDER
from ..proof.golden import write_golden
from ..runtime import open_runner
from ..targets.table import check_precision, target_named

if TYPE_CHECKING:
    from ..calibration.sensitivity import LayerSensitivity
    from ..profiles import Verdict

DEFAULT_IMAGE_SIZE = ImageSize(256, 256)
QUANTIZED_PRECISIONS = ("int8", "w8")
AUTO = "auto"
CALIBRATION_METHODS = ("search", "nncf")
HELD_OUT_IMAGES = 64
GOLDEN_IMAGES = 2
# On so many images an INT8 package for Core ML is compared with the quantized model in PyTorch.
SIMULATED_IMAGES = 4
SENSITIVITY_IMAGES = 16
RECIPE = "recipe.safetensors"
# How much lower another machine's arithmetic may leave the golden cosine: its rounding differs.
VERIFY_TOLERANCE = 0.005


@dataclass(frozen=True)
class ExportRequest:
    """What the user asked for; `None` and `()` stand for defaults that the checkpoint or target decides."""

    output: Path
    checkpoint: Path | None = None
    target: str = "cpu"
    core_counts: tuple[int, ...] = ()
    precisions: tuple[str, ...] = ()
    image_sizes: tuple[ImageSize, ...] = ()
    batch: int = 1
    input: str = "image"
    outputs: tuple[str, ...] = ()
    heads: int | None = None
    rope_zero: float | None = None
    head: Path | None = None
    labels: Path | None = None
    calibration: Path | None = None
    calibration_count: int = 128
    calibration_method: str = "search"
    seed: int = 0
    evaluation: Path | None = None
    min_cosine: float = 0.99
    force: bool = False
    threads: int | None = None
    measure: bool = True
    target_options: object = None


@dataclass(frozen=True)
class ExportResult:
    """What an export made.

    Attributes:
        verdict: the quantized precision against the next one, measured on this machine, where the target
            runs here.
        notes: remarks that the user should read.
    """

    bundle: Bundle
    fidelity: tuple[Fidelity, ...]
    verdict: Verdict | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Images:
    """Frames of one image size: those that calibrate, and those that judge, which never overlap."""

    calibration: ImageSet | None
    evaluation: ImageSet
    notes: tuple[str, ...] = ()


def export(request: ExportRequest, progress: Progress = silent) -> ExportResult:
    """Exports a checkpoint: converts, calibrates, proves and bundles it.

    Raises:
        EdgeError: bad input, or something that is missing; nothing is written.
        GateError: a variant stays below `min_cosine`; nothing is written.
    """
    if request.precisions == (AUTO,):
        return export_winner(request, progress)
    check_request(request)
    checkpoint = load_checkpoint(
        request.checkpoint or demo_path(),
        heads=request.heads,
        rope_zero=request.rope_zero,
        head=request.head,
        labels=request.labels,
        progress=progress,
    )
    spec = resolve(request, checkpoint)
    if spec.target == "apple":
        from ..converters.coreml.packages import check_export

        check_export(spec, checkpoint.labels)
    weights = inference_weights(checkpoint)
    images = {size: choose_images(request, checkpoint, size, progress) for size in spec.image_sizes}
    recipe = make_recipe(spec, weights, checkpoint.digest, images, request, progress)
    with new_bundle(request.output, request.force) as directory:

        def make(kept_float: tuple[str, ...]) -> Made:
            empty(directory)
            return write_and_measure(
                checkpoint, spec, weights, recipe, kept_float, directory, images, request.threads, progress
            )

        made = make(())
        if recipe is not None and below_gate(made.fidelity, spec.min_cosine, QUANTIZED_PRECISIONS):
            made = with_float_layers(made, make, spec, weights, recipe, images, progress)
        check_gate(made.fidelity, spec.min_cosine)
        write_golden_data(checkpoint, spec, images, directory)
        finish_bundle(directory, checkpoint, spec, recipe, made, request.threads)
        verdict = measured_verdict(checkpoint, spec, weights, recipe, made, directory, request, progress)
    notes = [note for chosen in images.values() for note in chosen.notes]
    notes += notes_of_execution(recipe, made.artifacts)
    if recipe is not None and made.kept_float:
        from ..calibration.sensitivity import described

        notes.append(described(made.kept_float, recipe, checkpoint.config))
    return ExportResult(open_bundle(request.output), made.fidelity, verdict, tuple(dict.fromkeys(notes)))


def notes_of_execution(recipe: QuantizationRecipe | None, artifacts: Sequence[Artifact]) -> list[str]:
    """What the user should know of how the files were compared with the reference."""
    from ..runtime.onnxruntime import truncates_fp16_codes

    fp16_codes = recipe is not None and any("--stronglyTyped" in a.details.get("build_flags", ()) for a in artifacts)
    if not (fp16_codes and truncates_fp16_codes()):
        return []
    return [
        "This ONNX Runtime cuts codes off where it should round them, in what it quantizes from FP16: INT8 is more "
        "faithful than it says here. Newer ones round; they need Python 3.11."
    ]


def export_winner(request: ExportRequest, progress: Progress) -> ExportResult:
    """Ships the target's default precision where it holds the gate and is measured to be faster, else the next one."""
    low = target_named(request.target).default_precision
    high = next_precision(request.target, low)
    try:
        result = export(replace(request, precisions=(low,), measure=True), progress)
    except GateError as error:
        why = error.message
    else:
        if result.verdict is None:
            return replace(
                result,
                notes=(
                    f"auto chose {low}: it holds the gate. Its speed against {high} was not "
                    "measured: that takes the device.",
                    *result.notes,
                ),
            )
        if not (result.verdict.is_slower or result.verdict.is_close):
            return replace(result, notes=(f"auto chose {low}.", *result.notes))
        why = result.verdict.sentence
    result = export(replace(request, precisions=(high,), force=True), progress)
    return replace(result, notes=(f"auto chose {high}. {why}", *result.notes))


@dataclass(frozen=True)
class Made:
    """Artifacts on disk with their fidelity; `kept_float` names the layers that the gate kept out of INT8."""

    artifacts: tuple[Artifact, ...]
    fidelity: tuple[Fidelity, ...]
    kept_float: tuple[str, ...]


def write_and_measure(
    checkpoint: Checkpoint,
    spec: ExportSpec,
    weights: InferenceWeights,
    recipe: QuantizationRecipe | None,
    kept_float: tuple[str, ...],
    directory: Path,
    images: Mapping[ImageSize, Images],
    threads: int | None,
    progress: Progress,
) -> Made:
    """Writes every variant and compares it with the reference."""
    variants = make_variants(spec, weights, recipe, kept_float)
    artifacts = write_artifacts(spec, variants, directory, file_metadata(checkpoint, spec), progress)
    if spec.target == "apple":
        from ..runtime.program import check_simulation

        frames = {size: chosen.evaluation.frames[:SIMULATED_IMAGES] for size, chosen in images.items()}
        check_simulation(directory, artifacts, variants, frames, progress)
    fidelity = measure_fidelity(
        checkpoint,
        spec,
        artifacts,
        directory,
        {size: chosen.evaluation for size, chosen in images.items()},
        threads,
        progress,
    )
    return Made(tuple(artifacts), fidelity, kept_float)


# --------------------------------------------------------------------------------- the request


def demo_path() -> Path:
    from ..demo import demo_checkpoint

    return demo_checkpoint()


def check_request(request: ExportRequest) -> None:
    """Everything that can be refused before anything slow."""
    target = target_named(request.target)
    if AUTO in request.precisions:
        raise EdgeError(f"--precision {AUTO} stands alone.", f"Give {AUTO}, or the precisions you want.")
    for precision in request.precisions:
        check_precision(target, precision)
    if request.calibration_method not in CALIBRATION_METHODS:
        raise unknown_name("calibration method", request.calibration_method, CALIBRATION_METHODS)
    wanted = request.precisions or (target.default_precision,)
    quantizes = [p for p in wanted if p in QUANTIZED_PRECISIONS]
    if quantizes and request.checkpoint is not None and request.calibration is None:
        raise EdgeError(
            f"{quantizes[0].upper()} needs images to calibrate on, and none were given.",
            "Give a folder of images like those of the camera with --calibration DIR (about 128 are enough), "
            f"or ask for --precision {target.precisions[-1]}.",
        )
    for folder in (request.calibration, request.evaluation):
        if folder is not None:
            find_images(folder)
    check_output(request.output, request.force)


def resolve(request: ExportRequest, checkpoint: Checkpoint) -> ExportSpec:
    """The request with every default filled in and every name checked against the checkpoint."""
    config = checkpoint.config
    counts = request.core_counts or config.core_counts
    for count in counts:
        config.check_core_count(count)
    sizes = request.image_sizes or ((ImageSize(32, 32),) if request.checkpoint is None else (DEFAULT_IMAGE_SIZE,))
    for size in sizes:
        config.grid(*size)
    outputs = request.outputs or ("cls", "dense", *(("logits",) if checkpoint.head is not None else ()))
    if "logits" in outputs and checkpoint.head is None:
        raise EdgeError(
            "The output 'logits' needs a classifier head, and this checkpoint has none.",
            "Give one with --head FILE, or leave logits out of --outputs.",
        )
    precisions = request.precisions or (target_named(request.target).default_precision,)
    return ExportSpec(
        request.target,
        counts,
        precisions,
        sizes,
        request.batch,
        request.input,
        outputs,
        request.min_cosine,
        request.target_options,
    )


def choose_images(request: ExportRequest, checkpoint: Checkpoint, size: ImageSize, progress: Progress) -> Images:
    """Images that calibrate and images that judge, never the same."""
    from ..demo import demo_calibration, demo_evaluation

    notes: list[str] = []
    calibration, evaluation = request.calibration, request.evaluation
    if request.checkpoint is None:
        calibration = calibration or demo_calibration()
        evaluation = evaluation or (demo_evaluation() if request.calibration is None else None)
    elif calibration is None and evaluation is None:
        evaluation = demo_evaluation()
        notes.append(
            "No images were given, so the fidelity was measured on the few CIFAR-10 images that come with "
            "veca-edge; give your own with --evaluation DIR."
        )
    found = find_images(calibration) if calibration else []
    if evaluation is not None:
        judged = find_images(evaluation)
        same = {path.resolve() for path in judged}
        found = [path for path in found if path.resolve() not in same] if evaluation != calibration else found
        used = sample(found, request.calibration_count, request.seed) if found else []
        if evaluation == calibration:
            judged = [path for path in judged if path not in set(used)]
    else:
        # A fifth is held back where the folder has no images to spare.
        spare = max(len(found) - request.calibration_count, min(HELD_OUT_IMAGES, len(found) // 5))
        used = sample(found, len(found) - spare, request.seed)
        judged = sample([path for path in found if path not in set(used)], HELD_OUT_IMAGES, request.seed)
        if len(used) < min(request.calibration_count, len(found)):
            notes.append(
                f"{len(used)} of the {len(found)} calibration images calibrate; the other {len(judged)} are "
                "held back to measure fidelity. Give --evaluation DIR to calibrate on all of them."
            )
    if used and len(used) < 32:
        notes.append(f"Only {len(used)} images calibrate: ranges from so few are rough, 128 are usual.")
    loaded = load_images(used, size, progress=progress) if used else None
    judges = load_images(judged, size, classes=checkpoint.labels, minimum=1, progress=progress)
    for chosen in (loaded, judges):
        if chosen is not None and chosen.skipped:
            notes.append(
                f"{len(chosen.skipped)} images could not be read and were left out: "
                + ", ".join(f"{s.path} ({s.reason})" for s in chosen.skipped[:8])
            )
    return Images(loaded, judges, tuple(notes))


# --------------------------------------------------------------------------------- the stages


def make_recipe(
    spec: ExportSpec,
    weights: InferenceWeights,
    digest: str,
    images: Mapping[ImageSize, Images],
    request: ExportRequest,
    progress: Progress,
) -> QuantizationRecipe | None:
    """Calibrates once for all variants, or not at all where nothing is quantized."""
    if not set(spec.precisions) & set(QUANTIZED_PRECISIONS):
        return None
    from ..calibration.calibrate import calibrate
    from ..calibration.nncf import NncfOptions
    from ..calibration.search import SearchOptions

    chosen = [i.calibration for i in images.values() if i.calibration is not None]
    if not chosen:
        raise EdgeError("INT8 needs images to calibrate on, and none were given.", "Give --calibration DIR.")
    options = NncfOptions() if request.calibration_method == "nncf" else SearchOptions()
    return calibrate(
        weights,
        chosen,
        spec.core_counts,
        options=options,
        seed=request.seed,
        checkpoint_digest=digest,
        progress=progress,
    )


def make_variants(
    spec: ExportSpec, weights: InferenceWeights, recipe: QuantizationRecipe | None, kept_float: tuple[str, ...] = ()
) -> list[Variant]:
    """One variant per image size, core count and precision; the quantized ones share their weights."""
    integer = quantized_variants(weights, recipe, spec.core_counts, kept_float) if recipe else {}
    return [
        Variant(spec.graph(count, size), precision, integer[count] if precision in QUANTIZED_PRECISIONS else weights)
        for size in spec.image_sizes
        for count in spec.core_counts
        for precision in spec.precisions
    ]


def with_float_layers(
    made: Made,
    make: Callable[[tuple[str, ...]], Made],
    spec: ExportSpec,
    weights: InferenceWeights,
    recipe: QuantizationRecipe,
    images: Mapping[ImageSize, Images],
    progress: Progress,
) -> Made:
    """Leaves the fewest layers float with which the gate holds, those first that INT8 harms most for their cost.

    Calibration images rank them, and say how many it may take. They agree better than those that judge, so their
    error has to be smaller than what the gate allows by the factor that a miss shows between the two. Once the gate
    holds, fewer are tried.
    """
    from ..calibration.sensitivity import FloatLayerSearch

    calibration = images[spec.image_sizes[0]].calibration
    assert calibration is not None
    search = FloatLayerSearch(weights, recipe, calibration.frames[:SENSITIVITY_IMAGES], spec.core_counts, progress)
    too_few = 0
    while missed := below_gate(made.fidelity, spec.min_cosine, QUANTIZED_PRECISIONS):
        too_few = len(made.kept_float)
        if too_few == len(search.ranked):
            return made
        judged = 1.0 - min(f.reference.lowest_mean for f in missed)
        allowed = (1.0 - search.lowest_cosine(too_few)) / judged * (1.0 - spec.min_cosine)
        made = make(search.ranked[: search.fewest(1.0 - allowed, at_least=too_few + 1 + too_few // 2)])
    enough = len(made.kept_float)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        made = make(search.ranked[:middle])
        if below_gate(made.fidelity, spec.min_cosine, QUANTIZED_PRECISIONS):
            too_few = middle
        else:
            enough = middle
    return made if len(made.kept_float) == enough else make(search.ranked[:enough])


def file_metadata(checkpoint: Checkpoint, spec: ExportSpec) -> dict[str, str]:
    """What every model file says of itself, beside its own core count and size."""
    facts = {
        "producer": f"veca-edge {own_version()}",
        "checkpoint": checkpoint.name,
        "checkpoint_sha256": checkpoint.digest,
        "input": (
            "uint8 RGB [B, H, W, 3]; normalisation is inside"
            if spec.input == "image"
            else "float32 [B, 3, H, W], normalised with mean and std"
        ),
        "mean": " ".join(map(str, IMAGE_MEAN)),
        "std": " ".join(map(str, IMAGE_STD)),
    }
    if checkpoint.labels is not None:
        facts["labels"] = "\n".join(checkpoint.labels)
    return facts


def write_artifacts(
    spec: ExportSpec, variants: Sequence[Variant], directory: Path, metadata: Mapping[str, str], progress: Progress
) -> list[Artifact]:
    """The variants as files of the target's kind."""
    if spec.target == "cpu":
        from ..converters.cpu import onnx_models_from_variants

        return onnx_models_from_variants(variants, directory, metadata, progress)
    if spec.target == "jetson":
        from ..converters.tensorrt.dialects import tensorrt_models_from_variants

        return tensorrt_models_from_variants(variants, directory, metadata, spec.target_options, progress)
    from ..converters.coreml.packages import mlpackages_from_variants

    return mlpackages_from_variants(variants, directory, metadata, spec.target_options, progress)


# --------------------------------------------------------------------------------- the bundle


def write_golden_data(
    checkpoint: Checkpoint, spec: ExportSpec, images: Mapping[ImageSize, Images], directory: Path
) -> None:
    """Two frames that did not calibrate, with the reference's outputs at every core count."""
    from ..model.reference import reference_model

    model = reference_model(checkpoint)
    for size, chosen in images.items():
        frames = chosen.evaluation.frames[:GOLDEN_IMAGES]
        for count in spec.core_counts:
            outputs = run_reference(model, checkpoint, frames, count)
            write_golden(directory, count, size, frames, {name: outputs[name] for name in spec.outputs})


def finish_bundle(
    directory: Path,
    checkpoint: Checkpoint,
    spec: ExportSpec,
    recipe: QuantizationRecipe | None,
    made: Made,
    threads: int | None,
) -> None:
    """Recipe, README and, last, the manifest."""
    if recipe is not None:
        # The codes are in the models; a record of how they were rounded would be a fifth of a bundle.
        recipe.save(directory / RECIPE, keep_rounding=False)
    bundle = Bundle(
        directory=directory,
        spec=spec,
        checkpoint=CheckpointFacts(checkpoint.name, checkpoint.digest, checkpoint.config),
        preprocessing=Preprocessing().to_json(),
        versions=tool_versions(),
        artifacts=made.artifacts,
        labels=checkpoint.labels,
        recipe=RECIPE if recipe is not None else None,
        fidelity=tuple(f.to_json() for f in made.fidelity),
    )
    checks = {a.name: golden_cosine(bundle, a, threads) for a in made.artifacts}
    write_for_the_device(spec, directory, made.artifacts, checks)
    bundle = replace(bundle, details={"golden_cosine": checks, "kept_float": list(made.kept_float)})
    write_readme(bundle, Preprocessing().description)
    write_manifest(bundle)


def write_for_the_device(
    spec: ExportSpec, directory: Path, artifacts: Sequence[Artifact], golden_cosines: Mapping[str, float]
) -> None:
    """What takes the artifacts the rest of their way: a build script for a board, a Swift package for an app."""
    if spec.target == "jetson":
        from ..converters.tensorrt.build_script import write_build_script

        write_build_script(directory, artifacts)
    elif spec.target == "apple" and spec.input == "image":
        from ..apps.swift import write_swift_package

        write_swift_package(directory, artifacts, golden_cosines)


def measured_verdict(
    checkpoint: Checkpoint,
    spec: ExportSpec,
    weights: InferenceWeights,
    recipe: QuantizationRecipe | None,
    made: Made,
    directory: Path,
    request: ExportRequest,
    progress: Progress,
) -> Verdict | None:
    """Measures the quantized precision against the next higher one: the first core count, the first size.

    The higher one is written aside where the bundle does not hold it. None where this machine is not the
    target, nothing is quantized, or the user did not want it.
    """
    if recipe is None or spec.target != "cpu" or not request.measure:
        return None
    from ..profiles import ProfileOptions, profile_bundle, verdicts

    low = next(p for p in spec.precisions if p in QUANTIZED_PRECISIONS)
    high = next_precision(spec.target, low)
    pair = replace(spec, core_counts=spec.core_counts[:1], image_sizes=spec.image_sizes[:1], precisions=(low, high))
    with tempfile.TemporaryDirectory(prefix="veca-edge-") as name:
        aside = Path(name)
        variants = make_variants(pair, weights, recipe, made.kept_float)
        artifacts = tuple(write_artifacts(pair, variants, aside, file_metadata(checkpoint, pair), silent))
        shutil.copytree(directory / GOLDEN_FOLDER, aside / GOLDEN_FOLDER)
        bundle = write_manifest(replace(open_bundle(directory), directory=aside, spec=pair, artifacts=artifacts))
        profile = profile_bundle(bundle, ProfileOptions(request.threads, rounds=2, seconds=0.5), progress=progress)
    return next(iter(verdicts(profile.measurements)), None)


def next_precision(target: str, precision: str) -> str:
    """The precision above one in the target's table."""
    known = target_named(target).precisions
    return known[known.index(precision) + 1]


@dataclass(frozen=True)
class Verified:
    """One artifact's check: the cosine with its golden outputs, when exported and now.

    `cosine` is None for an engine that this machine has no TensorRT for: only its digest was checked.
    """

    artifact: Artifact
    cosine: float | None
    exported_cosine: float

    @property
    def ok(self) -> bool:
        return self.cosine is None or self.cosine >= self.exported_cosine - VERIFY_TOLERANCE


def verify(path: Path, threads: int | None = None, progress: Progress = silent) -> list[Verified]:
    """Checks a bundle: schema, digests of every file, and the golden outputs by running every model.

    Raises:
        EdgeError: the manifest is wrong, or files were changed or are missing.
    """
    bundle = open_bundle(path)
    verify_files(bundle, progress)
    checks = []
    for i, artifact in enumerate(bundle.artifacts):
        exported = bundle.details["golden_cosine"].get(artifact.name, bundle.spec.min_cosine)
        runs_here = artifact.format != "engine" or has_tensorrt()
        checks.append(Verified(artifact, golden_cosine(bundle, artifact, threads) if runs_here else None, exported))
        progress("running the golden frames", i + 1, len(bundle.artifacts))
    return checks


def has_tensorrt() -> bool:
    return find_spec("tensorrt") is not None


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image: its outputs without the batch axis, and the most likely classes."""

    path: Path
    outputs: Mapping[str, np.ndarray]
    classes: tuple[tuple[str, float], ...]


def run(
    path: Path,
    images: Sequence[Path],
    core_count: int | None = None,
    precision: str | None = None,
    image_size: ImageSize | None = None,
    threads: int | None = None,
) -> tuple[Artifact, list[Prediction]]:
    """Runs one artifact of a bundle on image files, prepared exactly as in calibration."""
    bundle = open_bundle(path)
    Preprocessing.from_json(bundle.preprocessing)
    # A bundle for a Jetson may hold the ONNX files beside the engines that were built from them.
    both = len({a.format for a in bundle.artifacts}) > 1
    wanted = ("engine" if has_tensorrt() else "onnx") if both else None
    artifact = find_artifact(bundle, core_count, precision, image_size, wanted)
    runner = open_runner(bundle.directory, artifact, threads)
    predictions = []
    for image in images:
        frame = load_frame(image, artifact.image_size)[None]
        outputs = {name: value[0] for name, value in run_frames(runner, artifact, frame).items()}
        predictions.append(Prediction(image, outputs, top_classes(outputs.get("logits"), bundle.labels)))
    return artifact, predictions


def top_classes(
    logits: np.ndarray | None, labels: Sequence[str] | None, most: int = 5
) -> tuple[tuple[str, float], ...]:
    """The most likely classes with their softmax probabilities."""
    if logits is None:
        return ()
    likely = np.exp(logits - logits.max())
    likely /= likely.sum()
    return tuple((labels[i] if labels else str(i), float(likely[i])) for i in np.argsort(-likely)[:most])


@dataclass(frozen=True)
class Sensitivity:
    """What each layer's quantization does, in order of execution, and on how many images it was measured."""

    layers: tuple[LayerSensitivity, ...]
    core_counts: tuple[int, ...]
    images: int


def sensitivity(
    request: ExportRequest, bundle: Path | None = None, count: int = SENSITIVITY_IMAGES, progress: Progress = silent
) -> Sensitivity:
    """Quantizes one layer at a time and measures the outputs.

    Args:
        request: the checkpoint with its images and core counts, as for `export`; `output` is not used.
        bundle: take this bundle's recipe, core counts and image size instead of calibrating; the checkpoint must
            be the one that it was made from. Its weights are then rounded to nearest, which costs a little more
            than the rounding that the bundle's models have.
        count: images to measure on, none of which calibrated.
    """
    from ..calibration.sensitivity import measure_sensitivity

    opened = open_bundle(bundle) if bundle else None
    if opened is not None:
        request = replace(
            request, core_counts=request.core_counts or opened.core_counts, image_sizes=opened.image_sizes[:1]
        )
    path = request.checkpoint or demo_path()
    checkpoint = load_checkpoint(
        path, heads=request.heads, rope_zero=request.rope_zero, head=request.head, labels=request.labels
    )
    if opened is not None:
        if checkpoint.digest != opened.checkpoint.digest:
            raise EdgeError(
                f"The bundle {bundle} was made from another checkpoint ('{opened.checkpoint.name}') than {path}.",
                "Give the one it was made from with --checkpoint FILE.",
            )
        if opened.recipe is None:
            raise EdgeError(f"The bundle {bundle} holds nothing that is quantized.", "Export it with --precision int8.")
    spec = resolve(replace(request, precisions=()), checkpoint)
    weights = inference_weights(checkpoint)
    chosen = choose_images(request, checkpoint, spec.image_sizes[0], progress)
    recipe = (
        QuantizationRecipe.load(opened.directory / opened.recipe)
        if opened is not None and opened.recipe
        else make_recipe(spec, weights, checkpoint.digest, {spec.image_sizes[0]: chosen}, request, progress)
    )
    assert recipe is not None
    judged = chosen.evaluation
    labels = None if judged.labels is None else judged.labels[:count]
    layers = measure_sensitivity(weights, recipe, judged.frames[:count], spec.core_counts, labels, progress)
    return Sensitivity(layers, spec.core_counts, len(judged.frames[:count]))
