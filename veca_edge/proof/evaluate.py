"""Artifacts run beside the float32 reference: fidelity, and the golden outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..base.numbers import lowest
from ..base.progress import Progress, silent
from ..base.spec import MAP_STRIDE, ExportSpec, ImageSize
from ..base.tasks import Task, Tokens
from ..bundle.runner import Opener, Runner
from ..bundle.types import Artifact
from ..images.preprocessing import as_input, normalised
from ..model.checkpoint import Checkpoint
from ..model.config import ModelConfig
from .fidelity import Comparison, Fidelity, Truth, likeness
from .golden import read_golden

if TYPE_CHECKING:
    import torch

# Reference outputs of this many bytes are kept at a time while artifacts are compared with them.
REFERENCE_BYTES = 1 << 30


@dataclass(frozen=True)
class EvaluationImages:
    """Images that did not calibrate: frames uint8 RGB `[n, H, W, 3]`, and what they are known to show."""

    frames: np.ndarray
    truth: Truth


def measure_fidelity(
    checkpoint: Checkpoint,
    spec: ExportSpec,
    artifacts: Sequence[Artifact],
    images: Mapping[ImageSize, EvaluationImages],
    open_artifact: Callable[[Artifact], Runner],
    progress: Progress = silent,
) -> tuple[Fidelity, ...]:
    """Runs every artifact and the float32 reference on images that did not calibrate, and compares them.

    Args:
        artifacts: of the image sizes and core counts of `spec`.
        images: by image size.
    """
    from ..model.reference import reference_model

    model = reference_model(checkpoint)
    found = []
    for size in spec.image_sizes:
        here, chosen = [a for a in artifacts if a.image_size == size], images[size]
        comparisons = _Comparisons(here, spec.core_counts)
        chunk = _chunk_of(checkpoint.config, size)
        starts = range(0, len(chosen.frames), chunk)
        steps, step = len(starts) * (len(spec.core_counts) + len(here)), 0
        for start in starts:
            part = EvaluationImages(chosen.frames[start : start + chunk], chosen.truth.of(start, start + chunk))
            for _ in comparisons.add(model, checkpoint, part, spec.map_stride, open_artifact):
                step += 1
                progress("comparing with the reference", step, steps)
        found += [comparisons.fidelity(a, chosen.truth.labels) for a in here]
    return tuple(found)


def _chunk_of(config: ModelConfig, size: ImageSize) -> int:
    """Of how many images reference outputs are kept at a time."""
    rows, columns = config.grid(*size)
    return max(8, REFERENCE_BYTES // (rows * columns * config.output_dim * 8))


class _Comparisons:
    """What is compared at one image size: every artifact with the reference at its own core count and at the full core
    bank, and the reference at every core count with what the images are known to show."""

    def __init__(self, artifacts: Sequence[Artifact], core_counts: Sequence[int]):
        self.artifacts = artifacts
        self.own = {a.name: Comparison() for a in artifacts}
        self.full = {a.name: Comparison() for a in artifacts}
        self.references = {count: Comparison() for count in core_counts}

    def add(
        self,
        model: torch.nn.Module,
        checkpoint: Checkpoint,
        images: EvaluationImages,
        map_stride: int,
        open_artifact: Callable[[Artifact], Runner],
    ) -> Iterator[None]:
        """Runs all of it on further images; yields after each core count's reference and after each artifact."""
        bank = checkpoint.config.core_bank
        whole_bank = run_reference(model, checkpoint, images.frames, bank, map_stride)
        for count, reference in self.references.items():
            expected = whole_bank
            if count != bank:
                expected = run_reference(model, checkpoint, images.frames, count, map_stride)
            reference.add(expected, expected, images.truth)
            yield
            for artifact in (a for a in self.artifacts if a.core_count == count):
                with closing(open_artifact(artifact)) as runner:
                    outputs = with_logits(run_frames(runner, artifact, images.frames), checkpoint)
                self.own[artifact.name].add(outputs, expected, images.truth)
                self.full[artifact.name].add(outputs, whole_bank, images.truth)
                yield

    def fidelity(self, artifact: Artifact, labels: np.ndarray | None) -> Fidelity:
        """One artifact's; `labels` are class indices `[n]` of all images, where they are known."""
        reference = self.references[artifact.core_count].agreement(labels)
        return Fidelity(
            artifact.core_count,
            artifact.precision,
            artifact.image_size,
            self.own[artifact.name].agreement(labels),
            self.full[artifact.name].agreement(labels),
            reference.top1,
            reference.segmentation_truth,
            reference.depth_truth,
        )


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
    """How alike the golden outputs an artifact's are: `likeness` of the least alike, nan where any is not a number."""
    golden = read_golden(directory, artifact.core_count, artifact.image_size)
    with closing(open_artifact(directory, artifact, threads)) as runner:
        outputs = golden.of(run_frames(runner, artifact, golden.frames))
    return lowest(likeness(name, outputs[name], golden.outputs[name]) for name in artifact.outputs)
