"""veca-edge: takes a trained VECA vision transformer to a camera.

    import veca_edge

    result = veca_edge.export(veca_edge.ExportRequest(output=Path("bundle"), core_counts=(16,)))

Importing this package imports nothing heavy: every name below loads its module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bundle import Artifact, Bundle, open_bundle
    from .checkpoint import Checkpoint, load_checkpoint
    from .errors import EdgeError, GateError, MissingDependency
    from .pipeline import ExportRequest, ExportResult, export, run, verify
    from .profiling import ProfileRequest, profile
    from .runtime import load
    from .spec import ExportSpec, GraphSpec, ImageSize

# Each name of the public API with the module that defines it.
_HOMES = {
    "Artifact": "bundle", "Bundle": "bundle", "open_bundle": "bundle",
    "Checkpoint": "checkpoint", "load_checkpoint": "checkpoint",
    "EdgeError": "errors", "GateError": "errors", "MissingDependency": "errors",
    "ExportRequest": "pipeline", "ExportResult": "pipeline", "export": "pipeline", "run": "pipeline",
    "verify": "pipeline",
    "ProfileRequest": "profiling", "profile": "profiling",
    "load": "runtime",
    "ExportSpec": "spec", "GraphSpec": "spec", "ImageSize": "spec",
}

__all__ = [
    "Artifact", "Bundle", "Checkpoint", "EdgeError", "ExportRequest", "ExportResult", "ExportSpec", "GateError",
    "GraphSpec", "ImageSize", "MissingDependency", "ProfileRequest", "__version__", "export", "load", "load_checkpoint",
    "open_bundle", "profile", "run", "verify",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("veca-edge")
    if name not in _HOMES:
        raise AttributeError(f"module 'veca_edge' has no attribute '{name}'")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
