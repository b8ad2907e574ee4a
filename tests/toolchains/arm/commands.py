"""Commands of veca-edge, one after the other in one process: an emulated Python takes seconds to start.

`commands.py COMMANDS ENDED MODEL MATRICES PRODUCTS` runs a JSON list of commands, and writes how they ended as JSON;
then it multiplies the matrices of a file with ONNX Runtime.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict


class Ended(TypedDict):
    code: int
    out: str
    err: str


def ended(words: Sequence[object]) -> Ended:
    """Runs a command in this process."""
    from typer.testing import CliRunner

    from veca_edge.cli import commands

    result = CliRunner().invoke(commands, [str(word) for word in words], prog_name="veca-edge")
    raised = result.exception
    if raised is not None and not isinstance(raised, SystemExit):
        return Ended(code=3, out=result.stdout, err="".join(traceback.format_exception(raised)))
    return Ended(code=result.exit_code, out=result.stdout, err=result.stderr)


def multiply(model: str, matrices: str, products: str) -> None:
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    with np.load(matrices) as given:
        np.savez(products, *session.run(None, dict(given)))


def main(commands: str, ended_as: str, *files: str) -> None:
    listed = json.loads(Path(commands).read_text())
    Path(ended_as).write_text(json.dumps([ended(words) for words in listed]))
    multiply(*files)


if __name__ == "__main__":
    main(*sys.argv[1:])
