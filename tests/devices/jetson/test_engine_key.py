"""What an engine was built for: its name in files, and boards that differ."""

import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.devices.connection import LocalConnection
from veca_edge.devices.jetson.engine_key import EngineKey, check_engine_key, engine_key
from veca_edge.devices.jetson.probe import probe


def test_the_key_of_an_orin_nano(standin, local_board):
    key = engine_key(probe(LocalConnection()))
    assert key == EngineKey("Orin Nano 8GB", "8.7", "36.4.3", "10.3.0", "MAXN_SUPER")
    assert key.slug == "orin-nano-8gb-l4t36.4.3-trt10.3.0-maxn-super"
    assert EngineKey.from_json(key.to_json()) == key


def test_an_engine_of_another_board_is_refused(standin, local_board):
    board = probe(LocalConnection())
    details = {"engine_key": engine_key(board).to_json()}
    check_engine_key(details, board, "x.engine", "veca-edge build")
    for name, value, words in (
        ("tensorrt", "8.6.2", "TensorRT 8.6.2 (here 10.3.0)"),
        ("module", "Orin NX 8GB", "module Orin NX 8GB (here Orin Nano 8GB)"),
        ("power_mode", "15W", "power mode 15W (here MAXN_SUPER)"),
        ("l4t", None, "L4T unknown (here 36.4.3)"),
        ("compute_capability", "11.0", "compute capability 11.0 (here 8.7)"),
    ):
        changed = {"engine_key": {**details["engine_key"], name: value}}
        with pytest.raises(EdgeError) as error:
            check_engine_key(changed, board, "x.engine", "veca-edge build-it")
        assert words in error.value.message
        assert "veca-edge build-it" in error.value.hint
    with pytest.raises(EdgeError, match="does not say"):
        check_engine_key({}, board, "x.engine", "veca-edge build")
