"""ONNX Runtime on the CPU without a copy or an allocation per frame, for several core counts at once."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..bundle.types import Artifact
from .onnxruntime import (
    INPUT,
    check_session,
    closed,
    give_back_freed_memory,
    input_type_and_shape,
    may_saturate,
    outputs_of,
    session_from_file,
    session_options,
)

if TYPE_CHECKING:
    import onnxruntime


class BoundRun:
    """Runs batches without copying them, into output arrays that each thread allocates once.

    Args:
        arrays: the output arrays of a thread, shared by the core counts of a model.
    """

    def __init__(self, session: onnxruntime.InferenceSession, artifact: Artifact, arrays: ThreadArrays):
        self.session: onnxruntime.InferenceSession | None = session
        self.artifact = artifact
        self._dtype, self._shape = input_type_and_shape(artifact)
        self._arrays = arrays
        self._local = threading.local()

    def __call__(self, batch: np.ndarray) -> Mapping[str, np.ndarray]:
        """`batch` is contiguous and has been checked. The outputs are overwritten by this thread's next call."""
        if self.session is None:
            raise closed(self.artifact)
        outputs = self._arrays.outputs
        binding = getattr(self._local, "binding", None)
        if binding is None:
            binding = self._local.binding = self.session.io_binding()
            for name, array in outputs.items():
                binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        binding.bind_input(INPUT, "cpu", 0, self._dtype, self._shape, batch.ctypes.data)
        self.session.run_with_iobinding(binding)
        return outputs

    def close(self) -> None:
        """Lets go of the session and of this thread's binding."""
        self.session = None
        self._local = threading.local()
        give_back_freed_memory()


class ThreadArrays(threading.local):
    """One array per output in every thread that runs a model."""

    def __init__(self, kinds: Mapping[str, tuple[np.dtype, Sequence[int]]]):
        self.outputs = {name: np.empty(shape, dtype) for name, (dtype, shape) in kinds.items()}


def open_bound_onnx(directory: Path, artifacts: Mapping[int, Artifact], threads: int | None) -> dict[int, BoundRun]:
    """Opens the core counts of one model, ready to be switched between.

    Several leave their weights where they are in the file, which is mapped, and work in one arena: ONNX
    Runtime then does not rearrange the weights for its kernels in every session anew. That saves most of
    the memory and half of the loading, at 5 to 10 percent of latency. One alone is opened in the fastest form.
    On x86 without VNNI it still has to for INT8 weights that `may_saturate`: it rewrites them there, and
    each core count holds its own.

    Raises:
        EdgeError: as `open_onnx`.
    """
    options = session_options(threads, exact_int8=any(map(may_saturate, artifacts.values())))
    if len(artifacts) > 1:
        register_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry("session.disable_prepacking", "1")
    sessions = {}
    for count, artifact in artifacts.items():
        path = directory / artifact.path
        sessions[count] = session_from_file(path, options)
        check_session(sessions[count], path, artifact)
    arrays = ThreadArrays(outputs_of(next(iter(sessions.values()))))
    return {count: BoundRun(session, artifacts[count], arrays) for count, session in sessions.items()}


def register_arena() -> None:
    """One arena for the activations of all sessions that ask for it; a second registration changes nothing."""
    import onnxruntime

    where = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(where, None)
