"""What many tasks need, sent to every worker once, checked there by its digest, and opened there once."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import time
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


def parcel_of(content: bytes) -> Parcel:
    return Parcel(content, hashlib.sha256(content).hexdigest())


def broadcast(client: Any, thing: Any) -> Any:
    """The future of what every worker gets now, so that what a lost one held is still somewhere.

    Raises:
        EdgeError: workers are lost again and again while they are sent it.
    """
    for attempt in range(1 + RETRIES):
        time.sleep(attempt)  # a lost worker is started again meanwhile
        # Dask's scheduler looks for a worker that it lost in the middle of this, or finds that none is left.
        with contextlib.suppress(KeyError, ValueError, TimeoutError):
            return client.scatter(thing, broadcast=True, hash=False)
    raise EdgeError(
        "The cluster loses its workers while they are sent what they need.",
        "See the workers' logs (memory is the usual reason), then run the same command again.",
    )


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
        future = broadcast(self._client, parcel_of(pickle.dumps(thing)))
        self._sent.append((thing, future))
        return future


_opened: dict[str, Any] = {}


def opened_once(parcels: Mapping[str, Parcel]) -> dict[str, Any]:
    """On a worker: what parcels hold, by their names; what earlier tasks needed and this one does not is let go.

    Raises:
        EdgeError: one arrived damaged.
    """
    found = {p.digest: _opened[p.digest] for p in parcels.values() if p.digest in _opened}
    for name, parcel in parcels.items():
        if parcel.digest not in found:
            found[parcel.digest] = pickle.loads(parcel.checked(name))
    _opened.clear()
    _opened.update(found)
    return {name: found[parcel.digest] for name, parcel in parcels.items()}
