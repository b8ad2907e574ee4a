"""The whole flow: checkpoint to bundle."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..base.errors import EdgeError, GateError
from ..base.files import write_atomically
from ..base.progress import Progress, silent
from ..base.spec import QUANTIZED_PRECISIONS, ExportSpec
from ..base.tasks import Task
from ..base.versions import tool_versions
from ..bundle.new_bundle import new_bundle
from ..bundle.readme import write_readme
from ..bundle.store import RUN_FILE, open_bundle, write_manifest
from ..bundle.types import Artifact, Bundle, BundleDetails, CheckpointFacts, HeadFacts, TermFacts
from ..calibration.recipe import QuantizationRecipe
from ..images.palette import palette
from ..model.checkpoint import Checkpoint
from ..model.folding import InferenceWeights, inference_weights
from ..model.heads import Head, active_heads
from ..proof.evaluate import EvaluationImages
from ..proof.fidelity import Fidelity
from ..proof.golden import FOLDER as GOLDEN_FOLDER
from ..targets.base import Built, Log, Written
from ..targets.table import format_of, target_named
from .images import Images, choose_images
from .make import Made, Make, Sources, file_metadata, make_here, make_variants
from .request import AUTO, ExportRequest
from .resolve import check_request, checkpoint_of, spec_of

if TYPE_CHECKING:
    from ..profiles.verdict import Verdict

T = TypeVar("T")

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


class Shared:
    """What exports of one checkpoint and one set of images have in common: the first that needs it reads or calibrates
    it for all."""

    def __init__(self) -> None:
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def export(
    request: ExportRequest,
    progress: Progress = silent,
    on_log: Log = lambda line: None,
    shared: Shared | None = None,
    make: Make = make_here,
) -> ExportResult:
    """Exports a checkpoint: converts, calibrates, proves and bundles it, and builds it on a board if one is named.

    Args:
        on_log: gets the lines of a board's builder.
        shared: what exports for other targets have made already; see `export_matrix`.
        make: what makes the files from what was read and calibrated: this process, or a worker of a cluster.

    Raises:
        EdgeError: bad input, or something that is missing; nothing is written. When only building on the board
            fails, the bundle stays, and `build` goes on.
        GateError: a variant stays below `min_cosine`; nothing is written.
    """
    if request.precisions == (AUTO,):
        return export_fastest(request, progress, on_log, shared, make)
    request, sources = read_sources(request, progress, shared or Shared())
    target = sources.target
    with new_bundle(request.output, request.force) as directory:
        made = make(sources, directory, progress)
        finish_bundle(request, sources, made, directory)
        verdict = measured_verdict(sources, made, directory, progress) if request.measure else None
    bundle, built = open_bundle(request.output), None
    if request.device is not None and target.builder is not None:
        built = target.builder.build(bundle, request.device, target.builder.options(), progress, on_log)
        bundle = built.bundle
    return ExportResult(bundle, made.fidelity, verdict, notes_of(request, sources, made), built)


def read_sources(request: ExportRequest, progress: Progress, shared: Shared) -> tuple[ExportRequest, Sources]:
    """Reads the checkpoint and the images, and calibrates where something is quantized.

    Returns the request, with what the board that it names says of itself, and what variants are made from.
    """
    target = check_request(request)
    if request.device is not None and target.builder is not None:
        given, device, answer = request.options or target.options(), request.device, target.builder.options_for
        options = shared.once(("options", target.name, given, device), lambda: answer(given, device))
        request = replace(request, options=options)
    checkpoint = shared.once("checkpoint", lambda: checkpoint_of(request.checkpoint, progress))
    spec = spec_of(request, checkpoint)
    target.check(spec, checkpoint.labels)
    weights = shared.once("weights", lambda: inference_weights(checkpoint))
    sizes = spec.image_sizes
    images = shared.once(("images", sizes), lambda: choose_images(request, checkpoint, sizes, progress))
    map_sizes = {size: spec.graph(spec.core_counts[0], size).map_size for size in sizes}
    judges = shared.once(
        ("judges", *map_sizes.items()),
        lambda: {s: EvaluationImages(images[s].evaluation.frames, images[s].truth(map_sizes[s])) for s in sizes},
    )
    recipe = None
    if set(spec.precisions) & set(QUANTIZED_PRECISIONS):
        # Targets whose runtime finds the scales of activations itself are calibrated for that.
        key = "recipe", sizes, spec.core_counts, request.calibration_method, target.quantizes_tokens
        recipe = shared.once(key, lambda: make_recipe(request, spec, checkpoint, weights, images, progress))
    calibration = images[sizes[0]].calibration
    ranking = shared.once(("ranking", sizes), lambda: calibration and calibration.frames[:RANKING_IMAGES])
    notes = tuple(note for split in images.values() for note in split.notes)
    how = request.images.preprocessing
    return request, Sources(spec, checkpoint, weights, recipe, judges, ranking, how, request.threads, notes)


def export_fastest(
    request: ExportRequest, progress: Progress, on_log: Log, shared: Shared | None = None, make: Make = make_here
) -> ExportResult:
    """Ships the target's default precision where it holds the gate and is measured to be faster, else the next one."""
    shared = shared or Shared()
    first = fastest_first(request)
    (low,) = first.precisions
    high = target_named(request.target).above(low)
    try:
        result = export(first, progress, on_log, shared, make)
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
    result = export(replace(request, precisions=(high,), force=True), progress, on_log, shared, make)
    return replace(result, notes=(f"auto chose {high}. {why}", *result.notes))


