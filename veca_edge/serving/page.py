"""The built page, which lies in this package: its files as a server, or a folder on a web host, gives them.

It is built from `web/` (`npm run build`), and committed so that an installation needs no Node. WebAssembly is stored
with gzip, a quarter of its size, which browsers undo themselves.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..base.errors import EdgeError

BUILT = Path(__file__).with_name("web")
INDEX = "index.html"
# Pages that are served only while something is measured.
MEASURE = "measure.html"
_GZIP = ".gz"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
}


@dataclass(frozen=True)
class PageFile:
    """One file of the page.

    Attributes:
        path: where its content lies.
        media_type: of the content.
        is_gzip: whether the content is stored with gzip.
        is_constant: whether its name holds a digest of its content, so that it never changes.
    """

    path: Path
    media_type: str
    is_gzip: bool
    is_constant: bool

    def content(self) -> bytes:
        """As a browser has it in the end."""
        stored = self.path.read_bytes()
        return gzip.decompress(stored) if self.is_gzip else stored


def page_files() -> Mapping[str, PageFile]:
    """The page's files by their address below it.

    Raises:
        EdgeError: the page was not built.
    """
    if not (BUILT / INDEX).is_file():
        raise EdgeError(
            f"The page is not built: {BUILT / INDEX} is missing.", "Build it in web/: npm ci && npm run build"
        )
    found = {}
    for path in sorted(p for p in BUILT.rglob("*") if p.is_file()):
        name = path.relative_to(BUILT).as_posix()
        is_gzip = name.endswith(_GZIP)
        address = name.removesuffix(_GZIP)
        kind = _TYPES.get(Path(address).suffix, "application/octet-stream")
        found[address] = PageFile(path, kind, is_gzip, name.startswith("assets/"))
    return found
