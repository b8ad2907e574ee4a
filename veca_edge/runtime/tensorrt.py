"""TensorRT engines on the board that they were built on."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path

import numpy as np

from ..base.errors import EdgeError
from ..bundle.details import TensorrtDetails, details_as
from ..bundle.runner import as_given
from ..bundle.types import Artifact
from ..devices.connection import LocalConnection
from ..devices.jetson.engine_key import check_engine_key
from ..devices.jetson.probe import Board, probe
from .core_inputs import core_inputs
from .onnxruntime import INPUT, check_batch, input_type_and_shape
from .tensorrt_engine import Engine, EngineError


class TensorrtRunner:
    """An engine with buffers of its own on the GPU; see `runtime.Runner`. Calls from several threads take turns."""

    def __init__(self, engine: Engine, artifact: Artifact):
        self.engine = engine
        self.artifact = artifact
        self._turn = threading.Lock()

    def __call__(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        with self._turn:
            # The outputs lie in buffers that the next call overwrites.
            return {name: as_given(array) for name, array in self.view(batch).items()}

    def view(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """Like a call, without any allocation: the outputs are valid until the next one, and not for other threads."""
        check_batch(self.artifact, batch)
        try:
            return self.engine.run(**{INPUT: batch})
        except EngineError as error:
            raise EdgeError(
                f"{self.artifact.name} failed on the GPU: {error}",
                "Restart the program; if it comes back, build the engine anew.",
            ) from error

    def close(self) -> None:
        self.engine.close()


def open_engine(path: Path, artifact: Artifact, rebuild: str = "veca-edge build BUNDLE") -> TensorrtRunner:
    """Opens an engine on this board; frames go in as they come from the camera, uint8 RGB.

    Args:
        rebuild: the command that builds it for this board, for messages.

    Raises:
        EdgeError: the engine was built for another board (it says what differs), is missing or broken, or
            TensorRT's Python package is missing.
    """
    if not path.is_file():
        raise EdgeError(f"The engine {path} is missing.", f"Copy the whole bundle again, or build it: {rebuild}")
    check_engine_key(artifact.details, this_board(), artifact.name, rebuild)
    try:
        own = details_as(artifact.details, TensorrtDetails, artifact.name).profile
        engine = Engine(path, constants=core_inputs(path, artifact), profile=own)
    except ImportError as error:
        raise EdgeError(
            "Running an engine needs TensorRT's Python package, which is not there for this Python.",
            "On a Jetson it belongs to the system's Python: install JetPack's (sudo apt install "
            "python3-libnvinfer), and use a virtual environment with --system-site-packages.",
        ) from error
    except EngineError as error:
        raise EdgeError(f"{artifact.name} cannot be opened: {error}", f"Build it for this board: {rebuild}") from error
    runner = TensorrtRunner(engine, artifact)
    check_signature(runner)
    return runner


@cache
def this_board() -> Board:
    """This machine, read once."""
    return probe(LocalConnection())


def check_signature(runner: TensorrtRunner) -> None:
    """Raises `EdgeError` when the engine is not the variant that the manifest describes."""
    artifact, engine = runner.artifact, runner.engine
    dtype, shape = input_type_and_shape(artifact)
    found = engine.inputs.get(INPUT)
    if found is None or (found.dtype, found.shape) != (dtype, shape):
        takes = f"{found.dtype} {list(found.shape)}" if found else f"no '{INPUT}'"
        raise EdgeError(
            f"{artifact.path} is not what the manifest says: it takes {takes}, not {dtype} {list(shape)}.",
            "Build it again.",
        )
    if set(engine.outputs) != set(artifact.outputs):
        raise EdgeError(
            f"{artifact.path} is not what the manifest says: it gives {', '.join(engine.outputs)}, not "
            f"{', '.join(artifact.outputs)}.",
            "Build it again.",
        )
