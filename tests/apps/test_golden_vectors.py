"""The golden vectors: made the same every time, and different from what a wrong port would do."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from veca_edge.apps.golden_vectors import INDEX, write_golden_vectors
from veca_edge.apps.governor_traces import frame_traces, governor_traces, replayed
from veca_edge.images import geometry
from veca_edge.runtime.governor import Rules

STORED = Path(__file__).parent.parent / "data" / "golden_vectors"
TYPES = {"u8": "u1", "i32": "<i4", "f32": "<f4"}


@pytest.fixture(scope="module")
def index():
    return json.loads((STORED / INDEX).read_text())


def read(array) -> np.ndarray:
    """An array of the index, as any other language would read it."""
    return np.frombuffer((STORED / array["file"]).read_bytes(), TYPES[array["type"]]).reshape(array["shape"])


def test_they_are_made_again_to_the_byte(tmp_path):
    """Changed on purpose: `python -m veca_edge.apps.golden_vectors tests/data/golden_vectors`."""
    write_golden_vectors(tmp_path)
    made, stored = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in (tmp_path, STORED))
    assert made.keys() == stored.keys()
    assert [name for name in made if made[name] != stored[name]] == []
    assert sum(map(len, stored.values())) < 2e6


def test_every_file_is_named_and_whole(index):
    named = set()

    def look(value):
        if isinstance(value, dict) and "file" in value:
            named.add(value["file"])
            assert (STORED / value["file"]).stat().st_size == math.prod(value["shape"]) * (
                4 - 3 * (value["type"] == "u8")
            )
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            look(part)

    look(index)
    assert named | {INDEX} == {p.name for p in STORED.iterdir()}


@pytest.mark.parametrize("rounding", [lambda x: math.floor(x + 0.5), math.floor, math.ceil])
def test_geometry_shows_another_rounding(index, monkeypatch, rounding):
    """Halves are rounded to even: what most languages call `round` goes away from zero."""
    monkeypatch.setattr(geometry, "round", rounding, raising=False)
    wrong = set()
    for row in index["geometry"]:
        made = geometry.frame_geometry(row["frame"], row["size"], geometry.Resize(row["resize"]), row["cropRatio"])
        if [list(made.cut), list(made.laid)] != [row["cut"], row["laid"]]:
            wrong.add(row["resize"])
    assert wrong == {"crop", "short-side", "letterbox"}


def test_pixels_show_swapped_channels_and_a_wrong_crop(index):
    for case in index["preprocessing"]:
        expected = read(case["expected"]).astype(int)
        assert expected.shape == (*case["size"], 3)
        assert np.abs(expected[..., ::-1] - expected).max() > 50
        assert np.abs(expected[:, ::-1] - expected).max() > 50
        assert np.abs(np.roll(expected, 1, 0) - expected).max() > 50


@pytest.mark.parametrize(
    ("field", "change"),
    [
        *((field, change) for field in ("burst", "burst_misses", "window", "least") for change in (1, -1)),
        *((field, change) for field in ("room", "relief") for change in (0.01, -0.01)),
        ("backoff", 0.05),
        ("longest_backoff", 0.01),
        ("longest_backoff", -1.0),
        ("backoff", -0.1),
        ("interval", 0.01),
        ("interval", -0.125),
        ("probation", 0.25),
        ("probation", -0.01),
        ("miss_share", 0.0005),
        ("usual", 0.02),
        ("usual", -0.02),
    ],
)
def test_traces_show_a_rule_that_is_off_by_a_little(field, change):
    rules = replace(Rules(), **{field: getattr(Rules(), field) + change})
    assert any(replayed(trace, rules) is not None for trace in (*governor_traces(), *frame_traces()))


def test_traces_are_what_the_governor_does(index):
    traces = index["governor"]["traces"]
    assert {name: replayed(trace) for trace in traces for name in [trace["name"]]} == {t["name"]: None for t in traces}
    moves = sum(frame[0] != frame[3] for trace in traces for frame in trace["frames"])
    assert moves > 40


def test_traces_of_a_frame_budget_are_what_the_governor_does(index):
    traces = index["governor"]["frameTraces"]
    assert {t["name"]: replayed(t) for t in traces} == {t["name"]: None for t in traces}
    said = [made for trace in traces for made in trace["decisions"]]
    assert {made["stage"] for made in said} == {"model", "waiting", "preparing"}
    assert sum(made["before"] != made["after"] for made in said) >= 5
