"""What can be reached: the page's files and the bundle's models, each by one address. Nothing else has one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.errors import EdgeError
from ..base.files import inside, open_regular
from ..bundle.store import MANIFEST
from ..formats.onnx_external import external_locations
from .page import PageFile, page_files

if TYPE_CHECKING:
    from ..bundle.types import Artifact, Bundle

BUNDLE = "bundle/"


@dataclass(frozen=True)
class Served:
    """One file that has an address.

    Attributes:
        path: the file.
        media_type: of its content.
        encoding: how it is stored, as the header `Content-Encoding` says it, or None.
        is_constant: whether its address never has another content.
    """

    path: Path
    media_type: str
    encoding: str | None = None
    is_constant: bool = False


def served_page() -> dict[str, Served]:
    """The page's files by address. Raises `EdgeError` where it is not built."""
    return {address: _of_page(file) for address, file in page_files().items()}


def _of_page(file: PageFile) -> Served:
    return Served(file.path, file.media_type, "gzip" if file.is_gzip else None, file.is_constant)


def served_bundle(bundle: Bundle, artifacts: Sequence[Artifact]) -> dict[str, Served]:
    """The manifest, models and the files with their constants, by address: no other file of the bundle.

    Args:
        artifacts: the models, ONNX files.

    Raises:
        EdgeError: one of them is not whole, or takes several images a call.
    """
    if artifacts[0].batch != 1:
        raise EdgeError(
            f"The bundle {bundle.directory} takes {artifacts[0].batch} images a call, and a camera gives one.",
            "Export it with --batch 1.",
        )
    found = {BUNDLE + MANIFEST: Served(_whole(bundle, MANIFEST), "application/json")}
    for name in model_files(bundle, artifacts):
        found[BUNDLE + name] = Served(_whole(bundle, name), "application/octet-stream", None, True)
    return found


def model_files(bundle: Bundle, artifacts: Sequence[Artifact]) -> list[str]:
    """Relative paths of ONNX files and of what they keep constants in, each once. Raises `EdgeError`."""
    found: dict[str, None] = {}
    for path in dict.fromkeys(a.path for a in artifacts):
        found[path] = None
        folder = path.rpartition("/")[0]
        for location in external_locations(_whole(bundle, path)):
            found[f"{folder}/{location}" if folder else location] = None
    return list(found)


def _whole(bundle: Bundle, relative: str) -> Path:
    path = inside(bundle.directory, relative)
    try:
        open_regular(path).close()
    except OSError as error:
        raise EdgeError(f"{path} can't be read: {error.strerror}.", "Copy or export the bundle again.") from error
    return path.resolve()
