"""Image files as data: folders, and CSV files of paths and labels; listed twice rather than held."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from ..base.errors import EdgeError
from ..base.files import open_regular, read_limited
from ..base.tasks import Task
from ..base.text import counted
from ..images.folder import SUFFIXES
from ..images.labelled import TARGET_SUFFIXES, TARGETS, pictures_of
from ..images.preprocessing import MAX_FILE_BYTES, UNREADABLE, decoded, reason
from .forms import SORTED
from .samples import Chunk, Classes, DataSet, Listing, ReadImage, plain_name


@dataclass(frozen=True)
class FileItem:
    """One image file; paths are relative to the chunk's root."""

    path: str
    label: int | None = None
    mask: str | None = None
    depth: str | None = None


@dataclass(frozen=True)
class FileChunk:
    """Image files below one folder."""

    number: int
    root: str
    items: tuple[FileItem, ...]

    @property
    def key(self) -> str:
        return f"{self.number:07d}"

    def samples(self) -> Iterator[ReadImage]:
        root = Path(self.root)
        for item in self.items:
            targets = (None if path is None else root / path for path in (item.mask, item.depth))
            try:
                pixels, why = decoded(read_limited(root / item.path, MAX_FILE_BYTES)), ""
            except UNREADABLE as error:
                pixels, why = None, reason(error)
            yield ReadImage(item.path, pixels, why, item.label, *targets)


# --------------------------------------------------------------------------------- folders


def image_names(folder: Path, below: str = "", above: tuple[str, ...] = ()) -> Iterator[str]:
    """Images below a folder, relative to it with forward slashes, in a fixed order; no more than one folder's names
    are held at a time. Links are followed, hidden names left out."""
    here = folder / below
    real = os.path.realpath(here)
    if real in above:
        return
    try:
        with os.scandir(here) as entries:
            named = sorted((e.name, e.is_dir()) for e in entries if not e.name.startswith("."))
    except OSError as error:
        raise EdgeError(
            f"{here} can't be listed: {error.strerror}.", "Check that it is a folder you may read."
        ) from error
    for name, is_folder in named:
        if is_folder:
            yield from image_names(folder, f"{below}{name}/", (*above, real))
        elif name.lower().endswith(SUFFIXES):
            yield below + name


def open_folder(folder: Path, classes: Classes, size: int) -> DataSet:
    """Images below a folder, with masks and depths beside them where there are some; chunks of `size` images."""
    pictures = pictures_of(folder)
    beside = {task: kind for task, kind in TARGETS.items() if pictures != folder and (folder / kind).is_dir()}
    digest, images, missing, folders, loose = Listing(), 0, [], set(), 0
    for name in image_names(pictures):
        images += 1
        digest.add(name, _size_of(pictures / name))
        parent = _folder_name(name)
        folders.add(parent)
        loose += not parent
        for task, kind in beside.items():
            target = _target(folder, kind, name, task)
            if target is None:
                missing.append(f"{kind}: {name}")
            else:
                digest.add(target, _size_of(folder / target))
    if missing:
        raise EdgeError(
            f"No mask or depth is there for {counted(len(missing), 'image')}: {', '.join(missing[:6])}.",
            "Add files of the same names, or remove those images.",
        )
    labels, notes = _folder_labels(sorted(folders), loose, classes)
    for name, index in labels.items():
        digest.add(name, index)
    root = pictures if pictures == folder else folder
    prefix = "" if pictures == folder else f"{pictures.name}/"

    def items() -> Iterator[FileItem]:
        for name in image_names(pictures):
            targets = {task: _target(folder, kind, name, task) for task, kind in beside.items()}
            label = labels.get(_folder_name(name))
            yield FileItem(prefix + name, label, targets.get(Task.SEGMENT), targets.get(Task.DEPTH))

    truths = (*([Task.CLASSIFY] if labels else []), *beside)
    return DataSet("folder", folder.resolve().name, images, digest.hex, truths, _chunks(root, items, size), notes)


def _folder_name(name: str) -> str:
    """Of the folder that an image lies in; empty where it lies in none."""
    return name.rpartition("/")[0].rpartition("/")[2]


