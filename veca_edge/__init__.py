"""veca-edge: takes a trained VECA vision transformer to a camera.

    import veca_edge

    result = veca_edge.export(veca_edge.ExportRequest(output=Path("bundle"), core_counts=(16,)))

Importing this package imports nothing heavy: every name below loads its module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .actions.export import ExportRequest, ExportResult, export, run, verify
    from .actions.profile import ProfileRequest, profile
    from .base.errors import EdgeError, GateError, MissingDependency
    from .base.spec import ExportSpec, GraphSpec, ImageSize
    from .bundle.store import Artifact, Bundle, open_bundle
    from .model.checkpoint import Checkpoint, load_checkpoint
    from .runtime import load

# Each name of the public API with the module that defines it.
_HOMES = {
    "Artifact": "bundle.store",
    "Bundle": "bundle.store",
    "open_bundle": "bundle.store",
    "Checkpoint": "model.checkpoint",
    "load_checkpoint": "model.checkpoint",
    "EdgeError": "base.errors",
    "GateError": "base.errors",
    "MissingDependency": "base.errors",
    "ExportRequest": "actions.export",
    "ExportResult": "actions.export",
    "export": "actions.export",
    "run": "actions.export",
    "verify": "actions.export",
    "ProfileRequest": "actions.profile",
    "profile": "actions.profile",
    "load": "runtime",
    "ExportSpec": "base.spec",
    "GraphSpec": "base.spec",
    "ImageSize": "base.spec",
}

__all__ = [
    "Artifact",
    "Bundle",
    "Checkpoint",
    "EdgeError",
    "ExportRequest",
    "ExportResult",
    "ExportSpec",
    "GateError",
    "GraphSpec",
    "ImageSize",
    "MissingDependency",
    "ProfileRequest",
    "__version__",
    "export",
    "load",
    "load_checkpoint",
    "open_bundle",
    "profile",
    "run",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from .base.versions import own_version

        return own_version()
    if name not in _HOMES:
        raise AttributeError(f"module 'veca_edge' has no attribute '{name}'")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
