"""ONNX Runtime on the CPU."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..base.cpu_features import cpu_flags, int8_saturates
from ..base.errors import EdgeError, MissingDependency
from ..base.options import MOST_THREADS
from ..base.spec import INPUT_FORMS
from ..bundle.details import CpuDetails, details_as
from ..bundle.types import Artifact
from ..formats.onnx_external import check_external_data
from .core_inputs import core_inputs

if TYPE_CHECKING:
    import onnxruntime

INPUT = "image"
EXACT_INT8 = ("session.x64quantprecision", "1")
# Otherwise the threads of a session go on spinning after a frame and take the cores from the next session's.
REST_BETWEEN_FRAMES = ("session.force_spinning_stop", "1")
# Otherwise ONNX Runtime makes integer products of them, which take longer than float32 ones where FP16 is rounded.
PLAIN_QDQ = ("session.disable_quant_qdq", "1")
_TYPES = {
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(float)": np.dtype(np.float32),
}


class OnnxRunner:
    """An ONNX file in a session of its own; see `bundle.runner.Runner`. Calls from several threads are safe."""

    def __init__(
        self, session: onnxruntime.InferenceSession, artifact: Artifact, fixed: Mapping[str, np.ndarray] | None = None
    ):
        self.session: onnxruntime.InferenceSession | None = session
        self.artifact = artifact
        self._fixed = dict(fixed or {})
        self._outputs = list(artifact.outputs)

    def __call__(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        check_batch(self.artifact, batch)
        if self.session is None:
            raise closed(self.artifact)
        made = self.session.run(self._outputs, {INPUT: batch, **self._fixed})
        return {name: np.asarray(array) for name, array in zip(self._outputs, made, strict=True)}

    def close(self) -> None:
        """Lets go of the session; see `runtime.Runner`."""
        self.session = None
        self._fixed.clear()
        give_back_freed_memory()


def open_onnx(
    path: Path, artifact: Artifact, threads: int | None = None, exact_int8: bool = False, model: bytes | None = None
) -> OnnxRunner:
    """Opens an ONNX file on the CPU.

    Args:
        exact_int8: see `session_options`.
        model: what is run in the file's place, with its inputs and outputs: the same computation, written otherwise.
            Its Q/DQ pairs are computed as they stand.

    Raises:
        EdgeError: the file is missing or broken, or is not the variant that `artifact` describes.
        MissingDependency: ONNX Runtime is not installed.
    """
    options = session_options(threads, exact_int8)
    if model is not None:
        options.add_session_config_entry(*PLAIN_QDQ)
    session = session_from_file(path, options, model)
    fixed = core_inputs(path, artifact)
    check_session(session, path, artifact, fixed)
    return OnnxRunner(session, artifact, fixed)


def open_exact_onnx(directory: Path, artifact: Artifact, threads: int | None = None) -> OnnxRunner:
    """Opens one artifact of the `cpu` dialect; see `bundle.runner.Opener`."""
    return open_onnx(directory / artifact.path, artifact, threads, may_saturate(artifact))


def may_saturate(artifact: Artifact) -> bool:
    """Whether ONNX Runtime has to be asked for exact INT8 products, for an artifact of the `cpu` dialect."""
    return artifact.precision == "int8" and not details_as(artifact.details, CpuDetails).sums_fit_16_bits


def session_options(threads: int | None, exact_int8: bool = False) -> onnxruntime.SessionOptions:
    """One graph, one call after the other, on `threads` threads that spin for work while a call runs, then rest.

    Args:
        exact_int8: for files of the `cpu` dialect that `may_saturate`. On x86 without VNNI, ONNX Runtime by default
            adds two u8 x s8 products in 16 bits, which saturates without a word; this makes it take its exact
            kernel there, and only there: with VNNI the default is exact and twice as fast
            (onnxruntime_session_options_config_keys.h). It breaks Q/DQ files whose per-channel weights
            have no zero point.
    """
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise EdgeError(f"{threads} threads cannot run anything.", f"Give --threads 1 to {MOST_THREADS}.")
    options = _onnxruntime().SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.add_session_config_entry(*REST_BETWEEN_FRAMES)
    # A plan of all memory at once takes more than asking the arena node by node, and is no faster.
    options.enable_mem_pattern = False
    if exact_int8 and int8_saturates(platform.machine(), cpu_flags()):
        options.add_session_config_entry(*EXACT_INT8)
    # 3 is "error": its warnings are about graphs that it optimised well enough.
    options.log_severity_level = 3
    return options


def session_from_file(
    path: Path, options: onnxruntime.SessionOptions, model: bytes | None = None
) -> onnxruntime.InferenceSession:
    """A CPU session, with ONNX Runtime's own errors told as one `EdgeError`.

    What loading took and freed goes back to the system: a quarter of the memory of `small` in INT8.

    Args:
        model: an ONNX file without external data, to be run in the place of the one at `path`.

    Raises:
        EdgeError: ONNX Runtime cannot load it, or it refers to something else than regular files beside it.
    """
    runtime = _onnxruntime()
    if not path.is_file():
        raise EdgeError(f"The model file {path} is missing.", "Copy the whole bundle again, or export it again.")
    check_external_data(path)
    try:
        session = runtime.InferenceSession(model or str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        if type(error).__module__ != "onnxruntime.capi.onnxruntime_pybind11_state":
            raise
        raise EdgeError(
            f"ONNX Runtime {runtime.__version__} cannot load {path}: {_short(error)}",
            "Check the bundle with 'veca-edge verify'; if it is whole, update onnxruntime.",
        ) from error
    give_back_freed_memory()
    return session


def give_back_freed_memory() -> None:
    """Asks glibc to return free memory to the system (malloc_trim(3), a few milliseconds); elsewhere does nothing."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(ctypes.c_size_t(0))


