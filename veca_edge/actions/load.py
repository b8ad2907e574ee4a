"""A bundle opened as one model, on whatever runs its target here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.errors import EdgeError
from ..base.spec import ImageSize
from ..base.text import quoted
from ..bundle.store import opened, verify_artifacts
from ..bundle.types import Artifact, Bundle
from ..runtime.model import Model
from ..targets.table import target_named

if TYPE_CHECKING:
    from ..targets.base import Format


def load_bundle(
    bundle: str | Path | Bundle,
    core_counts: Sequence[int] | None = None,
    precision: str | None = None,
    image_size: ImageSize | None = None,
    threads: int | None = None,
    format: str | None = None,
) -> Model:
    """Loads a bundle to run frames: ONNX Runtime on a CPU, TensorRT on a Jetson, Core ML on a Mac.

    All core counts that are loaded are ready at once, so that switching costs nothing. On the CPU they
    share one copy of the weights, which costs 5 to 10 percent of
    latency; a single core count is loaded in ONNX Runtime's fastest form. Close the model, or use it in a
    `with`, to let go of its memory.

    Args:
        core_counts: which to load; None is all that the bundle has. The model starts at the largest.
        precision, image_size: None takes the first that the bundle was exported with.
        threads: CPU threads; None leaves it to the runtime.
        format: of the files; None takes what runs on the device. `onnx` runs a Jetson bundle's ONNX files in ONNX
            Runtime, to see what they compute: their speed there means nothing.

    Raises:
        EdgeError: no bundle, or it lacks what is asked for (it lists what it has).
    """
    whole = opened(bundle)
    kind = runnable_format(whole, format)
    artifacts = chosen_artifacts(whole, kind, core_counts, precision, image_size)
    verify_artifacts(whole, artifacts.values())
    runs = kind.open_model(whole.directory, artifacts, threads)
    return Model(whole, artifacts, runs, partial(expected_latencies, whole))


def runnable_format(bundle: Bundle, name: str | None) -> Format:
    """The kind of file to run: what runs on the device, unless another is asked for by name.

    Raises:
        EdgeError: the bundle holds none of that kind, or the target has no such kind.
    """
    target = target_named(bundle.spec.target)
    kind = target.deployed if name is None else target.format_named(name)
    held = {a.format for a in bundle.artifacts}
    if kind.name in held:
        return kind
    others = [f for f in target.formats if f.name in held]
    hint = f"It has: {', '.join(sorted(held))}."
    if target.builder is not None and kind is target.deployed:
        hint = f"Build it on the board first: {quoted('veca-edge', 'build', bundle.directory)} --device ssh://HOST"
    if others and name is None:
        hint += f". To see what the {others[0].name} files compute, in {others[0].runner}: --format {others[0].name}"
    raise EdgeError(f"The bundle {bundle.directory} holds no {kind.name} to run.", hint)


def chosen_artifacts(
    bundle: Bundle, kind: Format, core_counts: Sequence[int] | None, precision: str | None, image_size: ImageSize | None
) -> dict[int, Artifact]:
    """One artifact per core count, ascending."""
    runnable = [a for a in bundle.artifacts if a.format == kind.name]
    precision = precision or bundle.spec.precisions[0]
    image_size = image_size or bundle.spec.image_sizes[0]
    fitting = {a.core_count: a for a in runnable if a.precision == precision and a.image_size == image_size}
    if not fitting:
        listed = ", ".join(dict.fromkeys(f"{a.precision} at {a.image_size}" for a in runnable))
        raise EdgeError(f"The bundle {bundle.directory} has no {precision} at {image_size}.", f"It has: {listed}.")
    for count in core_counts or ():
        if count not in fitting:
            raise EdgeError(
                f"The bundle {bundle.directory} has no {precision} with {count} cores at {image_size}.",
                f"It has: {', '.join(map(str, sorted(fitting)))}.",
            )
    return {count: fitting[count] for count in sorted(core_counts or fitting)}


def expected_latencies(bundle: Bundle, artifacts: Sequence[Artifact]) -> dict[int, float]:
    """How long one call takes at each core count, up to a common factor.

    The latest measurements that cover all of them, whichever machine made them; without any, MACs.
    """
    from ..profiles.cost import cost_of_model
    from ..profiles.store import read_measurements

    variants = {(a.name, a.sha256) for a in artifacts}
    measured: dict[tuple, dict[int, float]] = {}
    for m in sorted(read_measurements(bundle), key=lambda m: m.started_at):
        if (m.artifact, m.sha256) in variants:
            measured.setdefault((m.machine.machine_id, m.threads, m.setting), {})[m.core_count] = m.p50_ms
    complete = [latencies for latencies in measured.values() if len(latencies) == len(artifacts)]
    if complete:
        return complete[-1]
    config = bundle.checkpoint.config
    return {a.core_count: float(cost_of_model(config, a.spec, bundle.linear_heads).macs) for a in artifacts}
