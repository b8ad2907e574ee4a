"""Versions of everything that has a say in what an export computes."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

# Of this package. pyproject.toml reads it from here, so that a source tree that was never installed knows it too.
VERSION = "0.1.0"

PACKAGES = (
    "torch",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "nncf",
    "coremltools",
    "ai-edge-litert",
    "tensorrt-rtx",
    "tensorrt",
    "numpy",
    "pillow",
    "safetensors",
)


def own_version() -> str:
    """veca-edge's own version, of the code that runs, installed or not."""
    return VERSION


def tool_versions() -> dict[str, str]:
    """Versions by package name: Python's, veca-edge's own, and those of what is installed beside it."""
    return {"python": platform.python_version(), **versions_of(("veca-edge", *PACKAGES))}


def versions_of(packages: tuple[str, ...]) -> dict[str, str]:
    """Versions of those of some packages that are installed; veca-edge's own is that of the code that runs."""
    found = {}
    for package in packages:
        try:
            found[package] = own_version() if package == "veca-edge" else version(package)
        except PackageNotFoundError:
            continue
    return found
