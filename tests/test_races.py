"""The race writes one result for each configuration and goes on where it was stopped. Times are not looked at."""

from __future__ import annotations

import json

import pytest

from benchmarks import races, readme, toolchains
from veca_edge.model.config import Family

TINY = Family("small", 2, 64, 2, 2.0)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("small", ["small:256:1", "small:256:2", "small:512:1", "small:512:2"]),
        ("base:512,small:256:1", ["small:256:1", "base:512:1", "base:512:2"]),
        ("small:256:1,small", ["small:256:1", "small:256:2", "small:512:1", "small:512:2"]),
    ],
)
def test_what_only_chooses(text, names):
    assert [str(c) for c in races.chosen(text)] == names


@pytest.mark.parametrize("text", ["large", "small:25", "small:256:1:1"])
def test_an_unknown_race_names_those_that_there_are(text):
    with pytest.raises(ValueError, match="there are small:256:1, small:256:2"):
        races.chosen(text)


def test_goes_on_where_it_was_stopped(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(races, "FAMILIES", {"small": TINY})
    monkeypatch.setattr(races, "EVERY", (races.Configuration("small", 32, 1), races.Configuration("small", 48, 1)))
    common = ["--candidates=ours_int8,our_graph_litert", "--rounds=2", "--per-round=1", f"--output={tmp_path}"]
    races.main(["--only=small:32", *common])
    (first,) = tmp_path.glob("*/race_small_32x32_cores16_threads1.json")
    before = first.read_bytes()
    result = json.loads(before)
    assert set(result["samples_ms"]) == {"ours_fp32", "ours_int8", "our_graph_litert"}
    assert result["not_run"] == {}
    capsys.readouterr()
    races.main(common)
    said = capsys.readouterr().out
    assert "small:32:1: there already" in said
    assert "| small, 48 px, 1 thread |" in said
    assert first.read_bytes() == before
    assert len(list(tmp_path.glob("*/race_*.json"))) == 2
    asked = races.asked_for(("ours_int8",), 2, 1)
    assert not races.is_done(races.EVERY[0], asked, races.read_results(tmp_path, "race"))
    section = readme.rendered(tmp_path)
    assert "### The race: INT8 on the CPU" in section
    assert "| small, 32 px, 1 thread |" in section


def test_what_cannot_run_is_said(tmp_path, monkeypatch, capsys):
    """A runtime that is not installed is no reason to measure nothing."""

    def missing(task):
        raise RuntimeError("No module named 'litert_torch'; pip install litert-torch")

    monkeypatch.setattr(races, "FAMILIES", {"small": TINY})
    monkeypatch.setattr(races, "EVERY", (races.Configuration("small", 32, 1),))
    monkeypatch.setitem(toolchains.MAKERS, "litert_dynamic", missing)
    races.main(["--candidates=ours_int8,litert_dynamic", "--rounds=1", "--per-round=1", f"--output={tmp_path}"])
    assert "pip install litert-torch" in capsys.readouterr().out
    assert "Not run: LiteRT dynamic INT8" in readme.rendered(tmp_path)
