"""A bundle as one model whose core count can be switched between two frames."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..base.errors import EdgeError, unknown_name
from ..base.spec import ImageSize
from ..bundle.store import Artifact, Bundle, read_bundle
from .bound import open_bound_onnx
from .governor import Decision, Governor, Rules
from .onnxruntime import check_batch, input_type_and_shape
from .runner import open_runner

FORMAT_OF_TARGET = {"cpu": "onnx", "jetson": "engine", "apple": "mlpackage"}

# Runs a checked batch; what it returns may be overwritten by the next call from the same thread.
Run = Callable[[np.ndarray], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Output:
    """What a model says of one frame or batch.

    On the CPU the arrays belong to the model and are overwritten by the next call *from the same
    thread*: copy what must last longer.

    Attributes:
        cls: float32 `[B, D]`, `dense`: `[B, N, D]`, `logits`: `[B, K]`; None where the model does not give it.
        core_count: what it ran at.
        latency_ms: wall time of the run.
    """

    cls: np.ndarray | None
    dense: np.ndarray | None
    logits: np.ndarray | None
    core_count: int
    latency_ms: float


def load(
    bundle: str | Path | Bundle,
    core_counts: Sequence[int] | None = None,
    precision: str | None = None,
    image_size: ImageSize | None = None,
    threads: int | None = None,
) -> Model:
    """Loads a bundle to run frames: ONNX Runtime on a CPU, TensorRT on a Jetson, Core ML on a Mac.

    All core counts that are loaded are ready at once, so that switching costs nothing. On the CPU they
    share one copy of the weights (on x86 without VNNI they cannot), which costs 5 to 10 percent of
    latency; a single core count is loaded in ONNX Runtime's fastest form.

    Args:
        core_counts: which to load; None is all that the bundle has. The model starts at the largest.
        precision, image_size: None takes the first that the bundle was exported with.
        threads: CPU threads; None leaves it to the runtime.

    Raises:
        EdgeError: no bundle, or it lacks what is asked for (it lists what it has).
    """
    opened = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
    artifacts = chosen_artifacts(opened, core_counts, precision, image_size)
    return Model(opened, artifacts, runs_of(opened.directory, artifacts, threads))


def chosen_artifacts(
    bundle: Bundle, core_counts: Sequence[int] | None, precision: str | None, image_size: ImageSize | None
) -> dict[int, Artifact]:
    """One artifact per core count, ascending."""
    if bundle.spec.target not in FORMAT_OF_TARGET:
        raise unknown_name("target", bundle.spec.target, FORMAT_OF_TARGET)
    wanted = FORMAT_OF_TARGET[bundle.spec.target]
    runnable = [a for a in bundle.artifacts if a.format == wanted]
    if not runnable:
        raise EdgeError(
            f"The bundle {bundle.directory} holds no {wanted} to run.",
            "Build the engines on the board first: veca-edge build (or sh build.sh there)."
            if wanted == "engine"
            else None,
        )
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


def runs_of(directory: Path, artifacts: Mapping[int, Artifact], threads: int | None) -> dict[int, Run]:
    first = next(iter(artifacts.values()))
    if first.format == "onnx":
        return open_bound_onnx(directory, artifacts, threads)
    return {count: open_runner(directory, artifact, threads) for count, artifact in artifacts.items()}


class Model:
    """A loaded bundle. Calls from several threads are safe, each with output arrays of its own.

    Attributes:
        core_counts: those that are loaded, ascending.
        precision, image_size, batch, input: of all of them; `input` is `image` (uint8 RGB frames) or `tensor`.
        outputs: names of what `__call__` gives.
        labels: class names in the order of `logits`, or None.
    """

    def __init__(self, bundle: Bundle, artifacts: Mapping[int, Artifact], runs: Mapping[int, Run]):
        first = next(iter(artifacts.values()))
        self.bundle = bundle
        self.core_counts = tuple(artifacts)
        self.precision, self.image_size, self.batch = first.precision, first.image_size, first.batch
        self.input, self.outputs, self.labels = first.input, first.outputs, bundle.labels
        self._artifacts = dict(artifacts)
        self._runs = dict(runs)
        self._core_count = self.core_counts[-1]
        self._governor: Governor | None = None
        self._lock = threading.Lock()
        self._local = threading.local()
        dtype, shape = input_type_and_shape(first)
        self._blank = np.zeros(shape, dtype)
        for run in self._runs.values():  # the first run of a session allocates; a switch must not
            run(self._blank)

    def __call__(self, frame: np.ndarray) -> Output:
        """Runs one frame, or one batch.

        Args:
            frame: uint8 RGB `[H, W, 3]` or `[B, H, W, 3]`; for `tensor` input float32 `[3, H, W]` or `[B, 3, H, W]`.
                It is not copied where it is contiguous.

        Raises:
            EdgeError: the frame has another size or type than the model takes.
        """
        batch = self._checked(frame)
        core_count = self._core_count
        start = time.perf_counter()
        made = self._runs[core_count](batch)
        now = time.perf_counter()
        latency_ms = 1000 * (now - start)
        if self._governor is not None:
            with self._lock:
                if self._governor is not None and core_count == self._core_count:
                    self._core_count = self._governor.observe(core_count, latency_ms, now)
        return Output(made.get("cls"), made.get("dense"), made.get("logits"), core_count, latency_ms)

    def _checked(self, frame: np.ndarray) -> np.ndarray:
        batch = frame[None] if frame.ndim == 3 else frame
        check_batch(self._artifacts[self._core_count], batch)
        if batch.flags.c_contiguous:
            return batch
        staging = getattr(self._local, "staging", None)
        if staging is None:
            staging = self._local.staging = np.empty_like(self._blank)
        np.copyto(staging, batch)
        return staging

    # ------------------------------------------------------------------------------- switching

    @property
    def core_count(self) -> int:
        """The core count of the next frame. Setting it ends `adapt`."""
        return self._core_count

    @core_count.setter
    def core_count(self, value: int) -> None:
        if value not in self._runs:
            raise EdgeError(
                f"This model is not loaded with {value} cores.", f"It has: {', '.join(map(str, self.core_counts))}."
            )
        with self._lock:
            self._governor = None
            self._core_count = value

    def adapt(self, budget_ms: float, min_cosine: float | None = None, rules: Rules | None = None) -> None:
        """From now on chooses the core count so that a frame takes at most `budget_ms`.

        How the core counts compare with each other is taken from the bundle's measurements
        (`veca-edge profile`), or, where it has none, from the cost of their graphs.

        Args:
            min_cosine: core counts whose mean cosine with the float32 model *at its full core bank* (the lower of
                `cls` and `dense`, measured at export) is below this are never used.

        Raises:
            EdgeError: no core count is that faithful.
        """
        allowed = self.faithful_core_counts(min_cosine)
        expected = expected_latencies(self.bundle, [self._artifacts[count] for count in allowed])
        with self._lock:
            start = self._core_count if self._core_count in allowed else allowed[-1]
            self._governor = Governor(expected, budget_ms, start, rules)
            self._core_count = start

    def hold(self) -> None:
        """Ends `adapt`: the core count stays as it is."""
        with self._lock:
            self._governor = None

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """What `adapt` decided so far, the latest thousand; `at` is on the clock of `time.perf_counter`."""
        with self._lock:
            return tuple(self._governor.log) if self._governor is not None else ()

    def faithful_core_counts(self, min_cosine: float | None) -> tuple[int, ...]:
        """The core counts that `min_cosine` leaves. Raises `EdgeError` when it leaves none, or none was compared."""
        if min_cosine is None:
            return self.core_counts
        cosines = {count: cosine for count in self.core_counts if (cosine := self._cosine(count)) is not None}
        allowed = tuple(count for count in self.core_counts if cosines.get(count, -1.0) >= min_cosine)
        if not allowed:
            listed = ", ".join(f"{count}: {cosine:.4f}" for count, cosine in cosines.items())
            raise EdgeError(
                f"No core count has a mean cosine of {min_cosine} or more with the full model.",
                f"Measured at export: {listed}." if listed else "This bundle has no fidelity measurements.",
            )
        return allowed

    def _cosine(self, core_count: int) -> float | None:
        for row in self.bundle.fidelity:
            if (row["core_count"], row["precision"]) == (core_count, self.precision) and tuple(
                row["image_size"]
            ) == self.image_size:
                means = [row["elastic"][name]["mean"] for name in ("cls", "dense") if row["elastic"][name]]
                return min(means, default=None)
        return None


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
    return {a.core_count: float(cost_of_model(config, a.spec).macs) for a in artifacts}
