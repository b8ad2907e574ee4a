"""INT8 packages of Core ML beside the simulation that they were written from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from veca_edge.base.errors import GateError
from veca_edge.base.spec import ImageSize
from veca_edge.runtime.simulation_check import SimulationAgreement, check_simulation

SIZE = ImageSize(32, 48)


@pytest.fixture
def frames():
    return {SIZE: np.random.default_rng(0).integers(0, 256, (4, *SIZE, 3), np.uint8)}


def test_int8_is_as_close_to_the_simulation_as_that_is_to_float(apple_packages, frames):
    directory, artifacts, variants = apple_packages
    found = check_simulation(directory, artifacts["int8"], variants["int8"], frames)
    assert set(found) == {a.name for a in artifacts["int8"]}
    for agreement in found.values():
        assert agreement.ok
        assert min(agreement.simulation.values()) > 0.97
        for name in agreement.package:
            assert agreement.package[name] >= agreement.simulation[name]


def test_the_gate_is_strict_above_what_fp16_costs():
    assert SimulationAgreement({"cls": 0.999, "dense": 0.9999}, {"cls": 0.999, "dense": 0.9998}).ok
    assert not SimulationAgreement({"cls": 0.9989, "dense": 0.9999}, {"cls": 0.999, "dense": 0.9998}).ok
    assert SimulationAgreement({"cls": 0.999995}, {"cls": 0.999999}).ok  # hardly anything was quantized
    assert not SimulationAgreement({"cls": 0.99998}, {"cls": 0.999999}).ok


def test_another_function_is_not_what_was_quantized(apple_packages, frames):
    directory, artifacts, variants = apple_packages
    wrong = replace(artifacts["int8"][0], function="cores_32")
    with pytest.raises(GateError, match="does not compute the quantized model"):
        check_simulation(directory, [wrong], variants["int8"][:1], frames)
