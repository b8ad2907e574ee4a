"""What may be copied to a board: regular files of a bundle, and nothing that one of them points to."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..base.errors import EdgeError

_HINT = "Check the bundle with `veca-edge verify`, or export it again."


def bundle_file(directory: Path, name: object) -> Path:
    """The path of a regular file inside a bundle; no part of it below `directory` is a link.

    Args:
        name: relative to `directory`, with `/`, as a manifest says it.

    Raises:
        EdgeError: it is anything else.
    """
    parts = name.split("/") if isinstance(name, str) else []
    if not parts or any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in parts):
        raise EdgeError(f"{name!r} is not the name of a file in the bundle {directory}.", _HINT)
    path = directory
    for i, part in enumerate(parts):
        path = path / part
        try:
            mode = os.lstat(path).st_mode
        except OSError as error:
            raise EdgeError(f"'{path}' could not be read: {error.strerror or error}.", _HINT) from error
        if not (stat.S_ISREG(mode) if i == len(parts) - 1 else stat.S_ISDIR(mode)):
            raise EdgeError(
                f"'{path}' is not a regular file inside the bundle, and is not copied to a board."
                if not stat.S_ISLNK(mode)
                else f"'{path}' is a link, and what it points to is not copied to a board.",
                _HINT,
            )
    return path
