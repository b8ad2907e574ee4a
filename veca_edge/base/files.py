"""Files: read only where they are regular, small enough and where they should be; written so that nothing half-made
stands under its final name; digests of what was written."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PureWindowsPath
from typing import Any, BinaryIO

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


def nearest_parent(path: Path) -> Path:
    """The nearest of a path's parents that is there, whatever it is."""
    ancestor = path.absolute().parent
    while not ancestor.exists():
        ancestor = ancestor.parent
    return ancestor


def check_name(path: Path) -> None:
    """Raises `EdgeError` for a path that is not valid UTF-8: no library that maps or writes a model takes one."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise EdgeError(f"The name of {path} is not valid UTF-8.", "Rename the file, or its directory.") from error


def open_regular(path: str | Path) -> BinaryIO:
    """Opens a regular file to be read in binary; a pipe, a device or a socket is refused at once and never waited for.

    Raises:
        EdgeError: it is something else, or its name cannot be a file's.
        OSError: as `open`: it is missing, or forbidden.
    """
    try:
        # Looked at before it is opened: opening a device can already do something.
        _check_regular(path, os.stat(path).st_mode)
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(path, flags), "rb")
    except ValueError as error:
        raise EdgeError(f"{str(path)!r} cannot be the name of a file: {error}.", "Give another file.") from error
    try:
        _check_regular(path, os.fstat(file.fileno()).st_mode)
    except BaseException:
        file.close()
        raise
    return file


_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a directory",
}


def _check_regular(path: str | Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise EdgeError(f"{path} is {kind}, not a regular file.", "Give a regular file.")


def read_limited(path: str | Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes; no more than that is ever held.

    Raises:
        EdgeError: it is larger, or not a regular file.
        OSError: as `open`.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = bytearray()
        # A file that grows, or one of the system's that states no size, is cut off at the limit too.
        while size <= limit and (chunk := file.read(_CHUNK)):
            content += chunk
            size = max(size, len(content))
    if size > limit:
        raise EdgeError(
            f"{path} is larger than the {limit:,} bytes that are read of such a file.", "Give another file."
        )
    return bytes(content)


def inside(directory: str | Path, relative: object, hint: str | None = None) -> Path:
    """The path that a name in a file means, below the directory that the file speaks of.

    The name is POSIX, relative to the directory; it need not exist.

    Args:
        relative: the name, of whatever type it was found as.

    Raises:
        EdgeError: the name is not text, or leads outside of the directory by itself or through a link.
    """
    parts = relative.split("/") if isinstance(relative, str) else []
    told = f"{relative!r:.100}"
    if not parts or parts[0] == "" or ".." in parts or any(c in str(relative) for c in "\\\0"):
        raise EdgeError(f"{directory} names a file outside of it: {told}.", hint)
    if PureWindowsPath(str(relative)).drive:
        raise EdgeError(f"{directory} names a file outside of it: {told}.", hint)
    path = Path(directory, *parts)
    try:
        real, root = os.path.realpath(path), os.path.realpath(directory)
    except (OSError, ValueError) as error:
        raise EdgeError(f"{directory} names a file that can't be found: {told}.", hint) from error
    if real != root and not real.startswith(os.path.join(root, "")):
        raise EdgeError(f"{directory} holds a link that leads outside of it: {told}.", hint)
    return path


@contextmanager
def disk_errors(path: str | Path) -> Iterator[None]:
    """Turns what the disk can do (full, read-only, forbidden) into an `EdgeError` that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK:
            raise
        where = error.filename if isinstance(error.filename, str) and not is_aside(Path(error.filename)) else path
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


# As `written_aside` calls it, and what is fetched from a board.
_ASIDE = re.compile(r"\..+\.[0-9a-f]{8}(\.[a-z0-9]+)?|.+\.[0-9a-f]{8}\.part")


def is_aside(path: Path) -> bool:
    """Whether a file has the name of one that is being written, or that a killed process left half-written."""
    return _ASIDE.fullmatch(path.name) is not None


# A file that was written to a moment ago has a writer, which may not hold it yet.
QUIET_S = 5.0


def claim(file: BinaryIO) -> None:
    """Tells `remove_abandoned` that a file which takes long to write has a living writer, until it is closed."""
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_abandoned(directory: Path, start: str) -> None:
    """Removes half-written files that a killed process left in a directory, of names that begin with `start`."""
    for path in directory.iterdir() if directory.is_dir() else ():
        if path.name.removeprefix(".").startswith(start) and is_aside(path):
            with suppress(OSError):
                if time.time() - path.lstat().st_mtime > QUIET_S and path.is_file() and not path.is_symlink():
                    with held(path) as free:
                        if free:
                            path.unlink()


_AT_FDCWD = -100
# RENAME_EXCHANGE of Linux and RENAME_SWAP of macOS have one value.
_EXCHANGE = 2
_CANNOT_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}


def exchange(one: Path, other: Path) -> bool:
    """Lets two existing names change places in one step, so that neither is ever missing.

    Returns:
        False, with nothing done, where the system or the file system has no such step.

    Raises:
        OSError: as `os.rename`.
    """
    import ctypes  # takes time, and only an export needs it

    a, b = os.fsencode(one), os.fsencode(other)
    library: Any = None if os.name == "nt" else ctypes.CDLL(None, use_errno=True)
    if sys.platform.startswith("linux") and hasattr(library, "renameat2"):
        failed = library.renameat2(_AT_FDCWD, a, _AT_FDCWD, b, _EXCHANGE)
    elif sys.platform == "darwin" and hasattr(library, "renamex_np"):
        failed = library.renamex_np(a, b, _EXCHANGE)
    else:
        return False
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))


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
    """Of a regular file; of a directory, the digest of its sorted list of `path`, `sha256`."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in files_below(path):
            digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_of(file)}\n".encode())
    else:
        with open_regular(path) as file:
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
