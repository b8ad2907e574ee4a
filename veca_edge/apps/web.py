"""The page as a folder for any web host: what `veca-edge serve` gives, as plain files."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from ..base.files import inside
from ..bundle.store import MANIFEST
from ..serving.content import BUNDLE, model_files
from ..serving.page import INDEX, MEASURE, page_files
from .base import App, Platform

README = """A page that runs a model in the browser: camera, pictures and videos. Nothing leaves the device.

Try it with `python3 -m http.server 8000`, on http://localhost:8000/. On a web host it needs HTTPS, without which
browsers give a page neither a camera nor threads. Files in `assets` never change under their names.

Threads need two headers, which the page's service worker adds where the host can't send them (the page loads itself
once more for that):

    Cross-Origin-Opener-Policy: same-origin
    Cross-Origin-Embedder-Policy: require-corp

Once it was loaded, it works without the host. `licenses.txt` is of what it is made of.
"""


def write_web(app: App, folder: Path) -> None:
    """Writes the page and the app's models into a folder."""
    for address, file in page_files().items():
        if address != MEASURE:
            path = folder / address
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content())
    # The page reads of the manifest what it can run and what it is called.
    bundle = replace(app.bundle, artifacts=app.variants, checkpoint=replace(app.bundle.checkpoint, name=app.name))
    for name in model_files(app.bundle, app.variants):
        path = folder / BUNDLE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(inside(app.bundle.directory, name), path)
    (folder / BUNDLE / MANIFEST).write_text(json.dumps(bundle.to_json(), ensure_ascii=False), "utf-8")
    (folder / "README.md").write_text(README, "utf-8")


WEB = Platform(
    name="web",
    summary="a page for any web host: ONNX Runtime in WebAssembly, or on WebGPU",
    target="cpu",
    format="onnx",
    write=write_web,
    open_with=("python3 -m http.server 8000", f"open http://localhost:8000/{INDEX}"),
)