def check_session(
    session: onnxruntime.InferenceSession, path: Path, artifact: Artifact, fixed: Collection[str] = ()
) -> None:
    """Raises `EdgeError` when the file is not the variant that the manifest describes; `fixed` are further inputs."""
    inputs = {i.name: (_TYPES.get(i.type, i.type), tuple(i.shape)) for i in session.get_inputs() if i.name not in fixed}
    expected = {INPUT: input_type_and_shape(artifact)}
    outputs = tuple(o.name for o in session.get_outputs())
    stored = session.get_modelmeta().custom_metadata_map.get("core_count", str(artifact.core_count))
    if inputs != expected:
        what = f"takes {_described(inputs)}, not {_described(expected)}"
    elif set(outputs) != set(artifact.outputs) or not all(o.type in _TYPES for o in session.get_outputs()):
        what = f"gives {', '.join(outputs)}, not {', '.join(artifact.outputs)}"
    elif stored != str(artifact.core_count):
        what = f"was made for {stored} cores, not {artifact.core_count}"
    else:
        return
    raise EdgeError(f"{path} is not what the manifest says: it {what}.", "Export the bundle again.")


def outputs_of(session: onnxruntime.InferenceSession) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """Type and shape of every output."""
    return {o.name: (_TYPES[o.type], tuple(o.shape)) for o in session.get_outputs()}


def closed(artifact: Artifact) -> EdgeError:
    """The error for a model that is used after it was closed."""
    return EdgeError(f"{artifact.name} was closed, and can't run anything more.", "Load it again.")


def input_type_and_shape(artifact: Artifact) -> tuple[np.dtype, tuple[int, ...]]:
    """Of a batch as `bundle.runner.Runner` takes it."""
    height, width = artifact.image_size
    if artifact.input == "image":
        return np.dtype(np.uint8), (artifact.batch, height, width, 3)
    return np.dtype(np.float32), (artifact.batch, 3, height, width)


def check_batch(artifact: Artifact, batch: np.ndarray) -> None:
    """Raises `EdgeError` when a batch does not have the artifact's type and shape."""
    dtype, shape = input_type_and_shape(artifact)
    if batch.dtype != dtype or batch.shape != shape:
        raise EdgeError(
            f"{artifact.name} takes {dtype} {list(shape)}, but was given {batch.dtype} {list(batch.shape)}.",
            "Resize the frame, RGB, to the model's image size."
            if artifact.input == "image"
            else f"Give {INPUT_FORMS[artifact.input]}.",
        )


def _described(features: dict) -> str:
    return ", ".join(f"'{name}' {dtype} {list(shape)}" for name, (dtype, shape) in features.items()) or "nothing"


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + " ..."


def _onnxruntime():
    # 1.32's wheel for Linux reports to Microsoft, and opens a database in the user's cache when it is imported, unless
    # this is set before (onnxruntime/Privacy.md). Who wants it sets it to 0.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError:
        raise MissingDependency("onnxruntime", "export", "Running an ONNX file") from None
    return onnxruntime
