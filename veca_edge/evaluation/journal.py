"""What is finished, on disk as soon as it is: a run that was killed goes on, and counts nothing twice.

A line for each finished chunk, with a checksum; the first line says which run it is of.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ..base.errors import EdgeError
from ..base.files import disk_errors, held
from ..base.json_files import parse_json
from .statistics import Totals, merge, totals_from

_LINE_LIMIT = 256 << 20
_CHECK = 16


class Journal:
    """An open journal: `totals` of the chunks in `keys`, and room for more."""

    def __init__(self, path: Path, file: BinaryIO):
        self.path, self._file = path, file
        self.totals, self.keys = Totals(), set[str]()

    def append(self, key: str, payload: bytes) -> None:
        """Adds the totals of a chunk, and puts them on disk first. Raises `ValueError` where it is there already."""
        if key in self.keys:
            raise ValueError(f"the chunk {key} was counted twice")
        self._write(json.dumps({"chunk": key}).encode()[:-1] + b', "totals": ' + payload + b"}")
        self._add(key, totals_from(json.loads(payload), f"What a worker says of {key}"))

    def _add(self, key: str, totals: Totals) -> None:
        merge(self.totals, totals)
        self.keys.add(key)

    def _write(self, content: bytes) -> None:
        with disk_errors(self.path):
            self._file.write(_checksum(content) + b" " + content + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())


@contextmanager
def open_journal(path: Path, run: Mapping[str, Any], again: bool = False) -> Iterator[Journal]:
    """Opens a run's journal, with what it holds already; a line that was cut off or damaged ends it, and is dropped.

    Args:
        run: what must be the same for chunks to be added up; JSON values.
        again: drop what is there.

    Raises:
        EdgeError: the journal is of another run, or another process writes it.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with held(path, 1.0) as free:
        if free is False:
            raise EdgeError(f"Another process is evaluating here: it holds {path}.", "Wait for it to end.")
        if not path.exists():
            raise EdgeError(
                f"Another process was evaluating here, and has just ended: {path} is gone.",
                "Run the same command again.",
            )
        with open(path, "r+b") as file:
            if again:
                file.truncate(0)
            journal = Journal(path, file)
            header = json.loads(json.dumps(dict(run)))
            lines = _sound_lines(file)
            first = next(lines, None)
            if first is None:
                file.truncate(0)
                file.seek(0)
                journal._write(json.dumps(header).encode())
            else:
                _check_run(first[1], header, path)
                end = first[0]
                for at, line in lines:
                    journal._add(line["chunk"], totals_from(line["totals"], f"The journal {path}", _AGAIN))
                    end = at
                file.truncate(end)
                file.seek(end)
            yield journal


_AGAIN = "Start over with --again."


def _sound_lines(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Where each line ends, and what it says, up to the first that is not whole."""
    file.seek(0)
    end = 0
    while (line := file.readline(_LINE_LIMIT)).endswith(b"\n"):
        content = line[_CHECK + 1 : -1]
        if line[:_CHECK] != _checksum(content):
            return
        end += len(line)
        try:
            yield end, parse_json(content)
        except ValueError:
            return


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest()[:_CHECK].encode()


def _check_run(found: Any, expected: Mapping[str, Any], path: Path) -> None:
    if found == expected:
        return
    names = [n for n in expected if not isinstance(found, dict) or found.get(n) != expected[n]] or ["another field"]
    raise EdgeError(
        f"{path} was left by a run that differs from this one in its {', '.join(n.replace('_', ' ') for n in names)}.",
        "Repeat that run to go on with it, or start over with --again.",
    )
