"""LiteRT on this machine's CPU, through XNNPACK: the runtime of Android phones, of the same source."""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import EdgeError, GateError, MissingDependency
from ..base.files import sha256_of
from ..base.native_output import held_back, last_lines
from ..base.options import MOST_THREADS
from ..base.progress import Progress, silent
from ..bundle.types import Artifact
from ..formats.tflite import TfliteModel, TfliteSignature, read_tflite, with_one_subgraph
from .onnxruntime import INPUT, check_batch, closed, input_type_and_shape

EXPORT_AGAIN = "Export the bundle again."
# XNNPACK's name for a weight cache without a file; on Linux alone (delegate_weight_cache.h).
IN_MEMORY = ":memory"
_TYPES = {"UINT8": np.dtype(np.uint8), "INT32": np.dtype(np.int32), "FLOAT32": np.dtype(np.float32)}
# What XNNPACK never takes, at the end of a model that answers with class maps.
AT_THE_END = {"ARG_MAX"}
COMPLAINT = "ERROR: "


class OpenedFile:
    """A `.tflite` file that LiteRT has loaded, with all its signatures. One call at a time.

    The signatures share their weights, also in the form that XNNPACK rearranges them to, through its weight cache.
    """

    def __init__(self, path: Path, sha256: str, threads: int | None):
        if threads is not None and not 1 <= threads <= MOST_THREADS:
            raise EdgeError(f"{threads} threads cannot run anything.", f"Give --threads 1 to {MOST_THREADS}.")
        # LiteRT trusts what it loads: of a damaged file that still reads well, it may end the process.
        self.content = read_tflite(path)
        if sha256_of(path) != sha256:
            raise EdgeError(f"{path} was changed after the export.", "Copy the whole bundle again, or export it again.")
        self.lock = threading.Lock()
        litert = _compiled_model()
        self._folder = None if sys.platform == "linux" else tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        weights = IN_MEMORY if self._folder is None else os.path.join(self._folder.name, "weights")
        cpu = litert.CpuOptions(num_threads=threads or 0, xnnpack_weight_cache_path=weights)
        options = litert.Options(hardware_accelerators=litert.HardwareAccelerator.CPU, cpu_options=cpu)
        with held_back() as said:
            try:
                self.model = litert.CompiledModel.from_file(str(path), environment=_environment(), options=options)
            except (RuntimeError, ValueError) as error:
                raise EdgeError(
                    f"LiteRT cannot load {path}: {last_lines(said, COMPLAINT) or error}",
                    "Check the bundle with 'veca-edge verify'; if it is whole, update ai-edge-litert.",
                ) from error


