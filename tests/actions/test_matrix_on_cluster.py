"""A matrix on the workers of a cluster: byte for byte what one process makes, whatever happens to a worker."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from veca_edge.actions.export import Shared, read_sources
from veca_edge.actions.make_on_cluster import MakeOnCluster, Pieces, making_on
from veca_edge.actions.matrix import export_matrix
from veca_edge.base.errors import EdgeError
from veca_edge.base.files import files_below
from veca_edge.base.progress import silent
from veca_edge.bundle.store import MANIFEST
from veca_edge.converters.tensorrt.options import TensorrtOptions
from veca_edge.proof.gate import BelowGate

pytestmark = pytest.mark.usefixtures("forked_workers")


def end_once(text: str, mark: Path) -> str:
    """What a `Deadly` text is unpickled by: it ends the first process that does."""
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return text
    os.kill(os.getpid(), signal.SIGKILL)
    return text


class Deadly(str):
    """A text that ends the first process that unpickles it."""

    mark: Path

    def __reduce__(self):
        return end_once, (str(self), self.mark)


def contents_of(directory: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Every file by its path, and the manifest but for when the bundle was made."""
    found = {p.relative_to(directory).as_posix(): p.read_bytes() for p in files_below(directory)}
    manifest = json.loads(found.pop(MANIFEST))
    del manifest["created_at"]
    return found, manifest


@pytest.fixture(scope="module")
def requests(short_request, few_images):
    """For every target, on few images; a function of where they are written."""
    images = replace(short_request.images, evaluation=few_images, count=8)
    common = replace(
        short_request, images=images, core_counts=(8,), precisions=("int8",), threads=1, min_cosine=0.9, measure=False
    )
    # How long a compile check takes would stand in the manifest.
    options = {"cpu": None, "jetson": TensorrtOptions(compile=False), "apple": None, "android": None}
    return lambda directory: [
        replace(common, output=directory / target, target=target, options=own) for target, own in options.items()
    ]


def test_a_cluster_that_loses_a_worker_makes_what_one_process_makes(requests, tmp_path, monkeypatch):
    pytest.importorskip("coremltools", reason="coremltools is not installed; it has no wheels for ARM Linux")
    pytest.importorskip("ai_edge_litert")
    (tmp_path / "here").mkdir()
    alone = list(export_matrix(requests(tmp_path / "here")))
    start, begun = MakeOnCluster.start, []

    def deadly(self, sources):
        text = Deadly("a note")
        text.mark = tmp_path / "mark"
        begun.append(sources.spec.target)
        return start(self, replace(sources, notes=(text,)) if len(begun) == 2 else sources)

    monkeypatch.setattr(MakeOnCluster, "start", deadly)
    made = list(export_matrix(requests(tmp_path / "there"), cluster="local:2"))
    assert (tmp_path / "mark").exists()
    assert begun[: len(made)] == [r.target for r in requests(tmp_path)]
    for one, other in zip(alone, made, strict=True):
        (expected, stated), (found, said) = (contents_of(m.bundle.directory) for m in (one, other))
        assert found.keys() == expected.keys()
        assert [path for path in expected if found[path] != expected[path]] == []
        assert said == stated
        assert other.fidelity == one.fidelity


def test_an_error_of_a_worker_arrives_whole(requests, tmp_path):
    # Nothing is so faithful, float32 in another order neither.
    below = [replace(r, min_cosine=1.0, precisions=("fp32",)) for r in requests(tmp_path)[:1]]
    with pytest.raises(BelowGate, match="is below --min-cosine") as failed:
        list(export_matrix(below, cluster="local:1"))
    assert [f.precision for f in failed.value.fidelity] == ["fp32"]
    assert failed.value.hint.startswith("Calibrate on more images")
    assert not list(tmp_path.iterdir())


def test_a_worker_of_another_version_is_refused(monkeypatch):
    import veca_edge.actions.make_on_cluster as action

    monkeypatch.setattr(action, "versions_of", lambda names: {"onnxruntime": "0.0.1"})
    with (
        pytest.raises(EdgeError, match=r"onnxruntime [0-9.]+, and this machine 0\.0\.1"),
        making_on("local:1", ["cpu"]),
    ):
        pass


def test_files_that_arrive_damaged_are_refused(requests, tmp_path, monkeypatch):
    _, sources = read_sources(requests(tmp_path)[0], silent, Shared())
    with making_on("local:1", ["cpu"]) as make:
        future = make.start(sources)
        piece = make._piece(future, 0)
        monkeypatch.setattr(make, "_piece", lambda future, start: bytes([piece[0] ^ 1]) + piece[1:])
        with pytest.raises(EdgeError, match="arrived damaged from a worker"):
            make(sources, tmp_path, silent)


def test_pieces_are_taken_in_any_lengths():
    content, told = bytes(range(100)), []
    pieces = Pieces(lambda start: content[start : start + 30], 100, lambda *said: told.append(said[1]))
    assert [b"".join(pieces.take(n)) for n in (0, 7, 60, 33)] == [b"", content[:7], content[7:67], content[67:]]
    assert told == [30, 60, 90, 100]
    with pytest.raises(EdgeError, match="shorter than it said"):
        list(pieces.take(1))
