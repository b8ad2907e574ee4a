"""Hidden siblings of a bundle, by which it takes its name whole, and the lock on the directory that they lie in."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..base.errors import EdgeError
from ..base.files import held

# A run that was killed leaves siblings, whose names say what they are.
# Being written, and after an exchange the old bundle for a moment: never restored.
INCOMPLETE = "veca-edge-incomplete"
# The old bundle, whole, between two renames where names cannot be exchanged: restored when there is no new one.
REPLACED = "veca-edge-replaced"
# Being deleted: never restored.
TRASH = "veca-edge-trash"
# Seconds to wait for another export beside this one that cleans up or replaces its bundle.
PATIENCE_S = 60.0


@contextmanager
def alone_beside(output: Path) -> Iterator[None]:
    """Holds back every other export that has this one's parent directory, for as long as names are changed there.

    Raises:
        EdgeError: another has held the directory for `PATIENCE_S` seconds.
        FileNotFoundError: there is no such directory.
    """
    with held(output.parent, PATIENCE_S) as free:
        if free is False:
            raise EdgeError(f"Another process keeps {output.parent} locked.", "Wait for it to end, then try again.")
        yield


def sibling(output: Path, kind: str) -> Path:
    """A path for a sibling of a kind, which nobody has."""
    return output.with_name(f".{output.name}.{kind}-{uuid.uuid4().hex[:8]}")


def leftovers(output: Path, kind: str) -> list[Path]:
    """The siblings of a kind that are there."""
    prefix = f".{output.name}.{kind}-"
    with suppress(OSError):
        return sorted(p for p in output.absolute().parent.iterdir() if p.name.startswith(prefix))
    return []
