"""A bundle run on the frames of a folder, a video or a camera, one step a frame, within a latency budget if asked."""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..actions.export import top_classes
from ..base.errors import EdgeError
from ..base.spec import ImageSize
from ..bundle.store import open_bundle
from ..images.preprocessing import Preprocessing, normalised, prepare
from ..runtime import Decision, Model, load
from .model import chosen_artifacts
from .sources import Frame, Source, find_source, frames_of

# A pause is slept in slices of this many seconds, so that who stops a run need not wait for its end.
SLICE_S = 0.1
RECENT = 120


@dataclass(frozen=True)
class LiveRequest:
    """What to run on which frames, and until when.

    Attributes:
        source: as `find_source` takes it.
        budget_ms: what the model may take for a frame; it moves between all core counts of the bundle to hold it.
        min_cosine: the floor of fidelity below which `budget_ms` may not push; see `Model.adapt`.
        core_count: a fixed one; None, without a budget, is the largest.
        precision, image_size: None is the bundle's first.
        threads: CPU threads; None leaves it to the runtime.
        fps: at most so many frames a second, as a camera would give them; none is left out.
        repeat: begin again where the folder or the video ends.
        frames, seconds: end after so many, or so long after the first.
    """

    bundle: Path
    source: str
    budget_ms: float | None = None
    min_cosine: float | None = None
    core_count: int | None = None
    precision: str | None = None
    image_size: ImageSize | None = None
    threads: int | None = None
    fps: float | None = None
    repeat: bool = False
    frames: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Step:
    """One frame that was run.

    Attributes:
        at: seconds since the first frame, when this one was taken up.
        prepare_ms: wall time of crop, resize and, for `tensor` input, normalisation.
        latency_ms: wall time of the model, which is what the budget is about.
        outputs: float32 arrays without the batch axis; the next step may overwrite them.
        classes: the most likely classes with their shares, best first; empty without a head.
        decision: what the governor decided upon this frame (`at` as above), or None.
    """

    frame: Frame
    at: float
    core_count: int
    prepare_ms: float
    latency_ms: float
    outputs: Mapping[str, np.ndarray]
    classes: tuple[tuple[str, float], ...]
    decision: Decision | None


@dataclass(frozen=True)
class Live:
    """A model and a source, opened; iterating over `steps` runs the frames. Close it to let a camera go."""

    model: Model
    source: Source
    steps: Iterator[Step]


def open_live(request: LiveRequest, stopped: Callable[[], bool] = lambda: False) -> Live:
    """Finds the source and loads the model.

    Args:
        stopped: asked before every frame; the steps end when it says so.

    Raises:
        EdgeError: no bundle, source or core count as asked; options that exclude each other. While iterating, what
            `frames_of` raises.
    """
    check_request(request)
    source = find_source(request.source)
    if source.is_endless and (request.repeat or request.fps is not None):
        raise EdgeError(
            f"{source.name} is a camera, which has no end to repeat at and sets its own pace.",
            "Leave out --repeat and --fps; end with --frames or --duration.",
        )
    model = open_model(request)
    return Live(model, source, steps_of(model, frames_of(source, request.repeat), request, stopped))


def check_request(request: LiveRequest) -> None:
    if request.budget_ms is not None and request.core_count is not None:
        raise EdgeError(
            "A budget chooses the core count, so it can't be fixed as well.",
            "Give --budget or --cores; --min-cosine keeps --budget from the smallest core counts.",
        )
    if request.min_cosine is not None and request.budget_ms is None:
        raise EdgeError("A floor of fidelity is for what a budget may choose from.", "Give --budget with --min-cosine.")


def open_model(request: LiveRequest) -> Model:
    """With a budget every core count, ready to be switched between; without one just the one that will run."""
    bundle = open_bundle(request.bundle)
    Preprocessing.from_json(bundle.preprocessing)
    counts = None if request.core_count is None else (request.core_count,)
    artifacts = chosen_artifacts(bundle, counts, request.precision, request.image_size)
    largest = artifacts[max(artifacts)]
    if largest.batch != 1:
        raise EdgeError(
            f"{largest.name} takes batches of {largest.batch}, but frames come one by one.", "Export with --batch 1."
        )
    wanted = (largest.core_count,) if request.budget_ms is None else tuple(artifacts)
    model = load(bundle, wanted, largest.precision, largest.image_size, request.threads)
    if request.budget_ms is not None:
        model.adapt(request.budget_ms, request.min_cosine)
    return model


