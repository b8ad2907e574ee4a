"""Whether a bundle is still what was exported."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from standin.fixtures import write_bundle, write_model

from veca_edge.actions.verify import verify
from veca_edge.base.errors import EdgeError
from veca_edge.base.files import sha256_of


def test_verify_accepts_the_bundle_and_refuses_a_changed_one(result, tmp_path):
    assert all(check.ok for check in verify(result.bundle.directory))
    copy = tmp_path / "copy"
    shutil.copytree(result.bundle.directory, copy)
    weights = copy / "models" / "weights.bin"
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.write_bytes(content)
    with pytest.raises(EdgeError, match=r"weights\.bin"):
        verify(copy)


def test_an_engine_that_does_not_run_here_gets_its_digest_checked(tmp_path):
    """Whether TensorRT is missing or the engine is another board's: the others are checked all the same."""
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "a.engine").write_bytes(b"an engine")
    model = write_model(tmp_path, "cores16_fp16_32x32")
    engine = replace(
        model, path="engines/a.engine", format="engine", sha256=sha256_of(tmp_path / "engines" / "a.engine"), bytes=9
    )
    write_bundle(tmp_path, [engine])
    (check,) = verify(tmp_path)
    assert check.ok
    assert check.cosine is None
    assert check.obstacle is not None
    (tmp_path / "engines" / "a.engine").write_bytes(b"another")
    with pytest.raises(EdgeError, match=r"changed: engines/a\.engine"):
        verify(tmp_path)


def test_without_what_rounds_to_fp16_a_jetsons_files_get_their_digests_checked(tmp_path, monkeypatch):
    """On a board nothing but the package itself is installed; FP32 needs no more than ONNX Runtime there."""
    from veca_edge.targets import jetson

    model = write_model(tmp_path, "cores16_fp16_32x32")
    write_bundle(tmp_path, [replace(model, details={**model.details, "strongly_typed": True})])
    monkeypatch.setattr(jetson, "find_spec", lambda name: None if name == "onnx_ir" else name)
    (check,) = verify(tmp_path)
    assert check.ok
    assert check.cosine is None
    assert check.obstacle is not None
    assert "veca-edge[export]" in check.obstacle
    assert jetson.onnx_obstacle(replace(model, precision="fp32")) is None
