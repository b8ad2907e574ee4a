"""The whole flow: checkpoint to bundle."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..base.errors import EdgeError, GateError
from ..base.files import empty, write_atomically
from ..base.progress import Progress, silent
from ..base.spec import INPUT_FORMS, MAP_OUTPUTS, QUANTIZED_PRECISIONS, ExportSpec, ImageSize
from ..base.tasks import Task
from ..base.versions import own_version, tool_versions
from ..bundle.readme import write_readme
from ..bundle.store import RUN_FILE, new_bundle, open_bundle, write_manifest
from ..bundle.types import Artifact, Bundle, BundleDetails, CheckpointFacts, HeadFacts, TermFacts
from ..calibration.recipe import QuantizationRecipe, quantized_variants
from ..images.palette import palette
from ..images.preprocessing import Preprocessing
from ..model.checkpoint import Checkpoint
from ..model.folding import InferenceWeights, inference_weights
from ..model.heads import Head, active_heads
from ..model.plan import Variant
from ..proof.evaluate import golden_cosine, measure_fidelity, run_reference
from ..proof.fidelity import Fidelity, Truth
from ..proof.gate import below_gate, check_gate, gate_of
from ..proof.golden import FOLDER as GOLDEN_FOLDER
from ..proof.golden import write_golden
from ..targets.base import Built, Log, Target, Written
from ..targets.table import format_of, open_artifact, target_named
from .images import Images, choose_images, few_frames
from .request import AUTO, ExportRequest
from .resolve import check_request, checkpoint_of, spec_of

if TYPE_CHECKING:
    from ..profiles.verdict import Verdict

T = TypeVar("T")

GOLDEN_IMAGES = 2
# On so many images what was written is compared with what it was written from.
PROOF_IMAGES = 4
RANKING_IMAGES = 16
RECIPE = "recipe.safetensors"


@dataclass(frozen=True)
class ExportResult:
    """What an export made.

    Attributes:
        verdict: the quantized precision against the next one, measured on this machine, where the target
            runs here.
        notes: remarks that the user should read.
        built: what was built on the board that the request names, or None.
    """

    bundle: Bundle
    fidelity: tuple[Fidelity, ...]
    verdict: Verdict | None
    notes: tuple[str, ...]
    built: Built | None = None


@dataclass(frozen=True)
class Sources:
    """Everything that variants are made from. Reading and calibrating it is the slow part of an export."""

    target: Target
    spec: ExportSpec
    checkpoint: Checkpoint
    weights: InferenceWeights
    images: Images
    truth: Mapping[ImageSize, Truth]
    recipe: QuantizationRecipe | None
    preprocessing: Preprocessing
    threads: int | None
    request: ExportRequest


class Shared:
    """What exports of one checkpoint and one set of images have in common: the first that needs it reads or calibrates
    it for all."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


@dataclass(frozen=True)
class Made:
    """Artifacts on disk with their fidelity; `kept_float` names the layers that the gate kept out of INT8."""

    artifacts: tuple[Artifact, ...]
    fidelity: tuple[Fidelity, ...]
    kept_float: tuple[str, ...]


def export(
    request: ExportRequest, progress: Progress = silent, on_log: Log = lambda line: None, shared: Shared | None = None
) -> ExportResult:
    """Exports a checkpoint: converts, calibrates, proves and bundles it, and builds it on a board if one is named.

    Args:
        on_log: gets the lines of a board's builder.
        shared: what exports for other targets have made already; see `export_matrix`.

    Raises:
        EdgeError: bad input, or something that is missing; nothing is written. When only building on the board
            fails, the bundle stays, and `build` goes on.
        GateError: a variant stays below `min_cosine`; nothing is written.
    """
    if request.precisions == (AUTO,):
        return export_fastest(request, progress, on_log, shared)
    target = check_request(request)
    if request.device is not None and target.builder is not None:
        options = target.builder.options_for(request.options or target.options(), request.device)
        request = replace(request, options=options)
    sources = read_sources(request, target, progress, shared or Shared())
    with new_bundle(request.output, request.force) as directory:
        made = make_within_gate(sources, directory, progress)
        write_golden_data(sources, directory)
        finish_bundle(sources, made, directory)
        verdict = measured_verdict(sources, made, directory, progress) if request.measure else None
    bundle, built = open_bundle(request.output), None
    if request.device is not None and target.builder is not None:
        built = target.builder.build(bundle, request.device, target.builder.options(), progress, on_log)
        bundle = built.bundle
    return ExportResult(bundle, made.fidelity, verdict, notes_of(sources, made), built)


