"""Names of a head's classes: read from files, checked, and given to the head that lacks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..base.errors import EdgeError
from ..base.files import read_limited
from ..base.json_files import parse_json
from ..base.tasks import Task
from ..base.text import first_line
from .heads import Head
from .tensor_files import listed

LABELS_HINT = "Give a --labels file with one name a line, or a JSON list, in the order of the head's rows."
MAX_LABELS_BYTES = 16 << 20


def with_labels(heads: Sequence[Head], labels: Mapping[Task | None, Path]) -> tuple[Head, ...]:
    """The heads with class names from files, by task; under None, a file for the one head that lacks them.

    Raises:
        EdgeError: a file that can't be read or does not fit, or no head that it could be for.
    """
    named = list(heads)
    for task, path in labels.items():
        possible = [h for h in named if h.task != Task.DEPTH and task in (None, h.task)]
        without = [h for h in possible if h.labels is None]
        if task is None and len(without) == 1:
            possible = without
        if not possible:
            what = "classifier or segmentation head" if task is None else f"head for {task}"
            raise EdgeError(
                f"Labels were given, but there is no {what} that they could name.", "Give the head with --head FILE."
            )
        if len(possible) > 1:
            raise EdgeError(
                f"{path} could name the classes of {listed([str(h.task) for h in possible])}.",
                f"Say which: --labels {possible[0].task}={path}",
            )
        head = possible[0]
        place = next(i for i, h in enumerate(named) if h is head)
        named[place] = replace(head, labels=checked_labels(path, load_labels(path), head.classes))
    return tuple(named)


def load_labels(path: Path) -> Any:
    """Class names, one a line, or a JSON list; `checked_labels` checks them."""
    try:
        content = read_limited(path, MAX_LABELS_BYTES)
        if path.suffix == ".json":
            return parse_json(content)
        text = content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise EdgeError(f"The labels file {path} can't be read: {first_line(error)}.", LABELS_HINT) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def checked_labels(path: Path | str, names: Any, classes: int) -> tuple[str, ...]:
    """Raises `EdgeError` where they are not `classes` names."""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise EdgeError(f"{path}: the class names are not a list of names.", LABELS_HINT)
    if len(names) != classes:
        raise EdgeError(f"{path} has {len(names)} labels for a head of {classes} classes.", LABELS_HINT)
    return tuple(names)
