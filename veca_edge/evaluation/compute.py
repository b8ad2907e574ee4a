"""What one worker does: some hundred images through the reference and every variant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import EdgeError
from ..base.spec import ImageSize
from ..base.tasks import Task
from ..bundle.runner import Opener, Runner
from ..bundle.types import Artifact
from ..images.labelled import target_of
from ..images.preprocessing import UNREADABLE, Preprocessing, reason, resized
from ..model.checkpoint import Checkpoint
from ..proof.evaluate import run_frames, run_reference, with_logits
from .exact import group_of
from .samples import Chunk, ReadImage
from .statistics import (
    ImageTruth,
    Totals,
    TruthStatistics,
    VariantStatistics,
    first_failures,
    packed_bits,
    reference_key,
    totals_text,
)

# Variants stay open between chunks while their files take no more than this together.
OPEN_BYTES = 512 << 20
# Images run at a time; a multiple of the reference's batch, so that its batches are the same whatever this is.
FEW, MANY = 32, 1 << 20
LARGE_PIXELS = 512 * 512


@dataclass(frozen=True)
class EvaluationJob:
    """What every worker needs to know; the same for all of them.

    Attributes:
        directory: the bundle, where this process finds it.
        checkpoint: what the bundle was made from, to compare with; None compares with labels alone.
        mask_classes: classes of the segmentation head; 0 without one.
        threads: of one worker.
    """

    directory: Path
    artifacts: tuple[Artifact, ...]
    preprocessing: Preprocessing
    open_artifact: Opener
    checkpoint: Checkpoint | None
    mask_classes: int
    threads: int

    @property
    def image_sizes(self) -> tuple[ImageSize, ...]:
        return tuple(dict.fromkeys(a.image_size for a in self.artifacts))

    @property
    def keeps_open(self) -> bool:
        return sum(a.bytes for a in self.artifacts) <= OPEN_BYTES

    @property
    def images_at_a_time(self) -> int:
        largest = max(size.height * size.width for size in self.image_sizes)
        return MANY if not self.keeps_open else FEW if largest <= LARGE_PIXELS else FEW // 4


@dataclass(frozen=True)
class Prepared:
    """One image in every size, and what it shows there."""

    name: str
    frames: dict[ImageSize, np.ndarray]
    truths: dict[ImageSize, ImageTruth]


class Session:
    """A job in one process, with whatever is kept from one chunk to the next. Close it."""

    def __init__(self, job: EvaluationJob):
        self.job = job
        self._kept = ExitStack()
        self._runners: dict[str, Runner] = {}
        self._model: Any = None
        self._ahead = self._kept.enter_context(ThreadPoolExecutor(1))
        if job.checkpoint is not None:
            self._kept.callback(limit_torch(job.threads))

    def close(self) -> None:
        self._kept.close()

    def run(self, chunk: Chunk) -> bytes:
        """The totals of a chunk, as `totals_text` has them. Raises `EdgeError`."""
        totals = Totals()
        right: dict[str, list[bool | None]] = {a.name: [] for a in self.job.artifacts}
        prepared = (self._prepared(sample) for sample in chunk.samples())
        for batch in self._batches(prepared, self.job.images_at_a_time):
            images = [one for _, one in batch if isinstance(one, Prepared)]
            failures = [(name, one) for name, one in batch if isinstance(one, str)]
            totals.images += len(images)
            totals.failed += len(failures)
            totals.failures = first_failures(totals.failures, failures)
            known = self._run(images, totals) if images else {}
            for name, bits in right.items():
                # An image that could not be read keeps its place: bits of two evaluations are compared one by one.
                in_order = iter(known.get(name, ()))
                bits += [next(in_order) if isinstance(one, Prepared) else None for _, one in batch]
        for name, bits in right.items():
            if any(bit is not None for bit in bits):
                totals.variants[name].truth.right[chunk.key] = packed_bits(bits)
        return totals_text(totals)

    def _batches(self, items: Iterable[Any], size: int) -> Iterator[list[Any]]:
        """Lists of so many; the next is read and prepared while one runs."""
        left = iter(items)

        def read() -> list[Any]:
            return list(islice(left, size))

        ahead = self._ahead.submit(read)
        while batch := ahead.result():
            ahead = self._ahead.submit(read)
            yield batch

    def _prepared(self, sample: ReadImage) -> tuple[str, Prepared | str]:
        """The image, or why it can't be used."""
        if sample.pixels is None:
            return sample.name, sample.failure
        try:
            frames, truths = {}, {}
            for size in self.job.image_sizes:
                frames[size] = resized(sample.pixels, size, self.job.preprocessing)
                truths[size] = self._truth(sample, size)
            return sample.name, Prepared(sample.name, frames, truths)
        except UNREADABLE as error:
            return sample.name, reason(error)

    def _truth(self, sample: ReadImage, size: ImageSize) -> ImageTruth:
        maps: dict[Task, np.ndarray] = {}
        map_size = next(a.spec.map_size for a in self.job.artifacts if a.image_size == size)
        for task, file in ((Task.SEGMENT, sample.mask), (Task.DEPTH, sample.depth)):
            if file is not None:
                maps[task] = target_of(file, task, sample.size, size, map_size, self.job.preprocessing)
        mask = maps.get(Task.SEGMENT)
        if mask is not None and 0 < self.job.mask_classes <= mask.max(initial=-1):
            raise EdgeError(f"Its mask has class {mask.max()}, but the head knows {self.job.mask_classes}.")
        return ImageTruth(sample.label, mask, maps.get(Task.DEPTH))

    def _run(self, images: Sequence[Prepared], totals: Totals) -> dict[str, list[bool | None]]:
        """Adds images to the totals. Returns, by variant, whether the class of each is right, None where unknown."""
        right: dict[str, list[bool | None]] = {}
        for size in self.job.image_sizes:
            frames = np.stack([image.frames[size] for image in images])
            known = [(group_of(i.name), i.name, i.truths[size]) for i in images]
            here = [a for a in self.job.artifacts if a.image_size == size]
            references = self._references(frames, here)
            for count, expected in references.items():
                statistics = totals.references.setdefault(reference_key(count, size), TruthStatistics())
                for i, (group, name, truth) in enumerate(known):
                    statistics.add(_of(expected, i), truth, group, name)
            for artifact in here:
                outputs = self._outputs(artifact, frames)
                statistics = totals.variants.setdefault(artifact.name, VariantStatistics())
                for i, (group, name, truth) in enumerate(known):
                    own = _of(outputs, i)
                    if references:
                        statistics.own.add(own, _of(references[artifact.core_count], i), group, name)
                        statistics.full.add(own, _of(references[max(references)], i), group, name)
                    right.setdefault(artifact.name, []).append(statistics.truth.add(own, truth, group, name))
        return right

    def _references(self, frames: np.ndarray, artifacts: Sequence[Artifact]) -> dict[int, dict[str, np.ndarray]]:
        """The float32 model's outputs by core count, the full core bank among them."""
        checkpoint = self.job.checkpoint
        if checkpoint is None:
            return {}
        from ..model.reference import reference_model

        if self._model is None:
            self._model = reference_model(checkpoint)
        counts = sorted({checkpoint.config.core_bank, *(a.core_count for a in artifacts)})
        stride = artifacts[0].map_stride
        return {count: run_reference(self._model, checkpoint, frames, count, stride) for count in counts}

    def _outputs(self, artifact: Artifact, frames: np.ndarray) -> dict[str, np.ndarray]:
        with ExitStack() as stack:
            runner = self._runners.get(artifact.name)
            if runner is None:
                runner = self.job.open_artifact(self.job.directory, artifact, self.job.threads)
                keeper = self._kept if self.job.keeps_open else stack
                keeper.callback(runner.close)
                if self.job.keeps_open:
                    self._runners[artifact.name] = runner
            outputs = run_frames(runner, artifact, frames)
        return with_logits(outputs, self.job.checkpoint) if self.job.checkpoint is not None else outputs


def _of(outputs: dict[str, np.ndarray], i: int) -> dict[str, np.ndarray]:
    return {name: value[i] for name, value in outputs.items()}


def limit_torch(threads: int) -> Callable[[], None]:
    """Keeps PyTorch in this process to so many threads, for workers beside each other would take each other's.

    Returns what gives it back those that it had.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    return partial(torch.set_num_threads, before)


Outcome = tuple[str, "bytes | EdgeError"]


def outcome_of(run: Callable[[Chunk], bytes], chunk: Chunk) -> Outcome:
    """A chunk's key with its totals, or what stopped it."""
    try:
        return chunk.key, run(chunk)
    except EdgeError as error:
        return chunk.key, error
