"""Chunks on the workers of a Dask cluster: `tcp://SCHEDULER:8786`, `local:N` or `ssh:HOST,HOST`.

What a job needs travels once to every worker and is checked there by its digest; lost workers are the engine's
business, which gives their chunks to others. Images stay where they are: every worker has to see them at the same path.
"""

from __future__ import annotations

import hashlib
import pickle
import shutil
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from ..base.errors import EdgeError, MissingDependency
from ..base.files import files_below, inside, sha256_of
from ..base.versions import versions_of
from .compute import EvaluationJob, Outcome, Session, Stopped, outcome_of
from .forms import CLUSTERS
from .samples import Chunk

# Chunks that wait for every worker, so that none is idle.
WAITING = 3
# A chunk is tried again elsewhere when so many workers died over it before it is given up.
DEATHS = 3
LOCAL, SSH, TCP = "local:", "ssh:", ("tcp://", "tls://")


@dataclass(frozen=True)
class Shipped:
    """What is the same for every chunk, without its files.

    Attributes:
        pickled: the job; its directory is the worker's own.
        digest: sha256 of `pickled`; `files`: of each file that the job needs, by relative path.
        versions: of the packages that have a say in the numbers.
    """

    pickled: bytes
    digest: str
    files: Mapping[str, str]
    versions: Mapping[str, str]


def on_cluster(
    job: EvaluationJob, chunks: Iterator[Chunk], address: str, versions: Mapping[str, str]
) -> Generator[Outcome, None, None]:
    """On every worker of a cluster; chunks come back as they end.

    Raises:
        EdgeError: no such cluster, it has no workers, or one has other versions than this process.
        MissingDependency: Dask is not installed.
    """
    with connected(address) as client:
        from distributed import as_completed

        check_versions(client, versions)
        shipped, files = _shipped(job, versions)
        # Broadcast, so that what a lost worker held is still somewhere.
        one = client.scatter(shipped, broadcast=True, hash=False)
        contents = {path: client.scatter(content, broadcast=True, hash=False) for path, content in files}

        def submit(chunk: Chunk) -> Any:
            return client.submit(run_chunk, one, contents, chunk, pure=False, key=f"evaluate-{chunk.key}", retries=2)

        room = max(4, WAITING * len(client.scheduler_info(n_workers=-1)["workers"]))
        pending = as_completed([submit(chunk) for chunk in islice(chunks, room)], loop=client.loop)
        for future in pending:
            outcome = _outcome(future)
            future.release()
            for chunk in islice(chunks, 1):
                pending.add(submit(chunk))
            yield outcome


def _outcome(future: Any) -> Outcome:
    from distributed import CancelledError, KilledWorker

    try:
        return future.result()
    except CancelledError as error:
        raise EdgeError(
            "Every worker that held the models is gone, or the scheduler is.",
            "Start the cluster again, and run the same command: it goes on where it stopped.",
        ) from error
    except KilledWorker as error:
        raise EdgeError(
            f"{DEATHS} workers died over the same chunk: {error.task}.",
            "Look at the workers' logs; run the same command again to go on.",
        ) from error


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """A client of the cluster that an address names; one that was started for it ends with the block."""
    try:
        import distributed
        from dask import config  # type: ignore[attr-defined]
    except ImportError:
        raise MissingDependency("distributed", "cluster", "--cluster") from None
    settings = {"distributed.scheduler.allowed-failures": DEATHS, "distributed.worker.daemon": False}
    with ExitStack() as stack:
        stack.enter_context(config.set(settings))
        try:
            if address.startswith(LOCAL):
                workers = _worker_count(address)
                cluster: Any = distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=None,  # type: ignore[arg-type]
                )
                address = stack.enter_context(cluster)
            elif address.startswith(SSH):
                address = stack.enter_context(_ssh_cluster(address))
            elif not address.startswith(TCP):
                raise EdgeError(f"'{address}' is no cluster.", f"Give --cluster {CLUSTERS}.")
            client = stack.enter_context(distributed.Client(address, timeout=20, set_as_default=False))
        except (OSError, TimeoutError, RuntimeError) as error:
            raise EdgeError(
                f"The cluster {address} can't be reached: {_first_line(error)}.",
                "Start one with: dask scheduler, and on every machine: dask worker tcp://SCHEDULER:8786 --nthreads 1",
            ) from error
        yield client


def _worker_count(address: str) -> int:
    text = address.removeprefix(LOCAL)
    if not (text.isascii() and text.isdigit() and 0 < int(text[:5]) < 1000):
        raise EdgeError(f"'{address}' names no number of workers.", "Give --cluster local:4.")
    return int(text)


