"""Runs Core ML packages on a Mac, through coremltools and Apple's framework.

Not yet run on hardware: it is written against coremltools 9, and a test checks every call against the
installed signatures.
"""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..base.errors import EdgeError, unknown_name
from ..bundle.runner import as_given
from ..bundle.types import Artifact
from ..formats.coremltools_library import coremltools_for
from ..formats.mlpackage import read_mlpackage

# What an app may use besides the CPU, by our names and coremltools'.
COMPUTE_UNITS = {"cpu": "CPU_ONLY", "gpu": "CPU_AND_GPU", "ane": "CPU_AND_NE", "all": "ALL"}

# Compiled packages of this process, by path and time of change; several functions share one.
_compiled: dict[tuple[str, int], str] = {}


def check_mac(purpose: str) -> None:
    """Raises `EdgeError` where Core ML can't run, saying what is needed."""
    if sys.platform != "darwin":
        raise EdgeError(
            f"{purpose} needs macOS 15 or later: Core ML runs on Apple's systems only.",
            "Copy the bundle to a Mac and run the same command there. `veca-edge verify` and `run` work "
            "anywhere: they execute the package without Core ML.",
        )


def open_mlpackage(
    path: str | Path,
    function: str | None = None,
    artifact: Artifact | None = None,
    threads: int | None = None,
    units: str = "all",
) -> CoremlRunner:
    """Compiles a package (once per process) and loads one function of it.

    Args:
        threads: ignored; Core ML chooses its own.
        units: `cpu`, `gpu` (with CPU), `ane` (with CPU) or `all`.

    Raises:
        EdgeError: not a Mac, no such function or unit, a damaged package, or Core ML refuses it.
    """
    check_mac("Running a Core ML package with Core ML")
    return CoremlRunner(Path(path), function, artifact, units, compiled_package(Path(path)))


def compiled_package(path: Path) -> str:
    """The path of the compiled model (`.mlmodelc`), in a folder that is removed when the process ends."""
    key = (str(path.resolve()), (path / "Manifest.json").stat().st_mtime_ns if path.is_dir() else 0)
    if key not in _compiled:
        folder = tempfile.mkdtemp(prefix="veca-edge-coreml-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        _compiled[key] = compile_package(path, Path(folder)).path
    return _compiled[key]


class Compiled(NamedTuple):
    """A compiled package: the path of its `.mlmodelc`, and how many milliseconds it took."""

    path: str
    ms: float


def compile_package(path: Path, folder: Path) -> Compiled:
    """Compiles a package into `folder`."""
    ct = coremltools_for("Compiling a Core ML package")
    destination = str(folder / f"{path.stem}.mlmodelc")
    start = time.perf_counter()
    try:
        ct.models.utils.compile_model(str(path), destination)
    except Exception as error:  # coremltools raises plain exceptions for whatever Core ML reports
        raise EdgeError(
            f"Core ML can't compile {path}: {error}", "Check it with: veca-edge lint PACKAGE --target apple"
        ) from error
    return Compiled(destination, 1000 * (time.perf_counter() - start))


class CoremlRunner:
    """One loaded function. Call it with a batch: uint8 `[1, H, W, 3]` where the input is an image, else float32 of
    the input's shape; it returns float32 arrays by output name."""

    def __init__(self, path: Path, function: str | None, artifact: Artifact | None, units: str, compiled: str):
        ct = coremltools_for("Running a Core ML package")
        package = read_mlpackage(path)
        name = function or package.default_function
        if name not in package.functions:
            raise unknown_name("function of the package", name, package.functions)
        if units not in COMPUTE_UNITS:
            raise unknown_name("compute unit", units, COMPUTE_UNITS)
        self.path, self.artifact = path, artifact
        self.input = package.functions[name].inputs[0]
        self.outputs = artifact.outputs if artifact else tuple(f.name for f in package.functions[name].outputs)
        start = time.perf_counter()
        try:
            self.model: Any = ct.models.CompiledMLModel(
                compiled,
                compute_units=getattr(ct.ComputeUnit, COMPUTE_UNITS[units]),
                function_name=name if len(package.functions) > 1 else None,
            )
        except Exception as error:
            raise EdgeError(
                f"Core ML can't load '{name}' of {path} for {units}: {error}",
                "The package may need a newer system than this one.",
            ) from error
        self.load_ms = 1000 * (time.perf_counter() - start)

    def __call__(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        outputs = self.predict(self.features(batch))
        return {name: _as_array(outputs[name]) for name in self.outputs}

    def predict(self, features: dict[str, Any]) -> dict[str, Any]:
        """Core ML's own call, and nothing else."""
        return self.model.predict(features)

    def close(self) -> None:
        """Lets go of the loaded function; coremltools frees it with its last reference."""
        self.model = None

    def features(self, batch: np.ndarray) -> dict[str, Any]:
        """A batch as Core ML takes it: a PIL image, or an array."""
        feature = self.input
        image = feature.kind == "image"
        expected = (1, *feature.shape, 3) if image else feature.shape
        dtype = np.dtype(np.uint8 if image else np.float32)
        if batch.shape != expected or batch.dtype != dtype:
            raise EdgeError(
                f"{self.path} takes {dtype} {list(expected)}, but got {batch.dtype} {list(batch.shape)}.",
                "Prepare frames as the README of its bundle says.",
            )
        if not image:
            return {feature.name: batch}
        from PIL import Image

        return {feature.name: Image.fromarray(batch[0])}


def _as_array(value: Any) -> np.ndarray:
    if isinstance(value, dict):
        return np.array(list(value.values()), np.float32)
    return np.array(value) if isinstance(value, str) else as_given(np.asarray(value))
