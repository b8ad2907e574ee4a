"""Calibration: images and float weights in, a quantization recipe out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import torch

from ..base.progress import Progress, silent
from ..base.versions import tool_versions
from ..images.folder import ImageSet
from ..model.folding import InferenceWeights, smoothed
from .activations import collect_activations
from .nncf import NncfOptions, imported_nncf, solve_layer_with_nncf
from .patches import solve_patches
from .recipe import CalibrationFacts, LinearRecipe, QuantizationRecipe, nearest_codes
from .search import SearchOptions, Solution, solve_layer


def calibrate(
    weights: InferenceWeights,
    images: Sequence[ImageSet],
    core_counts: Sequence[int],
    *,
    options: SearchOptions | NncfOptions | None = None,
    seed: int = 0,
    checkpoint_digest: str = "",
    progress: Progress = silent,
) -> QuantizationRecipe:
    """Finds the INT8 of every linear layer on calibration images.

    Args:
        images: the same images at every size that the model will run at; what layers see of all of them counts.
        options: their type chooses the method: the search of our own (the default, which measures best on
            trained weights; see `search`) or NNCF's post-training quantization (see `nncf`).
        core_counts: one set of weights serves them all; activations get a scale for each.

    Raises:
        MissingDependency: NNCF is asked for and not installed; before anything slow.
    """
    options = options or SearchOptions()
    if isinstance(options, NncfOptions):
        imported_nncf()
    rows = options.rows
    if isinstance(options, SearchOptions):
        rows = max(rows, options.pooled_rows // len(core_counts))
    activations = collect_activations(weights, [s.frames for s in images], core_counts, rows, seed, progress)
    solutions, peaks = {}, {}
    with torch.inference_mode():
        for i, (name, layer) in enumerate(weights.linears.items()):
            weight, bias = torch.from_numpy(layer.weight), torch.from_numpy(layer.bias)
            seen = activations.pop(name)  # the largest thing here: let go of it layer by layer
            if isinstance(options, NncfOptions):
                solutions[name] = solve_layer_with_nncf(weight, bias, seen, options)
            else:
                solutions[name] = solve_layer(weight, seen, options)
            peaks[name] = peaks_of(weight, seen, solutions[name])
            progress("quantizing layers", i + 1, len(weights.linears))
        patches = None
        if isinstance(options, SearchOptions) and not options.per_token:
            patches = solve_patches(weights, [s.frames for s in images], options, seed)
    facts = CalibrationFacts(
        checkpoint_digest=checkpoint_digest,
        image_digests=images[0].digests,
        image_sizes=tuple("x".join(map(str, s.frames.shape[1:3])) for s in images),
        image_count=len(images[0].frames),
        seed=seed,
        tools=tool_versions(),
    )
    return QuantizationRecipe(
        recipes_from_solutions(weights, solutions, peaks),
        tuple(core_counts),
        "nncf" if isinstance(options, NncfOptions) else "search",
        asdict(options),
        facts,
        patches,
    )


def peaks_of(weight: torch.Tensor, seen: Mapping[int, torch.Tensor], solution: Solution) -> tuple[float, np.ndarray]:
    """The largest magnitudes of a layer: of its input after smoothing, and `[out]` of its output without the bias."""
    inputs = max(float((x / solution.smoothing).abs().max()) for x in seen.values())
    outputs = torch.stack([(x @ weight.T).abs().amax(0) for x in seen.values()]).amax(0)
    return inputs, outputs.numpy()


def recipes_from_solutions(
    weights: InferenceWeights, solutions: Mapping[str, Solution], peaks: Mapping[str, tuple[float, np.ndarray]]
) -> dict[str, LinearRecipe]:
    """Solutions are for each layer alone; a recipe is for the weights with all smoothing folded in.

    Args:
        peaks: of each layer, as `peaks_of` finds them.
    """
    factors = {name: s.smoothing.numpy().astype(np.float32) for name, s in solutions.items()}
    folded = smoothed(weights, factors)
    recipes = {}
    for name, solution in solutions.items():
        divisor = row_divisors(weights, factors, name)
        scale = (solution.weight_scale.numpy() / divisor).astype(np.float32)
        rounding = solution.codes.numpy() - nearest_codes(folded.linears[name].weight, scale)
        correction = solution.bias_correction
        recipes[name] = LinearRecipe(
            smoothing=factors[name],
            weight_scale=scale,
            activation_scale={count: float(np.float32(s)) for count, s in solution.activation_scale.items()},
            rounding=rounding.astype(np.int8) if rounding.any() else None,
            bias_correction=None if correction is None else (correction.numpy() / divisor).astype(np.float32),
            input_peak=float(np.float32(peaks[name][0])),
            output_peak=(peaks[name][1] / divisor).astype(np.float32),
        )
    return recipes


def row_divisors(weights: InferenceWeights, factors: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """What other layers' smoothing divides the rows of this one by, float64 `[out]`; see `inference.smoothed`."""
    divisor = np.ones(len(weights.linears[name].bias))
    block, _, kind = name.rpartition(".")
    if kind == "qkv":
        divisor[2 * weights.config.hidden :] = factors[f"{block}.out"]
    elif kind == "fc1":
        divisor[weights.config.mlp_hidden :] = factors[f"{block}.fc2"]
    return divisor
