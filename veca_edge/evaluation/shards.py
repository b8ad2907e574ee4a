"""WebDataset shards: the files of an image behind one another in a tar archive.

| file | what it is |
|---|---|
| `NAME.jpg`, or another kind of image | the image |
| `NAME.cls` | its class, a name or an index |
| `NAME.mask.png` or `NAME.seg.png` | its mask, as in a folder `masks/` |
| `NAME.depth.png` or `NAME.depth.npy` | its depths, as in a folder `depth/` |
"""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..base.errors import EdgeError, MissingDependency
from ..base.files import open_regular
from ..base.tasks import Task
from ..images.folder import SUFFIXES
from ..images.labelled import PackedFile
from ..images.preprocessing import MAX_FILE_BYTES, UNREADABLE, decoded, reason
from .samples import Chunk, Classes, DataSet, Listing, ReadImage

LABEL = "cls"
TARGET_KINDS = {Task.SEGMENT: ("mask.png", "seg.png"), Task.DEPTH: ("depth.png", "depth.npy")}
_KINDS = tuple(suffix.removeprefix(".") for suffix in SUFFIXES)
_REPACK = "Pack it again as a plain tar, with the files of each image behind one another."


@dataclass(frozen=True)
class ShardChunk:
    """Some images of one shard, from a place in the file on."""

    shard: str
    number: int
    offset: int
    count: int
    classes: Classes

    @property
    def key(self) -> str:
        return f"{Path(self.shard).name}/{self.number:05d}"

    def samples(self) -> Iterator[ReadImage]:
        from webdataset.tariterators import group_by_keys, tar_file_iterator

        shard = Path(self.shard).name
        with open_regular(self.shard) as file:
            file.seek(self.offset)
            parts: Any = ({**part, "__url__": shard} for part in tar_file_iterator(file))  # type: ignore[arg-type]
            try:
                for found in islice(group_by_keys(parts), self.count):
                    yield self._sample(f"{shard}/{found['__key__']}", found)
            except (tarfile.TarError, ValueError, EOFError, OSError) as error:
                raise EdgeError(f"The shard {self.shard} is damaged: {error}.", _REPACK) from error

    def _sample(self, name: str, found: dict[str, Any]) -> ReadImage:
        kind = next((kind for kind in _KINDS if kind in found), None)
        if kind is None:
            return ReadImage(name, None, f"it has no image ({', '.join(_KINDS)})")
        label = None
        try:
            if LABEL in found and self.classes.count:
                label = self.classes.index(found[LABEL].decode().strip())
            targets = (_target(name, found, kinds) for kinds in TARGET_KINDS.values())
            return ReadImage(name, decoded(found[kind]), "", label, *targets)
        except UNREADABLE as error:
            return ReadImage(name, None, reason(error), label)


def _target(name: str, found: dict[str, Any], kinds: Sequence[str]) -> PackedFile | None:
    """The first of some kinds of file that a sample has."""
    return next((PackedFile(f"{name}.{kind}", found[kind]) for kind in kinds if kind in found), None)


def shards_of(text: str) -> list[Path] | None:
    """The shards that a text means: a tar file, a folder with some, or a pattern in braces; None where it means none.

    Raises:
        EdgeError: a pattern whose shards are not all there, or none.
    """
    path = Path(text)
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix == ".tar" and not p.name.startswith("."))
        return found or None
    if not text.endswith(".tar"):
        return None
    if path.exists() or "{" not in text:
        every = [path]
    else:
        _check_installed()
        import braceexpand

        try:
            every = [Path(name) for name in braceexpand.braceexpand(text)]
        except ValueError as error:
            raise EdgeError(f"{text} is no pattern of shards: {error}.", "Write it as val-{00..12}.tar.") from error
    if missing := [str(p) for p in every if not p.is_file()]:
        raise EdgeError(
            f"{len(missing)} of {len(every)} shards are missing: {', '.join(missing[:6])}.", "Check --data."
        )
    return every


def open_shards(name: str, shards: Sequence[Path], classes: Classes, size: int) -> DataSet:
    """Reads the headers of every shard once."""
    _check_installed()
    if len({shard.name for shard in shards}) < len(shards):
        raise EdgeError("Two shards have one name.", "Give each a name of its own.")
    digest, images, truths = Listing(), 0, Counter[Task]()
    chunks: list[Chunk] = []
    for shard in shards:
        digest.add(shard.name, shard.stat().st_size)
        index = _index(shard, size)
        images += index.count
        truths += index.truths
        for number, offset in enumerate(index.starts):
            held = min(size, index.count - number * size)
            chunks.append(ShardChunk(str(shard.resolve()), number, offset, held, classes))
    if not images:
        raise EdgeError(f"There are no images in {name}.", _REPACK)
    digest.add(images)
    for task, kinds in TARGET_KINDS.items():
        if 0 < truths[task] < images:
            raise EdgeError(
                f"{images - truths[task]} of the {images} images in {name} have no {' or '.join(kinds)}.",
                "Pack a file for every image, or remove those images.",
            )
    shown = tuple(task for task in Task if truths[task] and (task != Task.CLASSIFY or classes.count))
    return DataSet("shards", name, images, digest.hex, shown, lambda: iter(chunks))


@dataclass(frozen=True)
class _Index:
    """Where every chunk of a shard begins, how many samples it has, and how many of them show what."""

    starts: list[int]
    count: int
    truths: Counter[Task]


def _index(shard: Path, size: int) -> _Index:
    from webdataset.tariterators import base_plus_ext

    tasks = {LABEL: Task.CLASSIFY, **{kind: task for task, kinds in TARGET_KINDS.items() for kind in kinds}}
    starts, count, last, here, truths = [], 0, None, set[Task](), Counter[Task]()
    try:
        with open_regular(shard) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # or it keeps every header it has read
                key, kind = base_plus_ext(member.name)
                if not member.isreg() or key is None or member.name.startswith("__"):
                    continue
                if member.size > MAX_FILE_BYTES:
                    raise EdgeError(f"{member.name:.200} in {shard} is larger than an image may be.", _REPACK)
                if key != last:
                    if count % size == 0:
                        starts.append(member.offset)
                    count, last, here = count + 1, key, set()
                task = tasks.get(kind or "")
                if task is not None and task not in here:
                    here.add(task)
                    truths[task] += 1
    except (tarfile.TarError, ValueError, EOFError, OSError) as error:
        raise EdgeError(f"The shard {shard} can't be read as a plain tar: {error}.", _REPACK) from error
    return _Index(starts, count, truths)


def _check_installed() -> None:
    try:
        import webdataset  # noqa: F401
    except ImportError:
        raise MissingDependency("webdataset", "webdataset", "Reading shards") from None
