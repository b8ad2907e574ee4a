"""Folders of images whose classes, masks or depths are known, and how those become targets of a model's size.

| task | folder |
|---|---|
| classify | a folder for each class |
| segment | `images/` and `masks/`: PNG of class indices (8-bit grey, or palette), 255 where nobody labelled |
| depth | `images/` and `depth/`: 16-bit PNG in millimetres, or `.npy` in metres; 0 where unknown |

Masks and depths bear the names of their images and have their size. Class names of masks may be in `labels.txt`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..base.errors import EdgeError
from ..base.files import read_limited
from ..base.tasks import Task
from ..base.text import counted
from ..model.labels import load_labels
from ..model.tensor_files import listed
from .folder import find_images
from .preprocessing import MAX_FILE_BYTES, UNREADABLE, Preprocessing, decoded, reason

UNLABELLED = 255
# Where a PNG says how many bits a sample has: behind its signature, the head of its first chunk, width and height.
PNG_BITS_AT = 24
MILLIMETRES = 1000.0
LABELS_FILE = "labels.txt"
TARGETS = {Task.SEGMENT: "masks", Task.DEPTH: "depth"}
TARGET_SUFFIXES = {Task.SEGMENT: (".png",), Task.DEPTH: (".png", ".npy")}


@dataclass(frozen=True)
class PackedFile:
    """A file out of an archive; its name says where it lay, and by its suffix what it is."""

    name: str
    content: bytes = field(repr=False)

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    def __str__(self) -> str:
        return self.name


# The mask or the depth of an image, wherever it lies.
TargetFile = Path | PackedFile


@dataclass(frozen=True)
class LabelledImage:
    """One image: the index of its class, or the file with its mask or depth."""

    image: Path
    target: int | Path

    @property
    def file(self) -> Path:
        assert isinstance(self.target, Path)
        return self.target


@dataclass(frozen=True)
class LabelledFolder:
    """Images with what they show; `labels` are class names, or None."""

    task: Task
    images: tuple[LabelledImage, ...]
    labels: tuple[str, ...] | None


def find_labelled(folder: str | Path, task: Task) -> LabelledFolder:
    """The images of a folder with their targets, sorted by name.

    Raises:
        EdgeError: the folder is not laid out as the task asks, or images have no targets; they are named.
    """
    folder = Path(folder)
    if task == Task.CLASSIFY:
        return _classes(folder)
    kind = TARGETS[task]
    for name in ("images", kind):
        if not (folder / name).is_dir():
            raise EdgeError(
                f"{folder} has no folder '{name}'.",
                f"Data for {task} is images/ beside {kind}/, with files of the same names.",
            )
    targets = {}
    for path in sorted((folder / kind).rglob("*")):
        if path.suffix.lower() in TARGET_SUFFIXES[task] and not path.name.startswith("."):
            targets[path.relative_to(folder / kind).with_suffix("").as_posix()] = path
    images = find_images(folder / "images")
    stems = {path: path.relative_to(folder / "images").with_suffix("").as_posix() for path in images}
    if missing := [str(path) for path, stem in stems.items() if stem not in targets]:
        raise EdgeError(
            f"Nothing is in {folder / kind} for {counted(len(missing), 'image')}: {listed(missing)}.",
            f"Add {' or '.join(TARGET_SUFFIXES[task])} files of the same names, or remove those images.",
        )
    found = tuple(LabelledImage(path, targets[stem]) for path, stem in stems.items())
    return LabelledFolder(task, found, _labels_of(folder) if task == Task.SEGMENT else None)


def pictures_of(folder: Path) -> Path:
    """Where the images of a folder are: in `images/` where masks or depths lie beside it, else in the folder itself."""
    beside = any((folder / name).is_dir() for name in TARGETS.values())
    return folder / "images" if beside and (folder / "images").is_dir() else folder


def targets_of(folder: Path) -> dict[Task, dict[Path, LabelledImage]]:
    """Masks and depths that lie beside a folder's images, by image; images may be without."""
    found: dict[Task, dict[Path, LabelledImage]] = {}
    for task, kind in TARGETS.items():
        if pictures_of(folder) != folder and (folder / kind).is_dir():
            found[task] = {item.image: item for item in find_labelled(folder, task).images}
    return found


def truth_maps(
    targets: Mapping[Path, LabelledImage],
    paths: Sequence[Path],
    task: Task,
    size: tuple[int, int],
    map_size: tuple[int, int],
    preprocessing: Preprocessing | None = None,
) -> np.ndarray:
    """What images show, `[n, *map_size]` as `target_of` has it; nothing known of an image that has no target."""
    empty = np.full(map_size, -1, np.int16) if task == Task.SEGMENT else np.zeros(map_size, np.float32)
    maps = []
    for path in paths:
        item = targets.get(path)
        if item is None:
            maps.append(empty)
            continue
        maps.append(target_of(item.file, task, None, size, map_size, preprocessing))
    return np.stack(maps)


