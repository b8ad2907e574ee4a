"""A linear head for a task, trained on the features of a frozen model at all of its core counts."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..base.errors import EdgeError
from ..base.files import write_atomically
from ..base.progress import Progress, silent
from ..base.spec import GraphSpec, ImageSize
from ..base.tasks import Task, task_named
from ..base.text import counted
from ..base.versions import own_version
from ..demo import DEMO_IMAGE_SIZE
from ..fitting.features import Features, Wanted, cached_features
from ..images.labelled import LabelledFolder, find_labelled
from ..model.checkpoint import Checkpoint
from ..model.heads import Head
from .fit_request import FitRequest
from .resolve import DEFAULT_IMAGE_SIZE, checkpoint_of

if TYPE_CHECKING:
    from ..fitting.train import HeldOut

LEAST_IMAGES = 8
# What --held-out has to leave of them: a quarter of these chooses a classifier's penalty.
LEAST_TRAINED = 4


@dataclass(frozen=True)
class FitResult:
    """A head on disk, and how good it is.

    Attributes:
        path: the head; `export --head` takes it.
        head: what was trained.
        trained: how many images trained it.
        held_out: by core count, on images that did not.
        cache: where the features stay; it may be removed.
        notes: remarks that the user should read.
    """

    path: Path
    head: Head
    trained: int
    held_out: tuple[HeldOut, ...]
    cache: Path
    notes: tuple[str, ...] = ()


def fit(request: FitRequest, progress: Progress = silent) -> FitResult:
    """Trains one head that serves all core counts, and judges it on images that were held out.

    Features are computed once and kept on disk; an interrupted run goes on where it stopped.

    Raises:
        EdgeError: the data is not laid out as the task asks, can't be read, or is too little; or what came out is no
            head.
    """
    from ..fitting.train import HeadSpec, TrainingOptions, evaluate_head, fit_head

    task, folder = _checked(request)
    checkpoint = checkpoint_of(request.checkpoint, progress)
    folder, train, judges, notes = _split(request, folder)
    wanted = _wanted(request, task, folder, checkpoint)
    cache = request.cache or request.output.with_name(request.output.name + ".features")
    features = cached_features(checkpoint, wanted, cache, progress)
    options = TrainingOptions(steps=request.steps, seed=request.seed)
    metres = _depth_range(request, task, features, train)
    spec = HeadSpec(task, _classes(folder, features), checkpoint.config.layers - 1, folder.labels, metres)
    head = fit_head(features, spec, train, options, progress)
    if not (np.isfinite(head.weight).all() and np.isfinite(head.bias).all()):
        raise EdgeError(
            "The head came out with weights that are not finite, and was not written.",
            "Look for images, masks or depths with extreme values, or give other --steps or another --seed.",
        )
    found = evaluate_head(head, features, judges, progress)
    write_atomically(request.output, head_content(head, checkpoint, wanted))
    return FitResult(request.output, head, len(train), tuple(found), cache, notes)


def _checked(request: FitRequest) -> tuple[Task, LabelledFolder]:
    """Everything that can be refused before anything slow."""
    if not request.task:
        raise EdgeError("No task was given.", f"Give --task, one of {', '.join(Task)}.")
    task = task_named(request.task)
    if request.data is None:
        raise EdgeError("No data was given.", "Give a folder of images and what they show with --data DIR.")
    if request.output.suffix != ".safetensors":
        raise EdgeError(f"{request.output} should end in .safetensors.", "Give --output head.safetensors")
    if request.output.exists() and not request.force:
        raise EdgeError(f"{request.output} is there already.", "Give another --output, or --force to replace it.")
    if not 0.0 < request.held_out < 1.0:
        raise EdgeError(f"--held-out is {request.held_out}, but a share lies between 0 and 1.", "Give 0.2 or another.")
    if request.depth_range is not None and task != Task.DEPTH:
        raise EdgeError(f"--depth-range is for depth, and the task is {task}.", "Leave it out.")
    if request.map_stride != FitRequest.map_stride and task == Task.CLASSIFY:
        raise EdgeError(f"--map-stride is for masks and depth, and the task is {task}.", "Leave it out.")
    folder = find_labelled(request.data, task)
    if len(folder.images) < LEAST_IMAGES:
        raise EdgeError(
            f"{request.data} has {counted(len(folder.images), 'image')}.", f"At least {LEAST_IMAGES} are needed."
        )
    return task, folder


def _wanted(request: FitRequest, task: Task, folder: LabelledFolder, checkpoint: Checkpoint) -> Wanted:
    config = checkpoint.config
    counts = request.core_counts or config.core_counts
    for count in counts:
        config.check_core_count(count)
    size = request.image_size or (DEMO_IMAGE_SIZE if request.checkpoint.path is None else DEFAULT_IMAGE_SIZE)
    config.grid(*size)
    outputs = ("cls",) if task == Task.CLASSIFY else task.outputs[:1]
    spec = GraphSpec(counts[0], ImageSize(*size), outputs=outputs, map_stride=request.map_stride)
    return Wanted(task, folder.images, spec.image_size, spec.map_size, tuple(counts), request.preprocessing)


def _split(
    request: FitRequest, folder: LabelledFolder
) -> tuple[LabelledFolder, np.ndarray, np.ndarray, tuple[str, ...]]:
    """All images, the indices of those that train and of those that judge, and what the user should know of it; the
    same for the same seed.

    Raises:
        EdgeError: the data that judges has other classes, or too few images are left to train on.
    """
    count = len(folder.images)
    if request.evaluation is None:
        order = np.random.default_rng(request.seed).permutation(count)
        judges = max(1, round(count * request.held_out))
        if count - judges < LEAST_TRAINED:
            raise EdgeError(
                f"--held-out {request.held_out:g} leaves {count - judges} of the {count} images to train on.",
                f"At least {LEAST_TRAINED} are needed: give a smaller share, more images, or --evaluation other data.",
            )
        return folder, np.sort(order[judges:]), np.sort(order[:judges]), ()
    others = find_labelled(request.evaluation, folder.task)
    if others.labels != folder.labels:
        raise EdgeError(
            f"The classes of {request.evaluation} are not those of {request.data}.", "Give data of the same classes."
        )
    judging = {item.image.resolve() for item in others.images}
    left = tuple(item for item in folder.images if item.image.resolve() not in judging)
    said = f"{count - len(left)} of the {count} images of {request.data} are in {request.evaluation} too"
    if len(left) < min(count, LEAST_IMAGES):
        raise EdgeError(
            f"{said}: they judge, and {len(left)} are left to train on.",
            f"At least {LEAST_IMAGES} are needed: give --evaluation other data, or leave it out, and some of --data is "
            "held back.",
        )
    notes = () if len(left) == count else (f"{said}: they judge, and did not train.",)
    both = replace(folder, images=(*left, *others.images))
    return both, np.arange(len(left)), np.arange(len(left), len(both.images)), notes


def _classes(folder: LabelledFolder, features: Features) -> int:
    """How many classes the head tells apart; 0 for depth."""
    if folder.task == Task.DEPTH:
        return 0
    if folder.task == Task.CLASSIFY:
        return len(folder.labels or ())
    highest = features.targets.reshape(len(features.targets), -1).max(1)
    classes = len(folder.labels) if folder.labels else int(highest.max()) + 1
    if beyond := [str(folder.images[i].target) for i in np.flatnonzero(highest >= classes)]:
        raise EdgeError(
            f"{len(beyond)} masks have classes beyond the {classes} of labels.txt: {', '.join(beyond[:6])}.",
            "Name every class in labels.txt; 255 marks pixels that nobody labelled.",
        )
    if classes < 2:
        raise EdgeError("The masks show fewer than two classes.", "A head tells classes apart: label two or more.")
    return classes


def _depth_range(request: FitRequest, task: Task, features: Features, train: np.ndarray) -> tuple[float, float] | None:
    if task != Task.DEPTH:
        return None
    low, high = np.inf, 0.0
    for i in train:
        known = features.targets[i][features.targets[i] > 0]
        if len(known):
            low, high = min(low, float(known.min())), max(high, float(known.max()))
    if not low < high:
        raise EdgeError("The depths are all unknown, or all the same.", "Depth is in metres above 0; 0 is unknown.")
    return request.depth_range or (low, high)


def head_content(head: Head, checkpoint: Checkpoint, wanted: Wanted) -> bytes:
    """A head as safetensors, which `read_head` reads; it says what it was trained on."""
    import torch
    from safetensors.torch import save

    weight = torch.from_numpy(head.weight)
    facts = {
        "task": str(head.task),
        "labels": head.labels and list(head.labels),
        "depth_range": head.depth_range and list(head.depth_range),
        "checkpoint": checkpoint.name,
        "checkpoint_sha256": checkpoint.digest,
        "core_counts": list(wanted.core_counts),
        "image_size": list(wanted.size),
        "resize": str(wanted.preprocessing.resize),
        "crop_ratio": wanted.preprocessing.crop_ratio,
        "images": len(wanted.images),
        "producer": f"veca-edge {own_version()}",
    }
    tensors = {
        "weight": weight if head.task == Task.CLASSIFY else weight[:, :, None, None],
        "bias": torch.from_numpy(head.bias),
    }
    return save(tensors, {"head_facts": json.dumps({key: v for key, v in facts.items() if v is not None})})