def _ssh_cluster(address: str) -> Any:
    workers = [host for text in address.removeprefix(SSH).split(",") if text.strip() for host in _hosts(text.strip())]
    if not workers:
        raise EdgeError("ssh: names no hosts.", "Give --cluster ssh:HOST*WORKERS,HOST*WORKERS.")
    try:
        import asyncssh  # noqa: F401
    except ImportError:
        raise MissingDependency("asyncssh", "cluster", "--cluster ssh:") from None
    from distributed import SSHCluster

    # The scheduler runs on the first host.
    return SSHCluster([workers[0], *workers], worker_options={"nthreads": 1}, scheduler_options={"dashboard": False})


def _hosts(text: str) -> list[str]:
    """`lab1*8` as eight times the host; a host alone as one."""
    host, star, count = text.partition("*")
    if star and not (count.isascii() and count.isdigit() and 0 < int(count[:5]) < 1000):
        raise EdgeError(f"'{text}' names no number of workers.", "Give --cluster ssh:lab1*8,lab2*8.")
    return [host] * (int(count) if star else 1)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


# -------------------------------------------------------------------------------- versions


def check_versions(client: Any, versions: Mapping[str, str]) -> None:
    """Raises `EdgeError` that names the worker and both versions; or says that there are no workers."""
    info = client.scheduler_info(n_workers=-1)["workers"]
    if not info:
        raise EdgeError("The cluster has no workers.", "Start some: dask worker tcp://SCHEDULER:8786 --nthreads 1")
    try:
        said = client.run(versions_of, tuple(versions))
    except ModuleNotFoundError as error:
        raise EdgeError(
            f"A worker lacks the package {error.name}.", "Install the same veca-edge on every worker."
        ) from error
    for worker, found in said.items():
        if isinstance(found, Mapping) and (told := _told_apart(found, versions)):
            raise EdgeError(
                f"The worker {worker} has {told}.", "Install the same versions everywhere: the numbers depend on them."
            )


def _told_apart(found: Mapping[str, str], versions: Mapping[str, str]) -> str:
    """What differs: `onnxruntime 1.22.0, and this machine 1.23.0`."""
    return "; ".join(
        f"{name} {found.get(name, 'missing')}, and this machine {version}"
        for name, version in versions.items()
        if found.get(name) != version
    )


# ------------------------------------------------------------------------------- the files


def _shipped(job: EvaluationJob, versions: Mapping[str, str]) -> tuple[Shipped, Iterator[tuple[str, bytes]]]:
    """What every worker gets: the job, and the contents of its files, one after the other."""
    paths = needed_files(job)
    pickled = pickle.dumps(replace(job, directory=Path()))
    digests = {path: sha256_of(job.directory / path) for path in paths}
    shipped = Shipped(pickled, hashlib.sha256(pickled).hexdigest(), digests, versions)
    return shipped, ((path, (job.directory / path).read_bytes()) for path in paths)


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

_sessions: dict[str, tuple[Session, Path]] = {}


def run_chunk(shipped: Shipped, contents: Mapping[str, bytes], chunk: Chunk) -> Outcome:
    """A chunk on a worker, which opens the job with the first."""
    try:
        session = _session_of(shipped, contents)
    except EdgeError as error:
        return chunk.key, Stopped(error.message, error.hint)
    return outcome_of(session.run, chunk)


def _session_of(shipped: Shipped, contents: Mapping[str, bytes]) -> Session:
    if shipped.digest in _sessions:
        return _sessions[shipped.digest][0]
    if told := _told_apart(versions_of(tuple(shipped.versions)), shipped.versions):
        raise EdgeError(f"A worker has {told}.", "Install the same versions everywhere: the numbers depend on them.")
    for session, directory in _sessions.values():
        session.close()
        shutil.rmtree(directory, ignore_errors=True)
    _sessions.clear()
    if hashlib.sha256(shipped.pickled).hexdigest() != shipped.digest:
        raise EdgeError("A job arrived damaged at a worker.", "Run the same command again.")
    directory = Path(tempfile.mkdtemp(prefix="veca-edge-"))
    for path, content in contents.items():
        if hashlib.sha256(content).hexdigest() != shipped.files[path]:
            raise EdgeError(f"{path} arrived damaged at a worker.", "Run the same command again.")
        file = inside(directory, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    job: EvaluationJob = pickle.loads(shipped.pickled)
    session = Session(replace(job, directory=directory))
    _sessions[shipped.digest] = session, directory
    return session
