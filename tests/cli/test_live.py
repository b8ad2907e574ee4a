"""`veca-edge run --source`, from the demo model to what is shown and written."""

from __future__ import annotations

import csv
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from terminal import at_terminal
from videos import written

from veca_edge.base.text import counted
from veca_edge.demo import demo_evaluation

COMMAND = [sys.executable, "-m", "veca_edge", "run"]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Ten frames of a cat of the demo's, four times as large."""
    path = tmp_path_factory.mktemp("video") / "cat.mp4"
    with Image.open(sorted((demo_evaluation() / "cat").iterdir())[0]) as image:
        pixels = np.asarray(image.convert("RGB").resize((128, 128)))
    return written(path, [pixels] * 10, rate=10)


def refused(ended, *said: str) -> None:
    assert ended.code == 2, ended.out + ended.err
    assert ended.err.count("error: ") == 1
    for text in said:
        assert text in ended.err


def test_a_folder_gives_what_its_images_give(veca_edge, bundle, tmp_path):
    folder = demo_evaluation() / "cat"
    found = veca_edge("run", bundle, *sorted(folder.iterdir()), "--cores", 8, "--save", tmp_path / "a.npz", "--json")
    live = veca_edge(
        "run",
        bundle,
        "--source",
        folder,
        "--cores",
        8,
        "--save",
        tmp_path / "b.npz",
        "--csv",
        tmp_path / "b.csv",
        "--json",
    )
    assert live.code == 0, live.err
    with np.load(tmp_path / "a.npz") as images, np.load(tmp_path / "b.npz") as frames:
        assert set(images) == {"cls", "dense", "logits", "segmentation"}
        assert set(frames) == {"cls", "logits", "segmentation"}, "dense is large: only on request"
        for name in frames:
            np.testing.assert_allclose(frames[name], images[name], atol=1e-5)
    with open(tmp_path / "b.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, image in zip(rows, found.json["images"], strict=True):
        assert row["name"] == image["path"].rpartition("/")[2]
        assert row["label"] == image["classes"][0]["name"]
        assert float(row["share"]) == pytest.approx(image["classes"][0]["share"], abs=1e-3)
    assert live.json["files"] == [str(tmp_path / "b.npz"), str(tmp_path / "b.csv")]


def test_only_what_is_asked_for_is_saved(veca_edge, bundle, tmp_path, video):
    image, file = next((demo_evaluation() / "cat").iterdir()), tmp_path / "o.npz"
    for words in ([image, "--cores", 8], ["--source", video, "--frames", 1]):
        assert veca_edge("run", bundle, *words, "--save", file, "--save-outputs", "dense").code == 0
        with np.load(file) as saved:
            assert {name: value.shape for name, value in saved.items()} == {"dense": (1, 64, 192)}
        refused(veca_edge("run", bundle, *words, "--save", file, "--save-outputs", "x"), "'x'", "cls, dense, logits")
        refused(veca_edge("run", bundle, *words, "--save-outputs", "cls"), "--save FILE.npz")


def test_a_budget_that_cannot_be_held(veca_edge, bundle, video, tmp_path):
    words = ["run", bundle, "--source", video, "--budget", "1us", "--overlay", tmp_path / "seen"]
    ended = veca_edge(*words)
    assert ended.code == 0, ended.err
    assert "fp32 at 32x32, 8, 16 cores" in ended.out
    assert "0.0% of them within 0.001 ms; 1 switches" in ended.out
    assert "16 -> 8 cores" in ended.out
    assert "frame 1 (cat.mp4#0), cores 16, latency" in ended.err
    assert len(list((tmp_path / "seen").glob("*.png"))) == 10
    summary = veca_edge(*words[:-2], "--frames", 7, "--json").json["summary"]
    assert (summary["frames"], summary["budget_ms"], summary["within_budget"]) == (7, 0.001, 0.0)
    # On a busy machine seven frames last so long that it says, too, that there is no smaller core count.
    moves = [(d["before"], d["after"]) for d in summary["decisions"] if d["before"] != d["after"]]
    assert moves == [(16, 8)]
    assert summary["switches_per_second"] == pytest.approx(1 / summary["seconds"])
    assert [(row["core_count"], row["frames"]) for row in summary["core_counts"]] == [(8, 4), (16, 3)]
    assert all(0 < row["p50_ms"] <= row["p95_ms"] for row in summary["core_counts"])


def test_a_budget_that_can_be_held_and_a_floor(veca_edge, bundle, video):
    ended = veca_edge("run", bundle, "--source", video, "--budget", "10s", "--json")
    assert ended.json["summary"]["within_budget"] == 1.0
    assert ended.json["summary"]["switches"] == 0
    # Of 8 and 16 cores only 16 are that close to the full model.
    floored = veca_edge("run", bundle, "--source", video, "--budget", "1us", "--min-cosine", "0.99", "--json")
    assert [row["core_count"] for row in floored.json["summary"]["core_counts"]] == [16]
    refused(veca_edge("run", bundle, "--source", video, "--budget", "1us", "--min-cosine", "0.99999"), "cosine")


def test_what_is_refused(veca_edge, bundle, video, tmp_path):
    image = next((demo_evaluation() / "cat").iterdir())
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 99)
    live = ["run", bundle, "--source"]
    refused(veca_edge(*live, video, "--budget", "33 parsecs"), "parsecs", "us, ms, s")
    refused(veca_edge(*live, video, "--duration", "10"), "has no unit")
    refused(veca_edge(*live, video, "--budget", "33ms", "--cores", 8), "chooses the core count")
    refused(veca_edge(*live, video, "--cores", 32), "8, 16")
    refused(veca_edge(*live, video, "--min-cosine", "0.9"), "--budget")
    refused(veca_edge(*live, "97"), "The camera 97 could not be opened")
    refused(veca_edge(*live, "97", "--repeat"), "is a camera")
    refused(veca_edge(*live, tmp_path / "empty"), "no images in")
    refused(veca_edge(*live, tmp_path / "broken.mp4"), "not a video that FFmpeg can decode")
    refused(veca_edge(*live, tmp_path / "absent"), "There is no source", "/dev/video0")
    refused(veca_edge(*live, image), "is an image")
    refused(veca_edge(*live, video, "--overlay", tmp_path / "x.avi"), ".mp4", "a directory")
    refused(veca_edge(*live, video, "--csv", tmp_path / "absent" / "x.csv"), "no directory")
    refused(veca_edge(*live, video, image), "exclude each other")
    refused(veca_edge("run", bundle), "nothing to run")
    for option in (["--budget", "33ms"], ["--repeat"], ["--frames", 3], ["--csv", tmp_path / "x.csv"]):
        refused(veca_edge("run", bundle, image, "--cores", 8, *option), option[0], "live run")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken.mp4", "empty"]


