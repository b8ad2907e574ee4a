"""LiteRT's runner: what it refuses, what it shares, and that it says nothing by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
from litert_files import tflite

from veca_edge.base.errors import EdgeError, GateError, MissingDependency
from veca_edge.base.files import sha256_of
from veca_edge.runtime.litert import check_partitions, open_tflite, open_tflite_together


def of_file(artifact, directory):
    """The artifact as if it were in `a.tflite`."""
    return replace(artifact, path="a.tflite", function="main", sha256=sha256_of(directory / "a.tflite"))


def frame(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (1, 32, 48, 3), np.uint8)


def test_core_counts_of_one_file(tflite_files):
    directory, artifacts, _ = tflite_files
    group = {a.core_count: a for a in artifacts["int8"]}
    runners = open_tflite_together(directory, group, 1)
    assert len({id(r.file) for r in runners.values()}) == 1
    for count, artifact in group.items():
        alone = open_tflite(directory, artifact, 1)(frame())
        assert all(np.array_equal(alone[n], v) for n, v in runners[count](frame()).items())
    kept = runners[8](frame(1))
    before = kept["cls"].copy()
    runners[8](frame(2))
    assert np.array_equal(kept["cls"], before)
    for runner in runners.values():
        runner.close()
    with pytest.raises(EdgeError, match="was closed"):
        runners[8](frame())


def test_calls_from_several_threads(tflite_files):
    directory, artifacts, _ = tflite_files
    run = open_tflite(directory, artifacts["fp32"][0], 1)
    alone = [run(frame(i))["cls"] for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = [made["cls"] for made in pool.map(lambda i: run(frame(i)), range(8))]
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_what_it_refuses(tflite_files, tmp_path, monkeypatch):
    directory, artifacts, _ = tflite_files
    artifact = artifacts["fp32"][0]
    with pytest.raises(EdgeError, match=r"takes uint8 \[1, 32, 48, 3\]"):
        open_tflite(directory, artifact, 1)(frame()[:, :16])
    with pytest.raises(EdgeError, match="0 threads"):
        open_tflite(directory, artifact, 0)
    with pytest.raises(EdgeError, match="no signature 'cores_9', but: cores_8, cores_16, cores_32"):
        open_tflite(directory, replace(artifact, function="cores_9"), 1)
    with pytest.raises(EdgeError, match="not what the manifest says: its input"):
        open_tflite(directory, replace(artifact, batch=2), 1)
    with pytest.raises(EdgeError, match="it gives cls, dense, not cls"):
        open_tflite(directory, replace(artifact, outputs=("cls",)), 1)
    (tmp_path / "models").mkdir()
    whole = (directory / artifact.path).read_bytes()
    (tmp_path / artifact.path).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EdgeError, match="not a whole"):
        open_tflite(tmp_path, artifact, 1)
    (tmp_path / artifact.path).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(EdgeError, match="was changed after the export"):
        open_tflite(tmp_path, artifact, 1)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.compiled_model", None)
    monkeypatch.delattr("ai_edge_litert.compiled_model", raising=False)
    with pytest.raises(MissingDependency, match="ai-edge-litert"):
        open_tflite(directory, artifact, 1)


def test_a_file_that_litert_refuses(tflite_files, tmp_path):
    """Whole, but with an operator that no runtime has: LiteRT's own words are in the error."""

    def write(g, image):
        (made,) = g.add_operator("RELU", [g.dequantize(image)], [[1, 4, 6, 3]], version=99)
        return made

    tflite(tmp_path / "a.tflite", write)
    _, artifacts, _ = tflite_files
    with pytest.raises(EdgeError, match=r"LiteRT cannot load .*RELU"):
        open_tflite(tmp_path, of_file(artifacts["fp32"][0], tmp_path), 1)


def test_pieces_fail_the_proof(tflite_files, tmp_path):
    def write(g, image):
        x = g.dequantize(image)
        (outside,) = g.add_operator("FLOOR_MOD", [x, x], [g.shape(x)])
        return g.unary("RELU", outside)

    tflite(tmp_path / "a.tflite", write)
    directory, artifacts, _ = tflite_files
    check_partitions(directory, artifacts["int8"])
    with pytest.raises(GateError, match="in 2 pieces and leaves out FLOOR_MOD"):
        check_partitions(tmp_path, [replace(artifacts["fp32"][0], path="a.tflite", function="main")])


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_it_is_silent(tflite_files):
    """LiteRT talks on file descriptor 2, from loading to the end of the process."""
    directory, artifacts, _ = tflite_files
    code = f"""
import sys
from pathlib import Path
import numpy as np
from veca_edge.bundle.types import Artifact
from veca_edge.base.json_files import typed
import json
from veca_edge.base.files import sha256_of
from veca_edge.runtime.litert import open_tflite
artifact = typed(json.loads({json.dumps(artifacts["int8"][0].to_json())!r}), Artifact, "it")
run = open_tflite(Path({str(directory)!r}), artifact, 1)
print(run(np.zeros((1, 32, 48, 3), np.uint8))["cls"].shape)
print("said", file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == "(1, 64)\n"
    assert done.stderr == "said\n"
