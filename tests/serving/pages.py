"""The page in a browser, driven by a test: what it asked for, complained of, and said of its frames."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

PATIENCE_MS = 120_000
# The pictures `painted(0)` to `painted(7)` in VP9, lossless, as planes of green, blue and red (no YUV).
LOSSLESS = Path(__file__).parents[1] / "data" / "lossless.webm"
TAKE = "() => { window.taken = null; window.vecaEdge.onStep = (step) => { window.taken = step } }"
# Arrays come as base64: as numbers a camera's frame would take seconds.
NEXT = """async ([since, patience]) => {
  const until = performance.now() + patience;
  while (!(window.taken?.captured > since)) {
    if (performance.now() > until) throw new Error("the page answered no further frame");
    await new Promise((done) => setTimeout(done, 10));
  }
  const { captured, coreCount, pixels, prepared, outputs } = window.taken;
  const told = (dims, array) => {
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    let text = "";
    for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    return { dims, type: array.constructor.name, data: btoa(text) };
  };
  const { width, height, data } = pixels;
  return {
    captured,
    coreCount,
    pixels: told([height, width, 4], data),
    prepared: told([prepared.length / 3, 3], prepared),
    outputs: Object.fromEntries(Object.entries(outputs).map(([name, one]) => [name, told(one.dims, one.data)])),
  };
}"""
TYPES = {"Uint8ClampedArray": np.uint8, "Uint8Array": np.uint8, "Float32Array": np.float32, "Int32Array": np.int32}
# One decision follows another within a second, and an alert may go as it came: all of them are kept.
HEAR = """(id) => {
  const element = document.getElementById(id);
  const heard = ((window.heard ??= {})[id] = []);
  new MutationObserver(() => {
    if (element.textContent) heard.push(element.textContent);
  }).observe(element, { childList: true });
}"""
HEARD = "([id, text]) => window.heard[id].find((said) => said.includes(text))"
NOW = "() => performance.timeOrigin + performance.now()"
SEEK = "(seconds) => { document.getElementById('video').currentTime = seconds }"
REDRAW = "() => document.getElementById('show').dispatchEvent(new Event('change'))"
MOVE = """(index) => {
  const slider = document.getElementById("cores");
  slider.value = index;
  slider.dispatchEvent(new Event("input"));
}"""


@dataclass(frozen=True)
class PageStep:
    """One frame of the page.

    Attributes:
        pixels: of the frame, uint8 RGB `[h, w, 3]`, as the page read them.
        prepared: the same as the page gave it to the model, uint8 RGB `[H, W, 3]`.
        outputs: float64, without the batch axis.
    """

    core_count: int
    pixels: np.ndarray
    prepared: np.ndarray
    outputs: dict[str, np.ndarray]


class Page:
    """The page, with everything that it asked for and complained of."""

    def __init__(self, context, url: str):
        self.url, self.context = url, context
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.complaints: list[str] = []
        self.asked: set[str] = set()
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.context.on("request", self._heard)
        self.page.goto(url)
        self.ready()

    def ready(self) -> None:
        self.page.wait_for_selector("#hold:not([disabled])")

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def choose(self, selector: str, value: str) -> None:
        """Another precision, size or backend, with which the model is loaded anew."""
        if self.page.input_value(selector) != value:
            self.page.select_option(selector, value)
            self.ready()

    def take_steps(self) -> None:
        """From now on the page hands out what the model takes and gives."""
        self.page.evaluate(TAKE)

    def next_step(
        self, cause: Callable[[], object] = lambda: None, shows: Callable[[np.ndarray], bool] = lambda pixels: True
    ) -> PageStep:
        """A step of a frame that is captured after now, and so with what `cause` does.

        Args:
            shows: tells of a frame's pixels whether it is the one that is waited for. What was on its way to the model
                while a video was wound comes first.
        """
        since = self.page.evaluate(NOW)
        cause()
        while True:
            found = self.page.evaluate(NEXT, [since, PATIENCE_MS])
            step, since = step_from(found), found["captured"]
            if shows(step.pixels):
                return step

    def choose_file(self, path: Path) -> None:
        """A picture or a video, once the page can take one: not while the camera is being opened."""
        self.page.wait_for_selector("#file:enabled", state="attached")
        self.page.set_input_files("#file", path)

    def hear_decisions(self) -> None:
        """From now on `decision` knows all that the page says of core counts."""
        self.page.evaluate(HEAR, "decision")

    def decision(self, text: str = "") -> str:
        """The first decision with a text in it, waited for."""
        return self.page.wait_for_function(HEARD, arg=["decision", text]).json_value()

    def hear_alerts(self) -> None:
        """From now on `alert` and `alerts` know all that the page told of, also what is gone."""
        self.page.evaluate(HEAR, "alert")

    def alert(self, text: str) -> str:
        """The first alert with a text in it, waited for."""
        return self.page.wait_for_function(HEARD, arg=["alert", text]).json_value()

    def alerts(self) -> list[str]:
        return self.page.evaluate("() => window.heard.alert")

    def _heard(self, request) -> None:
        self.asked.add(request.url)

    def close(self) -> None:
        self.context.remove_listener("request", self._heard)
        self.page.close()

    def assert_quiet(self) -> None:
        """It complained of nothing and asked nobody but its own server."""
        assert self.complaints == []
        here = urlsplit(self.url).netloc
        elsewhere = {u for u in self.asked if urlsplit(u).scheme not in ("blob", "data") and urlsplit(u).netloc != here}
        assert elsewhere == set()
        assert len(self.asked) > 5


def step_from(said: dict) -> PageStep:
    prepared = array_from(said["prepared"])
    side = round(len(prepared) ** 0.5)
    return PageStep(
        said["coreCount"],
        array_from(said["pixels"])[..., :3],
        prepared.reshape(side, side, 3),
        {name: array_from(output).astype(np.float64) for name, output in said["outputs"].items()},
    )


def array_from(said: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(said["data"]), TYPES[said["type"]]).reshape(said["dims"])


def painted(number: int) -> np.ndarray:
    """A smooth RGB picture of 120 x 160 pixels, another for each number."""
    y, x = np.mgrid[0:120, 0:160].astype(np.float32)
    parts = (np.sin(x / 30 + number), np.cos(y / 25 - number / 2), np.sin((x + y) / 50 + 2 * number))
    return np.stack([128 + 90 * part for part in parts], 2).astype(np.uint8)
