"""With a board in reach: exports its dialect and builds the engines there. Without one: estimates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..base.errors import EdgeError
from ..base.progress import Progress, silent
from ..bundle.store import Artifact, Bundle, add_artifacts, open_bundle
from ..converters.tensorrt.dialects import TensorrtOptions
from ..converters.tensorrt.engine import EngineOptions, build_engines
from ..devices.jetson.modules import Estimate, Module, estimate_frame
from ..devices.jetson.probe import Board, board_tensorrt, open_board
from ..devices.jobs import Log, ignore
from ..profiles.sweep import cost_facts
from .export import ExportRequest, ExportResult, export


@dataclass(frozen=True)
class Built:
    """Engines, the board they were built on, and the bundle that now holds them."""

    bundle: Bundle
    board: Board
    engines: tuple[Artifact, ...]


def build_on(
    path: Path, device: str, options: EngineOptions | None = None, progress: Progress = silent, on_log: Log = ignore
) -> Built:
    """Builds an engine from every TensorRT file of a bundle, and adds them to its manifest.

    Run again after an interruption it goes on where it was.

    Args:
        device: `local`, or `ssh://[user@]host[:port]`.
        on_log: gets the builder's lines.

    Raises:
        EdgeError: the bundle has nothing for TensorRT, the board can't be reached or can't build it.
    """
    bundle = open_bundle(path)
    files = [a for a in bundle.artifacts if a.target == "jetson" and a.format == "onnx"]
    if not files:
        raise EdgeError(f"The bundle {path} holds nothing for TensorRT.", "Export one with --target jetson.")
    with open_board(device) as (connection, board):
        engines = build_engines(connection, board, bundle.directory, files, options, progress, on_log)
    return Built(add_artifacts(bundle, engines), board, tuple(engines))


def export_for(
    request: ExportRequest, device: str, progress: Progress = silent, on_log: Log = ignore
) -> tuple[ExportResult, Built]:
    """Exports in the dialect of the board's TensorRT, and builds the engines there.

    Raises:
        EdgeError: as `export` and `build_on`. When only building fails, the bundle stays, and `build_on` goes on.
    """
    with open_board(device) as (connection, board):
        version = board_tensorrt(connection, board)
    options = replace(request.target_options or TensorrtOptions(), version=version)
    result = export(replace(request, target_options=options), progress)
    return result, build_on(request.output, device, None, progress, on_log)


def estimates(bundle: Bundle, modules: tuple[Module, ...]) -> list[tuple[Artifact, tuple[Estimate, ...]]]:
    """For every TensorRT file the roofline of one frame on each module: engines can't be faster, and are slower."""
    rows = []
    width = bundle.checkpoint.config.hidden
    for artifact in bundle.artifacts:
        if artifact.target == "jetson" and artifact.format == "onnx":
            cost = cost_facts(bundle, artifact)
            attention_macs = 2 * width * cost["attention_interactions"]
            rows.append(
                (
                    artifact,
                    tuple(
                        estimate_frame(module, artifact.precision, cost["macs"], attention_macs, artifact.bytes)
                        for module in modules
                    ),
                )
            )
    return rows
