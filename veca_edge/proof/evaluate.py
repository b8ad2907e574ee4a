"""Artifacts run beside the float32 reference: fidelity, and the golden outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from ..base.progress import Progress, silent
from ..base.spec import ExportSpec, ImageSize
from ..bundle.runner import Opener, Runner
from ..bundle.types import Artifact, Bundle
from ..images.folder import ImageSet
from ..images.preprocessing import normalised
from ..model.checkpoint import Checkpoint
from .fidelity import Comparison, Fidelity, cosine
from .golden import read_golden

# Reference outputs of this many bytes are kept at a time while artifacts are compared with them.
REFERENCE_BYTES = 1 << 30


def measure_fidelity(
    checkpoint: Checkpoint,
    spec: ExportSpec,
    artifacts: Sequence[Artifact],
    directory: Path,
    images: Mapping[ImageSize, ImageSet],
    open_artifact: Opener,
    threads: int | None,
    progress: Progress = silent,
) -> tuple[Fidelity, ...]:
    """Runs every artifact and the float32 reference on images that did not calibrate, and compares them."""
    from ..model.reference import reference_model

    model, config = reference_model(checkpoint), checkpoint.config
    found = []
    for size in spec.image_sizes:
        chosen = images[size]
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
            whole_bank = run_reference(model, checkpoint, frames, config.core_bank)
            for count in spec.core_counts:
                expected = whole_bank if count == config.core_bank else run_reference(model, checkpoint, frames, count)
                references[count].add(expected, expected)
                step += 1
                progress("comparing with the reference", step, steps)
                for artifact in (a for a in here if a.core_count == count):
                    with closing(open_artifact(directory, artifact, threads)) as runner:
                        outputs = with_logits(run_frames(runner, artifact, frames), checkpoint)
                    own[artifact.name].add(outputs, expected)
                    full[artifact.name].add(outputs, whole_bank)
                    step += 1
                    progress("comparing with the reference", step, steps)
        labels = chosen.labels
        found += [
            Fidelity(
                a.core_count,
                a.precision,
                size,
                own[a.name].agreement(labels),
                full[a.name].agreement(labels),
                references[a.core_count].agreement(labels).top1,
            )
            for a in here
        ]
    return tuple(found)


def run_reference(
    model, checkpoint: Checkpoint, frames: np.ndarray, core_count: int, batch: int = 8
) -> dict[str, np.ndarray]:
    """The float32 reference on frames uint8 `[n, H, W, 3]`."""
    import torch

    from ..model.reference import reference_outputs

    parts = [
        reference_outputs(model, checkpoint, torch.from_numpy(normalised(frames[i : i + batch])), core_count)
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
        outputs = runner(batch if artifact.input == "image" else normalised(batch))
        parts.append({name: np.array(value[: artifact.batch - missing], np.float32) for name, value in outputs.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def with_logits(outputs: dict[str, np.ndarray], checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """Adds the head's logits where the artifact itself leaves them to the application."""
    head = checkpoint.head
    if head is None or "logits" in outputs or "cls" not in outputs:
        return outputs
    return {**outputs, "logits": outputs["cls"] @ head.weight.T + head.bias}


def golden_cosine(bundle: Bundle, artifact: Artifact, open_artifact: Opener, threads: int | None) -> float:
    """The lowest mean cosine of an artifact's outputs with the golden ones (1.0 - error for logits alone)."""
    golden = read_golden(bundle.directory, artifact.core_count, artifact.image_size)
    with closing(open_artifact(bundle.directory, artifact, threads)) as runner:
        outputs = golden.of(run_frames(runner, artifact, golden.frames))
    return min(float(cosine(outputs[name], golden.outputs[name]).mean()) for name in artifact.outputs)
