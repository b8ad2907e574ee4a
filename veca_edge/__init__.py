"""veca-edge: takes a trained VECA vision transformer to a camera.

    import veca_edge

    result = veca_edge.export(veca_edge.ExportRequest(output=Path("bundle"), core_counts=(16,)))

Importing this package imports nothing heavy: every name below loads its module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .actions.build import build
    from .actions.compare import CompareRequest, TimeComparison, compare
    from .actions.doctor import examine as doctor
    from .actions.evaluate import Evaluated, evaluate
    from .actions.evaluate_request import EvaluateRequest
    from .actions.export import ExportResult, export
    from .actions.fit import FitResult, fit
    from .actions.fit_request import FitRequest
    from .actions.limits import Limits
    from .actions.lint import lint
    from .actions.live import open_live as live
    from .actions.load import load_bundle
    from .actions.load import load_bundle as load
    from .actions.matrix import export_matrix
    from .actions.profile import Profiled, ProfileRequest, profile
    from .actions.recommend import Recommendation, recommend
    from .actions.request import CheckpointSource, ExportRequest, ImageSource
    from .actions.run import Prediction, Predictions, run
    from .actions.run_request import LiveRequest
    from .actions.sensitivity import Sensitivity, sensitivity
    from .actions.verify import Verified, verify
    from .base.checks import Check
    from .base.errors import EdgeError, GateError, MissingDependency
    from .base.spec import ExportSpec, GraphSpec, ImageSize
    from .base.tasks import HeadFile, Task
    from .bundle.store import open_bundle
    from .bundle.types import Agreement, Artifact, Bundle, Fidelity
    from .converters.coreml.options import CoremlOptions
    from .converters.tensorrt.options import EngineOptions, TensorrtOptions
    from .images.mapping import map_to_frame, points_to_frame
    from .images.pictures import Picture
    from .images.preprocessing import Preprocessing, prepare
    from .model.checkpoint import Checkpoint, load_checkpoint
    from .profiles.android.options import AndroidProfileOptions
    from .profiles.jetson.options import BoardOptions
    from .profiles.measurement import Measurement
    from .profiles.options import CoremlProfileOptions, ProfileOptions
    from .profiles.sweep import Profile
    from .profiles.verdict import Verdict
    from .reports.write import ReportOptions
    from .reports.write import write_report as report
    from .rules.finding import Finding
    from .runtime.governor import Decision, Rules
    from .runtime.live import Live, Step
    from .runtime.model import Model, Output
    from .targets.base import Built, Target

    __version__: str

# Each name of the public API with the module that defines it, and the name there where it differs.
_HOMES = {
    "Agreement": "bundle.types",
    "AndroidProfileOptions": "profiles.android.options",
    "Artifact": "bundle.types",
    "BoardOptions": "profiles.jetson.options",
    "Built": "targets.base",
    "Bundle": "bundle.types",
    "Check": "base.checks",
    "Checkpoint": "model.checkpoint",
    "CheckpointSource": "actions.request",
    "CompareRequest": "actions.compare",
    "CoremlOptions": "converters.coreml.options",
    "CoremlProfileOptions": "profiles.options",
    "Decision": "runtime.governor",
    "EdgeError": "base.errors",
    "EngineOptions": "converters.tensorrt.options",
    "EvaluateRequest": "actions.evaluate_request",
    "Evaluated": "actions.evaluate",
    "ExportRequest": "actions.request",
    "ExportResult": "actions.export",
    "ExportSpec": "base.spec",
    "Fidelity": "bundle.types",
    "Finding": "rules.finding",
    "FitRequest": "actions.fit_request",
    "FitResult": "actions.fit",
    "GateError": "base.errors",
    "GraphSpec": "base.spec",
    "HeadFile": "base.tasks",
    "ImageSize": "base.spec",
    "ImageSource": "actions.request",
    "Limits": "actions.limits",
    "Live": "runtime.live",
    "LiveRequest": "actions.run_request",
    "Measurement": "profiles.measurement",
    "MissingDependency": "base.errors",
    "Model": "runtime.model",
    "Output": "runtime.model",
    "Picture": "images.pictures",
    "Prediction": "actions.run",
    "Predictions": "actions.run",
    "Preprocessing": "images.preprocessing",
    "Profile": "profiles.sweep",
    "ProfileOptions": "profiles.options",
    "ProfileRequest": "actions.profile",
    "Profiled": "actions.profile",
    "Recommendation": "actions.recommend",
    "ReportOptions": "reports.write",
    "Rules": "runtime.governor",
    "Sensitivity": "actions.sensitivity",
    "Step": "runtime.live",
    "Target": "targets.base",
    "Task": "base.tasks",
    "TensorrtOptions": "converters.tensorrt.options",
    "TimeComparison": "actions.compare",
    "Verdict": "profiles.verdict",
    "Verified": "actions.verify",
    "build": "actions.build",
    "compare": "actions.compare",
    "doctor": "actions.doctor:examine",
    "evaluate": "actions.evaluate",
    "export": "actions.export",
    "export_matrix": "actions.matrix",
    "fit": "actions.fit",
    "lint": "actions.lint",
    "live": "actions.live:open_live",
    "load": "actions.load:load_bundle",
    "load_bundle": "actions.load",
    "load_checkpoint": "model.checkpoint",
    "map_to_frame": "images.mapping",
    "open_bundle": "bundle.store",
    "points_to_frame": "images.mapping",
    "prepare": "images.preprocessing",
    "profile": "actions.profile",
    "recommend": "actions.recommend",
    "report": "reports.write:write_report",
    "run": "actions.run",
    "sensitivity": "actions.sensitivity",
    "verify": "actions.verify",
}

__all__ = [
    "Agreement",
    "AndroidProfileOptions",
    "Artifact",
    "BoardOptions",
    "Built",
    "Bundle",
    "Check",
    "Checkpoint",
    "CheckpointSource",
    "CompareRequest",
    "CoremlOptions",
    "CoremlProfileOptions",
    "Decision",
    "EdgeError",
    "EngineOptions",
    "EvaluateRequest",
    "Evaluated",
    "ExportRequest",
    "ExportResult",
    "ExportSpec",
    "Fidelity",
    "Finding",
    "FitRequest",
    "FitResult",
    "GateError",
    "GraphSpec",
    "HeadFile",
    "ImageSize",
    "ImageSource",
    "Limits",
    "Live",
    "LiveRequest",
    "Measurement",
    "MissingDependency",
    "Model",
    "Output",
    "Picture",
    "Prediction",
    "Predictions",
    "Preprocessing",
    "Profile",
    "ProfileOptions",
    "ProfileRequest",
    "Profiled",
    "Recommendation",
    "ReportOptions",
    "Rules",
    "Sensitivity",
    "Step",
    "Target",
    "Task",
    "TensorrtOptions",
    "TimeComparison",
    "Verdict",
    "Verified",
    "__version__",
    "build",
    "compare",
    "doctor",
    "evaluate",
    "export",
    "export_matrix",
    "fit",
    "lint",
    "live",
    "load",
    "load_bundle",
    "load_checkpoint",
    "map_to_frame",
    "open_bundle",
    "points_to_frame",
    "prepare",
    "profile",
    "recommend",
    "report",
    "run",
    "sensitivity",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from .base.versions import own_version

        return own_version()
    if name not in _HOMES:
        raise AttributeError(f"module 'veca_edge' has no attribute '{name}'")
    module, _, there = _HOMES[name].partition(":")
    return getattr(import_module(f".{module}", __name__), there or name)


def __dir__() -> list[str]:
    return sorted(__all__)
