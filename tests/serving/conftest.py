"""A bundle with every task, a server around it in this process, and Chromium where there is one."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browsers import browser_path, started
from once import made_once

CORES = (16, 64)
SIZE = (32, 32)
WEB = Path(__file__).parents[2] / "web"
# Frames of this size are halved twice, as those of 1280 x 720 are for inputs of 64.
CAMERA_SIZE = (280, 448)
CAMERA_FRAMES = 10


@pytest.fixture(scope="session")
def tasks_bundle(short_demo, absmax_quantized, tmp_path_factory) -> Path:
    """Two blocks of the demo model with its classes and masks and random depths, in INT8 and float32, at 16 and 64
    cores."""
    made = made_once(
        tmp_path_factory, "tasks", lambda folder: with_tasks(short_demo, absmax_quantized, folder / "bundle")
    )
    return shutil.copytree(made, tmp_path_factory.mktemp("tasks") / "bundle")


def with_tasks(demo, absmax_quantized, output: Path) -> Path:
    from bundles import bundle_around

    from veca_edge.base.spec import GraphSpec, ImageSize
    from veca_edge.base.tasks import HeadFile, Task, Tokens
    from veca_edge.bundle.new_bundle import new_bundle
    from veca_edge.bundle.store import write_manifest
    from veca_edge.bundle.types import CheckpointFacts, HeadFacts, TermFacts
    from veca_edge.converters.cpu import onnx_models_from_variants
    from veca_edge.demo import demo_segment_head
    from veca_edge.images.palette import palette
    from veca_edge.model.folding import inference_weights
    from veca_edge.model.head_files import read_head
    from veca_edge.model.heads import Head, Term
    from veca_edge.model.plan import Variant
    from veca_edge.proof.golden import write_golden

    block, width = demo.config.layers - 1, demo.config.output_dim
    random = np.random.default_rng(7)
    masks = read_head(HeadFile(demo_segment_head(), Task.SEGMENT), demo.config, demo.digest)
    bins = Term(block, Tokens.PATCHES, random.normal(0, 0.3, (16, width)).astype(np.float32))
    depth = Head(Task.DEPTH, (bins,), np.zeros(16, np.float32), depth_range=(1.0, 4.0))
    heads, facts = [*demo.heads, masks, depth], []
    for head in heads:
        terms = tuple(TermFacts(t.block, t.tokens) for t in head.terms)
        colours = palette(head.classes) if head.task == Task.SEGMENT else None
        facts.append(HeadFacts(head.task, head.classes, terms, 1, head.labels, colours, head.depth_range))
    weights = inference_weights(replace(demo, heads=tuple(heads)))
    names = ("cls", "dense", "logits", "segmentation", "segmentation_logits", "depth")
    specs = [GraphSpec(count, ImageSize(*SIZE), outputs=names) for count in CORES]
    variants = [Variant(s, "int8", absmax_quantized(weights, s.core_count)) for s in specs]
    variants += [Variant(s, "fp32", weights) for s in specs]
    frames = random.integers(0, 256, (2, *SIZE, 3), np.uint8)
    with new_bundle(output) as directory:
        artifacts = onnx_models_from_variants(variants, directory, {})
        for spec in specs:
            cls = np.zeros((2, width), np.float32)
            write_golden(directory, spec.core_count, spec.image_size, frames, {"cls": cls})
        known = CheckpointFacts("demo", demo.digest, demo.config)
        labels = next(h.labels for h in heads if h.task == Task.CLASSIFY)
        write_manifest(bundle_around(directory, artifacts, known, heads=tuple(facts), labels=labels))
    return output


@contextmanager
def served(bundle: Path) -> Iterator[str]:
    """The bundle on a free port of loopback while the block runs; yields the page's address."""
    from veca_edge.actions.serve import ServeRequest, serve_bundle

    pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'veca-edge[web]'")
    ready, stop, found = threading.Event(), threading.Event(), []

    def on_address(at) -> None:
        found.append(at.url)
        ready.set()

    request = ServeRequest(bundle, port=0)
    thread = threading.Thread(target=serve_bundle, args=(request, on_address, stop.is_set))
    thread.start()
    try:
        assert ready.wait(120)
        yield found[0]
    finally:
        stop.set()
        thread.join(120)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def launched():
    """Starts headless browsers with further words; the tests that need one are skipped where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    browser_path()
    with api.sync_playwright() as playwright:
        browsers = []

        def launch(*words: str):
            browsers.append(started(playwright, *words))
            return browsers[-1]

        yield launch
        for browser in browsers:
            browser.close()


@pytest.fixture(scope="session")
def chromium(launched, camera):
    """A browser with a camera, which every page may use."""
    words = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
    return launched(*words, f"--use-file-for-fake-video-capture={camera}")


@pytest.fixture(scope="session")
def camera(tmp_path_factory) -> Path:
    """What the camera sees, again and again: a second of waves that move, in YUV 4:2:0.

    Chromium's own would draw the largest frames that a page asks for, and most of the time would go into those.
    """
    height, width = CAMERA_SIZE
    y, x = np.mgrid[:height, :width]
    path = tmp_path_factory.mktemp("camera") / "camera.y4m"
    with path.open("wb") as file:
        file.write(b"YUV4MPEG2 W%d H%d F%d:1 Ip A1:1 C420jpeg\n" % (width, height, CAMERA_FRAMES))
        for moved in np.linspace(0, 2 * np.pi, CAMERA_FRAMES, endpoint=False):
            luma = 128 + 90 * np.sin(x / 40 + moved)
            chroma = [128 + 60 * np.cos(y / 60 + moved), 128 + 60 * np.sin((x + y) / 100 + moved)]
            planes = (luma, *(plane[::2, ::2] for plane in chroma))
            file.write(b"FRAME\n" + b"".join(plane.astype(np.uint8).tobytes() for plane in planes))
    return path


@pytest.fixture(scope="session")
def web_modules(tmp_path_factory) -> Path:
    """`web/` with its npm packages; without npm, or without a registry, the tests that need it are skipped."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed: apt-get install npm, or https://nodejs.org")
    return made_once(tmp_path_factory, "web-modules", lambda _: with_modules(WEB))


