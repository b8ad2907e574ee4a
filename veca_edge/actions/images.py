"""The images of an export, split into those that calibrate and those that judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..base.errors import EdgeError
from ..base.progress import Progress
from ..base.spec import ImageSize
from ..base.tasks import Task
from ..base.text import counted
from ..demo import demo_calibration, demo_evaluation
from ..images.folder import ImageSet, find_images, load_images, sample
from ..images.labelled import pictures_of, targets_of, truth_maps
from ..model.checkpoint import Checkpoint
from ..proof.fidelity import Truth
from .request import ExportRequest

HELD_OUT_IMAGES = 64
FEW_IMAGES = 32


@dataclass(frozen=True)
class SplitImages:
    """Frames of one image size: those that calibrate, and those that judge, which never overlap.

    Attributes:
        truth: what those that judge are known to show, with maps of the size that it is given.
    """

    calibration: ImageSet | None
    evaluation: ImageSet
    notes: tuple[str, ...] = ()
    truth: Callable[[tuple[int, int]], Truth] = lambda map_size: Truth()


Images = Mapping[ImageSize, SplitImages]


def choose_images(
    request: ExportRequest, checkpoint: Checkpoint, sizes: Sequence[ImageSize], progress: Progress
) -> dict[ImageSize, SplitImages]:
    """Images that calibrate and images that judge, never the same, prepared at every size.

    Raises:
        EdgeError: a folder holds no images, or too few of them can be read.
    """
    files, how = choose_files(request), request.images.preprocessing
    split = {}
    for size in sizes:
        said = list(files.notes)
        load = partial(load_images, size=size, preprocessing=how, progress=progress)
        loaded = load(files.calibration) if files.calibration else None
        if loaded is not None and all((frame == frame[0, 0]).all() for frame in loaded.frames):
            raise EdgeError(
                f"All {len(loaded.frames)} images that calibrate are of one colour each, and show nothing.",
                "Give --calibration a folder of images like those of the camera.",
            )
        judges = load(files.evaluation, classes=checkpoint.labels, minimum=1)
        for chosen in (loaded, judges):
            if chosen is not None and chosen.skipped:
                named = ", ".join(f"{s.path} ({s.reason})" for s in chosen.skipped[:8])
                said.append(f"Without {counted(len(chosen.skipped), 'image')} that could not be read: {named}")
        folders = {path.parent for path in judges.paths}
        if request.images.evaluation is not None and judges.labels_note is not None and len(folders) > 1:
            said.append(judges.labels_note)
        split[size] = SplitImages(loaded, judges, tuple(said), partial(known_truth, request, checkpoint, judges, size))
    return split


def known_truth(
    request: ExportRequest, checkpoint: Checkpoint, judges: ImageSet, size: ImageSize, map_size: tuple[int, int]
) -> Truth:
    """What the images that judge are known to show: classes of folders, masks, depths.

    Raises:
        EdgeError: a mask has classes that the head does not know.
    """
    folder, maps = request.images.evaluation, {}
    if folder is not None:
        for task, targets in targets_of(folder).items():
            maps[task] = truth_maps(targets, judges.paths, task, size, map_size, request.images.preprocessing)
    masks, head = maps.get(Task.SEGMENT), checkpoint.head_for(Task.SEGMENT)
    if masks is not None and head is not None:
        beyond = np.flatnonzero(masks.reshape(len(masks), -1).max(1) >= head.classes)
        if len(beyond):
            named = ", ".join(str(judges.paths[i]) for i in beyond[:6])
            raise EdgeError(
                f"The masks of {counted(len(beyond), 'image')} have classes beyond the {head.classes} of the head: "
                f"{named}.",
                "Give the head and the masks of one set of classes; 255 marks pixels that nobody labelled.",
            )
    return Truth(judges.labels, masks, maps.get(Task.DEPTH))


@dataclass(frozen=True)
class ChosenFiles:
    """Which files calibrate, which judge, and what the user should know of the choice."""

    calibration: list[Path]
    evaluation: list[Path]
    notes: list[str]


def choose_files(request: ExportRequest) -> ChosenFiles:
    """Finds the files of a request's folders and splits them, so that none is on both sides."""
    asked, is_demo = request.images, request.checkpoint.path is None
    calibration, evaluation, notes = asked.calibration, asked.evaluation, []
    if is_demo:
        calibration = calibration or demo_calibration()
        evaluation = evaluation or (demo_evaluation() if asked.calibration is None else None)
    elif calibration is None and evaluation is None:
        evaluation = demo_evaluation()
        notes.append(
            "No images were given, so the fidelity was measured on the few CIFAR-10 images that come with "
            "veca-edge; give your own with --evaluation DIR."
        )
    found = find_images(pictures_of(calibration)) if calibration else []
    # In the spelling of --evaluation, by which masks and depths are found.
    judged = find_images(pictures_of(evaluation)) if evaluation else found
    if evaluation is None or (calibration and _same_pictures(calibration, evaluation)):
        # A fifth is held back where the folder has no images to spare.
        spare = max(len(found) - asked.count, min(HELD_OUT_IMAGES, len(found) // 5))
        used = sample(found, len(found) - spare, asked.seed)
        judged = _without(judged, used)
        if evaluation is None:
            judged = sample(judged, HELD_OUT_IMAGES, asked.seed)
        if len(used) < min(asked.count, len(found)):
            notes.append(
                f"{len(used)} of the {len(found)} calibration images calibrate; the other {len(judged)} are "
                "held back to measure fidelity. Give --evaluation a folder of others to calibrate on all of them."
            )
    else:
        left = _without(found, judged)
        if 0 < len(left) < len(found):
            notes.append(
                f"{len(found) - len(left)} of the {len(found)} calibration images are in --evaluation too: they judge, "
                "and do not calibrate."
            )
        used = sample(left, asked.count, asked.seed) if left else []
    if used and len(used) < FEW_IMAGES:
        notes.append(
            f"Only {counted(len(used), 'image')} to calibrate with: ranges from so few are rough, 128 are usual."
        )
    return ChosenFiles(used, judged, notes)


def _same_pictures(folder: Path, other: Path) -> bool:
    """Whether both are one folder, however each is spelled, and with or without the `images/` in it."""
    return pictures_of(folder).resolve() == pictures_of(other).resolve()


def _without(paths: Sequence[Path], taken: Sequence[Path]) -> list[Path]:
    gone = {path.resolve() for path in taken}
    return [path for path in paths if path.resolve() not in gone]