def steps_of(
    model: Model, frames: Iterator[Frame], request: LiveRequest, stopped: Callable[[], bool]
) -> Iterator[Step]:
    start = due = None
    decided: Decision | None = None
    with closing(frames):
        for frame in frames:
            if due is not None:
                wait_until(due, stopped)
            now = time.perf_counter()
            start = now if start is None else start
            if stopped() or (request.seconds is not None and now - start >= request.seconds):
                return
            if request.fps is not None:
                # A little lateness is made up for; after more than a frame's time the clock starts anew.
                due = (now if due is None or now - due > 1 / request.fps else due) + 1 / request.fps
            picture = prepare(frame.pixels, model.image_size)
            given = picture if model.input == "image" else normalised(picture[None])
            prepare_ms = 1000 * (time.perf_counter() - now)
            output = model(given)
            outputs = {name: getattr(output, name)[0] for name in model.outputs}
            latest = next(reversed(model.decisions), None)
            decision = None if latest is None or latest is decided else replace(latest, at=latest.at - start)
            decided = latest
            yield Step(
                frame,
                now - start,
                output.core_count,
                prepare_ms,
                output.latency_ms,
                outputs,
                top_classes(outputs.get("logits"), model.labels),
                decision,
            )
            if request.frames is not None and frame.number + 1 >= request.frames:
                return


def wait_until(due: float, stopped: Callable[[], bool]) -> None:
    while (left := due - time.perf_counter()) > 0 and not stopped():
        time.sleep(min(left, SLICE_S))


# ------------------------------------------------------------------------------------- statistics


@dataclass(frozen=True)
class CoreCountSummary:
    """The frames that ran at one core count."""

    core_count: int
    frames: int
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    Attributes:
        seconds: from the first frame to the end of the last; `fps` is over them.
        prepare_p50_ms: what preparing a frame took on top of the latency; None without frames.
        within_budget: share of the frames whose latency met the budget; None without a budget or frames.
        switches: decisions that changed the core count; the others say that nothing could be done.
        core_counts: ascending.
    """

    frames: int
    seconds: float
    fps: float
    prepare_p50_ms: float | None
    budget_ms: float | None
    within_budget: float | None
    switches: int
    switches_per_second: float
    decisions: tuple[Decision, ...]
    core_counts: tuple[CoreCountSummary, ...]


@dataclass
class Tally:
    """Adds steps up while they come.

    Attributes:
        recent: time and latency of the last frames.
    """

    budget_ms: float | None
    recent: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=RECENT))
    decisions: list[Decision] = field(default_factory=list)
    _latencies: dict[int, array] = field(default_factory=dict)
    _prepared: array = field(default_factory=lambda: array("d"))
    _within: int = 0
    _end: float = 0.0

    def add(self, step: Step) -> None:
        self.recent.append((step.at, step.latency_ms))
        self._latencies.setdefault(step.core_count, array("d")).append(step.latency_ms)
        self._prepared.append(step.prepare_ms)
        self._within += self.budget_ms is not None and step.latency_ms <= self.budget_ms
        self._end = step.at + (step.prepare_ms + step.latency_ms) / 1000
        if step.decision is not None:
            self.decisions.append(step.decision)

    @property
    def frames(self) -> int:
        return len(self._prepared)

    @property
    def within_budget(self) -> float | None:
        return self._within / self.frames if self.budget_ms is not None and self.frames else None

    @property
    def recent_percentiles_ms(self) -> tuple[float, float]:
        """p50 and p95 of the recent frames."""
        p50, p95 = np.percentile([ms for _, ms in self.recent], (50, 95))
        return float(p50), float(p95)

    @property
    def recent_fps(self) -> float | None:
        """Frames a second, from one frame to the next, over the recent ones; None for a single frame."""
        seconds = self.recent[-1][0] - self.recent[0][0]
        return (len(self.recent) - 1) / seconds if seconds > 0 else None

    def summary(self) -> Summary:
        switches = sum(d.before != d.after for d in self.decisions)
        rows = []
        for count, latencies in sorted(self._latencies.items()):
            p50, p95 = np.percentile(latencies, (50, 95))
            rows.append(CoreCountSummary(count, len(latencies), float(p50), float(p95)))
        per_second = 1 / self._end if self._end else 0.0
        return Summary(
            self.frames,
            self._end,
            self.frames * per_second,
            float(np.median(self._prepared)) if self.frames else None,
            self.budget_ms,
            self.within_budget,
            switches,
            switches * per_second,
            tuple(self.decisions),
            tuple(rows),
        )