def read_sources(request: ExportRequest, target: Target, progress: Progress, shared: Shared) -> Sources:
    """Reads the checkpoint and the images, and calibrates where something is quantized."""
    checkpoint = shared.once("checkpoint", lambda: checkpoint_of(request.checkpoint, progress))
    spec = spec_of(request, checkpoint)
    target.check(spec, checkpoint.labels)
    weights = shared.once("weights", lambda: inference_weights(checkpoint))
    sizes = spec.image_sizes
    images = shared.once(("images", sizes), lambda: choose_images(request, checkpoint, sizes, progress))
    truth = {size: split.truth(spec.graph(spec.core_counts[0], size).map_size) for size, split in images.items()}
    recipe = None
    if set(spec.precisions) & set(QUANTIZED_PRECISIONS):
        # Targets whose runtime finds the scales of activations itself are calibrated for that.
        key = "recipe", sizes, spec.core_counts, request.calibration_method, target.quantizes_tokens
        recipe = shared.once(key, lambda: make_recipe(request, spec, checkpoint, weights, images, progress))
    return Sources(
        target, spec, checkpoint, weights, images, truth, recipe, request.images.preprocessing, request.threads, request
    )


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
    target, spec = sources.target, sources.spec
    variants = make_variants(sources, spec, kept_float)
    artifacts = target.write(spec, variants, directory, file_metadata(sources), progress)
    written = Written(directory, spec, variants, artifacts, sources.preprocessing)
    target.prove(written, few_frames(sources.images, PROOF_IMAGES), progress)
    judges = {size: split.evaluation for size, split in sources.images.items()}
    fidelity = measure_fidelity(
        sources.checkpoint, spec, artifacts, directory, judges, sources.truth, open_artifact, sources.threads, progress
    )
    return Made(tuple(artifacts), fidelity, kept_float)


def export_fastest(
    request: ExportRequest, progress: Progress, on_log: Log, shared: Shared | None = None
) -> ExportResult:
    """Ships the target's default precision where it holds the gate and is measured to be faster, else the next one."""
    shared = shared or Shared()
    target = check_request(replace(request, precisions=()))
    low = target.default_precision
    high = target.above(low)
    try:
        result = export(replace(request, precisions=(low,), measure=True), progress, on_log, shared)
    except GateError as error:
        why = error.message
    else:
        if result.verdict is None:
            note = f"auto chose {low}: it holds the gate. Its speed against {high} takes the device to measure."
            return replace(result, notes=(note, *result.notes))
        if not result.verdict.is_measurable:
            note = f"auto chose {low}: it holds the gate. Its speed against {high} is {result.verdict.speed.text}."
            return replace(result, notes=(note, *result.notes))
        if not (result.verdict.is_slower or result.verdict.is_close):
            return replace(result, notes=(f"auto chose {low}.", *result.notes))
        why = result.verdict.sentence
    result = export(replace(request, precisions=(high,), force=True), progress, on_log, shared)
    return replace(result, notes=(f"auto chose {high}. {why}", *result.notes))


# --------------------------------------------------------------------------------- the stages


def make_recipe(
    request: ExportRequest,
    spec: ExportSpec,
    checkpoint: Checkpoint,
    weights: InferenceWeights,
    images: Images,
    progress: Progress,
) -> QuantizationRecipe | None:
    """Calibrates once for all variants, or not at all where nothing is quantized."""
    if not set(spec.precisions) & set(QUANTIZED_PRECISIONS):
        return None
    from ..calibration.calibrate import calibrate
    from ..calibration.search import PER_TOKEN, SearchOptions

    calibrating = [split.calibration for split in images.values() if split.calibration is not None]
    if not calibrating:
        raise EdgeError("INT8 needs images to calibrate on, and none were given.", "Give --calibration DIR.")
    if request.calibration_method == "nncf":
        from ..calibration.nncf import NncfOptions

        options = NncfOptions()
    else:
        options = PER_TOKEN if target_named(spec.target).quantizes_tokens else SearchOptions()
    return calibrate(
        weights,
        calibrating,
        spec.core_counts,
        options=options,
        seed=request.images.seed,
        checkpoint_digest=checkpoint.digest,
        progress=progress,
    )


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
    calibration = sources.images[spec.image_sizes[0]].calibration
    assert calibration is not None
    assert sources.recipe is not None
    frames = calibration.frames[:RANKING_IMAGES]
    asked = FloatLayerAsk(spec.core_counts, spec.outputs, spec.map_stride, gate_of(spec))
    ranking = FloatLayerSearch(sources.weights, sources.recipe, frames, asked, progress)
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


def head_facts(head: Head) -> HeadFacts:
    """What a bundle says about a head."""
    terms = tuple(TermFacts(term.block, term.tokens) for term in head.terms)
    colours = palette(head.classes) if head.task == Task.SEGMENT else None
    return HeadFacts(head.task, head.classes, terms, head.upsampling, head.labels, colours, head.depth_range)


