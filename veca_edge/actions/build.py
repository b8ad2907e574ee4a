"""What an export leaves to a board, built there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..base.errors import EdgeError
from ..base.options import check_kind
from ..base.progress import Progress, silent
from ..bundle.store import opened
from ..bundle.types import Bundle
from ..targets.base import Built, Log
from ..targets.table import TARGETS, target_named


def build(
    path: str | Path | Bundle,
    device: str = "local",
    options: Any = None,
    progress: Progress = silent,
    on_log: Log = lambda line: None,
) -> Built:
    """Builds what a bundle leaves to the board, and adds it to the manifest.

    Run again after an interruption it goes on where it was.

    Args:
        path: of the bundle, or the bundle as it was opened.
        device: `local`, or `ssh://[user@]host[:port]`.
        options: of the target's builder; None is its defaults.
        on_log: gets the builder's lines.

    Raises:
        EdgeError: the bundle has nothing to build, the board can't be reached or can't build it.
    """
    bundle = opened(path)
    builder = target_named(bundle.spec.target).builder
    if builder is None:
        those = " or ".join(f"--target {t.name}" for t in TARGETS.values() if t.builder is not None)
        raise EdgeError(
            f"The bundle {bundle.directory} holds nothing to build on a board.", f"Export one with {those}."
        )
    checked = check_kind(options, builder.options, f"Building for '{bundle.spec.target}'")
    return builder.build(bundle, device, checked, progress, on_log)
