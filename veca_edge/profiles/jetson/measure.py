"""Engines measured on the board that they were built on: latency, memory, power and heat.

One detached job per engine: tegrastats runs all the while, first over a rest (what the idle board takes),
then over trtexec's timing run. Both are stamped with the board's own clock, so that power, temperature and
clocks are those of the very stretch in which the queries were timed. Nothing of the board is changed
unless `lock_clocks` asks, and then it is put back.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...base.errors import EdgeError
from ...base.progress import Progress, silent
from ...base.text import quoted
from ...base.versions import own_version
from ...bundle.types import Artifact, Bundle
from ...devices import jobs
from ...devices.jetson.engine_key import check_engine_key, engines_for
from ...devices.jetson.probe import BOARD_ROOT, GPU_CLOCKS, Board, ConnectedBoard
from ...devices.jetson.trtexec import last_words, profile_selection
from ...devices.jobs import Job, Log, ignore, run_job
from ...devices.outgoing import bundle_file
from ..cooling import Cooling
from ..cost import cost_facts
from ..machine import Machine
from ..measurement import Measurement, utc_now
from ..store import save_measurement
from ..sweep import Failure, Profile
from . import trtexec
from .findings import Findings, measured_before, measurement_from
from .options import BoardOptions
from .temperature import temperature_of

_RUNNER = Path(__file__).parents[2] / "runtime" / "tensorrt_engine.py"
TEGRASTATS_MS = 100
# A result that was left on the board longer ago is measured again.
OLDEST_S = 3600
# Loading an engine and timing its layers, on a busy board.
_LONGEST_S = 1800.0
# Another client's measurement may take this long.
_QUEUE_S = 3600.0
_FILE_BYTES = 64 << 20
_OLDEST_TENSORRT = "8.5"


def profile_on_board(
    there: ConnectedBoard,
    bundle: Bundle,
    artifacts: Sequence[Artifact] | None = None,
    options: BoardOptions | None = None,
    progress: Progress = silent,
    on_log: Log = ignore,
    on_variant: Callable[[str, str], None] = lambda variant, state: None,
) -> Profile:
    """Measures engines on their board and stores the measurements in the bundle.

    An engine that fails does not end the others; it is among the `failures`. What is measured is stored at
    once, and not measured again when the same command is run after an interruption.

    Args:
        artifacts: which of the bundle's; None is all of them. Where the bundle holds engines for several boards,
            those for this one are measured.
        on_variant: gets a variant's name and its state in words.

    Raises:
        EdgeError: there is no engine; an engine was built for another board; nothing there can time it; the
            clocks cannot be locked; it does not cool down; the connection was lost.
    """
    options, board = options or BoardOptions(), there.board
    chosen = _engines_of(there, bundle, bundle.artifacts if artifacts is None else artifacts)
    command = timer_command(there)
    if options.lock_clocks and not board.sudo:
        raise EdgeError(
            f"The clocks of {there.name} cannot be locked: that takes root, without a password.",
            "Lock them there yourself (sudo jetson_clocks), and leave --lock-clocks out.",
        )
    meter = _Meter(there, bundle, machine_of(board), command, options, on_log)
    measured, failures, kept = [], [], []
    for i, artifact in enumerate(chosen):
        stage = f"measuring {artifact.name} on {there.name}"

        def on_wait(stage: str = stage, done: int = i) -> None:
            progress(stage, done, len(chosen))

        def tell(state: str, name: str = artifact.name) -> None:
            on_variant(name, state)

        on_wait()
        old = None if options.again else measured_before(bundle.directory, artifact, meter.machine, board, options)
        if old is not None:
            measured.append(old)
            kept.append(artifact.name)
            tell(f"{old.p50_ms:.2f} ms, kept")
        else:
            try:
                new = meter.measure(artifact, on_wait, tell)
                save_measurement(bundle.directory, new)
                measured.append(new)
                tell(f"{new.p50_ms:.2f} ms")
            except MeasurementFailed as error:
                tell("failed")
                failures.append(Failure(artifact, error.message, error.hint))
        progress(stage, i + 1, len(chosen))
    return Profile(meter.machine, tuple(measured), tuple(failures), tuple(kept))


def _engines_of(there: ConnectedBoard, bundle: Bundle, artifacts: Sequence[Artifact]) -> list[Artifact]:
    """The engines that were built for this board. Raises `EdgeError` where there is none, or one of another board."""
    rebuild = quoted("veca-edge", "build", bundle.directory, "--device", there.connection.device or "local")
    chosen = engines_for(artifacts, there.board)
    if not chosen:
        raise EdgeError(f"The bundle {bundle.directory} has no engine to measure.", f"Build them first: {rebuild}")
    for artifact in chosen:
        check_engine_key(artifact.details, there.board, artifact.name, rebuild)
    return chosen


class MeasurementFailed(EdgeError):
    """One engine could not be measured; the others may."""


def machine_of(board: Board) -> Machine:
    """The board as the machine that measurements belong to."""
    versions = {
        "tensorrt": board.tensorrt,
        "cuda": board.cuda,
        "l4t": board.l4t,
        "jetpack": board.jetpack,
        "veca-edge": own_version(),
    }
    return Machine(
        name=board.name,
        architecture=board.architecture,
        cores=board.cpus,
        usable_cores=board.cpus,
        memory_bytes=board.memory_bytes,
        system=f"L4T {board.l4t}" if board.l4t else board.kernel,
        versions={name: version for name, version in versions.items() if version},
        identity=board.identity,
    )


def timer_command(there: ConnectedBoard) -> str:
    """What times an engine there: trtexec, else our own timer for Python's TensorRT, which takes its options."""
    board = there.board
    if board.trtexec:
        return shlex.quote(board.trtexec)
    if board.python:
        return f"{shlex.quote(board.python)} ./{_RUNNER.name}"
    raise EdgeError(
        f"{there.name} has nothing to time an engine with: neither trtexec nor the Python package tensorrt.",
        "On a Jetson install JetPack's: sudo apt install nvidia-jetpack",
    )


