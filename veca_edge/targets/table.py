"""The targets. A new one is one row here, and a module that makes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..base.errors import unknown_name
from .android import ANDROID
from .apple import APPLE
from .base import Format, Linter, Target
from .cpu import CPU
from .jetson import JETSON

if TYPE_CHECKING:
    from ..bundle.runner import Runner
    from ..bundle.types import Artifact

TARGETS: dict[str, Target] = {target.name: target for target in (CPU, JETSON, APPLE, ANDROID)}


def target_named(name: str) -> Target:
    """Raises `EdgeError` that lists the known ones."""
    if name not in TARGETS:
        raise unknown_name("target", name, TARGETS)
    return TARGETS[name]


def linters() -> dict[str, Linter]:
    """The rules of every target that has some, by its name."""
    return {name: target.linter for name, target in TARGETS.items() if target.linter is not None}


def format_of(artifact: Artifact) -> Format:
    """The kind of file that an artifact is."""
    return target_named(artifact.target).format_named(artifact.format)


def open_artifact(directory: Path, artifact: Artifact, threads: int | None = None) -> Runner:
    """Opens one artifact of the bundle at `directory`.

    Args:
        threads: CPU threads; None leaves it to the runtime. Runtimes of other processors ignore it.

    Raises:
        EdgeError: the file is broken or is not what the manifest says; MissingDependency: no runtime for it.
    """
    return format_of(artifact).open(directory, artifact, threads)
