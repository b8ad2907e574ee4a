"""Executes a saved Core ML package for the Core ML stand-in: raw RGB frames in, a line of JSON and float32 out.

`executor.py MODEL [FUNCTION]`. First comes a line with the model's width and height; every frame, `height x width x 3`
bytes, is answered with a line that lists the outputs, followed by their values.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from veca_edge.runtime.program import open_mlpackage


def main(model: str, function: str | None = None) -> None:
    runner = open_mlpackage(model, function, threads=1)
    height, width = runner.input.shape
    out = sys.stdout.buffer
    out.write(json.dumps({"width": width, "height": height}).encode() + b"\n")
    out.flush()
    while frame := sys.stdin.buffer.read(width * height * 3):
        listed, values = [], b""
        for name, value in runner(np.frombuffer(frame, np.uint8).reshape(1, height, width, 3)).items():
            if value.dtype.kind == "U":
                listed.append({"name": name, "text": str(value)})
            else:
                listed.append({"name": name, "shape": list(value.shape)})
                values += value.astype("<f4").tobytes()
        out.write(json.dumps(listed).encode() + b"\n" + values)
        out.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