# ------------------------------------------------------------------------------------------- the job


_SCRIPT = """\
# Puts the seconds since the start and the GPU's frequency before every line.
stamp() {
    while IFS= read -r line; do
        read -r now _ </proc/uptime
        clock=-
        [ -z "$gpu" ] || read -r clock <"$gpu/cur_freq" || clock=-
        printf '%s %s %s\\n' "$now" "$clock" "$line"
    done
}

root=@ROOT@
lock_clocks=@LOCK_CLOCKS@
watches=@HAS_TEGRASTATS@
layers=@HAS_LAYERS@
gpu=
for found in @GPU_CLOCKS@; do
    [ ! -r "$found/cur_freq" ] || gpu=$found
done

# One measurement at a time, whoever asks for it: the lock goes with the last process that holds it.
if command -v flock >/dev/null; then
    exec 9>../../measuring.lock
    flock -w @QUEUE_S@ 9 || exit 22
fi

if [ $lock_clocks = yes ]; then
    rm -f clocks.before
    if ! sudo -n jetson_clocks --store "$PWD/clocks.before"; then
        echo "the clocks could not be stored"
        exit 21
    fi
    trap 'sudo -n jetson_clocks --restore "$PWD/clocks.before"' EXIT
    trap 'exit 143' HUP INT TERM
    sudo -n jetson_clocks || exit 21
    sleep 1
fi
[ -z "$gpu" ] || echo "clocks $(cat "$gpu/min_freq") $(cat "$gpu/max_freq")"

watch=
if [ $watches = yes ]; then
    rm -f stats
    mkfifo stats
    stamp <stats >power.log &
    @TEGRASTATS@ --interval @INTERVAL@ >stats 2>/dev/null &
    watch=$!
    read -r begin _ </proc/uptime
    sleep @IDLE_S@
    read -r end _ </proc/uptime
    echo "idle $begin $end"
fi

{
    @COMMAND@ --loadEngine=model.engine @TIMING@ 2>&1
    echo "$?" >timing.code
} | stamp >timing.log
cat timing.log
[ -z "$watch" ] || kill "$watch"
code=$(cat timing.code)
[ "$code" -eq 0 ] || exit "$code"

if [ $layers = yes ]; then
    @COMMAND@ --loadEngine=model.engine @LAYERS@ >layers.log 2>&1
    code=$?
    [ "$code" -eq 0 ] || tail -n 20 layers.log
fi
exit "$code"
"""