def test_without_its_packages_a_video_names_the_extra(bundle, video):
    code = "import sys; sys.modules['cv2'] = sys.modules['av'] = None; from veca_edge.cli import main; main()"
    for words in (["--source", video], ["--source", demo_evaluation(), "--overlay", "x.mp4"]):
        done = subprocess.run(
            [sys.executable, "-c", code, "run", bundle, *words],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 2
        assert "pip install 'veca-edge[camera]'" in done.stderr


def test_a_camera_that_goes_keeps_what_was_recorded(veca_edge, bundle, video, tmp_path, monkeypatch):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'veca-edge[camera]'")
    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda _: real(str(video)))
    ended = veca_edge("run", bundle, "--source", "0", "--csv", tmp_path / "t.csv")
    refused(ended, "The camera 0 gave no more frames after 10")
    with open(tmp_path / "t.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert re.search(rf"^{counted(len(rows), 'frame')} in ", ended.out, re.MULTILINE)
    assert int(rows[-1]["frame"]) == 9, "the newest frame is never dropped"
    assert int(rows[-1]["dropped"]) == 10 - len(rows)
    assert float(rows[-1]["frame_ms"]) == pytest.approx(
        sum(float(rows[-1][name]) for name in ("wait_ms", "prepare_ms", "latency_ms")), abs=0.01
    )
    told = veca_edge("run", bundle, "--source", "0", "--csv", tmp_path / "u.csv", "--json").json
    assert "gave no more frames" in told["error"]["message"]
    assert told["summary"]["frames"] > 0
    assert told["files"] == [str(tmp_path / "u.csv")]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_with_its_summary_and_what_it_recorded(bundle, tmp_path, sent):
    """Ctrl-C, who stops a service, and a connection that is closed."""
    written = ["--csv", str(tmp_path / "t.csv"), "--overlay", str(tmp_path / "pictures"), "--json"]
    process = subprocess.Popen(
        [*COMMAND, str(bundle), "--source", str(demo_evaluation()), "--repeat", *written],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert "frame 1" in process.stderr.readline()
    process.send_signal(sent)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    frames = int(re.search(r'"frames": (\d+)', out)[1])
    assert frames >= 1
    assert len((tmp_path / "t.csv").read_text().splitlines()) == frames + 1
    assert len(list((tmp_path / "pictures").iterdir())) == frames
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pictures", "t.csv"]


def test_a_terminal_is_redrawn_in_place(bundle, video):
    code, shown = at_terminal("run", bundle, "--source", video, "--budget", "1us", columns=100)
    assert code == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "")
    assert "\x1b[1A" in shown, "lines are drawn over"
    for text in (
        *("frame 1 (cat.mp4#0)", "budget 0.001 ms, 0.0% within", "16 -> 8 cores", "10 frames in"),
        *("frame time", "gives 128x128 at 10 frames/s as i420", "waiting", "preparing", "recording"),
    ):
        assert text in re.sub(" +", " ", plain)
