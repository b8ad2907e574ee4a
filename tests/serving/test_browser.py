"""The page in a real browser: what it says of a video's frames, its controls, and that it needs nobody else."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import numpy as np
import pytest

from .conftest import CORES, served

pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'veca-edge[web]'")

FPS, FRAMES = 5, 8
PATIENCE_MS = 60_000
TAKEN = """() => {
  window.taken = [];
  window.vecaEdge.onStep = (step) => {
    const outputs = {};
    for (const [name, { dims, data }] of Object.entries(step.outputs)) outputs[name] = { dims, data: [...data] };
    window.taken.push({ coreCount: step.coreCount, outputs });
  };
}"""
PIXELS = """() => {
  const video = document.getElementById("video");
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  const brush = canvas.getContext("2d", { willReadFrequently: true });
  brush.drawImage(video, 0, 0);
  return [...brush.getImageData(0, 0, canvas.width, canvas.height).data];
}"""
MOVE = """(index) => {
  const slider = document.getElementById("cores");
  slider.value = index;
  slider.dispatchEvent(new Event("input"));
}"""
NEXT = """async (before) => {
  while (window.taken.length <= before) await new Promise((done) => setTimeout(done, 20));
  return window.taken[window.taken.length - 1];
}"""


class Page:
    """The page, with everything that it asked for and complained of."""

    def __init__(self, browser, url: str, **options):
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.complaints: list[str] = []
        self.asked: set[str] = set()
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.context.on("request", lambda request: self.asked.add(request.url))
        self.page.goto(url)
        self.ready()

    def ready(self) -> None:
        self.page.wait_for_selector("#show:not([disabled])")

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def next_step(self, cause) -> dict:
        """The outputs of the first step that what `cause` does brings, as arrays."""
        before = self.page.evaluate("() => window.taken.length")
        cause()
        step = self.page.evaluate(NEXT, before)
        outputs = {n: np.array(v["data"], np.float64).reshape(v["dims"]) for n, v in step["outputs"].items()}
        return {"coreCount": step["coreCount"], "outputs": outputs}

    def close(self) -> None:
        self.context.close()


@pytest.fixture(scope="module")
def url(tasks_bundle):
    with served(tasks_bundle) as url:
        yield url


@pytest.fixture
def opened(chromium, url):
    """The page; at the end it has complained of nothing and asked nobody but its own server."""
    page = Page(chromium, url)
    yield page
    page.close()
    assert page.complaints == []
    here = urlsplit(url).netloc
    elsewhere = {u for u in page.asked if urlsplit(u).scheme not in ("blob", "data") and urlsplit(u).netloc != here}
    assert elsewhere == set()
    assert len(page.asked) > 5


def frame(number: int) -> np.ndarray:
    """A smooth RGB picture of 120 x 160 pixels, another for each number."""
    y, x = np.mgrid[0:120, 0:160].astype(np.float32)
    parts = (np.sin(x / 30 + number), np.cos(y / 25 - number / 2), np.sin((x + y) / 50 + 2 * number))
    return np.stack([128 + 90 * part for part in parts], 2).astype(np.uint8)


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    from PIL import Image

    path = tmp_path_factory.mktemp("picture") / "picture.png"
    Image.fromarray(frame(3)).save(path)
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'veca-edge[camera]'")
    path = tmp_path_factory.mktemp("video") / "video.webm"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"VP80"), FPS, (160, 120))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no VP8")
    for number in range(FRAMES):
        writer.write(cv2.cvtColor(frame(number), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def assert_same(ours: dict, theirs: dict, least: float = 0.9999) -> None:
    """The page's outputs against those of `veca-edge run`; `least` is the lowest cosine."""
    for name in ("cls", "dense"):
        a, b = ours[name].ravel(), theirs[name].ravel().astype(np.float64)
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) >= least, name
    assert ours["logits"].argmax() == theirs["logits"].argmax()
    assert (ours["segmentation"] == theirs["segmentation"]).mean() >= 0.99
    assert np.abs(ours["depth"] / theirs["depth"] - 1).mean() < 0.01


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_a_videos_frames_are_answered_as_run_answers_them(opened, tasks_bundle, video, precision):
    """On the same pixels, and through both decoders, whose colours of one video are up to three levels apart."""
    import veca_edge
    from veca_edge.actions.live import open_live
    from veca_edge.actions.run_request import LiveRequest

    with open_live(LiveRequest(bundle=tasks_bundle, source=str(video), precision=precision)) as live:
        frames = [(s.frame.pixels.copy(), {name: value.copy() for name, value in s.outputs.items()}) for s in live]
    assert len(frames) == FRAMES
    page = opened.page
    page.evaluate(TAKEN)
    if precision != "int8":
        page.select_option("#precision", precision)
        opened.ready()
    opened.next_step(lambda: page.set_input_files("#file", video))
    page.evaluate("() => document.getElementById('video').pause()")
    page.wait_for_timeout(1000)  # what was on its way when it paused
    with veca_edge.load(tasks_bundle, [CORES[-1]], precision) as model:
        for number in (1, 4, 6):
            seek = f"() => {{ document.getElementById('video').currentTime = {(number + 0.5) / FPS} }}"
            step = opened.next_step(lambda seek=seek: page.evaluate(seek))
            assert step["coreCount"] == CORES[-1]
            seen = np.array(page.evaluate(PIXELS), np.uint8).reshape(120, 160, 4)[..., :3]
            found = model(model.prepare(seen))
            assert_same(step["outputs"], {name: getattr(found, name)[0] for name in model.outputs})
            pixels, decoded = frames[number]
            assert np.abs(pixels.astype(int) - seen).max() <= 3
            assert_same(step["outputs"], decoded, least=0.999)


