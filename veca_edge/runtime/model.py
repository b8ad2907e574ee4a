"""A bundle as one model whose core count can be switched between two frames."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from ..base.errors import EdgeError
from ..base.spec import OUTPUTS
from ..bundle.types import Artifact, Bundle
from ..images.pictures import Picture
from ..images.preprocessing import Preprocessing, prepare
from .governor import Decision, Governor, Rules
from .onnxruntime import check_batch, closed, input_type_and_shape


class Run(Protocol):
    """Runs one core count."""

    def __call__(self, batch: np.ndarray) -> Mapping[str, np.ndarray]:
        """A checked batch; what is returned may be overwritten by the next call from the same thread."""
        ...

    def close(self) -> None:
        """Lets go of its memory."""
        ...


@dataclass(frozen=True)
class Output:
    """What a model says of one frame or batch.

    On the CPU the arrays belong to the model and are overwritten by the next call *from the same
    thread*: copy what must last longer.

    Attributes:
        cls: float32 `[B, D]`, `dense`: `[B, N, D]`, `logits`: `[B, K]`; None where the model does not give it.
        segmentation: integers `[B, H', W']`, the class of every square of pixels; `segmentation_logits`: float32
            `[B, K, h, w]`; `depth`: float32 `[B, H', W']`, metres; `attention`: float32 `[B, h, w]`; likewise.
        core_count: what it ran at.
        latency_ms: wall time of the run.
    """

    cls: np.ndarray | None
    dense: np.ndarray | None
    logits: np.ndarray | None
    core_count: int
    latency_ms: float
    segmentation: np.ndarray | None = None
    segmentation_logits: np.ndarray | None = None
    depth: np.ndarray | None = None
    attention: np.ndarray | None = None


class Model:
    """A loaded bundle. Calls from several threads are safe, each with output arrays of its own.

    Close it, or use it in a `with`, to let go of its memory (on a GPU too) at once.

    Args:
        expected_latencies: of some artifacts, how long one call takes at each core count, up to a common factor.

    Attributes:
        core_counts: those that are loaded, ascending.
        precision, image_size, batch, input: of all of them; `input` is `image` (uint8 RGB frames) or `tensor`.
        outputs: names of what `__call__` gives.
        labels: class names in the order of `logits`, or None.
    """

    def __init__(
        self,
        bundle: Bundle,
        artifacts: Mapping[int, Artifact],
        runs: Mapping[int, Run],
        expected_latencies: Callable[[Sequence[Artifact]], Mapping[int, float]],
    ):
        first = next(iter(artifacts.values()))
        self.bundle = bundle
        self.core_counts = tuple(artifacts)
        self.precision, self.image_size, self.batch = first.precision, first.image_size, first.batch
        self.input, self.outputs, self.labels = first.input, first.outputs, bundle.labels
        self._artifacts = dict(artifacts)
        self._runs = dict(runs)
        self._expected_latencies = expected_latencies
        self._core_count = self.core_counts[-1]
        self._governor: Governor | None = None
        self._lock = threading.Lock()
        self._local = threading.local()
        dtype, shape = input_type_and_shape(first)
        self._blank = np.zeros(shape, dtype)
        for run in self._runs.values():  # the first run of a session allocates; a switch must not
            run(self._blank)

    def __call__(self, frame: np.ndarray, before_ms: Mapping[str, float] | None = None) -> Output:
        """Runs one frame, or one batch.

        Args:
            frame: uint8 RGB `[H, W, 3]` or `[B, H, W, 3]`; for other inputs float32 `[3, H, W]` or `[B, 3, H, W]`.
                It is not copied where it is contiguous.
            before_ms: what the frame took since it was captured, by stage; for the frame budget of `adapt`.

        Raises:
            EdgeError: the frame has another size or type than the model takes.
        """
        batch = self._checked(frame)
        core_count = self._core_count
        run = self._runs.get(core_count)
        if run is None:
            raise closed(self._artifacts[core_count])
        start = time.perf_counter()
        made = run(batch)
        now = time.perf_counter()
        latency_ms = 1000 * (now - start)
        if self._governor is not None:
            with self._lock:
                if self._governor is not None and core_count == self._core_count:
                    self._core_count = self._governor.observe(core_count, latency_ms, now, before_ms)
        named = {name: made.get(name) for name in OUTPUTS}
        return Output(**named, core_count=core_count, latency_ms=latency_ms)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """How a frame becomes the input, as the bundle declares it. Raises `EdgeError` for a way that is not known."""
        return Preprocessing.from_json(self.bundle.preprocessing)

    def prepare(self, image: str | Path | np.ndarray | Picture) -> np.ndarray:
        """An image file, or an upright picture, as a frame uint8 RGB `[H, W, 3]` of this model.

        Args:
            image: a file, uint8 RGB `[h, w, 3]`, or a `Picture` in a camera's own layout.

        Raises:
            EdgeError: as `images.preprocessing.prepare`.
        """
        return prepare(image, self.image_size, self.preprocessing)

    def close(self) -> None:
        """Lets go of every session and buffer. A model that is called afterwards raises `EdgeError`."""
        with self._lock:
            runs, self._runs = list(self._runs.values()), {}
            self._governor = None
        for run in runs:
            run.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _checked(self, frame: np.ndarray) -> np.ndarray:
        if not isinstance(frame, np.ndarray):
            raise EdgeError(
                f"A model takes a frame as a numpy array, but was given {type(frame).__name__}.",
                "model.prepare(image) makes a frame of a file or of pixels.",
            )
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
    def artifact(self) -> Artifact:
        """The one that runs now."""
        return self._artifacts[self._core_count]

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

    def adapt(
        self,
        budget_ms: float | None,
        min_cosine: float | None = None,
        rules: Rules | None = None,
        frame_budget_ms: float | None = None,
    ) -> None:
        """From now on chooses the core count so that the model takes at most `budget_ms` for a frame.

        How the core counts compare with each other is taken from the bundle's measurements
        (`veca-edge profile`), or, where it has none, from the cost of their graphs.

        Args:
            min_cosine: core counts whose mean cosine with the float32 model *at its full core bank* (the lower of
                `cls` and `dense`, measured at export) is below this are never used.
            frame_budget_ms: what a frame may take from its capture to its result; the model gets what `before_ms`
                of the calls leaves of it. With `budget_ms` as well, the one that leaves less holds.

        Raises:
            EdgeError: no core count is that faithful.
        """
        allowed = self.faithful_core_counts(min_cosine)
        expected = self._expected_latencies([self._artifacts[count] for count in allowed])
        with self._lock:
            start = self._core_count if self._core_count in allowed else allowed[-1]
            self._governor = Governor(expected, budget_ms, start, rules, frame_budget_ms)
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
            if (row.core_count, row.precision, row.image_size) == (core_count, self.precision, self.image_size):
                compared = [row.elastic.cls, row.elastic.dense]
                return min((statistics.mean for statistics in compared if statistics is not None), default=None)
        return None
