"""Runs signatures of a LiteRT file for the stand-in of its Kotlin interface.

First a line of JSON says what the file holds: `{signature: {"inputs": [...], "outputs": [...]}}`. Then, for every line
`SIGNATURE BYTES` and an image of so many bytes, a line of JSON lists the outputs, whose bytes follow.
"""

from __future__ import annotations

import json
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def main(path: str) -> None:
    interpreter = Interpreter(path, num_threads=1)
    _say(interpreter.get_signature_list())
    while line := sys.stdin.buffer.readline():
        signature, count = line.decode().split()
        run = interpreter.get_signature_runner(signature)
        shape = run.get_input_details()["image"]["shape"]
        outputs = run(image=np.frombuffer(sys.stdin.buffer.read(int(count)), np.uint8).reshape(shape))
        _say([{"name": name, "bytes": value.nbytes} for name, value in outputs.items()])
        for value in outputs.values():
            sys.stdout.buffer.write(value.tobytes())
        sys.stdout.buffer.flush()


def _say(value: object) -> None:
    sys.stdout.buffer.write(json.dumps(value).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1])
