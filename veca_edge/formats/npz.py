"""Reads NumPy archives (`.npz`) that come from anywhere: plain numbers only, sizes compared before memory is taken."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ..base.files import open_regular

LIMIT = 256 << 20
MOST_ENTRIES = 1024


def read_npz(path: str | Path, limit: int = LIMIT) -> dict[str, np.ndarray]:
    """The arrays of an archive by name.

    Args:
        limit: bytes of all entries together, uncompressed.

    Raises:
        ValueError: it is not such an archive, is damaged or too large, or holds anything but plain numbers.
        EdgeError: it is not a regular file.
        OSError: as `open`.
    """
    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
                if len(entries) > MOST_ENTRIES or sum(entry.file_size for entry in entries) > limit:
                    raise ValueError(f"it holds more than the {limit:,} bytes that are read of such a file")
                names = [entry.filename.removesuffix(".npy") for entry in entries]
                if len(set(names)) != len(names):
                    raise ValueError("it holds two arrays of one name")
                return {name: _array(_content(archive, entry)) for name, entry in zip(names, entries, strict=True)}
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OverflowError) as error:
            # RuntimeError: an entry with a password.
            raise ValueError(f"it is not a NumPy archive, or is damaged: {error}") from error
        except OSError as error:  # a position that lies before the beginning
            raise ValueError(f"it is damaged: {error}") from error


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """No more than the size that the entry states, whatever its stream would give: `ZipFile.read` unpacks it all."""
    with archive.open(entry) as stream:
        return stream.read(entry.file_size)


def _array(content: bytes) -> np.ndarray:
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, by_columns, dtype = read(stream)
    except Exception as error:  # it is Python source, whose reader fails in every way there is
        raise ValueError(f"the description of an array is damaged: {error}") from error
    if dtype.kind not in "biuf":
        raise ValueError(f"an array holds {dtype}, not plain numbers")
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"an array has {len(content) - stream.tell()} bytes, but {dtype} {list(shape)} was promised")
    array = np.frombuffer(content, dtype, offset=stream.tell())
    return array.reshape(shape, order="F" if by_columns else "C").copy()
