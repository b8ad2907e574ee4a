"""Every variant of a bundle on a whole data set, and against another release."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..base.cpu_features import usable_cpu_count
from ..base.errors import EdgeError
from ..base.files import sha256_of
from ..base.progress import Progress, silent
from ..base.tasks import Task
from ..base.versions import versions_of
from ..bundle.store import opened, verify_artifacts
from ..bundle.types import Bundle
from ..demo import demo_checkpoint
from ..evaluation.cluster import on_cluster
from ..evaluation.compare import ReleaseComparison, compare
from ..evaluation.compute import EvaluationJob
from ..evaluation.data import CHUNK_IMAGES, open_data
from ..evaluation.engine import here, in_processes
from ..evaluation.run import ChunkEngine, evaluate_data
from ..evaluation.samples import Classes, DataSet
from ..evaluation.store import Evaluation, EvaluationFacts, digest_beside
from ..images.preprocessing import Preprocessing
from ..model.checkpoint import Checkpoint
from ..targets.base import Format
from ..targets.table import open_artifact
from .evaluate_request import EvaluateRequest
from .load import runnable_format
from .request import CheckpointSource
from .resolve import checkpoint_of

# Beside the runtime's, the packages that have a say in the numbers.
_PACKAGES = ("veca-edge", "numpy", "pillow")


@dataclass(frozen=True)
class Evaluated:
    """An evaluation and the bundle that it is of; `comparison` is with the baseline, where one was given."""

    bundle: Bundle
    evaluation: Evaluation
    comparison: ReleaseComparison | None
    notes: tuple[str, ...]


def evaluate(request: EvaluateRequest, progress: Progress = silent) -> Evaluated:
    """Runs every variant on a data set, streamed, and stores the statistics in the bundle.

    A run that was stopped goes on; one that came to its end is read, not repeated. With a baseline the same is done
    for that bundle first.

    Raises:
        EdgeError: no bundle, no such data, more images failed than may, or another cluster than asked for.
        MissingDependency: the data, the cluster or the runtime takes a package that is not installed.
    """
    if not request.data:
        raise EdgeError("There is nothing to evaluate on.", "Give --data: a folder, a .csv, .tar shards or a video.")
    if request.tolerance is not None and request.baseline is None:
        raise EdgeError("--tolerance is for a comparison, and there is none.", "Give --baseline BUNDLE with it.")
    earlier = None
    if request.baseline is not None:
        earlier = _evaluated(replace(request, bundle=request.baseline, baseline=None), progress, is_baseline=True)
    found = _evaluated(request, progress)
    if earlier is None:
        return found
    comparison = compare(earlier.evaluation, found.evaluation, request.allowed)
    return replace(found, comparison=comparison)


def _evaluated(request: EvaluateRequest, progress: Progress, is_baseline: bool = False) -> Evaluated:
    bundle = opened(request.bundle)
    kind = runnable_format(bundle, request.format)
    artifacts = tuple(a for a in bundle.artifacts if a.format == kind.name)
    for artifact in artifacts:
        if (obstacle := kind.obstacle(artifact)) is not None:
            raise EdgeError(
                f"{artifact.name} of {bundle.directory} does not run here: {obstacle}",
                "Evaluate the bundle on a machine that runs it.",
            )
    verify_artifacts(bundle, artifacts)
    head = bundle.head_for(Task.CLASSIFY)
    classes = Classes(bundle.labels, head.classes if head is not None else 0, request.folder_classes)
    data = open_data(request.data, classes)
    checkpoint, notes = _reference(request, bundle, data, is_baseline)
    segment = bundle.head_for(Task.SEGMENT)
    job = EvaluationJob(
        bundle.directory,
        artifacts,
        Preprocessing.from_json(bundle.preprocessing),
        open_artifact,
        checkpoint,
        segment.classes if segment is not None else 0,
        request.threads,
    )
    versions = _versions(kind, checkpoint)
    facts = EvaluationFacts(
        data.name,
        data.kind,
        data.digest,
        data.images,
        tuple(str(task) for task in data.truths),
        checkpoint.digest if checkpoint is not None else None,
        {a.name: a.sha256 for a in artifacts},
        digest_beside(bundle, artifacts),
        CHUNK_IMAGES,
        request.threads,
        versions,
        _head_digests(request.checkpoint) if checkpoint is not None else (),
    )
    engine = _engine(request, job, versions)
    evaluation = evaluate_data(bundle.directory, data, facts, engine, request.max_failures, request.again, progress)
    return Evaluated(bundle, evaluation, None, (*data.notes, *notes))


def _engine(request: EvaluateRequest, job: EvaluationJob, versions: dict[str, str]) -> ChunkEngine:
    """What runs the chunks."""
    if request.cluster is not None:
        if request.workers is not None:
            raise EdgeError("--workers is for this machine alone.", "Leave it out, or give --cluster local:WORKERS.")
        run = partial(on_cluster, job, address=request.cluster, versions=versions)
        return ChunkEngine(run, f"Dask, {request.cluster}")
    # As many as have a CPU for each of their threads.
    workers = request.workers or max(1, usable_cpu_count() // request.threads)
    if workers == 1:
        return ChunkEngine(partial(here, job), "one process")
    return ChunkEngine(partial(in_processes, job, workers=workers), f"{workers} processes")


def _versions(kind: Format, checkpoint: Checkpoint | None) -> dict[str, str]:
    return versions_of((*_PACKAGES, kind.package.replace("_", "-"), *(("torch",) if checkpoint is not None else ())))


def _reference(
    request: EvaluateRequest, bundle: Bundle, data: DataSet, is_baseline: bool
) -> tuple[Checkpoint | None, tuple[str, ...]]:
    """The checkpoint to compare with, and what to say where there is none.

    Raises:
        EdgeError: it is not the bundle's, or there is neither a checkpoint nor a label to compare with.
    """
    # The demo model's checkpoint is at hand: it need not be named, and other bundles are not of it.
    is_named, source = request.checkpoint is not None, request.checkpoint or CheckpointSource()
    checkpoint = _checked(source, bundle, is_needed=is_named and not is_baseline)
    if checkpoint is not None:
        lacks = [str(head.task) for head in bundle.heads if checkpoint.head_for(head.task) is None]
        if is_baseline or not lacks:
            return checkpoint, ()
        what = f"The checkpoint has no head for {' and '.join(lacks)}, which was compared with labels alone"
        return checkpoint, (f"{what}; --head FILE adds the float32 model's.",)
    if not _can_judge(bundle, data):
        raise EdgeError(
            f"{data.name} has no labels for what the bundle answers, and there is no float32 model to compare with.",
            "Give the checkpoint that the bundle was made from: --checkpoint FILE.",
        )
    note = f"{bundle.directory} was compared with labels alone; --checkpoint FILE adds the float32 model."
    return None, () if is_baseline else (note,)


def _checked(source: CheckpointSource, bundle: Bundle, is_needed: bool) -> Checkpoint | None:
    """None where the bundle was made from another checkpoint, as baselines of a retrained model are.

    Raises:
        EdgeError: there is no such file, or it is another checkpoint and this one is needed.
    """
    path = Path(source.path) if source.path is not None else demo_checkpoint()
    if not path.is_file():
        raise EdgeError(f"There is no file {path}.", "Give the checkpoint that the bundle was made from.")
    if sha256_of(path) != bundle.checkpoint.digest:
        if not is_needed:
            return None
        raise EdgeError(
            f"{path} is not the checkpoint that {bundle.directory} was made from ('{bundle.checkpoint.name}').",
            f"Give the one with the sha256 {bundle.checkpoint.digest[:12]}..., or leave out --checkpoint.",
        )
    config = bundle.checkpoint.config
    if source.path is not None:
        source = replace(source, heads=source.heads or config.heads)
        source = replace(source, rope_zero=config.rope_zero_fraction if source.rope_zero is None else source.rope_zero)
    return checkpoint_of(source)


def _head_digests(source: CheckpointSource | None) -> tuple[str, ...]:
    return () if source is None else tuple(sorted(sha256_of(head.path) for head in source.head_files))


def _can_judge(bundle: Bundle, data: DataSet) -> bool:
    return any(set(task.outputs[:1]) & set(bundle.spec.outputs) for task in data.truths)
