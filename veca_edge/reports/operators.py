"""Where the time of a call goes: ONNX Runtime's own profile of an artifact, taken when the report is made, and
layer times that were measured on a board."""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from ..actions.candidate import Candidate
from ..base.progress import Progress, silent
from ..bundle.types import Artifact
from ..images.preprocessing import as_input
from ..profiles.jetson.layers import ModelPart, model_part

# Steady calls that are profiled, after those that warm up.
CALLS = 20
WARM_UP = 3
FRONT, BETWEEN, OUTSIDE = "patch embedding", "added by ONNX Runtime", "outside the layers"


@dataclass(frozen=True)
class OperatorTimes:
    """One artifact's time per call, in milliseconds, by two ways of taking it apart.

    Attributes:
        threads: of the profiled session, as the measurement's; None where there is no such setting.
        by_operator: empty where only layers are known.
    """

    artifact: Artifact
    threads: int | None
    by_operator: Mapping[str, float]
    by_layer: Mapping[str, float]

    @property
    def total_ms(self) -> float:
        return sum(self.by_layer.values())


def operator_times(
    directory: Path, chosen: Sequence[Candidate], frames: np.ndarray, progress: Progress = silent
) -> list[OperatorTimes]:
    """Profiles ONNX artifacts of the `cpu` target on this machine.

    Args:
        frames: uint8 `[n, H, W, 3]` of the artifacts' image size; the first ones are run.

    Raises:
        EdgeError: an artifact can't be opened.
    """
    found = []
    for i, candidate in enumerate(chosen):
        artifact, threads = candidate.artifact, candidate.measurement.threads
        batch = np.resize(frames, (artifact.batch, *frames.shape[1:]))
        events = node_events(directory, artifact, as_input(batch, artifact.input), threads)
        by_operator, by_layer = summed(events)
        found.append(OperatorTimes(artifact, threads, by_operator, by_layer))
        progress("profiling operators", i + 1, len(chosen))
    return found


def measured_layers(candidate: Candidate) -> OperatorTimes | None:
    """The layer times that a measurement holds (trtexec's, from the board), or None."""
    layers = candidate.measurement.facts.layers
    if not layers:
        return None
    by_layer: dict[str, float] = defaultdict(float)
    for name, ms in layers:
        by_layer[_label(model_part(name))] += ms
    return OperatorTimes(candidate.artifact, None, {}, dict(by_layer))


def _label(part: ModelPart) -> str:
    """As the table calls a part of the model."""
    if part.first is None:
        return FRONT if part.patch_embedding else OUTSIDE
    return f"layer {part.first}" if part.first == part.last else f"fused from layers {part.first} to {part.last}"


def node_events(
    directory: Path, artifact: Artifact, batch: np.ndarray, threads: int | None
) -> list[tuple[str, str, float]]:
    """Name, operator and milliseconds of every node that ran in the steady calls."""
    from ..runtime.onnxruntime import INPUT, may_saturate, session_from_file, session_options

    with tempfile.TemporaryDirectory(prefix="veca-edge-") as folder:
        options = session_options(threads, may_saturate(artifact))
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = session_from_file(directory / artifact.path, options)
        for _ in range(WARM_UP + CALLS):
            session.run(None, {INPUT: batch})
        events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [
        (e["name"].removesuffix("_kernel_time"), e["args"]["op_name"], e["dur"] / 1000)
        for e in events
        if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")
    ]
    return nodes[len(nodes) // (WARM_UP + CALLS) * WARM_UP :]


def summed(events: Sequence[tuple[str, str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds a call by operator and by layer."""
    durations: dict[tuple[str, str], list[float]] = defaultdict(list)
    for name, operator, ms in events:
        durations[name, operator].append(ms)
    by_operator: dict[str, float] = defaultdict(float)
    by_layer: dict[str, float] = defaultdict(float)
    for (name, operator), times in durations.items():
        # A name that occurs more than once a call counts as often.
        ms = median(times) * len(times) / CALLS
        by_operator[operator] += ms
        by_layer[layer_of(name)] += ms
    return dict(by_operator), dict(by_layer)


def layer_of(node: str) -> str:
    """The layer that a node's name says it is part of; the runtime's own insertions say none."""
    if block := re.match(r"blocks\.(\d+)\.", node):
        return f"layer {block[1]}"
    if node.startswith(("patch_embed", "tokens")):
        return FRONT
    return "final norm and heads" if re.match(r"(final|output|head|cls|dense|logits)", node) else BETWEEN


@dataclass(frozen=True)
class TimeRow:
    """A row of a table: what, the milliseconds of each artifact (None where it has no such node), and their shares."""

    name: str
    ms: tuple[float | None, ...]
    shares: tuple[float, ...]


def operator_rows(times: Sequence[OperatorTimes], most: int = 12) -> list[TimeRow]:
    """Operators by their largest share in any artifact; the smallest together in a last row."""
    names = {name for t in times for name in t.by_operator}
    ordered = sorted(names, key=lambda name: (-max(t.by_operator.get(name, 0) / t.total_ms for t in times), name))
    rows = [_row(name, times, [t.by_operator.get(name) for t in times]) for name in ordered[:most]]
    if rest := ordered[most:]:
        rows.append(_row(f"{len(rest)} others", times, [sum(t.by_operator.get(n, 0) for n in rest) for t in times]))
    return rows


def layer_rows(times: Sequence[OperatorTimes]) -> list[TimeRow]:
    """Layers in the order of the model."""
    names = sorted(dict.fromkeys(name for t in times for name in t.by_layer), key=_place)
    return [_row(name, times, [t.by_layer.get(name) for t in times]) for name in names]


def _row(name: str, times: Sequence[OperatorTimes], ms: Sequence[float | None]) -> TimeRow:
    return TimeRow(name, tuple(ms), tuple((v or 0) / t.total_ms for v, t in zip(ms, times, strict=True)))


def _place(layer: str) -> tuple[bool, bool, int]:
    return layer in (BETWEEN, OUTSIDE), layer != FRONT, _block(layer)


def _block(layer: str) -> int:
    number = layer.removeprefix("layer ")
    return int(number) if number.isdigit() else 1 << 16
