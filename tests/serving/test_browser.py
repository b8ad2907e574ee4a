"""The page in a real browser: its controls, its budgets, and that it needs nobody else."""

from __future__ import annotations

import re
import time
import wave

import pytest

from .conftest import CAMERA_SIZE, CORES, served
from .pages import LOSSLESS, PATIENCE_MS, Page, painted

pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'veca-edge[web]'")

# The next frame can't be read, the one after it can.
FAIL_ONCE = """() => {
  const real = window.createImageBitmap;
  window.createImageBitmap = () => {
    window.createImageBitmap = real;
    return Promise.reject(new Error("no memory for this one"));
  };
}"""
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def test_every_output_can_be_shown(opened, picture):
    page = opened.page
    opened.take_steps()
    opened.next_step(lambda: opened.choose_file(picture))
    page.select_option("#show", "segmentation")
    page.wait_for_selector("#legend li")
    named = rf"({'|'.join(NAMES)}) \d+%"
    assert re.search(named, " ".join(opened.text("#legend").split()))
    page.select_option("#show", "depth")
    page.wait_for_selector("#far:not(:empty)")
    assert opened.text("#far").endswith(" m")
    for name in ("pca", "nothing"):
        opened.next_step(lambda name=name: page.select_option("#show", name))
    assert not page.is_visible("#alert")


def test_a_budget_moves_the_core_count(opened):
    page = opened.page
    opened.hear_decisions()
    page.click("#camera")
    page.wait_for_selector("#hint", state="hidden")
    page.fill("#budget", "0.01")
    page.check("#hold")
    assert f"{CORES[-1]} to {CORES[0]} cores" in opened.decision()
    assert page.is_disabled("#cores")
    page.wait_for_selector(f"#cores-shown:text-is('{CORES[0]}')")
    page.fill("#budget", "-3")
    page.dispatch_event("#budget", "change")
    assert "above 0" in opened.text("#alert")
    page.click("#stop")


def test_a_frame_budget_says_what_binds(opened):
    """One that the stages before the model take alone moves nothing; one that leaves the model little moves it."""
    page = opened.page
    opened.hear_decisions()
    page.click("#camera")
    page.wait_for_selector("#hint", state="hidden")
    page.fill("#frame-budget", "0.01")
    page.check("#hold-frame")
    said = opened.decision("no core count can help")
    stages = "(waiting|reading pixels|preparing)"
    assert re.match(rf"Stays at {CORES[-1]} cores: {stages} takes [\d.]+ of 0.01 ms", said), said
    assert page.is_disabled("#cores")
    # With the model's own beside it: the stages before the model leave enough, and the model's budget binds.
    page.fill("#frame-budget", "10000")
    page.dispatch_event("#frame-budget", "change")
    page.fill("#budget", "0.01")
    page.check("#hold")
    assert "took longer than 0.01 ms" in opened.decision(f"{CORES[-1]} to {CORES[0]} cores")
    page.click("#stop")
    for stage in ("Waiting", "Reading pixels", "Preparing", "Model", "Capture to result", "Drawing"):
        assert re.search(rf"{stage}\s+\d+\.\d", opened.text("#times"))


def test_a_file_that_is_no_picture_is_told_of(opened, tmp_path):
    wrong = tmp_path / "wrong.png"
    wrong.write_bytes(b"no picture")
    opened.choose_file(wrong)
    opened.page.wait_for_selector("#alert:not([hidden])")
    assert "wrong.png can't be read as a picture" in opened.text("#alert")


def test_a_video_without_pictures_is_told_of(opened, tmp_path):
    """A browser that can't decode a file's pictures may play its sound, and would show no frame ever."""
    sound = tmp_path / "sound.webm"
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(8000))
    opened.choose_file(sound)
    opened.page.wait_for_selector("#alert:not([hidden])")
    assert "sound.webm can't be played by this browser" in opened.text("#alert")
    assert opened.page.is_disabled("#stop")
    assert opened.page.is_enabled("#file")


@pytest.mark.parametrize("tells", [True, False], ids=["tells of frames", "tells of none"])
def test_a_video_is_read_once_it_shows_something(chromium, url, tells):
    """As the first source, after another video and after the camera; a browser need not say when it shows a frame."""
    context = chromium.new_context()
    if not tells:
        context.add_init_script("delete HTMLVideoElement.prototype.requestVideoFrameCallback")
    opened = Page(context, url)
    opened.hear_alerts()
    opened.take_steps()

    def show_video() -> None:
        opened.choose_file(LOSSLESS)
        opened.page.wait_for_selector("#source:text-is('lossless.webm')")

    for _ in range(2):
        show_video()
        opened.next_step()
    opened.next_step(lambda: opened.page.click("#camera"), lambda pixels: pixels.shape == (*CAMERA_SIZE, 3))
    show_video()
    assert opened.next_step().pixels.shape == painted(0).shape
    assert opened.alerts() == []
    context.close()
    opened.assert_quiet()


