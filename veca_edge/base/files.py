"""Writing files so that nothing half-made stands under its final name, and digests of what was written."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import EdgeError

_CHUNK = 1 << 20

# What the disk can do to us, as opposed to a bug of ours.
_DISK = {
    errno.ENOSPC: "The disk is full",
    errno.EDQUOT: "The disk quota is used up",
    errno.EROFS: "The file system is read-only",
    errno.EACCES: "Permission was denied",
    errno.EPERM: "Permission was denied",
    errno.EIO: "The disk reported an error",
    errno.EFBIG: "The file is too large for this file system",
    errno.ENAMETOOLONG: "The name is too long",
}


def check_name(path: Path) -> None:
    """Raises `EdgeError` for a path that is not valid UTF-8: no library that maps or writes a model takes one."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise EdgeError(f"The name of {path} is not valid UTF-8.", "Rename the file, or its directory.") from error


@contextmanager
def disk_errors(path: str | Path) -> Iterator[None]:
    """Turns what the disk can do (full, read-only, forbidden) into an `EdgeError` that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK:
            raise
        where = error.filename if isinstance(error.filename, str) else path
        raise EdgeError(
            f"{_DISK[error.errno]}: {where} could not be written.",
            "Free some space or get permission there, or choose another place.",
        ) from error


def write_atomically(path: Path, content: bytes | str) -> None:
    """Writes a whole file or none: aside, flushed to disk, then renamed. Raises `EdgeError` as `disk_errors` says."""
    data = content.encode() if isinstance(content, str) else content
    with disk_errors(path), written_aside(path) as aside, open(aside, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def written_aside(path: Path, suffix: str = "") -> Iterator[Path]:
    """A hidden sibling to write a file or a directory to, which becomes `path` when the block ends well.

    It is removed when the block does not. Raises `OSError` where the disk does.

    Args:
        suffix: of the sibling's name, for writers that go by it. Without one, no `*.json` finds what is half-written.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{suffix}")
    try:
        yield aside
        os.replace(aside, path)
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(aside) if aside.is_dir() else aside.unlink()
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Flushes a file, or a directory's entries, to disk; directories only where the system can."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(directory: Path) -> None:
    """Flushes everything below a directory to disk."""
    for path in files_below(directory):
        sync(path)
    for path in (*(p for p in directory.rglob("*") if p.is_dir()), directory):
        sync(path)


def files_below(directory: Path) -> list[Path]:
    """Every file below a directory, sorted by relative path."""
    return sorted((p for p in directory.rglob("*") if p.is_file()), key=lambda p: p.relative_to(directory).as_posix())


def sha256_of(path: Path) -> str:
    """Of a file; of a directory, the digest of its sorted list of `path`, `sha256`."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in files_below(path):
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_of(file)}\n".encode())
    else:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def bytes_of(path: Path) -> int:
    """Size of a file, or of everything below a directory."""
    return sum(p.stat().st_size for p in files_below(path)) if path.is_dir() else path.stat().st_size


def empty(directory: Path) -> None:
    """Removes everything in a directory."""
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@contextmanager
def held(path: Path, patience: float = 0.0) -> Iterator[bool | None]:
    """Holds an advisory lock on a file or directory while the block runs.

    Yields True when it was free, False when another process holds it (still, after `patience` seconds), and
    None where the system or the file system has no such locks.
    """
    try:
        import fcntl
    except ImportError:
        yield None
        return
    handle = os.open(path, os.O_RDONLY)
    deadline = time.monotonic() + patience
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                state: bool | None = True
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                state = False
            except OSError:
                state = None
            break
        yield state
    finally:
        os.close(handle)
