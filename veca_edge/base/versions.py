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
    found = {"python": platform.python_version(), "veca-edge": own_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
