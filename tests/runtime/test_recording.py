import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from videos import av, written

from veca_edge.actions.live import open_live
from veca_edge.actions.run_request import LiveRequest
from veca_edge.base.errors import EdgeError
from veca_edge.base.files import disk_errors
from veca_edge.images.pictures import Picture
from veca_edge.runtime import ffmpeg, recording
from veca_edge.runtime.classes import LikelyClass
from veca_edge.runtime.ffmpeg import opened, written_to
from veca_edge.runtime.live import Step
from veca_edge.runtime.painting import Painter
from veca_edge.runtime.record import Record
from veca_edge.runtime.recording import (
    CSV_COLUMNS,
    captioned,
    check_record,
    chosen_outputs,
    recorder,
    table_to,
    video_to,
)
from veca_edge.runtime.sources import Frame


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(1)
    for i, (height, width) in enumerate(((50, 81), (32, 32), (90, 40))):
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def request_(exported_square, photos):
    return LiveRequest(exported_square.directory, str(photos), core_count=8, threads=1)


def recorded(request: LiveRequest, record: Record) -> list:
    """Runs to the end; returns the steps with copies of their outputs."""
    live, steps = open_live(request), []
    check_record(record)
    with recorder(record, live) as write:
        for step in live.steps:
            write(step)
            steps.append((step, {name: value.copy() for name, value in step.outputs.items()}))
    return steps


def painter_for(request: LiveRequest) -> Painter:
    model = open_live(request).model
    return Painter(model.bundle, model.artifact, ("pca",))


