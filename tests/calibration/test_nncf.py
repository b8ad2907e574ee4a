"""What NNCF decides is read back right, and makes a recipe like any other."""

from __future__ import annotations

import ast
import logging
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from veca_edge.base.errors import MissingDependency
from veca_edge.base.spec import ImageSize
from veca_edge.calibration import nncf as module
from veca_edge.calibration.calibrate import calibrate
from veca_edge.calibration.nncf import NncfOptions, nncf_parameters, solve_layer_with_nncf
from veca_edge.calibration.recipe import quantized_variants
from veca_edge.calibration.sensitivity import agreement_of, outputs_of
from veca_edge.demo import demo_calibration, demo_evaluation
from veca_edge.images.folder import find_images, load_images
from veca_edge.model.folding import inference_weights

from .errors import output_error

# Looked for and not imported, which takes seconds in every worker.
if find_spec("nncf") is None:
    pytest.skip("nncf is not installed", allow_module_level=True)
SIZE = ImageSize(32, 32)


def layer(rows: int = 256, columns: int = 24, out: int = 16):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, columns, generator=generator)
    x[:, ::6] *= 40.0
    return torch.randn(out, columns, generator=generator), torch.randn(out, generator=generator), x


def test_weights_are_per_channel_and_activations_per_tensor():
    weight, bias, x = layer()
    found = nncf_parameters(weight, bias, x, None, False)
    torch.testing.assert_close(found.weight_scale, weight.abs().amax(1) / 127)
    assert 0.5 * x.abs().max() / 127 < found.activation_scale <= 1.01 * x.abs().max() / 127
    assert (found.smoothing == 1).all()
    assert (found.bias_correction == 0).all()


def test_smoothing_divides_the_input_and_multiplies_the_weight():
    weight, bias, x = layer()
    found = nncf_parameters(weight, bias, x, 0.95, False)
    torch.testing.assert_close(found.weight_scale, (weight * found.smoothing).abs().amax(1) / 127)
    assert found.smoothing[0] / found.smoothing[1] > 10

    def error(options: NncfOptions) -> float:
        return output_error(weight, {8: x}, solve_layer_with_nncf(weight, bias, {8: x}, options))

    assert error(NncfOptions(rows=256)) < error(NncfOptions(rows=256, smooth_quant_alpha=0.0)) / 4


def test_a_recipe_of_the_demo_comes_close(short_demo, capfd):
    weights = inference_weights(short_demo)
    images = load_images(find_images(demo_calibration()), SIZE)
    logger = logging.getLogger("nncf")
    level = logger.level
    recipe = calibrate(weights, [images], (16,), options=NncfOptions())
    assert recipe.method == "nncf"
    frames = load_images(find_images(demo_evaluation()), SIZE).frames
    made = quantized_variants(weights, recipe)[16]
    agreement = agreement_of(outputs_of(made, frames, 16), outputs_of(weights, frames, 16))
    assert agreement.cls.mean > 0.999
    assert agreement.dense.mean > 0.999
    assert capfd.readouterr() == ("", "")
    assert logger.level == level


def test_without_nncf_the_extra_is_named_before_anything_slow(demo, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(MissingDependency, match="'nncf', which is not installed") as caught:
        calibrate(inference_weights(demo), [], (16,), options=NncfOptions())
    assert "veca-edge[nncf]" in caught.value.hint


def test_nncf_is_read_through_its_public_names():
    """Its internal modules move from release to release."""
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    sources = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in imported if name.startswith("nncf")} == {"nncf", "nncf.torch"}
    assert not any(name.startswith("nncf") for name in sources)
