import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from veca_edge.actions.live import open_live
from veca_edge.actions.run_request import LiveRequest
from veca_edge.base.errors import EdgeError
from veca_edge.runtime.opencv import import_cv2
from veca_edge.runtime.painting import Painter
from veca_edge.runtime.record import Record
from veca_edge.runtime.recording import CSV_COLUMNS, captioned, check_record, chosen_outputs, recorder

pytest.importorskip("cv2")
cv2 = import_cv2("Testing")


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
    video = cv2.VideoCapture(str(record.overlay))
    assert video.get(cv2.CAP_PROP_FPS) == 10
    frames = []
    while (read := video.read())[0]:
        frames.append(read[1])
    video.release()
    from dataclasses import replace

    step, outputs = steps[0]
    first = captioned(replace(step, outputs=outputs), painter_for(request_))
    assert {frame.shape for frame in frames} == {(first.height, first.width, 3)}
    assert len(frames) == 3
    expected = np.asarray(first)[:, :, ::-1].astype(float)
    assert np.corrcoef(frames[0].ravel(), expected.ravel())[0, 1] > 0.9
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


def test_refuses_before_the_run_what_could_not_be_written(tmp_path, request_, photos):
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


def test_an_overlay_never_replaces_its_source(exported_square, tmp_path):
    video = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"mp4v"), 5, (64, 48))
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    request = LiveRequest(exported_square.directory, str(video))
    with pytest.raises(EdgeError, match="would replace the source"):
        recorded(request, Record(overlay=video))
    recorded(request, Record(overlay=tmp_path / "other.mp4"))
    assert cv2.VideoCapture(str(tmp_path / "other.mp4")).get(cv2.CAP_PROP_FPS) == 5, "the source's own rate"


def test_a_caption_names_label_core_count_and_latency(request_, monkeypatch):
    from dataclasses import replace

    from PIL import ImageDraw

    said = io.StringIO()
    monkeypatch.setattr(ImageDraw.ImageDraw, "multiline_text", lambda self, at, text, **_: said.write(text))
    step = replace(next(open_live(request_).steps), classes=(("cat", 0.875),), core_count=24, latency_ms=12.34)
    size = captioned(step, painter_for(request_)).size
    assert (size[0] % 2, size[1] % 2) == (0, 0)
    assert said.getvalue() == "cat 87.5%\n24 cores  12.3 ms"
