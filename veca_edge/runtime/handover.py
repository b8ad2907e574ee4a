"""What passes from one thread of a live run to the next: one item at a time, in order."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Ended(Exception):
    """Nothing more will pass; the cause is the error that ended it, if one did."""


class Handover(Generic[T]):
    """A place for one item between a thread that gives and one that takes.

    Args:
        keeps_newest: an item that nobody has taken yet gives way to the next one, instead of holding it up.
    """

    def __init__(self, keeps_newest: bool = False):
        self._keeps_newest = keeps_newest
        self._items: list[T] = []
        self._is_closed = self._is_abandoned = False
        self._cause: BaseException | None = None
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Waits for room. Raises `Ended` when nobody takes anything any more."""
        with self._changed:
            if self._keeps_newest:
                self._items.clear()
            self._changed.wait_for(lambda: not self._items or self._is_abandoned)
            if self._is_abandoned:
                raise Ended
            self._items.append(item)
            self._changed.notify_all()

    def wait_for_room(self) -> None:
        """Until an item would be taken in at once. Raises `Ended` as `put`."""
        with self._changed:
            self._changed.wait_for(lambda: not self._items or self._is_abandoned)
            if self._is_abandoned:
                raise Ended

    def take(self, timeout: float | None = None) -> T | None:
        """The next item; None after `timeout` seconds without one.

        Raises:
            Ended: the giver closed it, and everything has been taken; with what it was closed with as cause.
        """
        with self._changed:
            there = self._changed.wait_for(lambda: self._items or self._is_closed or self._is_abandoned, timeout)
            if self._items and not self._is_abandoned:
                item = self._items.pop()
                self._changed.notify_all()
                return item
            if not there:
                return None
            raise Ended from self._cause

    def close(self, cause: BaseException | None = None) -> None:
        """Says that nothing more comes; what is there can still be taken."""
        with self._changed:
            self._is_closed, self._cause = True, cause
            self._changed.notify_all()

    def abandon(self) -> None:
        """Says that nothing more is wanted: whoever waits, or comes later, gets `Ended`."""
        with self._changed:
            self._is_abandoned = True
            self._items.clear()
            self._changed.notify_all()
