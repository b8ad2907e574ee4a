"""Artifacts run beside the float32 reference: fidelity, and the golden outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from ..base.progress import Progress, silent
from ..base.spec import MAP_STRIDE, ExportSpec, ImageSize
from ..base.tasks import Task, Tokens
from ..bundle.runner import Opener, Runner
from ..bundle.types import Artifact
from ..images.folder import ImageSet
from ..images.preprocessing import as_input, normalised
from ..model.checkpoint import Checkpoint
from .fidelity import Comparison, Fidelity, Truth, likeness
from .golden import read_golden

# Reference outputs of this many bytes are kept at a time while artifacts are compared with them.
REFERENCE_BYTES = 1 << 30


def measure_fidelity(
    checkpoint: Checkpoint,
    spec: ExportSpec,
    artifacts: Sequence[Artifact],
    directory: Path,
    images: Mapping[ImageSize, ImageSet],
    truth: Mapping[ImageSize, Truth],
    open_artifact: Opener,
    threads: int | None,
    progress: Progress = silent,
) -> tuple[Fidelity, ...]:
    """Runs every artifact and the float32 reference on images that did not calibrate, and compares them.

    Args:
        truth: what the images are known to show, by image size.
    """
    from ..model.reference import reference_model

    model, config = reference_model(checkpoint), checkpoint.config
    found = []
    for size in spec.image_sizes:
        chosen = images[size]
        known = truth[size]
        here = [a for a in artifacts if a.image_size == size]
        own = {a.name: Comparison() for a in here}
        full = {a.name: Comparison() for a in here}
        references = {count: Comparison() for count in spec.core_counts}
        rows, columns = config.grid(*size)
        chunk = max(8, REFERENCE_BYTES // (rows * columns * config.output_dim * 8))
        starts = range(0, len(chosen.frames), chunk)
        steps, step = len(starts) * (len(spec.core_counts) + len(here)), 0
        for start in starts:
            frames = chosen.frames[start : start + chunk]
            here_known = known.of(start, start + chunk)
            whole_bank = run_reference(model, checkpoint, frames, config.core_bank, spec.map_stride)
            for count in spec.core_counts:
                expected = whole_bank
                if count != config.core_bank:
                    expected = run_reference(model, checkpoint, frames, count, spec.map_stride)
                references[count].add(expected, expected, here_known)
                step += 1
                progress("comparing with the reference", step, steps)
                for artifact in (a for a in here if a.core_count == count):
                    with closing(open_artifact(directory, artifact, threads)) as runner:
                        outputs = with_logits(run_frames(runner, artifact, frames), checkpoint)
                    own[artifact.name].add(outputs, expected, here_known)
                    full[artifact.name].add(outputs, whole_bank, here_known)
                    step += 1
                    progress("comparing with the reference", step, steps)
        for a in here:
            reference = references[a.core_count].agreement(known.labels)
            found.append(
                Fidelity(
                    a.core_count,
                    a.precision,
                    size,
                    own[a.name].agreement(known.labels),
                    full[a.name].agreement(known.labels),
                    reference.top1,
                    reference.segmentation_truth,
                    reference.depth_truth,
                )
            )
    return tuple(found)


def run_reference(
    model, checkpoint: Checkpoint, frames: np.ndarray, core_count: int, map_stride: int = MAP_STRIDE, batch: int = 8
) -> dict[str, np.ndarray]:
    """The float32 reference on frames uint8 `[n, H, W, 3]`."""
    import torch

    from ..model.reference import reference_outputs

    parts = [
        reference_outputs(
            model, checkpoint, torch.from_numpy(normalised(frames[i : i + batch])), core_count, map_stride
        )
        for i in range(0, len(frames), batch)
    ]
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


def run_frames(runner: Runner, artifact: Artifact, frames: np.ndarray) -> dict[str, np.ndarray]:
    """An artifact on any number of frames uint8 `[n, H, W, 3]`: whole batches, the last one filled up."""
    parts = []
    for start in range(0, len(frames), artifact.batch):
        batch = frames[start : start + artifact.batch]
        missing = artifact.batch - len(batch)
        if missing:
            batch = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
        outputs = runner(as_input(batch, artifact.input))
        parts.append({name: np.array(value[: artifact.batch - missing]) for name, value in outputs.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def with_logits(outputs: dict[str, np.ndarray], checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """Adds the head's logits where the artifact itself leaves them to the application."""
    head = checkpoint.head_for(Task.CLASSIFY)
    if head is None or "logits" in outputs or "cls" not in outputs:
        return outputs
    (term, *others), last = head.terms, checkpoint.config.layers - 1
    if others or (term.block, term.tokens) != (last, Tokens.CLS):
        return outputs
    return {**outputs, "logits": outputs["cls"] @ term.weight.T + head.bias}


def golden_cosine(directory: Path, artifact: Artifact, open_artifact: Opener, threads: int | None) -> float:
    """How alike the golden outputs an artifact's are, by `likeness` the least alike of them."""
    golden = read_golden(directory, artifact.core_count, artifact.image_size)
    with closing(open_artifact(directory, artifact, threads)) as runner:
        outputs = golden.of(run_frames(runner, artifact, golden.frames))
    return min(likeness(name, outputs[name], golden.outputs[name]) for name in artifact.outputs)
