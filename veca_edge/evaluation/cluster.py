"""Chunks on the workers of a Dask cluster. Models and checkpoint travel to each once; images stay where they are, and
every worker has to see them at the same path."""

from __future__ import annotations

import pickle
import shutil
import tempfile
import threading
import uuid
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from ..base.errors import EdgeError
from ..base.files import files_below, inside
from ..cluster.connection import RETRIES, check_own_versions, connected, result_of, workers_of
from ..cluster.parcels import Parcel, broadcast
from .compute import EvaluationJob, Outcome, Session, outcome_of
from .samples import Chunk

# Chunks that wait for every worker, so that none is idle.
WAITING = 3


@dataclass(frozen=True)
class Shipped:
    """What is the same for every chunk.

    Attributes:
        job: pickled; its directory is the worker's own.
        versions: of the packages that have a say in the numbers.
    """

    job: bytes
    versions: Mapping[str, str]


def on_cluster(
    job: EvaluationJob, chunks: Iterator[Chunk], address: str, versions: Mapping[str, str]
) -> Generator[Outcome, None, None]:
    """On every worker of a cluster; chunks come back as they end.

    Raises:
        EdgeError: no such cluster, it has no workers, or one has other versions than this process.
        MissingDependency: Dask is not installed.
    """
    with connected(address, versions) as client:
        from distributed import as_completed

        contents = {path: broadcast(client, (job.directory / path).read_bytes()) for path in needed_files(job)}
        shipped = broadcast(client, pickle.dumps(Shipped(pickle.dumps(replace(job, directory=Path())), versions)))

        # A scheduler answers all who ask for a key with one task, and other runs have chunks of these names.
        run = uuid.uuid4().hex

        def submit(chunk: Chunk) -> Any:
            key = f"evaluate-{run}-{chunk.key}"
            return client.submit(run_chunk, shipped, contents, chunk, pure=False, key=key, retries=RETRIES)

        room = max(4, WAITING * workers_of(client))
        pending = as_completed([submit(chunk) for chunk in islice(chunks, room)], loop=client.loop)
        for future in pending:
            outcome = result_of(future)
            future.release()
            for chunk in islice(chunks, 1):
                pending.add(submit(chunk))
            yield outcome


def needed_files(job: EvaluationJob) -> list[str]:
    """Files of a bundle, relative to it, that its variants are opened from: their own, and what lies beside them."""
    found: set[str] = set()
    for artifact in job.artifacts:
        whole = inside(job.directory, artifact.path)
        beside = whole if whole.is_dir() else whole.parent
        if beside == job.directory:
            found.add(artifact.path)
        else:
            found |= {p.relative_to(job.directory).as_posix() for p in files_below(beside)}
    return sorted(found)


# ---------------------------------------------------------------------------- on the worker

# Chunks run one by one, also where a worker has several threads: another job's takes the session's place.
_running = threading.Lock()
# The one session that is open, by what it was shipped as.
_sessions: dict[tuple[str, ...], tuple[Session, Path]] = {}


def run_chunk(shipped: Parcel, contents: Mapping[str, Parcel], chunk: Chunk) -> Outcome:
    """A chunk on a worker, which opens the job with the first."""
    with _running:
        try:
            session = _session_of(shipped, contents)
        except EdgeError as error:
            return chunk.key, error
        return outcome_of(session.run, chunk)


def _session_of(shipped: Parcel, contents: Mapping[str, Parcel]) -> Session:
    key = shipped.digest, *(parcel.digest for parcel in contents.values())
    if key in _sessions:
        return _sessions[key][0]
    opened: Shipped = pickle.loads(shipped.checked("A job"))
    check_own_versions(opened.versions)
    for session, directory in _sessions.values():
        session.close()
        shutil.rmtree(directory, ignore_errors=True)
    _sessions.clear()
    job: EvaluationJob = pickle.loads(opened.job)
    directory = Path(tempfile.mkdtemp(prefix="veca-edge-"))
    for path, parcel in contents.items():
        file = inside(directory, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(parcel.checked(path))
    session = Session(replace(job, directory=directory))
    _sessions[key] = session, directory
    return session