def _classes(folder: Path) -> LabelledFolder:
    images = find_images(folder)
    loose = [str(path) for path in images if path.parent == folder]
    names = sorted({path.relative_to(folder).parts[0] for path in images if path.parent != folder})
    if loose or len(names) < 2:
        what = f"images outside of class folders: {listed(loose)}" if loose else "fewer than two class folders"
        raise EdgeError(f"{folder} has {what}.", "Data for classify is one folder of images for each class.")
    index = {name: i for i, name in enumerate(names)}
    found = tuple(LabelledImage(path, index[path.relative_to(folder).parts[0]]) for path in images)
    return LabelledFolder(Task.CLASSIFY, found, tuple(names))


def _labels_of(folder: Path) -> tuple[str, ...] | None:
    path = folder / LABELS_FILE
    return tuple(load_labels(path)) if path.is_file() else None


# ---------------------------------------------------------------------------------------- targets


def target_of(
    file: TargetFile,
    task: Task,
    shape: tuple[int, int] | None,
    size: tuple[int, int],
    map_size: tuple[int, int],
    preprocessing: Preprocessing | None = None,
) -> np.ndarray:
    """The mask or depth of an image as a map of the model's input, by the nearest pixel.

    Args:
        shape: rows and columns of the upright picture, which the file has to have; None where nobody decoded it.
        size: height and width of the model's input.
        map_size: rows and columns of the map.
        preprocessing: how the image becomes the input; None is the default.

    Returns:
        int16 `[*map_size]`, -1 where nobody labelled; or float32 metres, 0 where unknown. Padding is neither.

    Raises:
        EdgeError: the file is not a mask or depth, or not of the picture's size.
    """
    read = read_mask(file) if task == Task.SEGMENT else read_depth(file)
    if shape is not None and read.shape != tuple(shape):
        raise EdgeError(
            f"{file} has {read.shape[1]} x {read.shape[0]} pixels, but its image {shape[1]} x {shape[0]}.",
            "Save masks and depths in the size of their images.",
        )
    geometry = (preprocessing or Preprocessing()).geometry((read.shape[0], read.shape[1]), size)
    cut, laid = geometry.cut, geometry.laid
    rows = ((np.arange(map_size[0]) + 0.5) * size[0] / map_size[0] - laid.top) * cut.height / laid.height
    columns = ((np.arange(map_size[1]) + 0.5) * size[1] / map_size[1] - laid.left) * cut.width / laid.width
    inside = ((rows >= 0) & (rows < cut.height))[:, None] & ((columns >= 0) & (columns < cut.width))
    rows, columns = (np.clip(x, 0, n - 1).astype(int) for x, n in ((rows, cut.height), (columns, cut.width)))
    found = read[cut.top + rows[:, None], cut.left + columns]
    return np.where(inside, found, found.dtype.type(-1 if task == Task.SEGMENT else 0))


def read_mask(file: TargetFile) -> np.ndarray:
    """Class indices int16 `[h, w]`, -1 where nobody labelled. Raises `EdgeError`."""
    values = _png(file, ("L", "P"), "a mask: a PNG of class indices, 8-bit grey or palette").astype(np.int16)
    return np.where(values == UNLABELLED, np.int16(-1), values)


def read_depth(file: TargetFile) -> np.ndarray:
    """Metres, float32 `[h, w]`, 0 where unknown. Raises `EdgeError`."""
    if file.suffix.lower() == ".png":
        what = "depth in a known unit: a 16-bit PNG of millimetres, or .npy of metres"
        return (_png(file, ("I;16", "I;16B", "I"), what) / MILLIMETRES).astype(np.float32)
    try:
        array = np.load(io.BytesIO(_content(file)), allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise EdgeError(f"{file} can't be read as an array.", "Save it with numpy.save, metres as floats.") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f":
        said = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else "an archive"
        raise EdgeError(f"{file} is {said}, not metres as floats [h, w].", "Integers have no known unit: save floats.")
    metres = array.astype(np.float32)
    return np.where(np.isfinite(metres) & (metres > 0), metres, np.float32(0))


def _content(file: TargetFile) -> bytes:
    return file.content if isinstance(file, PackedFile) else read_limited(file, MAX_FILE_BYTES)


def _png(file: TargetFile, modes: Sequence[str], what: str) -> np.ndarray:
    from PIL import Image

    try:
        content = _content(file)
        decoded(content)  # refuses what no image may be, before it is read as numbers
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            mode, bits = image.mode, content[PNG_BITS_AT]
            # Pillow stretches grey of fewer bits to 0..255. Which index was meant nobody can tell: programs that make
            # PNG smaller store 0 and 17 as they store 0 and 1. Indices into a palette stay as they are.
            shallow = mode in ("1", "L") and bits < 8
            if mode in modes and not shallow:
                return np.asarray(image)
    except UNREADABLE as error:
        raise EdgeError(f"{file} can't be read: {reason(error)}.", "Mend or remove it, and its image.") from error
    if shallow:
        raise EdgeError(
            f"{file} is not {what}: its pixels are grey of {counted(bits, 'bit')}.",
            "Save it anew from the numbers it was made of: such pixels are stretched to 0..255 when they are opened.",
        )
    raise EdgeError(f"{file} is not {what}: its pixels are '{mode}'.", "Convert it, or choose another --task.")
