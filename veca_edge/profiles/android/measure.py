"""Measures a bundle's files on a phone, through an app that is installed there or Google's `benchmark_model`.

Not yet run on hardware: it is written against the tools' sources and recorded output.

The rounds, their order and what is kept of them are those of every sweep (`profiles.sweep`): what a phone measured
before it went away stays, and the same command goes on from there.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from ...base.errors import EdgeError
from ...base.files import sha256_of
from ...base.progress import Progress, silent
from ...base.versions import own_version
from ...bundle.types import Artifact, Bundle
from ...devices.android.adb import Adb, PhoneLost, open_phone
from ...devices.android.phone import THERMAL_STATUS, Condition, Phone, read_condition, read_phone
from ...devices.outgoing import bundle_file
from ..cooling import Cooling
from ..machine import Machine
from ..measurement import Measurement
from ..sampling import Answer
from ..sweep import Item, Opening, Profile, Sweep, SweepEnded, sweep_items
from . import results
from .benchmark_model import check_tool, failed_run, read_run, tool_command
from .options import AndroidProfileOptions

DEFAULT_THREADS = 4
AVERAGES = "benchmark_model"
_RUN_SECONDS = 300.0
Log = Callable[[str], None]


def profile_on_phone(
    bundle: Bundle,
    device: str,
    options: AndroidProfileOptions,
    artifacts: Sequence[Artifact] | None = None,
    progress: Progress = silent,
    on_log: Log = lambda line: None,
) -> Profile:
    """Measures artifacts on the phone that `device` names and stores the measurements in the bundle.

    A measurement's `setting` is the accelerator, with `benchmark_model` where the samples are averages of that tool's
    runs. A variant that fails does not end the others.

    Args:
        device: `adb`, or `adb:SERIAL`.

    Raises:
        EdgeError: no such phone; nothing there can measure; it sleeps, stays warm or goes away meanwhile: what was
            measured until then is kept.
    """
    if options.sustained_seconds:
        raise EdgeError("--sustained is for this machine, not for a phone.", "Leave it out, and use --cool-to.")
    options = replace(options, threads=options.threads or DEFAULT_THREADS)
    tool = Path(options.benchmark_model) if options.benchmark_model else None
    if tool is not None:
        check_tool(tool)
        if "npu" in options.accelerators:
            raise EdgeError(
                "benchmark_model does not measure an NPU here.", "Leave --benchmark-model out: the app does."
            )
    adb = open_phone(device)
    phone = read_phone(adb)
    timer = GoogleTool.on(adb, tool) if tool is not None else InstalledApp.on(adb, options.app or results.APP)
    machine = machine_of(phone, timer)
    items = [
        Item(artifact, f"{accelerator} {timer.setting}".rstrip(), {"accelerator": accelerator})
        for artifact in (bundle.artifacts if artifacts is None else artifacts)
        for accelerator in options.accelerators
    ]
    turns = Turns(bundle.directory, adb, phone, timer, options, on_log)
    sweep = Sweep(bundle, options.pace, Opening("", timer.name), machine, progress, timer.describe, turns.take)
    return sweep_items(sweep, items)


def machine_of(phone: Phone, timer: Timer) -> Machine:
    """The phone as the machine that measurements belong to."""
    return Machine(
        name=phone.name,
        architecture=phone.abi,
        cores=phone.cpus,
        usable_cores=phone.cpus,
        memory_bytes=phone.memory_bytes,
        system=f"Android {phone.android} (API {phone.api})",
        versions={"veca-edge": own_version(), timer.name: timer.version},
        identity=phone.identity,
    )


# ------------------------------------------------------------------------------------------ timers


@dataclass(frozen=True)
class Turn:
    """What is measured in one turn: a signature of a file, somewhere on the phone."""

    path: Path
    sha256: str
    signature: str
    accelerator: str
    options: AndroidProfileOptions

    @property
    def threads(self) -> int:
        return self.options.threads or DEFAULT_THREADS


@dataclass(frozen=True)
class GoogleTool:
    """Google's `benchmark_model`, which prints no single calls."""

    adb: Adb
    path: str
    version: str
    name = "benchmark_model"
    setting = AVERAGES

    @classmethod
    def on(cls, adb: Adb, path: Path) -> GoogleTool:
        """The tool, copied to the phone."""
        return cls(adb, adb.put(path, "benchmark_model", executable=True), sha256_of(path)[:12])

    def measure(self, turn: Turn) -> Answer:
        """Short runs one after the other; a sample is the average of the calls of one."""
        model = self.adb.put(turn.path, "model.tflite")
        options = turn.options
        count = math.ceil(options.samples / options.rounds)
        command = tool_command(
            self.path,
            model,
            turn.signature,
            turn.accelerator,
            turn.threads,
            options.seconds / count,
            options.warmup_seconds,
        )
        runs = []
        for _ in range(count):
            code, said = self.adb.shell(command, seconds=_RUN_SECONDS)
            if code:
                raise failed_run(code, said, self.adb.name)
            runs.append(read_run(said))
        memory = [run.memory_bytes for run in runs if run.memory_bytes is not None]
        return Answer(
            load_ms=median(run.load_ms for run in runs),
            first_ms=median(run.first_ms for run in runs),
            idle_memory_bytes=0,
            peak_memory_bytes=int(median(memory)) if memory else 0,
            other_load=0.0,
            samples_ms=tuple(run.average_ms for run in runs),
            facts={"memory_known": bool(memory), "runs": [asdict(run) for run in runs]},
        )

    def describe(self, item: Item, measured: Measurement, rounds: Sequence[Answer]) -> Measurement:
        runs = [run for answer in rounds for run in answer.facts["runs"]]
        calls = sum(run["count"] for run in runs)
        lowest, highest = min(r["lowest_ms"] for r in runs), max(r["highest_ms"] for r in runs)
        warning = (
            f"benchmark_model prints no single calls: the {len(runs)} samples are averages of runs, {calls} calls in "
            f"all, so percentiles are of averages. Single calls took {lowest:.2f} to {highest:.2f} ms."
        )
        return described(measured, rounds, "averages of runs of benchmark_model", (warning,))


