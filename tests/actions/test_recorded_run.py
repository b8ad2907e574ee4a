"""A live run's summary on disk: it comes back as it was, and nothing else is taken for one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from veca_edge.actions.live import open_live
from veca_edge.actions.recorded_run import load_run, recorded_run, save_run
from veca_edge.actions.run_request import LiveRequest
from veca_edge.base.errors import EdgeError
from veca_edge.runtime.tally import Tally


@pytest.fixture
def kept(exported_square, tmp_path):
    """A run of three photos, and its file."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(3):
        Image.fromarray(np.full((40, 50, 3), 40 * i, np.uint8)).save(photos / f"{i}.png")
    tally = Tally(1000.0, 2000.0)
    with open_live(LiveRequest(exported_square.directory, str(photos), budget_ms=1000.0, threads=1)) as live:
        for step in live:
            assert step.capture_ms > 0
            tally.add(step, 1.5)
    run = recorded_run(live, tally.summary(), 1)
    save_run(tmp_path / "run.json", run)
    return run, tmp_path / "run.json"


def test_comes_back_as_it_was(kept, exported_square):
    run, path = kept
    assert load_run(path) == run
    assert (run.kind, run.threads, run.checkpoint) == ("folder", 1, exported_square.checkpoint.digest)
    assert [stage.name for stage in run.summary.stages] == [
        *("capturing", "waiting", "preparing", "model", "frame", "recording")
    ]
    assert run.summary.stages[0].mean_ms > 0
    assert run.summary.stages[-1].mean_ms == 1.5
    assert run.summary.within_frame_budget == 1.0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"format_version": 2}, "has the format version 2, but this veca-edge reads 1"),
        ({"checkpoint": "x"}, r"Expected .* - at `\$.checkpoint`"),
        ({"summary": {}}, "missing required field `frames`"),
    ],
)
def test_nothing_else_is_taken_for_one(kept, changed, said):
    path = kept[1]
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(EdgeError, match=said) as refused:
        load_run(path)
    assert "--summary FILE.json" in str(refused.value.hint)