def test_a_picture_is_answered_as_run_answers_it_at_every_core_count(opened, tasks_bundle, picture):
    from veca_edge.actions.run import run

    page = opened.page
    page.evaluate(TAKEN)
    page.set_input_files("#file", picture)
    page.evaluate(NEXT, 0)
    for index, count in reversed(list(enumerate(CORES))):
        step = opened.next_step(lambda index=index: page.evaluate(MOVE, index))
        assert step["coreCount"] == count
        assert opened.text("#cores-shown") == str(count)
        found = run(tasks_bundle, [picture], core_count=count, precision="int8").images[0]
        assert_same(step["outputs"], found.outputs)
        assert opened.text("#classes li >> nth=0").startswith(f"{found.classes[0].name} ")
    page.select_option("#show", "segmentation")
    page.wait_for_selector("#legend li")
    assert re.search(r"(sky|road|tree|car) \d+%", " ".join(opened.text("#legend").split()))
    page.select_option("#show", "depth")
    page.wait_for_selector("#far:not(:empty)")
    assert opened.text("#far").endswith(" m")
    for name in ("pca", "nothing"):
        opened.next_step(lambda name=name: page.select_option("#show", name))
    assert not page.is_visible("#alert")


def test_a_budget_moves_the_core_count(opened):
    page = opened.page
    page.click("#camera")
    page.wait_for_selector("#hint", state="hidden")
    page.fill("#budget", "0.01")
    page.check("#hold")
    page.wait_for_selector("#decision:not(:empty)")
    assert f"{CORES[-1]} to {CORES[0]} cores" in opened.text("#decision")
    assert page.is_disabled("#cores")
    page.wait_for_selector(f"#cores-shown:text-is('{CORES[0]}')")
    page.fill("#budget", "-3")
    page.dispatch_event("#budget", "change")
    assert "above 0" in opened.text("#alert")
    page.click("#stop")
    for stage in ("Read pixels", "Crop and resize", "Model", "Draw"):
        assert re.search(rf"{stage}\s+\d+\.\d", opened.text("#times"))


def test_a_file_that_is_no_picture_is_told_of(opened, tmp_path):
    wrong = tmp_path / "wrong.png"
    wrong.write_bytes(b"no picture")
    opened.page.set_input_files("#file", wrong)
    opened.page.wait_for_selector("#alert:not([hidden])")
    assert "wrong.png can't be read as a picture" in opened.text("#alert")


def test_the_page_works_without_its_server(chromium, tasks_bundle, picture):
    with served(tasks_bundle) as url:
        opened = Page(chromium, url)
        opened.page.wait_for_selector("#offline:not(:empty)")
        assert opened.text("#offline") == "Kept for offline use."
    for precision in ("int8", "fp32"):
        opened.page.reload()
        opened.ready()
        opened.page.select_option("#precision", precision)
        opened.ready()
        opened.page.set_input_files("#file", picture)
        opened.page.wait_for_selector("#classes li")
        assert f"{precision.upper()} at 32x32" in opened.text("#status")
    # With as many threads as before.
    assert opened.page.evaluate("() => crossOriginIsolated")
    opened.close()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1920, "dark")])
def test_everybody_can_use_it(chromium, url, web_modules, picture, width, scheme):
    opened = Page(chromium, url, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = opened.page
    page.set_input_files("#file", picture)
    page.select_option("#show", "segmentation")
    page.wait_for_selector("#legend li")
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth"), "nothing is cut off"
    page.evaluate((web_modules / "node_modules/axe-core/axe.min.js").read_text())
    found = page.evaluate("() => axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa'] })")
    assert len(found["passes"]) > 10
    assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found["violations"]] == []
    # By the keyboard alone: to the slider, and one step down.
    page.focus("#camera")
    for _ in range(6):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.id") == "cores":
            break
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(f"#cores-shown:text-is('{CORES[0]}')")
    opened.close()
