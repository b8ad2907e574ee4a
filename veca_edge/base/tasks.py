"""What a head can answer, what it reads, and where one comes from. Plain values, without numpy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from .errors import unknown_name
from .text_enum import TextEnum


class Task(TextEnum):
    """What a head answers. Each is the string that command lines and manifests hold."""

    CLASSIFY = "classify"
    SEGMENT = "segment"
    DEPTH = "depth"

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that it can give, the usual one first."""
        return _OUTPUTS[self]


_OUTPUTS = {Task.CLASSIFY: ("logits",), Task.SEGMENT: ("segmentation", "segmentation_logits"), Task.DEPTH: ("depth",)}


class Tokens(str, Enum):
    """What a term of a head reads: the first core token, the patches, or the mean of the patches."""

    CLS = "cls"
    PATCHES = "patches"
    MEAN = "mean"


@dataclass(frozen=True)
class HeadFile:
    """A file with a head, and what it may not say itself.

    Attributes:
        task: None leaves it to the file.
        name: which head, in a file with several.
        depth_range: metres of the first and the last bin of a depth head; None is the file's, or 0.001 to 10.
    """

    path: Path
    task: Task | None = None
    name: str | None = None
    depth_range: tuple[float, float] | None = None


def task_named(name: str, what: str = "task") -> Task:
    """Raises `EdgeError` that lists the known tasks."""
    try:
        return Task(name)
    except ValueError:
        raise unknown_name(what, name, [str(task) for task in Task]) from None