def _folder_labels(folders: Sequence[str], loose: int, classes: Classes) -> tuple[dict[str, int], tuple[str, ...]]:
    """The class of every folder, and what to say where there are none."""
    if not classes.count:
        return {}, ()
    if classes.folders == SORTED:
        if loose or len(folders) != classes.count:
            raise EdgeError(
                f"There are {len(folders)} folders of images{' and images beside them' if loose else ''}, but "
                f"{classes.count} classes.",
                "Their order only counts with a folder for each class; or give a .csv of paths and labels.",
            )
        return {name: i for i, name in enumerate(folders)}, ()
    index = {plain_name(name): i for i, name in enumerate(classes.names or ())}
    unknown = [name or "no folder" for name in folders if plain_name(name) not in index]
    if not unknown:
        return {name: index[plain_name(name)] for name in folders}, ()
    listed = ", ".join(unknown[:8]) + (", ..." if len(unknown) > 8 else "")
    if len(unknown) == len(folders):
        note = f"No folder bears the name of a class ({listed}), so there is no top-1."
        return {}, (f"{note} --folder-classes {SORTED} takes folders in their order, a .csv names labels.",)
    raise EdgeError(
        f"Some folders bear the name of no class: {listed}.",
        f"Rename or remove them, or give --folder-classes {SORTED}, or a .csv of paths and labels.",
    )


def _target(folder: Path, kind: str, name: str, task: Task) -> str | None:
    """The mask or depth of an image, relative to the folder, or None."""
    stem = name.rpartition(".")[0]
    paths = (f"{kind}/{stem}{suffix}" for suffix in TARGET_SUFFIXES[task])
    return next((path for path in paths if (folder / path).is_file()), None)


# ------------------------------------------------------------------------------------- CSV


def open_csv(path: Path, classes: Classes, size: int) -> DataSet:
    """Images that a CSV file lists by their paths, with labels where it has them; chunks of `size` images."""
    digest, images, labelled = Listing(), 0, False
    for item in _csv_items(path, classes):
        images += 1
        labelled |= item.label is not None
        digest.add(item.path, _size_of(path.parent / item.path), item.label)
    if not images:
        raise EdgeError(f"{path} lists no images.", "Give a line for each: path,label.")
    truths = (Task.CLASSIFY,) if labelled else ()
    chunks = _chunks(path.parent, lambda: _csv_items(path, classes), size)
    return DataSet("csv", path.name, images, digest.hex, truths, chunks)


def _csv_items(path: Path, classes: Classes) -> Iterator[FileItem]:
    with open_regular(path) as raw:
        lines = (line.decode("utf-8-sig" if i == 0 else "utf-8") for i, line in enumerate(raw))
        try:
            rows = csv.DictReader(lines, strict=True)
            if "path" not in (rows.fieldnames or ()):
                columns = ", ".join(rows.fieldnames or ()) or "nothing"
                raise EdgeError(
                    f"The first line of {path} names no column 'path': {columns:.200}.",
                    "Begin with a line of column names: path,label.",
                )
            for row in rows:
                if not row["path"]:
                    raise EdgeError(f"Line {rows.line_num} of {path} names no path.", "Give path,label on every line.")
                label = row.get("label")
                try:
                    index = classes.index(label) if label and classes.count else None
                except EdgeError as error:
                    raise EdgeError(f"{path}, line {rows.line_num}: {error.message}", error.hint) from error
                yield FileItem(row["path"], index)
        except (csv.Error, UnicodeDecodeError) as error:
            raise EdgeError(f"{path} can't be read as CSV: {error}.", "Save it as CSV in UTF-8.") from error


def _chunks(root: Path, items: Callable[[], Iterable[FileItem]], size: int) -> Callable[[], Iterator[Chunk]]:
    where = str(root.resolve())

    def made() -> Iterator[Chunk]:
        left = iter(items())
        for number in count():
            some = tuple(islice(left, size))
            if not some:
                return
            yield FileChunk(number, where, some)

    return made


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return -1
