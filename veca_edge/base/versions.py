"""Versions of everything that has a say in what an export computes."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from packaging.version import InvalidVersion, Version

from .errors import EdgeError

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


def parse_version(text: str) -> Version:
    """A version, also as Debian writes it (`10.3.0.30-1+cuda12.5`). Raises `EdgeError` for anything else."""
    try:
        return Version(text)
    except InvalidVersion as error:
        raise EdgeError(
            f"'{text[:60]}' is not a version.", "Give it as numbers with dots, for example 10.3."
        ) from error


def major_minor(version: str) -> str:
    """`10.3.0.30` -> `10.3`. Raises `EdgeError` for what is not a version."""
    parsed = parse_version(version)
    return f"{parsed.major}.{parsed.minor}"