def fastest_first(request: ExportRequest) -> ExportRequest:
    """What an export that chooses its precision tries first."""
    target = check_request(replace(request, precisions=()))
    return replace(request, precisions=(target.default_precision,), measure=True)


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
        if request.images.calibration is None and request.checkpoint.path is not None:
            raise EdgeError("INT8 needs images to calibrate on, and none were given.", "Give --calibration DIR.")
        raise EdgeError(
            "INT8 needs images to calibrate on, and none is left: all of them are in --evaluation too, and judge.",
            "Give other images with --calibration DIR, or one folder for both: then some of its images are held back.",
        )
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


def head_facts(head: Head) -> HeadFacts:
    """What a bundle says about a head."""
    terms = tuple(TermFacts(term.block, term.tokens) for term in head.terms)
    colours = palette(head.classes) if head.task == Task.SEGMENT else None
    return HeadFacts(head.task, head.classes, terms, head.upsampling, head.labels, colours, head.depth_range)


# --------------------------------------------------------------------------------- the bundle


def finish_bundle(request: ExportRequest, sources: Sources, made: Made, directory: Path) -> None:
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
    checks = made.golden_cosines
    written = Written(directory, spec, (), made.artifacts, sources.preprocessing, file_metadata(sources))
    sources.target.finish(written, checks)
    write_atomically(directory / RUN_FILE, run_file(request, spec))
    bundle = replace(bundle, details=BundleDetails(checks, made.kept_float, request.overridden))
    write_readme(bundle, sources.preprocessing.description, loading_of(made.artifacts))
    write_manifest(bundle)


def run_file(request: ExportRequest, spec: ExportSpec) -> str:
    """What repeats this export, on other weights too: with every default as it was decided."""
    decided = {name: getattr(spec, name) for name in ("core_counts", "precisions", "image_sizes", "outputs")}
    gates = {name: getattr(spec, name) for name in ("min_agreement", "max_depth_error")}
    return replace(request, **decided, **gates).to_toml()


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


def unfitted(heads: Sequence[Head], core_counts: Sequence[int]) -> Iterator[str]:
    """A remark for each head that is exported at fewer or more cores than it was fitted at."""
    for head in heads:
        fitted = head.core_counts or core_counts
        if beyond := [count for count in core_counts if not min(fitted) <= count <= max(fitted)]:
            yield (
                f"The head for {head.task} was fitted at {', '.join(map(str, fitted))} cores, and never saw the "
                f"features of {', '.join(map(str, beyond))}: fit it with --cores, or judge it with veca-edge evaluate."
            )


def notes_of(request: ExportRequest, sources: Sources, made: Made) -> tuple[str, ...]:
    """What the user should know of how a bundle came about, each remark once."""
    notes = [f"Instead of what the run file says: {said}." for said in request.overridden]
    notes += sources.notes
    notes += sources.target.notes(made.artifacts)
    notes += unfitted(active_heads(sources.checkpoint.heads, sources.spec.outputs), sources.spec.core_counts)
    if sources.recipe is not None and made.kept_float:
        from ..calibration.float_layers import describe_float_layers

        notes.append(describe_float_layers(made.kept_float, sources.recipe, sources.checkpoint.config))
    return tuple(dict.fromkeys(notes))
