"""Chunks on this machine: in this process, or in worker processes that take them as they get free."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from itertools import islice
from multiprocessing import get_context, parent_process

from ..base.errors import EdgeError
from .compute import EvaluationJob, Outcome, Session, outcome_of
from .samples import Chunk

# Chunks that wait for every worker, so that none is idle.
WAITING = 2

_session: Session | None = None


def here(job: EvaluationJob, chunks: Iterator[Chunk]) -> Generator[Outcome, None, None]:
    """One after the other, in this process."""
    with closing(Session(job)) as session:
        for chunk in chunks:
            yield outcome_of(session.run, chunk)


def in_processes(job: EvaluationJob, chunks: Iterator[Chunk], workers: int) -> Generator[Outcome, None, None]:
    """In so many processes; chunks come back as they end.

    Raises:
        EdgeError: a worker died.
    """
    # Pickled here: multiprocessing would send tensors as shared memory, a handle each.
    arguments = (pickle.dumps(job),)
    with ProcessPoolExecutor(workers, get_context("spawn"), _start, arguments) as pool:
        waiting: set[Future[Outcome]] = set()
        try:
            while True:
                waiting |= {pool.submit(_run, chunk) for chunk in islice(chunks, WAITING * workers - len(waiting))}
                if not waiting:
                    return
                ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for one in ended:
                    yield one.result()
        except BrokenProcessPool as error:
            raise EdgeError(
                "A worker process was ended from outside, perhaps for want of memory.",
                "Run the same command again: it goes on where it stopped. Fewer --workers take less memory.",
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start(pickled: bytes) -> None:
    """What a worker process does first."""
    global _session
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _session = Session(pickle.loads(pickled))


def _end_with_parent() -> None:
    """A parent that was killed can't end its workers, which would wait for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(chunk: Chunk) -> Outcome:
    assert _session is not None
    return outcome_of(_session.run, chunk)
