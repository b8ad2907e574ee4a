"""The app for a web host: plain files, which run in a browser from a server that sends no special headers."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from browsers import browser_path, started

from veca_edge.actions.app import write_app
from veca_edge.bundle.types import manifest_schema

NAME = 'My "app" </script> ${x}'


@pytest.fixture(scope="module")
def written(exported_square, tmp_path_factory):
    return write_app(exported_square, "web", tmp_path_factory.mktemp("web") / "app", NAME).directory


def test_holds_the_page_and_the_models_alone(written, exported_square):
    names = {p.relative_to(written).as_posix() for p in written.rglob("*") if p.is_file()}
    assert {"index.html", "sw.js", "licenses.txt", "README.md", "bundle/manifest.json"} <= names
    assert not [name for name in names if name.endswith(".gz") or "measure.html" in name]
    models = {name for name in names if name.startswith("bundle/models/")}
    wanted = {a.path for a in exported_square.artifacts} | {"models/weights.bin"}
    assert models == {f"bundle/{name}" for name in wanted}
    (wasm,) = (p for p in written.glob("assets/*.wasm") if "asyncify" not in p.name)
    assert wasm.read_bytes()[:4] == b"\0asm"
    manifest = json.loads((written / "bundle/manifest.json").read_text("utf-8"))
    assert manifest["checkpoint"]["name"] == NAME
    assert manifest.keys() <= manifest_schema()["$defs"]["Bundle"]["properties"].keys()


def test_runs_from_a_plain_file_server(written):
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    browser_path()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=written))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def look() -> None:
        with api.sync_playwright() as playwright:
            browser = started(playwright)
            page = browser.new_page()
            page.set_default_timeout(120_000)
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            page.wait_for_selector("#offline:has-text('Kept')")
            assert page.inner_text("#title") == NAME
            assert "8, 16, 32 cores" in page.inner_text("#status")
            # The service worker's headers; without them there are no threads.
            assert page.evaluate("() => crossOriginIsolated")
            browser.close()

    try:
        with ThreadPoolExecutor(1) as another:  # a thread has one Playwright, and this one's may serve the page's tests
            another.submit(look).result()
    finally:
        server.shutdown()
        thread.join(120)
        server.server_close()
