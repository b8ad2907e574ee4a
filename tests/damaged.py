"""JSON documents with one value changed, and whether they are refused as they should be."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from veca_edge.base.errors import EdgeError

VALUES = (None, True, -1, 10**18, "8", [[]], {"x": 1})


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Where every value in a JSON document is."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


def mutants(document: Any) -> Iterator[Any]:
    """The document with one value replaced, or taken away; at every place, in every way."""
    for path in places(document):
        for value in (*VALUES, ...):
            changed = {"": copy.deepcopy(document)}
            *way, last = ("", *path)
            parent: Any = changed
            for key in way:
                parent = parent[key]
            if value is ...:
                del parent[last]
            else:
                parent[last] = value
            yield changed.get("")


def refused(use: Callable[[Any], object], document: Any) -> bool:
    """Whether it ends in an `EdgeError` that says what to do; other errors are not caught."""
    found = None
    try:
        use(document)
    except EdgeError as error:
        found = error
    assert found is None or (found.hint and len(found.message) < 600)
    return found is not None
