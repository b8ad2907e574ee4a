"""Measures every artifact of a bundle in interleaved rounds, each in a process of its own.

In every round each variant has its turn, forwards in one round and backwards in the next, so that a
machine that slows down meanwhile slows them all alike. After each turn what was measured is on disk: a
sweep that is killed goes on where it stopped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from ..base.cpu_features import usable_cpu_count
from ..base.errors import EdgeError
from ..base.files import disk_errors, held, write_atomically
from ..base.json_files import read_json, typed
from ..base.progress import Progress, silent
from ..bundle.types import Artifact, Bundle
from .cost import cost_facts
from .machine import Machine, this_machine
from .measurement import MAX_OTHER_LOAD, Measurement, Sustained, measurement_of, utc_now
from .options import ProfileOptions
from .sampling import Answer, Request
from .store import load_measurement, measurement_stem, measurements_folder, save_measurement
from .worker import answer_of_worker

WORKER_TIMEOUT = 1800.0

# Folders beside the measurements.
UNFINISHED = "unfinished"
FAILED = "failed"


@dataclass(frozen=True)
class Opening:
    """How a process that measures opens an artifact.

    Attributes:
        opener: `module:function`, as `bundle.runner.Opener`.
        package: the Python package behind it, or the module of it that loads the runtime.
    """

    opener: str
    package: str


ONNX_RUNTIME = Opening("veca_edge.runtime.onnxruntime:open_exact_onnx", "onnxruntime")
LITERT = Opening("veca_edge.runtime.litert:open_tflite", "ai_edge_litert.compiled_model")


@dataclass(frozen=True)
class Failure:
    """A variant that could not be measured, and why."""

    artifact: Artifact
    message: str
    hint: str | None = None


class SweepEnded(EdgeError):
    """What was measured on is gone: what is left of the sweep is not tried. What was measured is kept."""


@dataclass(frozen=True)
class Profile:
    """Everything that was asked for: measured now, measured before, or failed.

    `kept` names the measurements that were there already.
    """

    machine: Machine
    measurements: tuple[Measurement, ...]
    failures: tuple[Failure, ...] = ()
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """One thing to measure: an artifact, in a setting.

    Attributes:
        setting: what tells measurements of one artifact apart (a compute unit); empty where there is but one.
        arguments: what its opener takes beside the directory, the artifact and the threads; JSON values.
    """

    artifact: Artifact
    setting: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


# Adds to a measurement what only one target knows.
Describe = Callable[[Item, Measurement, Sequence[Answer]], Measurement]


def as_it_is(item: Item, measurement: Measurement, rounds: Sequence[Answer]) -> Measurement:
    """Adds nothing."""
    return measurement


def profile_bundle(
    bundle: Bundle,
    options: ProfileOptions | None = None,
    artifacts: Sequence[Artifact] | None = None,
    progress: Progress = silent,
    how: Opening = ONNX_RUNTIME,
) -> Profile:
    """Measures artifacts on this machine's CPU and stores the measurements in the bundle.

    A variant that fails does not end the others; it is among the `failures`, and tried again next time.

    Args:
        artifacts: which of the bundle's; None is all of them.
        how: opens them in the processes that measure.

    Raises:
        EdgeError: another sweep of this bundle is running, or the bundle can't be written.
    """
    items = [Item(a) for a in (bundle.artifacts if artifacts is None else artifacts)]
    options = replace(options or ProfileOptions(), threads=(options and options.threads) or default_threads())
    return sweep_items(Sweep(bundle, options, how, this_machine((how.package.partition(".")[0],)), progress), items)


def sweep_items(sweep: Sweep, items: Sequence[Item]) -> Profile:
    """Runs a sweep that no other process runs. Raises `EdgeError` where one does."""
    # A killed sweep can hold the lock for a moment longer, through a worker that is just being started.
    with held(sweep.folder, patience=2.0) as free:
        if free is False:
            raise EdgeError(
                f"{sweep.bundle.directory} is being profiled by another process.", "Wait until it has ended."
            )
        return sweep.run(items)


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
    """One sweep: what of, how, on which machine.

    Attributes:
        ask: measures one round of an item, or its long run, where that isn't a process of this machine.
    """

    bundle: Bundle
    options: ProfileOptions
    how: Opening
    machine: Machine
    progress: Progress
    describe: Describe = as_it_is
    ask: Callable[[Item, bool], Answer] | None = None

    @property
    def folder(self) -> Path:
        return measurements_folder(self.bundle.directory, self.machine.machine_id)

    def run(self, items: Sequence[Item]) -> Profile:
        for item in items:
            self.forget_stored(item)
        measured = {} if self.options.again else self.finished(items)
        kept = tuple(measured)
        left = [item for item in items if self.stem(item) not in measured]
        failures: dict[str, Failure] = {}
        done, total = 0, len(left) * self.options.rounds
        for turn in range(self.options.rounds):
            for item in left if turn % 2 == 0 else left[::-1]:
                if self.stem(item) not in failures and len(self.unfinished(item).rounds) <= turn:
                    self.take_turn(item, failures, sustained=False)
                done += 1
                self.progress("measuring", done, total)
        for item in left:
            stem = self.stem(item)
            if stem not in failures and self.options.sustained_seconds and not self.unfinished(item).sustained:
                self.take_turn(item, failures, sustained=True)
            if stem not in failures:
                measured[stem] = self.finish(item)
        return Profile(
            self.machine,
            tuple(m for item in items if (m := measured.get(self.stem(item))) is not None),
            tuple(failures.values()),
            kept,
        )

    def take_turn(self, item: Item, failures: dict[str, Failure], sustained: bool) -> None:
        """Measures one round, or the long run, and puts it on disk; a failure goes into `failures` and on disk too."""
        try:
            answer = (self.ask or self.ask_worker)(item, sustained)
        except SweepEnded:
            raise
        except EdgeError as error:
            failures[self.stem(item)] = failure = Failure(item.artifact, error.message, error.hint)
            self.write(FAILED, item, {**asdict(failure), "at": utc_now()})
            return
        before = self.unfinished(item)
        after = replace(before, sustained=answer) if sustained else replace(before, rounds=(*before.rounds, answer))
        self.write(UNFINISHED, item, asdict(after))

    # ---------------------------------------------------------------------------- on disk

    def stem(self, item: Item) -> str:
        return measurement_stem(item.artifact.name, item.artifact.format, self.options.threads, item.setting)

    def key(self, item: Item) -> dict[str, Any]:
        """The conditions: of the same file, in the same way, with the same versions."""
        how = asdict(replace(self.options, again=False))
        return {"sha256": item.artifact.sha256, "how": how, "versions": dict(self.machine.versions)}

    def finished(self, items: Sequence[Item]) -> dict[str, Measurement]:
        """The measurements that are there already, by stem."""
        found = {}
        for item in items:
            path = self.folder / f"{self.stem(item)}.json"
            if path.is_file():
                measurement = load_measurement(path)
                if measurement.details.get("key") == self.key(item):
                    found[self.stem(item)] = measurement
        return found

    def path(self, kind: str, item: Item) -> Path:
        return self.folder / kind / f"{self.stem(item)}.json"

    def write(self, kind: str, item: Item, data: dict[str, Any]) -> None:
        path = self.path(kind, item)
        with disk_errors(path):
            path.parent.mkdir(exist_ok=True)
        write_atomically(path, json.dumps(data))

    def unfinished(self, item: Item) -> Unfinished:
        """What a killed sweep, or an earlier turn, left of a variant.

        Nothing where the conditions were others, or where the file is damaged: it is then measured anew.
        """
        key, path = self.key(item), self.path(UNFINISHED, item)
        with suppress(EdgeError):
            found = typed(read_json(path), Unfinished, f"The file {path}")
            if found.key == key:
                return found
        return Unfinished(key)

    def finish(self, item: Item) -> Measurement:
        """Turns the rounds into the measurement, stores it and forgets the rounds."""
        measurement = self.measurement(item, self.unfinished(item))
        save_measurement(self.bundle.directory, measurement)
        self.forget(item)
        return measurement

    def forget(self, item: Item) -> None:
        """Removes the rounds of a variant that has been measured, and how it failed before."""
        for kind in (FAILED, UNFINISHED):
            with suppress(OSError):  # there may be none; the folder goes with the last one
                path = self.path(kind, item)
                path.unlink(missing_ok=True)
                path.parent.rmdir()

    def forget_stored(self, item: Item) -> None:
        """Removes the rounds that a sweep left which was killed when it had just stored their measurement.

        With `again` they would be taken for new ones. A damaged measurement is left to others to tell of.
        """
        if not self.path(UNFINISHED, item).is_file():
            return
        with suppress(EdgeError):
            stored = self.finished([item]).get(self.stem(item))
            if stored is not None and stored.started_at == self.unfinished(item).started_at:
                self.forget(item)

    def measurement(self, item: Item, state: Unfinished) -> Measurement:
        rounds, artifact = state.rounds, item.artifact
        busy = max(r.other_load for r in rounds)
        warning = f"Other processes used {busy:.0%} of the CPU while it was measured."
        samples = [s for r in rounds for s in r.samples_ms]
        details = {
            "key": state.key,
            "rounds": [
                {k: v for k, v in asdict(r).items() if k not in ("samples_ms", "windows", "facts")} for r in rounds
            ],
            "cost": cost_facts(self.bundle, artifact),
        }
        measured = replace(
            measurement_of(artifact, self.machine, samples, state.started_at),
            setting=item.setting,
            threads=self.options.threads,
            load_ms=median(r.load_ms for r in rounds),
            first_ms=median(r.first_ms for r in rounds),
            peak_memory_bytes=int(median(r.peak_memory_bytes for r in rounds)),
            round_sizes=tuple(len(r.samples_ms) for r in rounds),
            sustained=Sustained(state.sustained.windows) if state.sustained else None,
            recorded_warnings=(warning,) if busy > MAX_OTHER_LOAD else (),
            details=details,
        )
        return self.describe(item, measured, rounds)

    # ------------------------------------------------------------------------ the process

    def ask_worker(self, item: Item, sustained: bool) -> Answer:
        """Raises `EdgeError` when the process fails, crashes or does not answer."""
        options = self.options
        seconds = options.sustained_seconds if sustained else 0.0
        request = Request(
            str(self.bundle.directory),
            item.artifact,
            self.how.opener,
            dict(item.arguments),
            self.how.package,
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
                self.progress(f"running {item.artifact.name} for long", min(int(elapsed), int(seconds)), int(seconds))

        answer = answer_of_worker(request, WORKER_TIMEOUT + seconds, note)
        return typed(answer, Answer, f"What the process that measured {item.artifact.name} answered")
