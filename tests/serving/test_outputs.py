"""The page's outputs on a video, the camera and a picture are those of `veca-edge run`, in a real browser.

What is compared is said in two ways. On the same pixels: the page hands out the frame that it read, Python prepares and
runs it. Through everything: `veca-edge run` reads the same file itself. Of a lossless video both decoders make the same
pixels; of others each its own, and then this says how far apart they are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .conftest import CAMERA_SIZE, CORES, served
from .pages import LOSSLESS, MOVE, PATIENCE_MS, REDRAW, SEEK, Page, PageStep, painted

pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'veca-edge[web]'")

FPS, FRAMES = 5, 8


@pytest.fixture(scope="module")
def lossy(tmp_path_factory):
    """The same pictures in VP8, in 4:2:0."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'veca-edge[camera]'")
    path = tmp_path_factory.mktemp("video") / "video.webm"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"VP80"), FPS, (160, 120))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no VP8")
    for number in range(FRAMES):
        writer.write(cv2.cvtColor(painted(number), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


@pytest.fixture(params=["int8", "fp32"])
def precision(request):
    return request.param


@pytest.fixture
def model(tasks_bundle, precision):
    import veca_edge

    with veca_edge.load(tasks_bundle, [CORES[-1]], precision) as model:
        yield model


def cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    a, b = ours.ravel(), theirs.ravel().astype(np.float64)
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def enlarged(scores: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Class scores `[K, h, w]` at the size of their label map."""
    import torch

    at = torch.from_numpy(scores.astype(np.float64))[None]
    return torch.nn.functional.interpolate(at, size, mode="bilinear")[0].numpy()


def assert_near(ours: dict, theirs: dict, least: float) -> None:
    """The same class, and features whose cosine is at least this."""
    for name in ("cls", "dense"):
        assert cosine(ours[name], theirs[name]) >= least, name
    assert ours["logits"].argmax() == theirs["logits"].argmax()


def assert_same(ours: dict, theirs: dict) -> None:
    """The page's outputs against those of `veca-edge run`.

    Kernels of processors round INT8 differently, so a pixel between two classes may fall either way: the scores are
    compared, and the page's classes with its own scores.
    """
    assert_near(ours, theirs, 0.9999)
    scores = ours["segmentation_logits"]
    assert cosine(scores, theirs["segmentation_logits"]) >= 0.9999
    large = enlarged(scores, ours["segmentation"].shape)
    best = np.sort(large, axis=0)
    clear = best[-1] - best[-2] > 1e-4
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(ours["segmentation"][clear], large.argmax(0)[clear])
    assert np.abs(ours["depth"] / theirs["depth"] - 1).mean() < 0.01


def assert_same_on_its_pixels(step: PageStep, model) -> None:
    """The page prepared its frame to the very bytes that Python does, and its model says the same of them."""
    prepared = model.prepare(step.pixels)
    np.testing.assert_array_equal(step.prepared, prepared)
    found = model(prepared)
    assert_same(step.outputs, {name: getattr(found, name)[0] for name in model.outputs})


def run_by_python(bundle, source: Path, precision: str) -> list[tuple[np.ndarray, dict]]:
    """Pixels and outputs of every frame of a file, as `veca-edge run` reads and runs it."""
    from veca_edge.actions.live import open_live
    from veca_edge.actions.run_request import LiveRequest

    with open_live(LiveRequest(bundle=bundle, source=str(source), precision=precision)) as live:
        return [(s.frame.pixels.copy(), {name: value.copy() for name, value in s.outputs.items()}) for s in live]


def steps_of_video(opened, video: Path, precision: str, numbers) -> dict[int, PageStep]:
    """What the page says of some frames of a video, which it is wound to."""
    page = opened.page
    opened.choose("#precision", precision)
    opened.take_steps()
    opened.next_step(lambda: opened.choose_file(video))
    page.evaluate("() => document.getElementById('video').pause()")

    def wind(number: int) -> None:
        page.evaluate(SEEK, (number + 0.5) / FPS)
        if number == numbers[0]:  # where it was paused there, nothing new is shown
            page.evaluate(REDRAW)

    return {n: opened.next_step(lambda n=n: wind(n), lambda pixels, n=n: nearest(pixels) == n) for n in numbers}


def nearest(pixels: np.ndarray) -> int:
    """The number of the picture that pixels are most like."""
    return min(range(FRAMES), key=lambda number: np.abs(painted(number) - pixels.astype(np.float32)).mean())


def test_a_lossless_video_is_answered_as_run_answers_it(opened, tasks_bundle, model, precision):
    """Both decoders give the pixels that were encoded; everything after them is the same too."""
    decoded = run_by_python(tasks_bundle, LOSSLESS, precision)
    assert len(decoded) == FRAMES
    for number, step in steps_of_video(opened, LOSSLESS, precision, (0, 3, 7)).items():
        pixels, outputs = decoded[number]
        np.testing.assert_array_equal(pixels, painted(number))
        np.testing.assert_array_equal(step.pixels, painted(number))
        assert step.core_count == CORES[-1]
        assert_same_on_its_pixels(step, model)
        assert_same(step.outputs, outputs)


def test_decoders_of_a_lossy_video_are_all_that_differs(opened, tasks_bundle, lossy, model, precision):
    """Their colours of one video are up to three levels apart, which shows in the outputs (and moves borders of masks);
    on the same pixels the page says what Python does."""
    decoded = run_by_python(tasks_bundle, lossy, precision)
    for number, step in steps_of_video(opened, lossy, precision, (1, 4, 6)).items():
        pixels, outputs = decoded[number]
        assert np.abs(pixels.astype(int) - step.pixels).max() <= 3
        assert_same_on_its_pixels(step, model)
        assert_near(step.outputs, outputs, 0.999)


def test_the_cameras_frames_are_answered_as_python_answers_them(opened, model, precision):
    """Nobody else sees the frames of Chromium's camera, so that Python takes the page's pixels."""
    opened.choose("#precision", precision)
    opened.take_steps()
    first = opened.next_step(lambda: opened.page.click("#camera"))
    moved = opened.next_step(shows=lambda pixels: (pixels != first.pixels).any())
    seen = [first, moved, opened.next_step()]
    assert all(step.pixels.shape == (*CAMERA_SIZE, 3) and step.pixels.std() > 10 for step in seen)
    for step in seen:
        assert_same_on_its_pixels(step, model)


def test_a_picture_is_answered_as_run_answers_it_at_every_core_count(opened, tasks_bundle, picture):
    from veca_edge.actions.run import run

    page = opened.page
    opened.take_steps()
    opened.next_step(lambda: opened.choose_file(picture))
    for index, count in reversed(list(enumerate(CORES))):
        step = opened.next_step(lambda index=index: page.evaluate(MOVE, index))
        assert step.core_count == count
        assert opened.text("#cores-shown") == str(count)
        found = run(tasks_bundle, [picture], core_count=count, precision="int8").images[0]
        assert_same(step.outputs, found.outputs)
        assert opened.text("#classes li >> nth=0").startswith(found.classes[0].name)


# WebGPU without a GPU: Chromium's own, in software.
SOFTWARE_GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")


@pytest.fixture(scope="module")
def float_bundle(square, tmp_path_factory) -> Path:
    """One small model in float32: shaders that run in software take their time."""
    from bundles import bundle_around

    from veca_edge.base.spec import GraphSpec, ImageSize
    from veca_edge.bundle.new_bundle import new_bundle
    from veca_edge.bundle.store import write_manifest
    from veca_edge.bundle.types import CheckpointFacts
    from veca_edge.converters.cpu import onnx_models_from_variants
    from veca_edge.model.folding import inference_weights
    from veca_edge.model.plan import Variant

    spec = GraphSpec(8, ImageSize(32, 32), outputs=("cls", "dense"))
    output = tmp_path_factory.mktemp("float") / "bundle"
    with new_bundle(output) as directory:
        artifacts = onnx_models_from_variants([Variant(spec, "fp32", inference_weights(square))], directory, {})
        known = CheckpointFacts("square", square.digest, square.config)
        write_manifest(bundle_around(directory, artifacts, known))
    return output


def test_webgpu_answers_as_python_answers(launched, float_bundle, picture):
    """In float32 alone: bundles for the CPU have no float16."""
    import veca_edge

    with served(float_bundle) as url, veca_edge.load(float_bundle) as model:
        opened = Page(launched(*SOFTWARE_GPU).new_context(), url)
        page = opened.page
        page.set_default_timeout(4 * PATIENCE_MS)
        if not page.evaluate("async () => Boolean(await navigator.gpu?.requestAdapter())"):
            pytest.skip("this Chromium has no WebGPU in software")
        opened.choose("#backend", "webgpu")
        assert opened.text("#status").endswith("on the GPU")
        opened.take_steps()
        step = opened.next_step(lambda: opened.choose_file(picture))
        np.testing.assert_array_equal(step.prepared, model.prepare(step.pixels))
        found = model(step.prepared)
        for name in ("cls", "dense"):
            assert cosine(step.outputs[name], getattr(found, name)[0]) >= 0.9999
        assert any("asyncify" in asked for asked in opened.asked), "WebGPU's runtime was taken"
        opened.context.close()
        opened.assert_quiet()
