"""Measures every artifact of a bundle in interleaved rounds, each in a process of its own.

In every round each variant has its turn, forwards in one round and backwards in the next, so that a
machine that slows down meanwhile slows them all alike. After each turn what was measured is on disk: a
sweep that is killed goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from threading import Timer
from typing import Any

from ..base.cpu_features import usable_cpu_count
from ..base.errors import EdgeError
from ..base.files import disk_errors, held, write_atomically
from ..base.progress import Progress, silent
from ..bundle.store import Artifact, Bundle
from .cost import cost_of_model, cost_of_onnx
from .machine import Machine, this_machine
from .measurement import Measurement, Sustained, Window, measurement_of, utc_now
from .sampling import RUNTIMES, Answer, Request
from .store import load_measurement, measurement_stem, measurements_folder, save_measurement

MAX_OTHER_LOAD = 0.10
WORKER_TIMEOUT = 1800.0

# Folders beside the measurements.
UNFINISHED = "unfinished"
FAILED = "failed"


@dataclass(frozen=True)
class ProfileOptions:
    """How to measure.

    Attributes:
        threads: CPU threads; None takes one per physical core that this process may use.
        rounds: processes per variant, interleaved with those of the others.
        seconds, samples: of each round, both are reached unless `most_seconds` are over first.
        warmup_seconds: calls before those that count.
        sustained_seconds: a long run of each variant after the rounds, to see throttling; 0 is none.
        again: also measure what has been measured before.
    """

    threads: int | None = None
    rounds: int = 3
    seconds: float = 1.0
    samples: int = 20
    most_seconds: float = 20.0
    warmup_seconds: float = 0.3
    sustained_seconds: float = 0.0
    again: bool = False

    def __post_init__(self) -> None:
        for name in ("threads", "rounds", "samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise EdgeError(f"{name} is {value}.", f"Give 1 or more {name}.")
        if self.sustained_seconds and self.sustained_seconds < 4:
            raise EdgeError(
                f"A sustained run of {self.sustained_seconds:g} s shows no throttling.",
                "Give some minutes, for example --sustained 5m.",
            )


@dataclass(frozen=True)
class Failure:
    """A variant that could not be measured, and why."""

    artifact: Artifact
    message: str
    hint: str | None = None


@dataclass(frozen=True)
class Profile:
    """Everything that was asked for: measured now, measured before, or failed.

    `kept` names the measurements that were there already.
    """

    machine: Machine
    measurements: tuple[Measurement, ...]
    failures: tuple[Failure, ...] = ()
    kept: tuple[str, ...] = ()


def profile_bundle(
    bundle: Bundle,
    options: ProfileOptions | None = None,
    artifacts: Sequence[Artifact] | None = None,
    progress: Progress = silent,
) -> Profile:
    """Measures artifacts on this machine and stores the measurements in the bundle.

    A variant that fails does not end the others; it is among the `failures`, and tried again next time.

    Args:
        artifacts: which of the bundle's; None is all of them.

    Raises:
        EdgeError: an artifact is for another kind of machine, another sweep of this bundle is running, or the
            bundle can't be written.
    """
    artifacts = tuple(bundle.artifacts if artifacts is None else artifacts)
    check_runs_here(artifacts)
    options = replace(options or ProfileOptions(), threads=(options and options.threads) or default_threads())
    packages = tuple({RUNTIMES[a.format] for a in artifacts})
    sweep = Sweep(bundle, options, this_machine(packages), progress)
    # A killed sweep can hold the lock for a moment longer, through a worker that is just being started.
    with held(sweep.folder, patience=2.0) as free:
        if free is False:
            raise EdgeError(f"{bundle.directory} is being profiled by another process.", "Wait until it has ended.")
        return sweep.run(artifacts)


def check_runs_here(artifacts: Sequence[Artifact]) -> None:
    """Raises `EdgeError` for what would give a number that means nothing on this machine."""
    for artifact in artifacts:
        if artifact.target == "jetson" and artifact.format == "onnx":
            raise EdgeError(
                f"{artifact.path} is written for TensorRT; its latency in ONNX Runtime would mean nothing.",
                "Profile it on the board: veca-edge profile BUNDLE --device ssh://HOST",
            )
        if artifact.format == "mlpackage" and sys.platform != "darwin":
            raise EdgeError(f"{artifact.path} is a Core ML package, and this is not a Mac.", "Profile it on a Mac.")


def default_threads() -> int:
    """One per physical core that this process may use."""
    import psutil

    usable = usable_cpu_count()
    return min(usable, psutil.cpu_count(logical=False) or usable)


@dataclass(frozen=True)
class Unfinished:
    """What has been measured of one variant so far. `key` says under which conditions; others do not mix."""

    key: dict[str, Any]
    started_at: str = field(default_factory=utc_now)
    rounds: tuple[Answer, ...] = ()
    sustained: Answer | None = None


@dataclass(frozen=True)
class Sweep:
    """One `profile_bundle`: where, how, on which machine."""

    bundle: Bundle
    options: ProfileOptions
    machine: Machine
    progress: Progress

    @property
    def folder(self) -> Path:
        return measurements_folder(self.bundle.directory, self.machine.machine_id)

    def run(self, artifacts: Sequence[Artifact]) -> Profile:
        measured = {} if self.options.again else self.finished(artifacts)
        kept = tuple(measured)
        left = [a for a in artifacts if self.stem(a) not in measured]
        failures: dict[str, Failure] = {}
        done, total = 0, len(left) * self.options.rounds
        for turn in range(self.options.rounds):
            for artifact in left if turn % 2 == 0 else left[::-1]:
                if self.stem(artifact) not in failures and len(self.unfinished(artifact).rounds) <= turn:
                    self.take_turn(artifact, failures, sustained=False)
                done += 1
                self.progress("measuring", done, total)
        for artifact in left:
            stem = self.stem(artifact)
            if stem not in failures and self.options.sustained_seconds and not self.unfinished(artifact).sustained:
                self.take_turn(artifact, failures, sustained=True)
            if stem not in failures:
                measured[stem] = self.finish(artifact)
        return Profile(
            self.machine,
            tuple(m for a in artifacts if (m := measured.get(self.stem(a))) is not None),
            tuple(failures.values()),
            kept,
        )

    def take_turn(self, artifact: Artifact, failures: dict[str, Failure], sustained: bool) -> None:
        """Measures one round, or the long run, and puts it on disk; a failure goes into `failures` and on disk too."""
        try:
            answer = self.ask_worker(artifact, sustained)
        except EdgeError as error:
            failures[self.stem(artifact)] = failure = Failure(artifact, error.message, error.hint)
            self.write(FAILED, artifact, {**asdict(failure), "at": utc_now()})
            return
        before = self.unfinished(artifact)
        after = replace(before, sustained=answer) if sustained else replace(before, rounds=(*before.rounds, answer))
        self.write(UNFINISHED, artifact, asdict(after))

    # ---------------------------------------------------------------------------- on disk

    def stem(self, artifact: Artifact) -> str:
        return measurement_stem(artifact.name, artifact.format, self.options.threads)

    def key(self, artifact: Artifact) -> dict[str, Any]:
        """The conditions: of the same file, in the same way, with the same versions."""
        how = asdict(replace(self.options, again=False))
        return {"sha256": artifact.sha256, "how": how, "versions": dict(self.machine.versions)}

    def finished(self, artifacts: Sequence[Artifact]) -> dict[str, Measurement]:
        """The measurements that are there already, by stem."""
        found = {}
        for artifact in artifacts:
            path = self.folder / f"{self.stem(artifact)}.json"
            if path.is_file():
                measurement = load_measurement(path)
                if measurement.details.get("key") == self.key(artifact):
                    found[self.stem(artifact)] = measurement
        return found

    def path(self, kind: str, artifact: Artifact) -> Path:
        return self.folder / kind / f"{self.stem(artifact)}.json"

    def write(self, kind: str, artifact: Artifact, data: dict[str, Any]) -> None:
        path = self.path(kind, artifact)
        with disk_errors(path):
            path.parent.mkdir(exist_ok=True)
        write_atomically(path, json.dumps(data))

    def unfinished(self, artifact: Artifact) -> Unfinished:
        """What a killed sweep, or an earlier turn, left of a variant; nothing where the conditions were others."""
        key = self.key(artifact)
        try:
            data = json.loads(self.path(UNFINISHED, artifact).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Unfinished(key)
        if data["key"] != key:
            return Unfinished(key)
        return Unfinished(
            key,
            data["started_at"],
            tuple(_answer(a) for a in data["rounds"]),
            data["sustained"] and _answer(data["sustained"]),
        )

    def finish(self, artifact: Artifact) -> Measurement:
        """Turns the rounds into the measurement, stores it and forgets the rounds, and how it failed before."""
        measurement = self.measurement(artifact, self.unfinished(artifact))
        save_measurement(self.bundle.directory, measurement)
        for kind in (UNFINISHED, FAILED):
            with suppress(OSError):  # there may be none; the folder goes with the last one
                path = self.path(kind, artifact)
                path.unlink(missing_ok=True)
                path.parent.rmdir()
        return measurement

    def measurement(self, artifact: Artifact, state: Unfinished) -> Measurement:
        rounds = state.rounds
        busy = max(r.other_load for r in rounds)
        warning = f"Other processes used {busy:.0%} of the CPU while it was measured."
        samples = [s for r in rounds for s in r.samples_ms]
        details = {
            "key": state.key,
            "rounds": [{k: v for k, v in asdict(r).items() if k not in ("samples_ms", "windows")} for r in rounds],
            "cost": cost_facts(self.bundle, artifact),
        }
        return replace(
            measurement_of(artifact, self.machine, samples, state.started_at),
            threads=self.options.threads,
            load_ms=median(r.load_ms for r in rounds),
            first_ms=median(r.first_ms for r in rounds),
            peak_memory_bytes=int(median(r.peak_memory_bytes for r in rounds)),
            round_sizes=tuple(len(r.samples_ms) for r in rounds),
            sustained=Sustained(state.sustained.windows) if state.sustained else None,
            recorded_warnings=(warning,) if busy > MAX_OTHER_LOAD else (),
            details=details,
        )

    # ------------------------------------------------------------------------ the process

    def ask_worker(self, artifact: Artifact, sustained: bool) -> Answer:
        """Raises `EdgeError` when the process fails, crashes or does not answer."""
        options = self.options
        seconds = options.sustained_seconds if sustained else 0.0
        request = Request(
            str(self.bundle.directory),
            artifact.to_json(),
            options.threads,
            options.warmup_seconds,
            options.seconds,
            options.samples,
            options.most_seconds,
            seconds,
            os.getpid(),
        )

        def note(elapsed: float) -> None:
            if sustained:
                self.progress(f"running {artifact.name} for long", min(int(elapsed), int(seconds)), int(seconds))

        return _answer(answer_of_worker(request, WORKER_TIMEOUT + seconds, note))


def answer_of_worker(request: Request, timeout: float, note: Callable[[float], None]) -> dict[str, Any]:
    """Runs one worker to its end and returns its answer's JSON."""
    name = Artifact.from_json(request.artifact).name
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.sampling"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
        )
        watch = Timer(timeout, process.kill)
        watch.start()
        last: dict[str, Any] = {}
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(json.dumps(asdict(request)))
                process.stdin.close()
            for line in process.stdout:
                with suppress(ValueError):  # a process that dies may leave half a line
                    last = json.loads(line)
                    note(last.get("elapsed", 0.0))
            code = process.wait()
        finally:
            timed_out = not watch.is_alive()
            watch.cancel()
            process.kill()
            process.wait()
            process.stdout.close()
        if "answer" in last:
            return last["answer"]
        if "error" in last:
            raise EdgeError(last["error"]["message"], last["error"]["hint"])
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace").strip().splitlines()
    if timed_out:
        raise EdgeError(f"{name} did not answer within {timeout / 60:.0f} minutes.", "Try it alone with: veca-edge run")
    if code < 0:
        what = signal.Signals(-code).name
        raise EdgeError(
            f"The process that measured {name} was ended by {what}.",
            "The system may have run out of memory: see its log." if what == "SIGKILL" else None,
        )
    raise EdgeError(f"The process that measured {name} ended with an error: {said[-1] if said else f'code {code}'}")


def _answer(data: dict[str, Any]) -> Answer:
    return Answer(
        **{**data, "samples_ms": tuple(data["samples_ms"]), "windows": tuple(Window(*w) for w in data["windows"])}
    )


def cost_facts(bundle: Bundle, artifact: Artifact) -> dict[str, Any]:
    """`macs`, `attention_interactions` and `counted_from`: the `graph`, or the `sizes` where there is none to read.

    A machine that only runs models may lack the `onnx` package, and an elastic file has no fixed sizes; both
    counts agree.
    """
    elastic = "profile" in artifact.details
    if artifact.format == "onnx" and not elastic and find_spec("onnx"):
        return {**asdict(cost_of_onnx(bundle.directory / artifact.path)), "counted_from": "graph"}
    cost = cost_of_model(bundle.checkpoint.config, artifact.spec, len(bundle.labels or ()))
    return {**asdict(cost), "counted_from": "sizes"}