def test_a_failure_of_one_frame_is_over_with_the_next(opened):
    """Other failures stay: what they tell of is as it was."""
    page = opened.page
    opened.hear_alerts()
    opened.take_steps()
    opened.next_step(lambda: page.click("#camera"))
    page.evaluate(FAIL_ONCE)
    opened.alert("no memory for this one")
    page.wait_for_selector("#alert", state="hidden")
    page.fill("#budget", "-3")
    page.check("#hold")
    for _ in range(2):
        opened.next_step()
    assert "above 0" in opened.text("#alert")


def test_the_page_works_without_its_server(chromium, tasks_bundle, picture):
    with served(tasks_bundle) as url:
        opened = Page(chromium.new_context(), url)
        opened.page.wait_for_selector("#offline:not(:empty)")
        assert opened.text("#offline") == "Kept for offline use."
    for precision in ("int8", "fp32"):
        opened.page.reload()
        opened.ready()
        opened.page.select_option("#precision", precision)
        opened.ready()
        opened.choose_file(picture)
        opened.page.wait_for_selector("#classes li")
        opened.page.wait_for_selector("#status:has-text(' cores, ')")
        assert f"{precision.upper()} at 32x32" in opened.text("#status")
    # With as many threads as before.
    assert opened.page.evaluate("() => crossOriginIsolated")
    opened.context.close()


def test_a_page_that_slept_goes_on(opened):
    """Put to sleep and woken by the browser's DevTools: frames go on, and the governor moves nothing for the pause."""
    page = opened.page
    page.fill("#frame-budget", "10000")
    page.check("#hold-frame")
    opened.take_steps()
    opened.next_step(lambda: page.click("#camera"))
    system = opened.context.new_cdp_session(page)
    system.send("Page.setWebLifecycleState", {"state": "frozen"})
    time.sleep(1.5)
    system.send("Page.setWebLifecycleState", {"state": "active"})
    step = opened.next_step()
    assert step.core_count == CORES[-1]
    assert opened.text("#decision") == ""
    assert not page.is_visible("#alert")


def test_a_camera_that_ends_is_told_of(opened):
    page = opened.page
    opened.take_steps()
    opened.next_step(lambda: page.click("#camera"))
    page.evaluate("() => document.getElementById('video').srcObject.getTracks()[0].dispatchEvent(new Event('ended'))")
    assert "The camera has ended." in opened.text("#alert")
    assert page.is_disabled("#stop")
    # And from it straight to a picture, while a frame of the camera is on its way.
    opened.next_step(lambda: page.click("#camera"))
    assert not page.is_visible("#alert")


def test_a_picture_after_the_camera_is_answered(opened, picture):
    page = opened.page
    opened.take_steps()
    opened.next_step(lambda: page.click("#camera"))
    for _ in range(3):
        opened.choose_file(picture)
        page.wait_for_selector("#source:text-is('picture.png')")
        assert (opened.next_step(lambda: page.select_option("#show", "nothing")).pixels == painted(3)).all()
        page.select_option("#show", "segmentation")
        opened.next_step(lambda: page.click("#camera"))


def test_a_network_that_is_lost_while_loading_and_back(chromium, url):
    """Without anything kept: the failure says what to do, and what it says works."""
    opened = Page(chromium.new_context(service_workers="block"), url)
    page = opened.page
    page.wait_for_selector("#offline:has-text('Not kept for offline use')")
    opened.context.set_offline(True)
    page.select_option("#precision", "fp32")
    page.wait_for_selector("#alert:not([hidden])")
    assert "can't be loaded: the server does not answer" in opened.text("#alert")
    page.click("#again")
    page.wait_for_selector("#alert:not([hidden])")
    opened.context.set_offline(False)
    page.click("#again")
    opened.ready()
    assert not page.is_visible("#alert")
    assert opened.text("#status").startswith("FP32")
    opened.context.close()


def test_frames_are_answered_before_every_core_count_is_loaded(chromium, url, picture):
    opened, held = Page(chromium.new_context(service_workers="block"), url), []
    page = opened.page
    opened.take_steps()
    opened.next_step(lambda: opened.choose_file(picture))
    opened.context.route(f"**/cores{CORES[0]}_fp32*", lambda route: held.append(route))
    step = opened.next_step(lambda: page.select_option("#precision", "fp32"))
    assert step.core_count == CORES[-1]
    assert opened.text("#status") == "Loading the model: 1 of 2 core counts"
    assert page.is_disabled("#cores")
    assert page.is_disabled("#hold")
    until = time.monotonic() + PATIENCE_MS / 1000
    while not held and time.monotonic() < until:
        page.wait_for_timeout(20)
    held[0].continue_()
    opened.ready()
    assert "16, 64 cores" in opened.text("#status")
    assert page.is_enabled("#cores")
    opened.context.close()
    opened.assert_quiet()