@dataclass(frozen=True)
class InstalledApp:
    """The app's instrumented benchmark, as `results` says."""

    adb: Adb
    package: str
    version: str
    name = "app"
    setting = ""

    @classmethod
    def on(cls, adb: Adb, package: str) -> InstalledApp:
        """The installed app. Raises `EdgeError` where it is not there, or is not debuggable."""
        wanted = f"instrumentation:{package}.test/{results.RUNNER} (target={package})"
        known = adb.answer("pm list instrumentation").splitlines()
        if wanted not in [line.strip() for line in known]:
            raise EdgeError(
                f"{adb.name} has no app {package} with its benchmark, {package}.test.",
                "Install both with gradle :app:installDebug :app:installDebugAndroidTest, in the project of veca-edge "
                "app; say which with --app; or give Google's tool with --benchmark-model FILE.",
            )
        code, _ = adb.shell(f"run-as {package} mkdir -p {results.FOLDER}")
        if code:
            raise EdgeError(f"The app {package} on {adb.name} can't be given files.", "Install its debug build.")
        listed = adb.answer(f"dumpsys package {package} | grep -m1 versionName=").strip()
        return cls(adb, package, adb.reader.line("the app's version", listed.removeprefix("versionName=")))

    def measure(self, turn: Turn) -> Answer:
        as_app = f"run-as {self.package} "
        if self.adb.digest_of(results.MODEL, as_app) != turn.sha256:
            model, part = self.adb.put(turn.path, "model.tflite"), f"{results.MODEL}.part"
            self.adb.answer(f"{as_app}cp {model} {part} && {as_app}mv -f {part} {results.MODEL}")
        self.adb.answer(f"{as_app}rm -f {results.RESULT}")
        options = turn.options
        arguments = {
            "class": results.TEST_CLASS,
            "signature": turn.signature,
            "accelerator": turn.accelerator,
            "threads": turn.threads,
            "seconds": options.seconds,
            "samples": options.samples,
            "most_seconds": options.most_seconds,
            "warmup_seconds": options.warmup_seconds,
        }
        words = [word for name, value in arguments.items() for word in ("-e", name, str(value))]
        command = shlex.join(["am", "instrument", "-w", "-r", *words, f"{self.package}.test/{results.RUNNER}"])
        _, said = self.adb.shell(command, seconds=_RUN_SECONDS + options.most_seconds)
        code, text = self.adb.shell(f"{as_app}cat {results.RESULT}", most_bytes=results.RESULT_BYTES)
        if code:
            raise EdgeError(
                f"The benchmark of {self.package} on {self.adb.name} left no result: {instrumentation_failure(said)}.",
                "Look at what it logs: adb logcat -d | tail -n 50",
            )
        found = results.read_result(text, turn.sha256, turn.signature, turn.accelerator, turn.threads)
        assert found.load_ns is not None
        assert found.first_ns is not None
        return Answer(
            load_ms=found.load_ns / 1e6,
            first_ms=found.first_ns / 1e6,
            idle_memory_bytes=0,
            peak_memory_bytes=found.memory_bytes or 0,
            other_load=0.0,
            samples_ms=tuple(ns / 1e6 for ns in found.samples_ns),
            facts={"memory_known": found.memory_bytes is not None, "runtime": found.runtime},
        )

    def describe(self, item: Item, measured: Measurement, rounds: Sequence[Answer]) -> Measurement:
        return described(measured, rounds, "wall time of every call in the app")


