"""The files of exports made on the workers of a cluster: a task for each target, whose files come back whole."""

from __future__ import annotations

import hashlib
import pickle
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..base.errors import EdgeError
from ..base.files import files_below, inside
from ..base.progress import Progress, silent
from ..base.spec import ExportSpec
from ..base.versions import versions_of
from ..cluster.connection import MISSING, RETRIES, check_own_versions, connected, result_of
from ..cluster.parcels import Parcel, Sent, opened_once
from ..targets.table import target_named
from .make import Made, Sources, make_here

# Beside a target's own, the packages that have a say in what a worker writes and compares.
_PACKAGES = ("veca-edge", "numpy", "torch")
# Fields of `Sources` that are large, and the same for many exports.
_SHARED = ("checkpoint", "weights", "recipe", "judges", "ranking")
# What comes back at a time, and at most.
PIECE_BYTES = 32 << 20
MAX_BYTES = 16 << 30
MAX_FILES = 10_000


@dataclass(frozen=True)
class MadeFile:
    """One file of what a worker made: where, relative to the bundle, how large, and its sha256."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class MadeThere:
    """What a worker made; the contents of its files, one behind the other, stay with it until they are fetched."""

    made: Made
    files: tuple[MadeFile, ...]
    contents: bytearray = field(default_factory=bytearray, repr=False)


class MakeOnCluster:
    """Makes files as `make.make_here` does, on any worker of a cluster; give it what is asked for as early as it is
    known, so that the workers are at it together."""

    def __init__(self, client: Any, versions: Mapping[str, str]):
        self._client, self._versions, self._sent = client, versions, Sent(client)
        self._started: list[tuple[ExportSpec, Any]] = []

    def start(self, sources: Sources) -> Any:
        """Begins on a worker what was not begun yet. Returns its future."""
        for spec, future in self._started:
            if spec == sources.spec:
                return future
        shared = {name: self._sent.once(getattr(sources, name)) for name in _SHARED}
        # Pickled here: a scheduler would otherwise open what is none of its business.
        small = pickle.dumps(replace(sources, **dict.fromkeys(_SHARED)))
        future = self._client.submit(make_there, small, shared, dict(self._versions), pure=False, retries=RETRIES)
        self._started.append((sources.spec, future))
        return future

    def wait(self, progress: Progress) -> None:
        """Until everything that was started has ended, well or not."""
        from distributed import as_completed

        futures = [future for _, future in self._started]
        for i, _ in enumerate(as_completed(futures, loop=self._client.loop)):
            progress("writing on the cluster", i + 1, len(futures))

    def __call__(self, sources: Sources, directory: Path, progress: Progress) -> Made:
        """As `make.make_here`, and raises `EdgeError` where workers die over it or its files arrive damaged."""
        future = self.start(sources)
        self.wait(progress)
        ended = result_of(self._client.submit(without_contents, future, pure=False))
        if isinstance(ended, EdgeError):
            raise ended
        self._fetch(future, ended, directory, progress)
        return ended.made

    def _fetch(self, future: Any, made: MadeThere, directory: Path, progress: Progress) -> None:
        """Writes the files of a task into an empty directory."""
        total = sum(file.bytes for file in made.files)
        pieces = Pieces(lambda start: self._piece(future, start), total, progress)
        for file in made.files:
            path, digest = inside(directory, file.path), hashlib.sha256()
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "xb") as written:
                for piece in pieces.take(file.bytes):
                    digest.update(piece)
                    written.write(piece)
            if digest.hexdigest() != file.sha256:
                raise EdgeError(f"{file.path} arrived damaged from a worker.", "Run the same command again.")

    def _piece(self, future: Any, start: int) -> bytes:
        return result_of(self._client.submit(piece_of, future, start, PIECE_BYTES, pure=False))


class Pieces:
    """Bytes that are fetched a piece at a time, and taken in other lengths."""

    def __init__(self, fetch: Any, total: int, progress: Progress):
        self._fetch, self._total, self._progress = fetch, total, progress
        self._left, self._fetched = memoryview(b""), 0

    def take(self, count: int) -> Iterator[memoryview]:
        """The next so many bytes. Raises `EdgeError` where there are fewer."""
        while count:
            if not self._left:
                self._left = memoryview(self._fetch(self._fetched))
                if not self._left:
                    raise EdgeError("A worker's files are shorter than it said.", "Run the same command again.")
                self._fetched += len(self._left)
                self._progress("fetching from the cluster", self._fetched, self._total)
            piece, self._left = self._left[:count], self._left[count:]
            count -= len(piece)
            yield piece


@contextmanager
def making_on(address: str, targets: list[str]) -> Iterator[MakeOnCluster]:
    """For exports for some targets, on the cluster at an address. Raises `EdgeError` as `connected`."""
    names = dict.fromkeys((*_PACKAGES, *(package for name in targets for package in target_named(name).packages)))
    found = versions_of(tuple(names))
    versions = {name: found.get(name, MISSING) for name in names}
    with connected(address, versions) as client:
        yield MakeOnCluster(client, versions)


# ------------------------------------------------------------------------------- on the worker


def make_there(small: bytes, shared: Mapping[str, Parcel], versions: Mapping[str, str]) -> MadeThere | EdgeError:
    """Makes the files of one export on this worker; an error that says what was wrong is a result too.

    Args:
        small: pickled `Sources` without what is in `shared`.
    """
    try:
        check_own_versions(versions)
        sources: Sources = replace(pickle.loads(small), **opened_once(shared))
        with tempfile.TemporaryDirectory(prefix="veca-edge-") as name:
            directory = Path(name)
            made = make_here(sources, directory, silent)
            paths = files_below(directory)
            size = sum(path.stat().st_size for path in paths)
            if size > MAX_BYTES or len(paths) > MAX_FILES:
                raise EdgeError(
                    f"The bundle for '{sources.spec.target}' has {len(paths)} files of {size / 1e9:.1f} GB, more than "
                    "a worker sends.",
                    "Export it without --cluster, or with fewer --cores, --precision or --image-size.",
                )
            return MadeThere(made, *joined(directory, paths))
    except EdgeError as error:
        return error


def joined(directory: Path, paths: Sequence[Path]) -> tuple[tuple[MadeFile, ...], bytearray]:
    """Files below a directory, and their contents one behind the other: in memory once, however many they are."""
    contents = bytearray(sum(path.stat().st_size for path in paths))
    files, free = [], memoryview(contents)
    for path in paths:
        with open(path, "rb") as file:
            size = file.readinto(free)
        digest = hashlib.sha256(free[:size]).hexdigest()
        files.append(MadeFile(path.relative_to(directory).as_posix(), size, digest))
        free = free[size:]
    return tuple(files), contents


def without_contents(made: MadeThere | EdgeError) -> MadeThere | EdgeError:
    """What is fetched first, before the files' bytes come in pieces."""
    return replace(made, contents=b"") if isinstance(made, MadeThere) else made


def piece_of(made: MadeThere, start: int, count: int) -> bytearray:
    """Some of the files' bytes."""
    return made.contents[start : start + count]