def with_modules(web: Path) -> Path:
    """Installs the npm packages where there are none, or copies those of another checkout with the same lock file."""
    import subprocess

    from products import made_or_kept
    from toolchains.roots import cache

    def install() -> None:
        words = ["npm", "ci", "--no-audit", "--no-fund"]
        done = subprocess.run(words, cwd=web, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode:
            shutil.rmtree(web / "node_modules", ignore_errors=True)  # half of them are none
            pytest.skip(f"npm ci failed: {done.stderr.strip().splitlines()[-1:]}")

    if not (web / "node_modules").is_dir():
        inputs = [npm_versions(), web / "package.json", web / "package-lock.json"]
        made_or_kept(cache() / "npm", "modules", inputs, [web / "node_modules"], install)
    return web


def npm_versions() -> str:
    """Those of npm, Node.js and what is in them."""
    import subprocess

    return subprocess.run(["npm", "version", "--json"], cwd=WEB.parent, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def url(tasks_bundle) -> Iterator[str]:
    with served(tasks_bundle) as url:
        yield url


@pytest.fixture(scope="session")
def visited(chromium):
    """A browser profile that keeps what its pages kept."""
    context = chromium.new_context()
    yield context
    context.close()


@pytest.fixture
def opened(visited, url):
    """The page; at the end it has complained of nothing and asked nobody but its own server."""
    from .pages import Page

    page = Page(visited, url)
    yield page
    page.close()
    page.assert_quiet()


@pytest.fixture(scope="session")
def picture(tmp_path_factory) -> Path:
    from PIL import Image

    from .pages import painted

    path = tmp_path_factory.mktemp("picture") / "picture.png"
    Image.fromarray(painted(3)).save(path)
    return path