Timer = GoogleTool | InstalledApp


def instrumentation_failure(text: str) -> str:
    """What `am instrument -r` says of why it failed, in its own words."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for start in (
        "INSTRUMENTATION_RESULT: longMsg=",
        "INSTRUMENTATION_RESULT: shortMsg=",
        "INSTRUMENTATION_STATUS: stack=",
        "INSTRUMENTATION_FAILED:",
        "INSTRUMENTATION_STATUS: Error=",
    ):
        for line in lines:
            if line.startswith(start):
                return line.removeprefix(start)[:200]
    return lines[-1][:200] if lines else "it said nothing"


# ------------------------------------------------------------------------------------------- sweep


@dataclass(frozen=True)
class Turns:
    """Takes the turns of a sweep on a phone."""

    directory: Path
    adb: Adb
    phone: Phone
    timer: Timer
    options: AndroidProfileOptions
    on_log: Log

    def take(self, item: Item, sustained: bool) -> Answer:
        """One round. Raises `EdgeError` where it fails, `SweepEnded` where the others would too."""
        artifact = item.artifact
        try:
            before = self.ready()
            turn = Turn(
                bundle_file(self.directory, artifact.path),
                artifact.sha256,
                artifact.function or "",
                str(item.arguments["accelerator"]),
                self.options,
            )
            answer = self.timer.measure(turn)
            after = read_condition(self.adb)
        except PhoneLost as error:
            raise SweepEnded(error.message, error.hint) from error
        return replace(
            answer,
            facts={**answer.facts, "phone": asdict(self.phone), "before": asdict(before), "after": asdict(after)},
        )

    def ready(self) -> Condition:
        """The phone's condition once it is awake and as cool as it was asked to be."""
        wanted = self.options.cool_to
        if wanted is None:
            return self.awake()
        cooling, told = Cooling(self.adb.name, wanted, "Put it somewhere cooler, unplug what charges it"), False

        def tell(now: float) -> None:
            nonlocal told
            if now > wanted and not told:
                self.on_log(f"{self.adb.name} is at {now:.1f} C; waiting until it is at {wanted:g} C")
                told = True

        try:
            return cooling.wait(self.awake, lambda condition: condition.warmth_c, tell)
        except EdgeError as error:
            raise SweepEnded(error.message, error.hint) from error

    def awake(self) -> Condition:
        """The phone's condition now. Raises `SweepEnded` where it sleeps."""
        condition = read_condition(self.adb)
        if not condition.awake:
            raise SweepEnded(
                f"{self.adb.name} sleeps, with lowered clocks: what it measured would mean nothing.",
                f"Wake it and keep it awake: adb -s {self.adb.serial} shell svc power stayon true",
            )
        return condition


def described(
    measured: Measurement, rounds: Sequence[Answer], method: str, warnings: Sequence[str] = ()
) -> Measurement:
    """A measurement with what a phone alone knows; what a phone does not tell is left out, not zero."""
    known = all(r.facts["memory_known"] for r in rounds)
    kept = [
        {"load_ms": r.load_ms, "first_ms": r.first_ms, **{k: v for k, v in r.facts.items() if k != "phone"}}
        for r in rounds
    ]
    conditions = [(r.facts["before"], r.facts["after"]) for r in rounds]
    details: dict[str, Any] = {**measured.details, "method": method, "phone": rounds[0].facts["phone"], "rounds": kept}
    return replace(
        measured,
        peak_memory_bytes=measured.peak_memory_bytes if known else None,
        recorded_warnings=(*warnings, *heat_warnings(conditions)),
        details=details,
    )


def heat_warnings(conditions: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> list[str]:
    """Of the conditions before and after each round, as JSON values: where heat or the battery had a say."""
    found = []
    every = [c for pair in conditions for c in pair]
    statuses = [c["thermal_status"] for c in every if c["thermal_status"] is not None]
    if not statuses:
        found.append("The phone does not tell its thermal status: whether it throttled is not known.")
    elif max(statuses):
        found.append(
            f"The phone throttled: its thermal status reached '{THERMAL_STATUS[max(statuses)]}'. Use --cool-to."
        )
    lowered = [k for c in every for k in c["clocks"] if k["limit_khz"] < k["highest_khz"]]
    if lowered:
        worst = min(lowered, key=lambda k: k["limit_khz"] / k["highest_khz"])
        found.append(
            f"The phone allowed a cluster of CPUs {worst['limit_khz'] / 1e6:.2f} of {worst['highest_khz'] / 1e6:.2f} "
            "GHz."
        )
    if min(c["battery_percent"] for c in every) < 20:
        found.append("The battery was below 20%: phones save power then.")
    return found
