"""A quantization recipe by NNCF's post-training quantization: SmoothQuant, ranges, bias correction.

NNCF is given one linear layer at a time, on what the layer sees in the float32 model. Then nothing but
linear layers is quantized, q, k and v share one scale, no quantizer drifts to another place of the graph,
and what NNCF decided is read off by layer. Its ranges come from float32 activations in a whole model too;
only its bias correction would see there what earlier layers have done.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ..base.errors import MissingDependency
from .search import CODE_MAX, SMALLEST, Solution, nearest

# NNCF compiles its kernels at first use, one process at a time; its own limit of a minute is short for a busy machine.
EXTENSION_SECONDS = "900"

CHUNK = 64


@dataclass(frozen=True)
class NncfOptions:
    """What NNCF is asked to do.

    Attributes:
        rows: token rows per layer and core count that it sees.
        smooth_quant_alpha: SmoothQuant's strength (the default is NNCF's own for matrix products).
        bias_correction: NNCF's fast bias correction.
    """

    rows: int = 2048
    smooth_quant_alpha: float = 0.95
    bias_correction: bool = True


@dataclass(frozen=True)
class NncfParameters:
    """What one run of NNCF decided.

    Attributes:
        smoothing: `[in]`, the input is divided by it (ones without SmoothQuant).
        weight_scale: `[out]`; activation_scale: of the smoothed input.
        bias_correction: `[out]`, what was added to the bias.
    """

    smoothing: Tensor
    weight_scale: Tensor
    activation_scale: float
    bias_correction: Tensor


def solve_layer_with_nncf(weight: Tensor, bias: Tensor, inputs: Mapping[int, Tensor], options: NncfOptions) -> Solution:
    """Quantizes one linear layer: smoothing and weights once for all core counts, activations for each.

    Args:
        weight: float32 `[out, in]`; bias: `[out]`.
        inputs: float32 `[rows, in]` by core count.

    Raises:
        MissingDependency: NNCF is not installed.
    """
    pooled = torch.cat(list(inputs.values()))
    # In an order that mixes the core counts: NNCF averages the ranges of its batches.
    mixed = pooled[torch.randperm(len(pooled), generator=torch.Generator().manual_seed(0))]
    found = nncf_parameters(weight, bias, mixed, options.smooth_quant_alpha, options.bias_correction)
    smooth = weight * found.smoothing
    scales = {
        count: nncf_parameters(smooth, bias, x / found.smoothing, None, False).activation_scale
        for count, x in inputs.items()
    }
    return Solution(
        found.smoothing,
        nearest(smooth.double(), found.weight_scale.double()),
        found.weight_scale.double(),
        scales,
        found.bias_correction.double() if options.bias_correction else None,
        options.smooth_quant_alpha,
    )


def nncf_parameters(
    weight: Tensor, bias: Tensor, x: Tensor, alpha: float | None, bias_correction: bool
) -> NncfParameters:
    """Runs `nncf.quantize` on one linear layer and reads its quantizers back.

    Args:
        weight: float32 `[out, in]`; bias: `[out]`; x: float32 `[rows, in]`.
        alpha: SmoothQuant's strength, None without it.
    """
    nncf = imported_nncf()
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight = nn.Parameter(weight.clone(), requires_grad=False)
    layer.bias = nn.Parameter(bias.clone(), requires_grad=False)
    batches = [part.clone() for part in x.split(CHUNK)]
    with quiet(nncf), torch.inference_mode(False), torch.no_grad():
        made = nncf.quantize(
            layer.eval(),
            nncf.Dataset(batches),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(batches),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=nncf.OverflowFix.DISABLE,
                disable_bias_correction=not bias_correction,
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1.0 if alpha is None else alpha),
            ),
        )
    smoothing, weight_scale, activation_scale = torch.ones(weight.shape[1]), None, None
    for kind, config, tensors in inserted_modules(nncf, made):
        if kind == "SQMultiply":
            (factor,) = tensors.values()
            smoothing = 1.0 / factor.reshape(-1).float()
        elif kind == "SymmetricQuantizer":
            # A quantizer's `scale` is the magnitude that its largest code stands for.
            scale = (tensors["scale"] / CODE_MAX).clamp_min(SMALLEST)
            if tuple(config["scale_shape"]) == (len(weight), 1):
                weight_scale = scale.reshape(-1)
            else:
                activation_scale = float(scale)
    if weight_scale is None or activation_scale is None:
        raise RuntimeError("NNCF left the layer's input or weight unquantized")
    return NncfParameters(smoothing, weight_scale, activation_scale, made.bias.detach() - bias)


def imported_nncf() -> ModuleType:
    """The package `nncf` with its PyTorch part. Raises `MissingDependency` where it is not installed."""
    try:
        os.environ.setdefault("NNCF_EXTENSION_LOAD_TIMEOUT", EXTENSION_SECONDS)
        import nncf
        import nncf.torch
    except ModuleNotFoundError as error:
        raise MissingDependency("nncf", "nncf", "Calibration with NNCF") from error
    return nncf


def inserted_modules(nncf: ModuleType, model: nn.Module) -> Iterator[tuple[str, dict[str, Any], dict[str, Tensor]]]:
    """What NNCF put into a model: class, configuration and tensors by name.

    Read from what NNCF documents for saving a quantized model: `nncf.torch.get_config` and the state dict. Only the
    classes of its modules and the names of their tensors are known here, which its checkpoints keep stable.
    """
    state = model.state_dict()
    for module in nncf.torch.get_config(model)["compression_state"]:
        place = f".{module['hook_names_in_model'][0]}."
        tensors = {key.partition(place)[2]: value for key, value in state.items() if place in key}
        yield module["module_cls_name"], module["module_config"], tensors


@contextlib.contextmanager
def quiet(nncf: ModuleType) -> Iterator[None]:
    """NNCF reports to the terminal; a library does not."""
    level = logging.getLogger("nncf").level
    nncf.set_log_level(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        nncf.set_log_level(level)
