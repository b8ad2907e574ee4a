"""Versions of everything that has a say in what an export computes."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "veca-edge",
    "torch",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "nncf",
    "coremltools",
    "tensorrt-rtx",
    "tensorrt",
    "numpy",
    "pillow",
    "safetensors",
)


def tool_versions() -> dict[str, str]:
    """Installed versions by package name, and Python's; what is not installed is left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