# --------------------------------------------------------------------------------- the bundle


def write_golden_data(sources: Sources, directory: Path) -> None:
    """Two frames that did not calibrate, with the reference's outputs at every core count."""
    from ..model.reference import reference_model

    model = reference_model(sources.checkpoint)
    for size, frames in few_frames(sources.images, GOLDEN_IMAGES).items():
        for count in sources.spec.core_counts:
            outputs = run_reference(model, sources.checkpoint, frames, count, sources.spec.map_stride)
            write_golden(directory, count, size, frames, {name: outputs[name] for name in sources.spec.outputs})


def finish_bundle(sources: Sources, made: Made, directory: Path) -> None:
    """Recipe, what takes the artifacts the rest of their way, run file, README and, last, the manifest."""
    checkpoint, spec, recipe = sources.checkpoint, sources.spec, sources.recipe
    if recipe is not None:
        # The codes are in the models; a record of how they were rounded would be a fifth of a bundle.
        recipe.save(directory / RECIPE, keep_rounding=False)
    bundle = Bundle(
        directory=directory,
        spec=spec,
        checkpoint=CheckpointFacts(checkpoint.name, checkpoint.digest, checkpoint.config),
        preprocessing=sources.preprocessing.to_json(),
        versions=tool_versions(),
        artifacts=made.artifacts,
        labels=checkpoint.labels,
        recipe=RECIPE if recipe is not None else None,
        fidelity=made.fidelity,
        heads=tuple(head_facts(head) for head in active_heads(checkpoint.heads, spec.outputs)),
    )
    checks = {a.name: golden_cosine(bundle, a, open_artifact, sources.threads) for a in made.artifacts}
    sources.target.finish(Written(directory, spec, (), made.artifacts, sources.preprocessing), checks)
    write_atomically(directory / RUN_FILE, run_file(sources))
    bundle = replace(bundle, details=BundleDetails(checks, made.kept_float, sources.request.overridden))
    write_readme(bundle, sources.preprocessing.description, loading_of(made.artifacts))
    write_manifest(bundle)


def run_file(sources: Sources) -> str:
    """What repeats this export, on other weights too: with every default as it was decided."""
    spec = sources.spec
    decided = {name: getattr(spec, name) for name in ("core_counts", "precisions", "image_sizes", "outputs")}
    gates = {name: getattr(spec, name) for name in ("min_agreement", "max_depth_error")}
    return replace(sources.request, **decided, **gates).to_toml()


def loading_of(artifacts: tuple[Artifact, ...]) -> list[str]:
    """How each kind of file is loaded, for the first of its kind."""
    first: Mapping[str, Artifact] = {a.format: a for a in reversed(artifacts)}
    return [format_of(a).loading(a) for a in first.values()]


def measured_verdict(sources: Sources, made: Made, directory: Path, progress: Progress) -> Verdict | None:
    """Measures the quantized precision against the next higher one: the first core count, the first size.

    The higher one is written aside where the bundle does not hold it. None where this machine is not the
    target, or nothing is quantized.
    """
    target, spec = sources.target, sources.spec
    if sources.recipe is None or not target.is_local:
        return None
    from ..profiles.options import ProfileOptions
    from ..profiles.sweep import profile_bundle
    from ..profiles.verdict import verdicts

    low = next(p for p in spec.precisions if p in QUANTIZED_PRECISIONS)
    pair = replace(
        spec, core_counts=spec.core_counts[:1], image_sizes=spec.image_sizes[:1], precisions=(low, target.above(low))
    )
    with tempfile.TemporaryDirectory(prefix="veca-edge-") as name:
        aside = Path(name)
        variants = make_variants(sources, pair, made.kept_float)
        artifacts = tuple(target.write(pair, variants, aside, file_metadata(sources), silent))
        shutil.copytree(directory / GOLDEN_FOLDER, aside / GOLDEN_FOLDER)
        bundle = write_manifest(replace(open_bundle(directory), directory=aside, spec=pair, artifacts=artifacts))
        profile = profile_bundle(bundle, ProfileOptions(sources.threads, rounds=3, seconds=0.5), progress=progress)
    return next(iter(verdicts(profile.measurements)), None)


def notes_of(sources: Sources, made: Made) -> tuple[str, ...]:
    """What the user should know of how a bundle came about, each remark once."""
    notes = [f"Instead of what the run file says: {said}." for said in sources.request.overridden]
    notes += [note for split in sources.images.values() for note in split.notes]
    notes += sources.target.notes(made.artifacts)
    if sources.recipe is not None and made.kept_float:
        from ..calibration.float_layers import describe_float_layers

        notes.append(describe_float_layers(made.kept_float, sources.recipe, sources.checkpoint.config))
    return tuple(dict.fromkeys(notes))
