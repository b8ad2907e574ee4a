"""Data sets as chunks of some hundred images: small descriptions that any worker can read from, made one at a time.

| data | what it is |
|---|---|
| folder | images; subfolders may name their classes, or `masks/` and `depth/` lie beside `images/` |
| `.csv` | a line each with `path` (relative to the file) and perhaps `label`, a class name or its index |
| `.tar` | WebDataset shards: one, a folder of them, or a pattern such as `val-{00..12}.tar`; see `shards.py` |
| video | one, or a folder of them |
"""

from __future__ import annotations

from pathlib import Path

from ..base.errors import EdgeError
from ..images.labelled import pictures_of
from . import forms
from .files import image_names, open_csv, open_folder
from .samples import Classes, DataSet
from .shards import open_shards, shards_of
from .videos import VIDEO_SUFFIXES, open_videos, videos_of

CHUNK_IMAGES = 128


def open_data(text: str, classes: Classes, size: int = CHUNK_IMAGES) -> DataSet:
    """Finds and lists a data set; what it holds is read later, chunk by chunk.

    Args:
        size: images of a chunk.

    Raises:
        EdgeError: there is no such data, it is empty, or its labels are no classes of the model.
        MissingDependency: reading shards or videos takes a package that is not installed.
    """
    path = Path(text)
    if (shards := shards_of(text)) is not None:
        return open_shards(path.name, shards, classes, size)
    if not path.exists():
        raise EdgeError(f"There is no data at {text}.", f"Give {forms.DATA}.")
    if path.suffix.lower() == ".csv":
        return open_csv(path, classes, size)
    if path.is_dir():
        if next(image_names(pictures_of(path)), None) is None:
            if videos := videos_of(path):
                return open_videos(path.name, videos, size)
            raise EdgeError(f"There is nothing to evaluate on in {text}.", f"Give {forms.DATA}.")
        return open_folder(path, classes, size)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return open_videos(path.name, [path], size)
    raise EdgeError(f"{text} is no data set of a known form.", f"Give {forms.DATA}.")