def profile_job_script(board: Board, command: str, options: BoardOptions, details: Mapping[str, Any]) -> str:
    """The script that times an engine on its board and watches its power; `details` are the engine's."""
    version, selection = board.tensorrt or _OLDEST_TENSORRT, profile_selection(details)
    values = {
        "ROOT": BOARD_ROOT,
        "GPU_CLOCKS": " ".join(GPU_CLOCKS),
        "LOCK_CLOCKS": "yes" if options.lock_clocks else "no",
        "TEGRASTATS": shlex.quote(board.tegrastats or "tegrastats"),
        "HAS_TEGRASTATS": "yes" if board.tegrastats else "no",
        "INTERVAL": str(TEGRASTATS_MS),
        "IDLE_S": f"{options.idle_s:g}",
        "COMMAND": command,
        "TIMING": shlex.join([*selection, *trtexec.timing_arguments(version, options.warmup_s, options.seconds)]),
        "HAS_LAYERS": "yes" if options.layers else "no",
        "QUEUE_S": f"{_QUEUE_S:.0f}",
        "LAYERS": shlex.join([*selection, *trtexec.layer_arguments(version)]),
    }
    return re.sub(r"@([A-Z_]+)@", lambda match: values[match[1]], _SCRIPT)


@dataclass(frozen=True)
class _Meter:
    """A board that measures engines of a bundle, each in a job of its own."""

    there: ConnectedBoard
    bundle: Bundle
    machine: Machine
    command: str
    options: BoardOptions
    on_log: Log

    def measure(self, artifact: Artifact, on_wait: Callable[[], None], tell: Callable[[str], None]) -> Measurement:
        """Measures one engine once the board is cool enough. Raises `MeasurementFailed`, or `EdgeError` for all."""
        start_c = self.cooled(tell)
        tell("measuring")
        started_at = utc_now()
        found = self.timed(artifact, on_wait)
        try:
            costs = cost_facts(self.bundle, artifact)
            new = measurement_from(found, artifact, self.machine, self.there.board, self.options, started_at, costs)
        except MeasurementFailed:
            raise
        except EdgeError as error:
            raise MeasurementFailed(f"{artifact.name}: {error.message}", error.hint) from error
        return new if start_c is None else replace(new, details={**new.details, "start_c": start_c})

    def cooled(self, tell: Callable[[str], None]) -> float | None:
        """Waits until the board is cool, and says what it is at then; None where nothing was asked."""
        limit = self.options.cool_to_c
        if limit is None:
            return None
        cooling = Cooling(self.there.name, limit, "Look at its fan", self.options.cool_patience_s)
        return cooling.wait(lambda: temperature_of(self.there), float, lambda now: tell(f"cooling, at {now:.0f} C"))

    def timed(self, artifact: Artifact, on_wait: Callable[[], None]) -> Findings:
        """What a job that times the engine leaves on the board."""
        options, connection = self.options, self.there.connection
        inputs = {"model.engine": bundle_file(self.bundle.directory, artifact.path)}
        if self.command.endswith(_RUNNER.name):
            inputs[_RUNNER.name] = _RUNNER
        job = Job(
            "profile",
            profile_job_script(self.there.board, self.command, options, artifact.details),
            inputs,
            needed_bytes=64 << 20,
            longest_s=_QUEUE_S + _LONGEST_S + 2 * (options.seconds + options.warmup_s + options.idle_s),
        )
        log: list[str] = []

        def keep(line: str) -> None:
            log.append(line)
            self.on_log(line)

        every = self.there.interval_s
        code = run_job(connection, job, on_log=keep, on_wait=on_wait, oldest_s=OLDEST_S, interval_s=every)
        try:
            if code:
                raise timing_error(artifact.name, connection.name, "\n".join(log), code)
            files = {
                name: (jobs.read(connection, job, name, most_bytes=_FILE_BYTES) or b"").decode("utf-8", "replace")
                for name in ("times.json", "power.log", *(["layers.json"] if options.layers else []))
            }
        finally:
            jobs.remove(connection, job)
        return Findings(tuple(log), files["times.json"], files["power.log"], files.get("layers.json", ""))


def timing_error(name: str, place: str, log: str, code: int) -> EdgeError:
    """What the exit code and the log of a job that failed mean."""
    if code == 21:
        return EdgeError(
            f"The clocks of {place} could not be locked.",
            "Lock them there yourself (sudo jetson_clocks), and leave --lock-clocks out.",
        )
    if code == 22:
        return MeasurementFailed(
            f"{name} could not be timed on {place}: another measurement ran there for an hour.", "Try again later."
        )
    said = last_words(log)
    if code in (137, 9) or re.search("out of memory|OutOfMemory|bad_alloc", log):
        return MeasurementFailed(
            f"{place} has not enough free memory to run {name}: {said}",
            "Stop other programs, and the desktop (sudo systemctl isolate multi-user.target).",
        )
    return MeasurementFailed(
        f"{name} could not be timed on {place} (exit code {code}): {said}",
        "If it says that the engine does not fit this board, build it there again.",
    )
