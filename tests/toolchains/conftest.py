"""Roots of other systems as fixtures; where one can't be had, its tests are skipped with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import roots


def root(name: str) -> Path:
    try:
        return roots.find(name)
    except roots.Unavailable as error:
        pytest.skip(f"no {name} root: {error}")


@pytest.fixture(scope="session")
def arm_root() -> Path:
    """A root with an aarch64 Python and its emulator."""
    return root("arm")


@pytest.fixture(scope="session")
def swift_root() -> Path:
    """A root with a Swift compiler."""
    return root("swift")


@pytest.fixture(scope="session")
def kotlin_root() -> Path:
    """A folder with the Kotlin compiler, JUnit and org.json."""
    return root("kotlin")


@pytest.fixture(scope="session")
def jetson_root() -> Path:
    """A root with g++, CMake, GStreamer and ONNX Runtime's headers."""
    return root("jetson")
