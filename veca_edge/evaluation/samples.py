"""What every data set is: chunks of some hundred images, as small descriptions that any worker can read from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..base.errors import EdgeError, unknown_name
from ..base.tasks import Task
from ..images.labelled import TargetFile
from ..images.pictures import Picture
from .forms import BY_NAME, FOLDER_CLASSES


@dataclass(frozen=True)
class ReadImage:
    """One image as it was read, or None and why it could not be.

    Attributes:
        pixels: uint8 RGB `[h, w, 3]`, or of a video a picture as it was decoded.
        label: the index of its class, or None.
        mask, depth: its mask and its depths as files, or None.
    """

    name: str
    pixels: np.ndarray | Picture | None
    failure: str = ""
    label: int | None = None
    mask: TargetFile | None = None
    depth: TargetFile | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width in pixels."""
        if self.pixels is None:
            return None
        return self.pixels.size if isinstance(self.pixels, Picture) else (self.pixels.shape[0], self.pixels.shape[1])


class Chunk(Protocol):
    """Some hundred images: what a task reads, in a form small enough to be sent to any worker."""

    @property
    def key(self) -> str:
        """Tells it from the other chunks of its data set."""
        ...

    def samples(self) -> Iterator[ReadImage]:
        """Reads them, one at a time. Raises `EdgeError` where nothing of them can be read at all."""
        ...


@dataclass(frozen=True)
class DataSet:
    """A data set that was found and listed once.

    Attributes:
        kind: `folder`, `csv`, `shards` or `video`.
        name: of the folder or the file.
        images: how many there are; of a video, as it states them.
        digest: sha256 over names, sizes and labels.
        truths: what the images are known to show.
        notes: what the user should know of it.
        chunks: lists it again, in the same order.
    """

    kind: str
    name: str
    images: int
    digest: str
    truths: tuple[Task, ...]
    chunks: Callable[[], Iterator[Chunk]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Classes:
    """The classes of a bundle's classifier; `names` is None where it has none, `count` 0 without a classifier.

    Attributes:
        folders: `names` where the names of folders are those of classes, `sorted` where their order counts.
    """

    names: tuple[str, ...] | None
    count: int
    folders: str = BY_NAME

    def __post_init__(self) -> None:
        if self.folders not in FOLDER_CLASSES:
            raise unknown_name("way to name classes", self.folders, FOLDER_CLASSES)

    def index(self, text: str) -> int:
        """Of a class by its name or its number. Raises `EdgeError`."""
        plain = plain_name(text)
        for i, name in enumerate(self.names or ()):
            if plain_name(name) == plain:
                return i
        if text.isascii() and text.isdigit() and len(text) < 7 and int(text) < self.count:
            return int(text)
        known = ", ".join((self.names or ())[:8]) + (", ..." if len(self.names or ()) > 8 else "")
        raise EdgeError(
            f"The label '{text:.80}' is no class of the model.",
            f"Give a number below {self.count}{f', or a name: {known}' if known else ''}.",
        )


class Listing:
    """The digest of a data set, made while it is listed."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, *facts: object) -> None:
        self._digest.update("\t".join(map(str, facts)).encode("utf-8", "surrogateescape") + b"\n")

    @property
    def hex(self) -> str:
        return self._digest.hexdigest()


def plain_name(name: str) -> str:
    """A class name as folders and labels may vary it."""
    return name.casefold().replace("_", " ").replace("-", " ").strip()
