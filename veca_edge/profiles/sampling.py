"""Measures one artifact in this process: `python -m veca_edge.profiles.sampling`, JSON on stdin and stdout.

A process of its own makes the load cold and the peak memory the artifact's. It is started by `worker`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ..base.errors import EdgeError
from ..base.json_files import typed
from ..base.moved import named
from ..bundle.runner import Runner
from ..bundle.types import Artifact
from ..images.preprocessing import as_input
from ..proof.golden import Golden, read_golden
from .measurement import Window


@dataclass(frozen=True)
class Request:
    """What to measure, and for how long.

    Attributes:
        opener: `module:function` of what opens the artifact, like `bundle.runner.Opener`.
        arguments: what the opener takes beside the directory, the artifact and the threads.
        package: the Python package behind it, which an idle interpreter has loaded too.
        warmup_seconds: calls that do not count; at least one.
        seconds, samples: both are reached, unless `most_seconds` is over first (three samples are always taken).
        sustained_seconds: instead of samples, one window per second for this long.
        parent: the process that wants to know; when it dies, this one ends.
    """

    directory: str
    artifact: Artifact
    opener: str
    arguments: dict[str, Any]
    package: str
    threads: int | None
    warmup_seconds: float
    seconds: float
    samples: int
    most_seconds: float
    sustained_seconds: float
    parent: int


@dataclass(frozen=True)
class Answer:
    """What one process measured.

    Attributes:
        other_load: share of the machine's CPUs that other processes used meanwhile, 0 to 1.
        samples_ms or windows: as the request asked for; the other is empty.
        facts: what only one way of measuring knows; JSON values.
    """

    load_ms: float
    first_ms: float
    idle_memory_bytes: int
    peak_memory_bytes: int
    other_load: float
    samples_ms: tuple[float, ...] = ()
    windows: tuple[Window, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


def measure(request: Request, say: Callable[[dict[str, Any]], None]) -> Answer:
    """Loads, warms up and times one artifact on its golden frames.

    Raises:
        EdgeError: the artifact cannot be opened or run.
    """
    artifact, directory = request.artifact, Path(request.directory)
    batches = input_batches(artifact, read_golden(directory, artifact.core_count, artifact.image_size))
    importlib.import_module(request.package)
    open_artifact: Callable[..., Runner] = named(request.opener)
    gc.collect()
    idle, idle_peak = reset_peak_memory()

    start = time.perf_counter()
    runner = open_artifact(directory, artifact, request.threads, **request.arguments)
    load_ms = 1000 * (time.perf_counter() - start)
    call, inputs = timed_form(runner, batches)
    first_ms = timed(call, inputs[0])

    gc.disable()
    sample(call, inputs, request.warmup_seconds, 1, request.warmup_seconds, request.parent)
    load = OtherLoad()
    samples, windows = (), ()
    if request.sustained_seconds:
        windows = sustain(call, inputs, request.sustained_seconds, request.parent, say)
    else:
        samples = sample(call, inputs, request.seconds, request.samples, request.most_seconds, request.parent)
    other_load = load.share()
    rss, peak = memory()
    # Where the peak could not be reset, importing the runtime may have needed more than the model did.
    used = (peak if peak > idle_peak else rss) - idle
    return Answer(round(load_ms, 4), first_ms, idle, max(0, used), round(other_load, 4), tuple(samples), tuple(windows))


def input_batches(artifact: Artifact, golden: Golden) -> list[np.ndarray]:
    """The golden frames as whole batches, so that consecutive calls see different images."""
    frames, count = golden.frames, len(golden.frames)
    batches = [frames[[(start + i) % count for i in range(artifact.batch)]] for start in range(count)]
    return [as_input(batch, artifact.input) for batch in batches]


def timed_form(runner: Runner, batches: Sequence[np.ndarray]) -> tuple[Callable[[Any], Any], Sequence[Any]]:
    """What is called while the clock runs, and with what.

    A runner with `features` and `predict` has inputs of its own kind, which are made before the clock starts.
    """
    predict, features = getattr(runner, "predict", None), getattr(runner, "features", None)
    if predict is None or features is None:
        return runner, batches
    return predict, [features(batch) for batch in batches]


def timed(call: Callable[[Any], Any], given: Any) -> float:
    """Milliseconds of one call, to a tenth of a microsecond."""
    start = time.perf_counter_ns()
    call(given)
    return round((time.perf_counter_ns() - start) / 1e6, 4)


def sample(
    call: Callable[[Any], Any], inputs: Sequence[Any], seconds: float, count: int, most_seconds: float, parent: int
) -> list[float]:
    """Calls until both `seconds` and `count` are reached, or `most_seconds` are over and three calls made."""
    samples: list[float] = []
    start = time.perf_counter()
    while True:
        samples.append(timed(call, inputs[len(samples) % len(inputs)]))
        elapsed, made = time.perf_counter() - start, len(samples)
        if (elapsed >= seconds and made >= count) or (elapsed >= most_seconds and made >= min(3, count)):
            return samples
        end_with(parent)


def sustain(
    call: Callable[[Any], Any],
    inputs: Sequence[Any],
    seconds: float,
    parent: int,
    say: Callable[[dict[str, Any]], None],
) -> list[Window]:
    """Calls without a pause; one window per second (or per call, where a call takes longer)."""
    windows: list[Window] = []
    samples: list[float] = []
    start = window_start = time.perf_counter()
    while True:
        samples.append(timed(call, inputs[len(samples) % len(inputs)]))
        now = time.perf_counter()
        if now - window_start >= 1.0 or now - start >= seconds:
            p50, p95 = np.percentile(samples, (50, 95))
            windows.append(
                Window(round(now - start, 3), len(samples), round(float(p50), 4), round(float(p95), 4), max(samples))
            )
            say({"elapsed": now - start})
            samples, window_start = [], now
            if now - start >= seconds:
                return windows
            end_with(parent)


def end_with(parent: int) -> None:
    """Nobody waits for the answer of a worker whose parent was killed, and it would disturb the next sweep."""
    if os.name == "posix" and os.getppid() != parent:
        os._exit(3)


class OtherLoad:
    """How much of the machine other processes use from now on, or while a `with` block runs."""

    def __init__(self) -> None:
        self.start = self._now()
        self.end: tuple[float, float, float] | None = None

    def __enter__(self) -> OtherLoad:
        return self

    def __exit__(self, *_: object) -> None:
        self.end = self._now()

    def share(self) -> float:
        """0 to 1; the clock behind it ticks a hundred times a second."""
        wall, busy, own = (b - a for a, b in zip(self.start, self.end or self._now(), strict=True))
        return min(1.0, max(0.0, (busy - own) / (wall * (os.cpu_count() or 1))))

    @staticmethod
    def _now() -> tuple[float, float, float]:
        import psutil

        machine, process = psutil.cpu_times(), psutil.Process().cpu_times()
        idle = machine.idle + getattr(machine, "iowait", 0.0)
        # Guests are counted in `user` already.
        guests = getattr(machine, "guest", 0.0) + getattr(machine, "guest_nice", 0.0)
        return time.perf_counter(), sum(machine) - guests - idle, process.user + process.system


def memory() -> tuple[int, int]:
    """Resident memory of this process now, and at its highest, in bytes."""
    import psutil

    info = psutil.Process().memory_info()
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return info.rss, int(line.split()[1]) * 1024
    if os.name == "nt":
        return info.rss, info.peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return info.rss, peak if sys.platform == "darwin" else peak * 1024


def reset_peak_memory() -> tuple[int, int]:
    """Starts the peak anew where the system allows that (Linux), and returns `memory()`."""
    if sys.platform == "linux":
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    return memory()


def answer_to(request: Request, say: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The answer, or the user's error, as JSON values."""
    try:
        return {"answer": asdict(measure(request, say))}
    except EdgeError as error:
        return {"error": {"message": error.message, "hint": error.hint}}


def main() -> None:
    # Libraries may write to stdout; the answers go where stdout was.
    channel: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(line: dict[str, Any]) -> None:
        channel.write(json.dumps(line) + "\n")
        channel.flush()

    say(answer_to(typed(json.load(sys.stdin), Request, "The request to measure"), say))


if __name__ == "__main__":
    main()
