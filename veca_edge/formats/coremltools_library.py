"""coremltools as this package uses it: whole, to convert and to run; its messages alone, to read.

Importing coremltools takes seconds, as it brings all converters and torch; the protobuf messages of a package take none
of that.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from ..base.errors import EdgeError, MissingDependency

INSTALL_HINT = "Install one that works: pip install 'veca-edge[apple]'"
REINSTALL_HINT = "Install it again: pip install --force-reinstall 'veca-edge[apple]'"
MESSAGES = "veca_edge_coreml_messages"  # what coremltools.proto is called where it is imported alone


def coremltools_for(purpose: str) -> ModuleType:
    """coremltools, imported without its remarks about packages that are not used here.

    Args:
        purpose: what needs it, as the beginning of a sentence: `Running a Core ML package`.

    Raises:
        MissingDependency: it is not installed.
        EdgeError: a version, or an installation, that is known not to work.
    """
    _check_version(purpose)
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    try:
        coremltools = import_module("coremltools")
    except ImportError as error:
        raise _not_importable(purpose, error) from error
    try:
        import_module("coremltools.libmilstoragepython")
        import_module("coremltools.libmodelpackage")
    except ImportError as error:
        raise EdgeError(
            f"coremltools {coremltools.__version__} was installed without its native libraries, so it can't write "
            f"packages ({error}): there is no wheel for this system or Python version.",
            "Use Linux or macOS with a Python that coremltools has a wheel for (3.10 to 3.12).",
        ) from error
    return coremltools


@cache
def messages_for(purpose: str) -> Any:
    """The protobuf modules of coremltools (`Model_pb2`, `MIL_pb2` and others), without the rest of it.

    They are imported as a package of their own, whose classes are the same as those of `coremltools.proto`: protobuf
    keeps one class per message.

    Args:
        purpose: as for `coremltools_for`.

    Raises:
        MissingDependency: coremltools is not installed.
        EdgeError: a version, or an installation, that is known not to work.
    """
    folder = _check_version(purpose) / "proto"
    spec = spec_from_file_location(MESSAGES, folder / "__init__.py", submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise EdgeError(f"{purpose} needs coremltools, whose folder {folder} is no package.", REINSTALL_HINT)
    package = module_from_spec(spec)
    sys.modules[MESSAGES] = package  # its modules import each other through it
    try:
        spec.loader.exec_module(package)
    except (ImportError, OSError) as error:
        del sys.modules[MESSAGES]
        raise _not_importable(purpose, error) from error
    return package


def _check_version(purpose: str) -> Path:
    """The folder of coremltools, of a version that is known to work."""
    found = find_spec("coremltools")
    if found is None or not found.submodule_search_locations:
        raise MissingDependency("coremltools", "apple", purpose)
    try:
        installed = version("coremltools")
    except PackageNotFoundError as error:
        raise EdgeError(f"{purpose} needs coremltools, which is there without its metadata.", REINSTALL_HINT) from error
    major = installed.split(".")[0]
    if major != "9":
        known = (
            "versions before 9 write no iOS 26 and miss fixes in the INT8 operators"
            if int(major) < 9
            else "it is newer than any this version of veca-edge was checked with"
        )
        raise EdgeError(f"coremltools {installed} is installed: {known}.", INSTALL_HINT)
    return Path(found.submodule_search_locations[0])


def _not_importable(purpose: str, error: Exception) -> EdgeError:
    return EdgeError(f"{purpose} needs coremltools, which is installed but can't be imported: {error}", REINSTALL_HINT)


@contextlib.contextmanager
def converting(folder: Path) -> Iterator[None]:
    """Holds back the progress bars that coremltools writes to the terminal, and gives it a place below `folder` for its
    temporary files, which are gone when the block ends: by itself it keeps a package of every conversion until the
    process ends, and for ever where that is killed."""
    before = tempfile.tempdir
    with contextlib.redirect_stderr(io.StringIO()), tempfile.TemporaryDirectory(dir=folder) as aside:
        tempfile.tempdir = aside
        try:
            yield
        finally:
            tempfile.tempdir = before
