"""What operators of MIL compute, beside NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from .mil_programs import run_program

X = np.random.default_rng(0).normal(size=(2, 3, 4, 6)).astype(np.float32)


@pytest.mark.parametrize(
    ("write", "wanted"),
    [
        (
            lambda mb, x: mb.slice_by_index(
                x=x,
                begin=[1, 0, 1, 1],
                end=[2, 0, 4, 6],
                stride=[1, 1, 2, 2],
                end_mask=[False, True, False, False],
                squeeze_mask=[True, False, False, False],
            ),
            X[1, :, 1:4:2, 1:6:2],
        ),
        (lambda mb, x: mb.slice_by_index(x=x, begin=[0, 0, -2, 0], end=[2, 3, -1, 6]), X[:, :, -2:-1]),
        (lambda mb, x: mb.split(x=x, split_sizes=[1, 2], axis=-3)[1], X[:, 1:]),
        (lambda mb, x: mb.concat(values=[x, x], axis=-2), np.concatenate([X, X], -2)),
        (
            lambda mb, x: mb.expand_dims(
                x=mb.slice_by_index(
                    x=x, begin=[0] * 4, end=[1] * 4, end_mask=[False] + [True] * 3, squeeze_mask=[True] + [False] * 3
                ),
                axes=[-1],
            ),
            X[0, ..., None],
        ),
        (lambda mb, x: mb.squeeze(x=mb.expand_dims(x=x, axes=[0]), axes=[0]), X),
        (
            lambda mb, x: mb.layer_norm(x=x, axes=[1], gamma=np.float32([1, 2, 3]), epsilon=np.float32(1e-5)),
            (X - X.mean(1, keepdims=True))
            / np.sqrt(X.var(1, keepdims=True) + 1e-5)
            * np.float32([1, 2, 3])[:, None, None],
        ),
        (
            lambda mb, x: mb.layer_norm(
                x=x,
                axes=[2, 3],
                gamma=np.full((4, 6), 2, np.float32),
                beta=np.ones((4, 6), np.float32),
                epsilon=np.float32(1e-3),
            ),
            (X - X.mean((2, 3), keepdims=True)) / np.sqrt(X.var((2, 3), keepdims=True) + 1e-3) * 2 + 1,
        ),
        (lambda mb, x: mb.matmul(x=x, y=x, transpose_x=True), X.swapaxes(2, 3) @ X),
        (lambda mb, x: mb.softmax(x=x, axis=1), torch.softmax(torch.from_numpy(X), 1).numpy()),
        (lambda mb, x: mb.sub(x=mb.cos(x=x), y=mb.sin(x=x)), np.cos(X) - np.sin(X)),
        (lambda mb, x: mb.cast(x=mb.cast(x=x, dtype="fp16"), dtype="fp32"), X.astype(np.float16).astype(np.float32)),
        (
            lambda mb, x: mb.dequantize(
                input=mb.quantize(input=x, scale=np.float32(0.01), output_dtype="int8"), scale=np.float32(0.01)
            ),
            np.clip(np.rint(X / np.float32(0.01)), -128, 127) * 0.01,
        ),
        (
            lambda mb, x: mb.dequantize(
                input=mb.quantize(
                    input=x,
                    scale=np.float32([0.1, 0.2, 0.3]),
                    zero_point=np.int8([0, 1, 2]),
                    axis=1,
                    output_dtype="int8",
                ),
                scale=np.float32([0.1, 0.2, 0.3]),
                zero_point=np.int8([0, 1, 2]),
                axis=1,
            ),
            np.rint(X / np.float32([0.1, 0.2, 0.3])[:, None, None]) * np.float32([0.1, 0.2, 0.3])[:, None, None],
        ),
        (
            lambda mb, x: mb.linear(
                x=x,
                weight=mb.constexpr_blockwise_shift_scale(
                    data=np.arange(12, dtype=np.int8).reshape(2, 6), scale=np.float32([[1, 2, 3], [4, 5, 6]])
                ),
            ),
            X @ (np.arange(12).reshape(2, 6) * np.repeat([[1, 2, 3], [4, 5, 6]], 2, 1)).T.astype(np.float32),
        ),
    ],
    ids=lambda v: None if isinstance(v, np.ndarray) else "op",
)
def test_operators_do_what_mil_says(tmp_path, write, wanted):
    np.testing.assert_allclose(run_program(tmp_path, write, X), wanted, rtol=1e-5, atol=1e-5)
