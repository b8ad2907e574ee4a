"""A bundle to the project of an app: whole, or not there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..apps.base import App, Platform, app_around
from ..apps.table import platform_named
from ..base.errors import EdgeError
from ..base.files import bytes_of, check_name, disk_errors, files_below, nearest_parent, sync_tree, written_aside
from ..base.progress import Progress, silent
from ..bundle.store import opened, verify_files
from ..bundle.types import Bundle


@dataclass(frozen=True)
class WrittenApp:
    """An app's project on disk.

    Attributes:
        files: how many it has.
        bytes: what they take.
    """

    directory: Path
    app: App
    platform: Platform
    files: int
    bytes: int


def write_app(
    bundle: str | Path | Bundle, platform: str, output: Path, name: str | None = None, progress: Progress = silent
) -> WrittenApp:
    """Writes the project of an app around a bundle.

    Args:
        platform: of `apps.table.PLATFORMS`.
        output: the folder to make; it must not be there yet.
        name: what the app's user reads; None is the model's name.

    Raises:
        EdgeError: an unknown platform, a bundle that lacks what the platform needs (it names the export) or whose
            files were changed, a name that can't be shown, a folder that is there or can't be made.
    """
    chosen = platform_named(platform)
    whole = opened(bundle)
    app = app_around(whole, chosen, name if name is not None else f"VECA {whole.checkpoint.name}")
    _check_output(output, whole)
    verify_files(whole, progress)
    with disk_errors(output):
        output.absolute().parent.mkdir(parents=True, exist_ok=True)
        with written_aside(output.absolute()) as aside:
            aside.mkdir()
            chosen.write(app, aside)
            sync_tree(aside)
            # What is renamed onto an empty folder replaces it, and that could be somebody's.
            _check_output(output, whole)
    return WrittenApp(output, app, chosen, len(files_below(output)), bytes_of(output))


def _check_output(output: Path, bundle: Bundle) -> None:
    check_name(output.absolute())
    if os.path.lexists(output):
        raise EdgeError(f"{output} exists already.", "Give another --output; no folder is written over.")
    if bundle.directory.resolve() in output.resolve().parents:
        raise EdgeError(f"{output} lies in the bundle, whose files are its manifest's.", "Give another --output.")
    ancestor = nearest_parent(output)
    if not ancestor.is_dir():
        raise EdgeError(f"{output} can't be written: {ancestor} is not a folder.", "Give another --output.")
