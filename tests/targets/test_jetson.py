"""What a Jetson's row says of a bundle before there is a board."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from standin.fixtures import write_model

from veca_edge.targets import jetson


@pytest.mark.parametrize(("precision", "share"), [("int8", 1 / 4), ("fp16", 1 / 2), ("fp32", 1)])
def test_files_that_are_not_typed_hold_more_than_their_engines(tmp_path, monkeypatch, precision, share):
    """For TensorRT 8 they are float32 whatever the engine becomes: its bound is that of its own weights."""
    moved = []

    def estimate(module, precision, macs, attention_macs, moved_bytes, super_mode):
        moved.append(moved_bytes)
        return SimpleNamespace(milliseconds=1.0, bound="bandwidth")

    monkeypatch.setattr("veca_edge.devices.jetson.modules.estimate_frame", estimate)
    monkeypatch.setattr(
        "veca_edge.profiles.cost.cost_facts", lambda bundle, artifact: {"macs": 1, "attention_interactions": 1}
    )
    typed = replace(write_model(tmp_path), precision=precision)
    untyped = replace(typed, details={**typed.details, "tensorrt": "8.5", "strongly_typed": False})
    config = SimpleNamespace(hidden=32)
    for artifact in (typed, untyped):
        jetson.estimates(SimpleNamespace(checkpoint=SimpleNamespace(config=config), artifacts=(artifact,)))
    assert set(moved) == {typed.bytes, typed.bytes * share}
