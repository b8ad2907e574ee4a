"""Clusters by their addresses, `tcp://SCHEDULER:8786`, `local:N` or `ssh:HOST,HOST`, and what their workers have to be.

Lost workers are Dask's business, which gives their tasks to others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from ..base.errors import EdgeError, MissingDependency
from ..base.text import first_line
from ..base.versions import versions_of
from .options import CLUSTERS

# A task is tried again elsewhere when so many workers died over it before it is given up.
DEATHS = 3
# It is tried again so often when it ends with what is no `EdgeError`, such as a full disk.
RETRIES = 2
# The version of a package that is not installed.
MISSING = "missing"
LOCAL, SSH, TCP = "local:", "ssh:", ("tcp://", "tls://")


@contextmanager
def connected(address: str, versions: Mapping[str, str]) -> Iterator[Any]:
    """A client of the cluster that an address names; one that was started for it ends with the block.

    Args:
        versions: of the packages that have a say in what its workers compute, as this process has them.

    Raises:
        EdgeError: no such cluster, it has no workers, or one has other versions.
        MissingDependency: Dask is not installed.
    """
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
                    dashboard_address=":0",  # beside other clusters here
                )
                address = stack.enter_context(cluster)
            elif address.startswith(SSH):
                address = stack.enter_context(_ssh_cluster(address))
            elif not address.startswith(TCP):
                raise EdgeError(f"'{address}' is no cluster.", f"Give --cluster {CLUSTERS}.")
            client = stack.enter_context(distributed.Client(address, timeout=20, set_as_default=False))
        except (OSError, asyncio.TimeoutError, RuntimeError) as error:
            raise EdgeError(
                f"The cluster {address} can't be reached: {first_line(error)}.",
                "Start one with: dask scheduler, and on every machine: dask worker tcp://SCHEDULER:8786 --nthreads 1",
            ) from error
        _check_versions(client, versions)
        yield client


def result_of(future: Any) -> Any:
    """What a task returned. Raises `EdgeError` where its workers are gone, or died over it."""
    from distributed import CancelledError, KilledWorker

    try:
        return future.result()
    except CancelledError as error:
        raise EdgeError(
            "Every worker that held what the work needs is gone, or the scheduler is.",
            "Start the cluster again, and run the same command.",
        ) from error
    except KilledWorker as error:
        raise EdgeError(
            f"{DEATHS} workers died over the same piece of work: {error.task}.",
            "Look at the workers' logs, perhaps for want of memory, and run the same command again.",
        ) from error


def workers_of(client: Any) -> int:
    """How many workers there are now."""
    return len(client.scheduler_info(n_workers=-1)["workers"])


# ------------------------------------------------------------------------------- addresses


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


# -------------------------------------------------------------------------------- versions


def _check_versions(client: Any, versions: Mapping[str, str]) -> None:
    if not workers_of(client):
        raise EdgeError("The cluster has no workers.", "Start some: dask worker tcp://SCHEDULER:8786 --nthreads 1")
    try:
        said = client.run(versions_of, tuple(versions))
    except ModuleNotFoundError as error:
        raise EdgeError(
            f"A worker lacks the package {error.name}.", "Install the same veca-edge on every worker."
        ) from error
    for worker, found in said.items():
        if isinstance(found, Mapping):
            _refuse_other(f"The worker {worker}", found, versions)


def check_own_versions(versions: Mapping[str, str]) -> None:
    """On a worker, which may have come after the others were checked: raises `EdgeError` where it has other ones."""
    _refuse_other("A worker", versions_of(tuple(versions)), versions)


def _refuse_other(who: str, found: Mapping[str, str], versions: Mapping[str, str]) -> None:
    told = "; ".join(
        f"{name} {found.get(name, MISSING)}, and this machine {version}"
        for name, version in versions.items()
        if found.get(name, MISSING) != version
    )
    if told:
        raise EdgeError(f"{who} has {told}.", "Install the same versions everywhere: the results depend on them.")