class LitertRunner:
    """One signature of a file; see `bundle.runner.Runner`. Calls from several threads wait for each other."""

    def __init__(self, file: OpenedFile, path: Path, artifact: Artifact):
        signature = check_signature(file.content, path, artifact)
        self.file: OpenedFile | None = file
        self.artifact, self._key = artifact, artifact.function or ""
        tensors = file.content.subgraphs[signature.subgraph].tensors
        self._kinds = {name: (_TYPES[tensors[i].dtype], tensors[i].shape) for name, i in signature.outputs.items()}
        with held_back():
            self._image: Any = file.model.create_input_buffer_by_name(self._key, INPUT)
            self._outputs = {name: file.model.create_output_buffer_by_name(self._key, name) for name in self._kinds}
            # The first access to a buffer of a process makes a further environment, which says so.
            dtype, shape = input_type_and_shape(artifact)
            self._image.write(np.zeros(shape, dtype))

    def __call__(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        check_batch(self.artifact, batch)
        file = self.file
        if file is None:
            raise closed(self.artifact)
        with file.lock:
            self._image.write(np.ascontiguousarray(batch))
            try:
                file.model.run_by_name(self._key, {INPUT: self._image}, self._outputs)
            except RuntimeError as error:
                raise EdgeError(f"LiteRT cannot run {self.artifact.name}: {error}", EXPORT_AGAIN) from error
            return {
                name: np.array(self._outputs[name].read(int(np.prod(shape)), dtype)).reshape(shape)
                for name, (dtype, shape) in self._kinds.items()
            }

    def close(self) -> None:
        """Lets go of the file, which goes with its last runner."""
        self.file = None
        self._image, self._outputs = None, {}


def open_tflite(directory: Path, artifact: Artifact, threads: int | None = None) -> LitertRunner:
    """Opens one signature; see `bundle.runner.Opener`.

    Raises:
        EdgeError: the file is missing or damaged, or not what the manifest says. MissingDependency: no LiteRT.
    """
    path = directory / artifact.path
    return LitertRunner(OpenedFile(path, artifact.sha256, threads), path, artifact)


def open_tflite_together(
    directory: Path, artifacts: Mapping[int, Artifact], threads: int | None
) -> dict[int, LitertRunner]:
    """Opens the core counts of one model: signatures of one loaded file. Raises `EdgeError` as `open_tflite` does."""
    files: dict[str, OpenedFile] = {}
    runners = {}
    for count, artifact in artifacts.items():
        path = directory / artifact.path
        if artifact.path not in files:
            files[artifact.path] = OpenedFile(path, artifact.sha256, threads)
        runners[count] = LitertRunner(files[artifact.path], path, artifact)
    return runners


def check_signature(model: TfliteModel, path: Path, artifact: Artifact) -> TfliteSignature:
    """The artifact's signature. Raises `EdgeError` where the file does not hold what the manifest describes."""
    signature = model.signatures.get(artifact.function or "")
    if signature is None:
        raise EdgeError(
            f"{path} has no signature '{artifact.function}', but: {', '.join(model.signatures) or 'none'}.",
            EXPORT_AGAIN,
        )
    tensors = model.subgraphs[signature.subgraph].tensors
    expected = {INPUT: input_type_and_shape(artifact)}
    inputs = {name: (_TYPES.get(tensors[i].dtype), tensors[i].shape) for name, i in signature.inputs.items()}
    if inputs != expected:
        raise EdgeError(f"{path} is not what the manifest says: its input is {inputs}, not {expected}.", EXPORT_AGAIN)
    names = set(signature.outputs)
    if names != set(artifact.outputs) or any(tensors[i].dtype not in _TYPES for i in signature.outputs.values()):
        raise EdgeError(
            f"{path} is not what the manifest says: it gives {', '.join(sorted(names))}, not "
            f"{', '.join(artifact.outputs)}.",
            EXPORT_AGAIN,
        )
    return signature


@dataclass(frozen=True)
class Partitions:
    """What XNNPACK takes of a signature: in how many pieces, and the operators that it leaves to LiteRT's own."""

    count: int
    outside: tuple[str, ...]


def partitions_of(model: TfliteModel, signature: str) -> Partitions:
    """Asks LiteRT's interpreter. Raises `EdgeError` where it can't load the file; MissingDependency without LiteRT."""
    interpreter_class = _interpreter_class()
    with held_back() as said:
        try:
            interpreter = interpreter_class(model_content=with_one_subgraph(model, signature), num_threads=1)
            interpreter.allocate_tensors()
            nodes = interpreter._get_ops_details()
        except (RuntimeError, ValueError) as error:
            raise EdgeError(
                f"LiteRT cannot load '{signature}' of {model.path}: {last_lines(said, COMPLAINT) or error}",
                "The file is damaged, or for another LiteRT: export it again.",
            ) from error
    taken = [node for node in nodes if node["op_name"] == "DELEGATE"]
    by_delegate = {int(i) for node in taken for i in node["outputs"]}
    makers = {o: op for op in model.subgraphs[model.signatures[signature].subgraph].operators for o in op.outputs}
    # The interpreter also lists what a delegate has taken: outside is what makes an output, or a delegate's input.
    left = [*model.signatures[signature].outputs.values(), *(int(i) for node in taken for i in node["inputs"])]
    outside, seen = [], set()
    while left:
        tensor = left.pop()
        if tensor in seen or tensor in by_delegate or tensor not in makers:
            continue
        operator = makers[tensor]
        outside.append(operator.type)
        seen.update(operator.outputs)
        left.extend(operator.inputs)
    return Partitions(len(taken), tuple(outside))


def check_partitions(directory: Path, artifacts: Sequence[Artifact], progress: Progress = silent) -> None:
    """Raises `GateError` where XNNPACK does not take a signature in one piece; an ARG_MAX at its end it never takes."""
    files: dict[str, TfliteModel] = {}
    for i, artifact in enumerate(artifacts):
        model = files.setdefault(artifact.path, read_tflite(directory / artifact.path))
        found = partitions_of(model, artifact.function or "")
        others = set(found.outside) - AT_THE_END
        if found.count != 1 or others:
            raise GateError(
                f"XNNPACK takes {artifact.name} in {found.count} pieces and leaves out "
                f"{', '.join(sorted(found.outside)) or 'nothing'}.",
                "LiteRT would run it slowly. Install ai-edge-litert 2.3 or later; if it is, please report this.",
            )
        progress("asking LiteRT what XNNPACK takes", i + 1, len(artifacts))


# ------------------------------------------------------------------------------------ the packages


def _missing() -> MissingDependency:
    return MissingDependency("ai-edge-litert", "android", "Running a .tflite file")


def _compiled_model() -> Any:
    try:
        from ai_edge_litert import compiled_model
    except ImportError:
        raise _missing() from None
    return compiled_model


def _interpreter_class() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise _missing() from None
    return Interpreter


@cache
def _environment() -> Any:
    """LiteRT's, one for the process: it looks for accelerators, at some length, whenever one is made."""
    environment = _compiled_model()._create_default_environment()

    def close() -> None:
        # What LiteRT says when the process has ended it, at last through destructors of its own, is for nobody.
        sys.stderr.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        environment.close()

    atexit.register(close)
    return environment
