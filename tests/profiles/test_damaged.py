"""A measurement that anybody may have written: it is read, or one error says what is wrong and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from damaged import mutants, refused

from veca_edge.actions.candidate import energy_mj
from veca_edge.base.errors import EdgeError
from veca_edge.profiles.options import ProfileOptions
from veca_edge.profiles.store import load_measurement, measurements_folder, read_measurements
from veca_edge.profiles.sweep import UNFINISHED, profile_bundle

VERSION1 = Path(__file__).parents[1] / "data" / "version1"
WINDOW = {"total_mw": 8000.0, "hottest_c": 50.0, "gpu_mhz": [300, 600, 900], "seconds": 1.0}
FACTS = {
    "energy_mj": 1.0,
    "energy_above_idle_mj": 0.5,
    "steady": WINDOW,
    "idle": None,
    "layers": [["blocks.0.fc1", 0.5]],
    "cost_share": {"ane": 1.0},
    "operations": {"ane": 3},
}


@pytest.fixture
def document() -> Any:
    document = json.loads((VERSION1 / "measurement.json").read_text())
    document["samples_ms"], document["round_sizes"] = document["samples_ms"][:4], [4]
    document["details"].update(FACTS)
    return document


def test_every_place_may_hold_anything(tmp_path, document):
    path = tmp_path / "it's" / "profiles" / "0" / "m.json"
    path.parent.mkdir(parents=True)

    def use(changed: Any) -> None:
        path.write_text(json.dumps(changed))
        measured = load_measurement(path)
        assert measured.warnings is not None
        json.dumps(measured.to_json(), allow_nan=False)
        assert energy_mj(measured) is None or energy_mj(measured) == measured.details["energy_mj"]

    every = [refused(use, mutant) for mutant in mutants(document)]
    assert 0.3 < sum(every) / len(every) < 0.95


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda d: d.update(machine="x"), r"\$.machine"),
        (lambda d: d["machine"].update(versions=[1]), r"\$.machine.versions"),
        (lambda d: d.update(samples_ms=[]), "positive samples"),
        (lambda d: d.update(samples_ms=[1.0, 1e300], round_sizes=[2]), "positive samples"),
        (lambda d: d.update(round_sizes=[5, -1]), "no samples"),
        (lambda d: d.update(round_sizes=[3]), "do not add up"),
        (lambda d: d.update(sustained=[[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]]), "windows"),
        (lambda d: d.update(core_count=16), "not what its variant is called"),
        (lambda d: d.update(sustained=[]), "windows"),
        (lambda d: d.update(sustained=[[1, 1, 0, 1, 1]]), "windows"),
        (lambda d: d["details"].update(cost=5), r"details.*\$.cost"),
        (lambda d: d["details"].update(layers=[["a"]]), r"details.*\$.layers\[0\]"),
        (lambda d: d["details"]["steady"].update(gpu_mhz=[1]), r"details.*\$.steady.gpu_mhz"),
    ],
)
def test_the_error_names_the_place(tmp_path, document, change, where):
    change(document)
    (tmp_path / "m.json").write_text(json.dumps(document))
    with pytest.raises(EdgeError, match=where):
        load_measurement(tmp_path / "m.json")


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"[" * 100_000, b"\xff", b'{"a": NaN}'], ids=range(6))
def test_what_is_not_a_measurement(tmp_path, content):
    (tmp_path / "m.json").write_bytes(content)
    assert refused(lambda _: load_measurement(tmp_path / "m.json"), None)


def test_nothing_outside_is_read_or_written_through_a_link(square_bundle, tmp_path, document):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "m.json").write_text(json.dumps(document))
    (square_bundle.directory / "profiles").mkdir()
    (square_bundle.directory / "profiles" / "x").symlink_to(tmp_path / "outside")
    with pytest.raises(EdgeError, match="leads outside"):
        read_measurements(square_bundle)
    with pytest.raises(EdgeError, match="leads outside"):
        measurements_folder(square_bundle.directory, "x")


def test_damaged_rounds_are_measured_anew(square_bundle):
    options = ProfileOptions(threads=1, rounds=1, seconds=0.01, samples=3, warmup_seconds=0.0)
    artifact = square_bundle.artifacts[0]
    folder = measurements_folder(square_bundle.directory, profile_bundle(square_bundle, options, []).machine.machine_id)
    unfinished = folder / UNFINISHED / f"{artifact.name}_onnx_threads1.json"
    for content in ("", '{"key": {}, "rounds": 5}', "[" * 100_000):
        (folder / f"{artifact.name}_onnx_threads1.json").unlink(missing_ok=True)
        unfinished.parent.mkdir(exist_ok=True)
        unfinished.write_text(content)
        done = profile_bundle(square_bundle, options, [artifact])
        assert len(done.measurements) == 1
        assert not done.failures
        if content == "":
            assert not unfinished.exists()
