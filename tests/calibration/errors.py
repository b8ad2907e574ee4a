"""How far the output of a quantized layer is from the layer's own."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from veca_edge.calibration.search import Solution, quantized


def output_error(weight: torch.Tensor, inputs: Mapping[int, torch.Tensor], solution: Solution) -> float:
    """The mean square error of the output over its variance, for the inputs `[rows, in]` of every core count."""
    scales = solution.activation_scale
    seen = torch.cat([quantized(x / solution.smoothing, scales[count]) for count, x in inputs.items()]).double()
    exact = torch.cat(list(inputs.values())).double() @ weight.double().T
    left = exact - seen @ (solution.codes * solution.weight_scale[:, None]).T
    if solution.bias_correction is not None:
        left -= solution.bias_correction
    return float(left.square().mean() / exact.var(0).mean())
