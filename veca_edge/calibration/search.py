"""The search that fills a quantization recipe: every choice is the one that leaves the layer's output closest.

Layer by layer, on activations pooled over all core counts:

1. smoothing factors, from a family `amax_x ** a / amax_w ** (1 - a)`, and with them
2. the clipping of the activations, per core count, both by the error of the layer's output with weight and
   activation quantization counted;
3. the weights' scale per output channel, the least that leaves every weight a code;
4. the rounding of the weights, by GPTQ (Frantar et al., arXiv 2210.17323) on what the quantized layer sees;
5. a bias correction that leaves no mean error.

The layers are independent: smoothing one rescales rows of another, which per-channel scales absorb exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model.folding import PAIR_MAX

CODE_MAX = 127
SMALLEST = 1e-8


@dataclass(frozen=True)
class SearchOptions:
    """What the search may do; the defaults measured best on trained weights.

    Attributes:
        rows: token rows per layer and core count that weights are rounded for, and at least `pooled_rows` over
            all core counts: from fewer the rounding learns the rows (one core count and 2,048 rows: `cls`
            0.9995 on other images; 8,192 rows: 0.9998).
        search_rows: of these, how many judge each smoothing and clipping that is tried.
        strengths: exponents a of the smoothing: 0 evens out the weights, 1 the activations; () does not smooth.
        clips: activation ranges tried, as shares of the largest magnitude; (1.0,) is min-max.
        gptq: round by GPTQ, else to nearest.
        bias_correction: correct the mean error.
        per_token: the runtime finds the scale and zero point of every row of activations by itself: smoothing and
            rounding are then judged on such activations, and activation scales are the largest magnitude's.
        pairs: no two neighbouring codes of a row (2i, 2i + 1) add up to more than `PAIR_MAX`, so that the fastest
            products of every CPU are exact. On the trained demo and its hard twin 1 - cosine grows by 2% at most, on
            random weights of `small` by 9%; with codes within -64..64, the simpler limit, by 9% and 33%.
    """

    rows: int = 2048
    pooled_rows: int = 8192
    search_rows: int = 512
    strengths: tuple[float, ...] = (0.7, 0.8, 0.9, 1.0)
    clips: tuple[float, ...] = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7)
    gptq: bool = True
    bias_correction: bool = True
    per_token: bool = False
    pairs: bool = True


# For runtimes that quantize activations token by token. Smoothing has less to do there: on the trained demo weaker ones
# leave 1 - cosine a quarter lower than the search for per-tensor scales does, on hard weights too.
PER_TOKEN = SearchOptions(strengths=(0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), clips=(1.0,), per_token=True, pairs=False)


@dataclass(frozen=True)
class Solution:
    """One layer's quantization, for weights that are smoothed by its own factors only.

    Attributes:
        smoothing: `[in]`; codes: `[out, in]`; weight_scale, bias_correction: `[out]`.
        activation_scale: by core count.
    """

    smoothing: Tensor
    codes: Tensor
    weight_scale: Tensor
    activation_scale: Mapping[int, float]
    bias_correction: Tensor | None
    strength: float | None


def solve_layer(weight: Tensor, inputs: Mapping[int, Tensor], options: SearchOptions) -> Solution:
    """Quantizes one linear layer.

    Args:
        weight: float32 `[out, in]`.
        inputs: float32 `[rows, in]` by core count.
    """
    pooled = torch.cat(list(inputs.values()))
    largest = pooled.abs().amax(0).clamp_min(SMALLEST)
    heaviest = weight.abs().amax(0).clamp_min(SMALLEST)
    moments = pooled.T @ pooled / len(pooled)
    best: tuple[float, float | None, Tensor, dict[int, float]] | None = None
    for strength in options.strengths or (None,):
        factors = torch.ones_like(largest)
        if strength is not None:
            factors = largest**strength / heaviest ** (1 - strength)
            factors = factors / factors.log().mean().exp()
        scales, error = activation_scales(weight * factors, {c: x / factors for c, x in inputs.items()}, options)
        error += rounding_error(weight * factors, moments / torch.outer(factors, factors))
        if best is None or error < best[0]:
            best = error, strength, factors, scales
    assert best is not None
    _, strength, factors, scales = best
    smooth = (weight * factors).double()
    seen = torch.cat([seen_as(x / factors, scales[c], options) for c, x in inputs.items()]).double()
    hessian = seen.T @ seen / len(seen)
    weight_scale = weight_scales(smooth, options.pairs)
    codes = gptq(smooth, hessian, weight_scale, options.pairs) if options.gptq else nearest(smooth, weight_scale)
    approximate = codes * weight_scale[:, None]
    correction = None
    if options.bias_correction:
        correction = smooth @ (pooled / factors).double().mean(0) - approximate @ seen.mean(0)
    return Solution(factors, codes, weight_scale, scales, correction, strength)


def quantized(x: Tensor, scale: float) -> Tensor:
    """What INT8 makes of activations."""
    return torch.clamp(torch.round(x / scale), -CODE_MAX - 1, CODE_MAX) * scale


def quantized_tokens(x: Tensor) -> Tensor:
    """What INT8 makes of activations `[rows, in]` whose rows have their own scales and zero points (XNNPACK's qd8)."""
    low, high = x.amin(1, keepdim=True).clamp_max(0.0), x.amax(1, keepdim=True).clamp_min(0.0)
    scale = ((high - low) / (2 * CODE_MAX + 1)).clamp_min(SMALLEST)
    zero = torch.round(-CODE_MAX - 1 - low / scale)
    return (torch.clamp(torch.round(x / scale) + zero, -CODE_MAX - 1, CODE_MAX) - zero) * scale


def seen_as(x: Tensor, scale: float, options: SearchOptions) -> Tensor:
    """What a quantized layer sees of its input."""
    return quantized_tokens(x) if options.per_token else quantized(x, scale)


def nearest(weight: Tensor, scale: Tensor) -> Tensor:
    """Codes by rounding to nearest; `scale` `[out]`."""
    return torch.clamp(torch.round(weight / scale[:, None]), -CODE_MAX, CODE_MAX)


def activation_scales(
    weight: Tensor, inputs: Mapping[int, Tensor], options: SearchOptions
) -> tuple[dict[int, float], float]:
    """Per core count the scale that disturbs the output least, and the summed error (mean over rows)."""
    # The error of the output is e @ (W.T @ W) @ e; the cheaper of the two products is taken.
    gram = weight.T @ weight if weight.shape[0] > weight.shape[1] else None
    scales, total = {}, 0.0
    for count, x in inputs.items():
        largest = float(x.abs().max().clamp_min(SMALLEST)) / CODE_MAX
        judged = x[: options.search_rows]
        best: tuple[float, float] | None = None
        for clip in options.clips:
            off = seen_as(judged, largest * clip, options) - judged
            error = float(((off @ gram) * off).sum() if gram is not None else (off @ weight.T).square().sum())
            error /= len(judged)
            if best is None or error < best[0]:
                best = error, largest * clip
        assert best is not None
        total += best[0]
        scales[count] = best[1]
    return scales, total / len(inputs)


def rounding_error(weight: Tensor, moments: Tensor) -> float:
    """The output's error from rounding the weights to nearest, mean over rows.

    Args:
        moments: `[in, in]`, the mean of x x^T.
    """
    scale = weight.abs().amax(1).clamp_min(SMALLEST) / CODE_MAX
    off = nearest(weight, scale) * scale[:, None] - weight
    return float(((off @ moments) * off).sum())


def weight_scales(weight: Tensor, pairs: bool = False) -> Tensor:
    """Per output channel the least scale that leaves no weight without a code, and of `pairs` no sum of two neighbours.

    Rounding adds at most 1 to such a sum: codes rounded to nearest stay within `PAIR_MAX`.
    """
    largest = weight.abs().amax(1)
    if pairs:
        sums = weight[:, : weight.shape[1] // 2 * 2].unflatten(1, (-1, 2)).sum(2)
        largest = torch.maximum(largest, sums.abs().amax(1))
    # What is stored is float32: the codes must be those of the stored scale.
    return (largest.clamp_min(SMALLEST) / CODE_MAX).float().double()


def gptq(
    weight: Tensor, hessian: Tensor, scale: Tensor, pairs: bool = False, damping: float = 1e-3, block: int = 64
) -> Tensor:
    """Codes `[out, in]` by GPTQ: column by column, the columns not yet rounded make up for the error so far.

    Of `pairs` the column that is rounded later gives way, and what it lacks is made up for like any error.

    Args:
        weight: float64 `[out, in]`; hessian: float64 `[in, in]`, mean of x x^T; scale: `[out]`.
    """
    columns = hessian.shape[0]
    order = torch.argsort(hessian.diagonal(), descending=True)
    weight = weight[:, order].clone()
    # Inputs that were always 0 leave nothing to weigh: the codes are then the nearest.
    damped = damping * hessian.diagonal().mean().clamp_min(1e-30)
    hessian = hessian[order][:, order] + damped * torch.eye(columns, dtype=hessian.dtype)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    factor = torch.linalg.cholesky(inverse, upper=True)
    codes = torch.empty_like(weight)
    partner = partners(order) if pairs else [None] * columns
    for start in range(0, columns, block):
        stop = min(start + block, columns)
        part, inner = weight[:, start:stop].clone(), factor[start:stop, start:stop]
        errors = torch.empty_like(part)
        for i in range(stop - start):
            code = torch.clamp(torch.round(part[:, i] / scale), -CODE_MAX, CODE_MAX)
            if (earlier := partner[start + i]) is not None:
                code = torch.clamp(codes[:, earlier] + code, -PAIR_MAX, PAIR_MAX) - codes[:, earlier]
            codes[:, start + i] = code
            errors[:, i] = (part[:, i] - codes[:, start + i] * scale) / inner[i, i]
            part[:, i:] -= errors[:, i : i + 1] * inner[i, i:]
        weight[:, stop:] -= errors @ factor[start:stop, stop:]
    return codes[:, torch.argsort(order)]


def partners(order: Tensor) -> list[int | None]:
    """For every position of an order of columns that of its neighbour (2i and 2i + 1), if it is earlier, else None."""
    columns: list[int] = order.tolist()
    position = {column: i for i, column in enumerate(columns)}
    found = [position.get(column ^ 1, len(columns)) for column in columns]
    return [other if other < i else None for i, other in enumerate(found)]
