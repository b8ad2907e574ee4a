"""Multiplies the matrices of a file with ONNX Runtime: `products.py MODEL MATRICES RESULT`, for the emulated Python."""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime


def main(model: str, matrices: str, result: str) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    with np.load(matrices) as given:
        np.savez(result, *session.run(None, dict(given)))


if __name__ == "__main__":
    main(*sys.argv[1:])