def test_records_what_was_computed(request_, tmp_path):
    record = Record(tmp_path / "o.npz", ("cls", "dense"), tmp_path / "t.csv", tmp_path / "pictures")
    steps = recorded(request_, record)
    with np.load(record.outputs) as saved:
        assert set(saved) == {"cls", "dense"}
        for name in saved:
            np.testing.assert_array_equal(saved[name], np.stack([outputs[name] for _, outputs in steps]))
    with open(record.table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [(r["frame"], r["name"], r["core_count"], r["label"]) for r in rows] == [
        (str(i), f"{i}.png", "8", "") for i in range(3)
    ]
    assert [float(r["latency_ms"]) for r in rows] == pytest.approx([s.latency_ms for s, _ in steps], abs=1e-3)
    assert [p.name for p in sorted(record.overlay.iterdir())] == ["000000.png", "000001.png", "000002.png"]
    painter = painter_for(request_)
    for step, outputs in steps[:2]:  # the first frame decides what the colours of the patch features mean
        painted = painter(step.frame.pixels, outputs)
    with Image.open(record.overlay / "000001.png") as picture:
        assert picture.width == 320, "32 pixels, ten times as large"
        np.testing.assert_array_equal(np.asarray(picture.crop((0, 0, 320, 320))), painted)
        assert np.asarray(picture)[320:].max() == 255, "something is written below"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.npz", "pictures", "t.csv"]


def test_a_row_says_all_of_a_step(tmp_path):
    picture = Picture("rgb", (np.zeros((1, 1, 3), np.uint8),))
    frame, classes = Frame(7, "a, b.png", picture), (LikelyClass("cat", 0.75), LikelyClass("dog", 0.25))
    with table_to(tmp_path / "t.csv") as write:
        write(Step(frame, 1.5, 8, 2.0, 4.0, {}, classes, None, 1.0, 5, 1, 30.0))
        write(Step(frame, 2.5, 16, 3.0, 5.0, {}, (), None))
    with open(tmp_path / "t.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first.pop("name"), first.pop("label")) == ("a, b.png", "cat")
    assert {name: float(value) for name, value in first.items()} == {
        **{"frame": 7, "time_s": 1.5, "core_count": 8, "latency_ms": 4, "share": 0.75, "wait_ms": 1},
        **{"prepare_ms": 2, "frame_ms": 7, "dropped": 5, "reconnected": 1, "capture_ms": 30},
    }
    assert (second["label"], second["share"], second["frame_ms"]) == ("", "", "8.000")


def test_dense_is_kept_only_on_request(request_, tmp_path):
    record = Record(outputs=tmp_path / "o.npz")
    recorded(request_, record)
    with np.load(record.outputs) as saved:
        assert set(saved) == {"cls"}
    assert chosen_outputs((), ("cls", "dense", "logits")) == ("cls", "logits")
    assert chosen_outputs((), ("dense",)) == ("dense",)
    with pytest.raises(EdgeError, match="Unknown output 'logits'") as caught:
        recorded(request_, Record(tmp_path / "p.npz", ("logits",)))
    assert "cls, dense" in caught.value.hint


def test_a_video_of_pictures_of_all_sizes(request_, tmp_path):
    record = Record(overlay=tmp_path / "o.mp4")
    steps = recorded(request_, record)
    with av.open(str(record.overlay)) as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 10)
        frames = [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in video.decode(stream)]
    assert [at for at, _ in frames] == pytest.approx([0, 0.1, 0.2])
    step, outputs = steps[0]
    first = captioned(replace(step, outputs=outputs), painter_for(request_))
    assert {frame.shape for _, frame in frames} == {(first.height, first.width, 3)}
    assert np.corrcoef(frames[0][1].ravel(), np.asarray(first, float).ravel())[0, 1] > 0.9
    assert [p.name for p in tmp_path.iterdir()] == ["o.mp4"]


def test_nothing_is_left_of_a_run_that_failed(request_, tmp_path):
    record = Record(tmp_path / "o.npz", (), tmp_path / "t.csv", tmp_path / "o.mp4")
    live = open_live(request_)

    def fail() -> None:
        with recorder(record, live) as write:
            write(next(live.steps))
            assert len(list(tmp_path.iterdir())) == 2
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_refuses_before_the_run_what_could_not_be_written(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    for record, said in (
        (Record(outputs=Path("x.txt")), r"not a \.npz file"),
        (Record(table=Path("x.txt")), r"not a \.csv"),
        (Record(overlay=Path("x.avi")), r"not a \.mp4 file"),
        (Record(overlay=tmp_path / "there"), "exists already"),
        (Record(table=tmp_path / "absent" / "x.csv"), "no directory"),
        (Record(output_names=("cls",)), "Give --save"),
    ):
        with pytest.raises(EdgeError, match=said):
            check_record(record)
    monkeypatch.setattr(recording.os, "access", lambda path, mode: False)
    with pytest.raises(EdgeError, match=r"--summary .* can't be written to"):
        check_record(Record(summary=tmp_path / "run.json"))


def test_an_overlay_never_replaces_its_source(exported_square, tmp_path):
    video = written(tmp_path / "clip.mp4", [np.zeros((48, 64, 3), np.uint8)] * 3, rate=5)
    request = LiveRequest(exported_square.directory, str(video))
    with pytest.raises(EdgeError, match="would replace the source"):
        recorded(request, Record(overlay=video))
    recorded(request, Record(overlay=tmp_path / "other.mp4"))
    with av.open(str(tmp_path / "other.mp4")) as other:
        assert other.streams.video[0].average_rate == 5, "the source's own rate"


def test_a_recording_has_the_rate_that_its_frames_say(request_, tmp_path):
    """Of a pipeline, too, which nobody but its frames knows the rate of."""
    step = next(open_live(request_).steps)
    with video_to(tmp_path / "o.mp4", None, False, painter_for(request_)) as write:
        for _ in range(4):
            write(replace(step, frame=replace(step.frame, rate=25.0)))
    with av.open(str(tmp_path / "o.mp4")) as video:
        assert [float(frame.time) for frame in video.decode(video=0)] == pytest.approx([0, 0.04, 0.08, 0.12], abs=1e-4)


def test_a_recordings_frames_are_shown_when_it_shows_them(request_, tmp_path):
    """Phones record at no constant rate; how fast the frames are run is another matter, and it may begin again."""
    step = next(open_live(request_).steps)
    with video_to(tmp_path / "o.mp4", 60.0, False, painter_for(request_)) as write:
        for shown in (0.0, 0.066, 0.5, 1.6, 0.0, 0.066):
            write(replace(step, frame=replace(step.frame, rate=10.0, shown=shown)))
    with av.open(str(tmp_path / "o.mp4")) as video:
        found = [float(frame.time) for frame in video.decode(video=0)]
    assert found == pytest.approx([0, 0.066, 0.5, 1.6, 1.7, 1.766], abs=1e-4)


def test_a_cameras_frames_are_shown_as_long_as_they_took(request_, tmp_path):
    step = next(open_live(request_).steps)
    times = (0.0, 0.03, 0.03, 0.5)
    with video_to(tmp_path / "o.mp4", 30.0, True, painter_for(request_)) as write:
        for at in times:
            write(replace(step, at=at))
    with av.open(str(tmp_path / "o.mp4")) as video:
        found = [float(frame.time) for frame in video.decode(video=0)]
    assert found == pytest.approx([0, 0.03, 0.031, 0.5], abs=1e-4), "two with one stamp follow each other"


def test_colours_of_a_recording_are_those_of_the_frames(tmp_path):
    pixels = np.zeros((720, 96, 3), np.uint8)
    colours = ((220, 30, 30), (30, 200, 40), (20, 40, 210))
    for number, colour in enumerate(colours):
        pixels[:, 32 * number :][:, :32] = colour
    with written_to(tmp_path / "o.mp4", 30.0) as put:
        put(pixels, 0.0)
    with opened(str(tmp_path / "o.mp4"), "o.mp4") as video:
        (picture,) = (one.picture for one in video.pictures())
    assert (picture.matrix, picture.is_full_range) == ("bt709", False)
    for number, colour in enumerate(colours):
        np.testing.assert_allclose(picture.rgb[300, 32 * number + 16], colour, atol=5)


def test_an_ffmpeg_without_h264_is_one_message(monkeypatch, tmp_path):
    monkeypatch.setattr(ffmpeg, "CODEC", "libnothing")
    with pytest.raises(EdgeError, match="it has no libnothing"), written_to(tmp_path / "o.mp4", 30.0):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_is_one_message():
    random = np.random.default_rng(0)

    def fill() -> None:
        with disk_errors("o.mp4"), written_to(Path("/dev/full"), 30.0) as put:
            for number in range(100):
                put(random.integers(0, 256, (480, 640, 3), np.uint8), number / 30)

    with pytest.raises(EdgeError, match=r"full.*o\.mp4|/dev/full"):
        fill()


def test_a_caption_names_label_core_count_and_latency(request_, monkeypatch):
    from PIL import ImageDraw

    said = io.StringIO()
    monkeypatch.setattr(ImageDraw.ImageDraw, "multiline_text", lambda self, at, text, **_: said.write(text))
    step = replace(next(open_live(request_).steps), classes=(("cat", 0.875),), core_count=24, latency_ms=12.34)
    size = captioned(step, painter_for(request_)).size
    assert (size[0] % 2, size[1] % 2) == (0, 0)
    assert said.getvalue() == "cat 87.5%\n24 cores  12.3 ms"
