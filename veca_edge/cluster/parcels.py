"""What many tasks need, sent to every worker once, checked there by its digest, and opened there once."""

from __future__ import annotations

import hashlib
import pickle
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..base.errors import EdgeError
from .connection import RETRIES


@dataclass(frozen=True)
class Parcel:
    """Bytes with the digest that they had when they were sent."""

    content: bytes = field(repr=False)
    digest: str

    def checked(self, what: str) -> bytes:
        """Raises `EdgeError` where they are others now; `what` names them in it."""
        if hashlib.sha256(self.content).hexdigest() != self.digest:
            raise EdgeError(f"{what} arrived damaged at a worker.", "Run the same command again.")
        return self.content


def broadcast(client: Any, content: bytes) -> Any:
    """The future of a `Parcel` that every worker holds now.

    It is a task, so that the scheduler can have it made again where all that held it are lost. Dask's own way,
    `scatter(broadcast=True)`, forgets it then, and never returns when a worker is lost meanwhile: `Scheduler.replicate`
    goes on sending to it.
    """
    from dask import config  # type: ignore[attr-defined]
    from distributed import as_completed

    digest = hashlib.sha256(content).hexdigest()
    # The threshold of a warning that advises to scatter.
    with config.set({"distributed.admin.large-graph-warning-threshold": f"{2 * len(content) + (10 << 20)} B"}):
        parcel = client.submit(Parcel, content, digest, pure=False, retries=RETRIES)
    # A task goes where what it needs is, so all of them would go to the one worker that has it.
    arrivals = [
        client.submit(_arrived, parcel, workers=[worker], allow_other_workers=True, pure=False, retries=RETRIES)
        for worker in client.nthreads()
    ]
    for _ in as_completed(arrivals, loop=client.loop):
        pass
    return parcel


def _arrived(parcel: Parcel) -> None:
    """On a worker, which got the parcel for this."""


class Sent:
    """Objects that were sent to the workers of a cluster; each goes once, however many tasks need it."""

    def __init__(self, client: Any):
        self._client = client
        self._sent: list[tuple[Any, Any]] = []

    def once(self, thing: Any) -> Any:
        """The future of its parcel."""
        for known, future in self._sent:
            if known is thing:
                return future
        future = broadcast(self._client, pickle.dumps(thing))
        self._sent.append((thing, future))
        return future


_opened: dict[str, Any] = {}
_opening = threading.Lock()


def opened_once(parcels: Mapping[str, Parcel]) -> dict[str, Any]:
    """On a worker: what parcels hold, by their names; what earlier tasks needed and this one does not is let go.

    Raises:
        EdgeError: one arrived damaged.
    """
    with _opening:
        found = {p.digest: _opened[p.digest] for p in parcels.values() if p.digest in _opened}
        for name, parcel in parcels.items():
            if parcel.digest not in found:
                found[parcel.digest] = pickle.loads(parcel.checked(name))
        _opened.clear()
        _opened.update(found)
    return {name: found[parcel.digest] for name, parcel in parcels.items()}
