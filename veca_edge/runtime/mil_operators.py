"""Operators of MIL in torch, by their names; parameters carry MIL's own (coremltools, MIL operator reference).

Float tensors are float32; whoever calls an operator rounds its result to the type that the program gives it. What a
program asks and is not known here raises `RuntimeError`; whoever calls says of which operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def _ints(x: Tensor) -> list[int]:
    return [int(n) for n in x.reshape(-1)]


def _cast(x: Tensor, dtype: str) -> Tensor:
    return x  # the type of the result rounds it


def _concat(values: list[Tensor], axis: Tensor, interleave: Tensor | None = None) -> Tensor:
    if interleave is not None and bool(interleave):
        raise RuntimeError("interleaved concat")
    return torch.cat(values if isinstance(values, list) else [values], int(axis))


def _conv(
    x: Tensor,
    weight: Tensor,
    strides: Tensor,
    pad_type: str = "valid",
    bias: Tensor | None = None,
    pad: Tensor | None = None,
    dilations: Tensor | None = None,
    groups: Tensor | None = None,
) -> Tensor:
    if (
        pad_type != "valid"
        or (groups is not None and int(groups) != 1)
        or (dilations is not None and set(_ints(dilations)) != {1})
    ):
        raise RuntimeError("padded, dilated or grouped convolution")
    return F.conv2d(x, weight, bias, _ints(strides))


def _slice_by_index(
    x: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None = None,
    begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None,
    squeeze_mask: Tensor | None = None,
) -> Tensor:
    def mask(value: Tensor | None) -> list[bool]:
        return [False] * x.dim() if value is None else [bool(v) for v in value]

    at: list[slice | int] = []
    steps = [1] * x.dim() if stride is None else _ints(stride)
    for b, e, s, open_begin, open_end, squeeze in zip(
        _ints(begin), _ints(end), steps, mask(begin_mask), mask(end_mask), mask(squeeze_mask), strict=True
    ):
        at.append(b if squeeze else slice(None if open_begin else b, None if open_end else e, s))
    return x[tuple(at)]


def _split(
    x: Tensor, axis: Tensor, num_splits: Tensor | None = None, split_sizes: Tensor | None = None
) -> tuple[Tensor, ...]:
    if split_sizes is not None:
        return x.split(_ints(split_sizes), int(axis))
    if num_splits is None:
        raise TypeError("a split without a number or sizes of its parts")
    return x.split(x.shape[int(axis)] // int(num_splits), int(axis))


def _layer_norm(
    x: Tensor, axes: Tensor, epsilon: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None
) -> Tensor:
    at = [a % x.dim() for a in _ints(axes)]
    variance, mean = torch.var_mean(x, at, correction=0, keepdim=True)
    y = (x - mean) * torch.rsqrt(variance + epsilon)
    along = [x.shape[i] if i in at else 1 for i in range(x.dim())]
    y = y if gamma is None else y * gamma.reshape(along)
    return y if beta is None else y + beta.reshape(along)


def _matmul(x: Tensor, y: Tensor, transpose_x: Tensor | None = None, transpose_y: Tensor | None = None) -> Tensor:
    x = x.transpose(-1, -2) if transpose_x is not None and bool(transpose_x) else x
    return x @ (y.transpose(-1, -2) if transpose_y is not None and bool(transpose_y) else y)


def _along(values: Tensor, x: Tensor, axis: Tensor | None) -> Tensor:
    """A per-channel scale `[n]` shaped to broadcast along an axis; a scalar as it is."""
    if values.dim() == 0 or axis is None:
        return values
    return values.reshape([-1 if i == int(axis) % x.dim() else 1 for i in range(x.dim())])


def _quantize(
    input: Tensor, scale: Tensor, output_dtype: str, zero_point: Tensor | None = None, axis: Tensor | None = None
) -> Tensor:
    if output_dtype != "int8":
        raise RuntimeError(f"quantize to {output_dtype}")
    q = torch.round(input / _along(scale, input, axis))
    q = q if zero_point is None else q + _along(zero_point, input, axis)
    return q.clamp(-128, 127)


def _dequantize(input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: Tensor | None = None) -> Tensor:
    x = input.float() if zero_point is None else input.float() - _along(zero_point, input, axis)
    return x * _along(scale, input, axis)


def _blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    def spread(t: Tensor) -> Tensor:
        for i, size in enumerate(data.shape):
            t = t.repeat_interleave(size // t.shape[i], i)
        return t

    x = data.float() if offset is None else data.float() - spread(offset)
    return x * (scale if scale.numel() == scale.shape[0] else spread(scale))


def _classify(probabilities: Tensor, classes: list[str]) -> tuple[str, dict[str, float]]:
    by_class = dict(zip(classes, probabilities.reshape(-1).tolist(), strict=True))
    return max(by_class, key=by_class.__getitem__), by_class


def _argmax(x: Tensor, axis: Any, keep_dims: Any, output_dtype: Any = "int32") -> Tensor:
    if str(output_dtype) != "int32":
        raise RuntimeError(f"reduce_argmax to {output_dtype}")
    return x.argmax(int(axis), keepdim=bool(keep_dims)).to(torch.int32)


OPERATORS: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "cast": _cast,
    "classify": _classify,
    "concat": _concat,
    "constexpr_blockwise_shift_scale": _blockwise_shift_scale,
    "conv": _conv,
    "cos": lambda x: torch.cos(x),
    "dequantize": _dequantize,
    "expand_dims": lambda x, axes: x.reshape(_expanded(x, _ints(axes))),
    "layer_norm": _layer_norm,
    "linear": lambda x, weight, bias=None: F.linear(x, weight, bias),
    "matmul": _matmul,
    "mul": lambda x, y: x * y,
    "quantize": _quantize,
    "real_div": lambda x, y: x / y,
    "reduce_argmax": _argmax,
    "reduce_mean": lambda x, axes, keep_dims: x.mean(_ints(axes), keepdim=bool(keep_dims)),
    "relu": lambda x: torch.relu(x),
    "reshape": lambda x, shape: x.reshape(_ints(shape)),
    "silu": lambda x: F.silu(x),
    "sin": lambda x: torch.sin(x),
    "slice_by_index": _slice_by_index,
    "softmax": lambda x, axis: torch.softmax(x, int(axis)),
    "split": _split,
    "squeeze": lambda x, axes=None: x.squeeze(_ints(axes) if axes is not None else None),
    "sub": lambda x, y: x - y,
    "tanh": lambda x: torch.tanh(x),
    "transpose": lambda x, perm: x.permute(_ints(perm)),
}


def _expanded(x: Tensor, axes: list[int]) -> list[int]:
    rank = x.dim() + len(axes)
    sizes, at = iter(x.shape), {a % rank for a in axes}
    return [1 if i in at else next(sizes) for i in range(rank)]
