"""What a measuring job left on a board, made into a measurement."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...bundle.types import Artifact
from ...devices.answers import Reader
from ...devices.jetson.probe import Board
from ..machine import Machine
from ..measurement import Measurement, measurement_of
from ..store import load_measurement, measurement_stem, measurements_folder
from . import tegrastats, trtexec
from .options import BoardOptions
from .tegrastats import PowerWindow
from .trtexec import TimingLog

BUSY_PERCENT = 10
_CLOCK = Reader("The board's clock", "Run the same command again.")


@dataclass(frozen=True)
class Findings:
    """What a job left: the lines of its log, and the content of its files (empty where there is none)."""

    log: tuple[str, ...]
    times: str
    power: str = ""
    layers: str = ""


def measurement_from(
    found: Findings,
    artifact: Artifact,
    machine: Machine,
    board: Board,
    options: BoardOptions,
    started_at: str,
    cost: Mapping[str, Any],
) -> Measurement:
    """Puts together what a job left. Raises `EdgeError` where it cannot be read."""
    times = trtexec.read_times(found.times)
    log = trtexec.read_log("\n".join(found.log))
    samples = tegrastats.parse(found.power)
    rails = board.module.total_rails if board.module else ()
    idle = tegrastats.window(tegrastats.between(samples, *_idle_span(found.log)), options.idle_s, rails)
    begin, end = _steady_span(found.log, times.window_s)
    steady = tegrastats.window(tegrastats.between(samples, begin, end), times.window_s, rails)
    limits = _clock_limits(found.log)
    calls = len(times.compute_ms)
    ram_delta = max(0, steady.ram_mb - idle.ram_mb) << 20 if steady and idle and steady.ram_mb and idle.ram_mb else None
    return replace(
        measurement_of(artifact, machine, times.compute_ms, started_at),
        setting=board.power_mode or "",
        load_ms=log.load_ms,
        peak_memory_bytes=ram_delta,
        recorded_warnings=tuple(_warnings(log, idle, steady, limits, board, options)),
        details={
            "key": measurement_key(artifact, machine, board, options),
            "timer": "trtexec" if board.trtexec else "tensorrt",
            "method": "GPU time of each query, one after the other, without copies between host and device",
            "throughput": log.throughput,
            "engine_bytes": log.engine_bytes,
            "context_bytes": log.context_bytes,
            "managed_bytes": log.managed_bytes,
            "ram_delta_bytes": ram_delta,
            "clock_limits_mhz": limits,
            "cost": cost,
            "idle": idle and _facts(idle),
            "steady": steady and _facts(steady),
            **energy(steady, idle, calls, artifact.batch),
            **(
                {"layers": [[layer.name, layer.mean_ms] for layer in trtexec.read_layers(found.layers)]}
                if found.layers
                else {}
            ),
        },
    )


def energy(steady: PowerWindow | None, idle: PowerWindow | None, calls: int, batch: int) -> dict[str, float]:
    """Millijoules of one call and of one frame, gross and above idle; what was not measured is left out."""
    if steady is None or steady.total_mw is None:
        return {}
    gross = steady.total_mw * steady.seconds / calls
    found = {"energy_mj": gross, "energy_per_frame_mj": gross / batch}
    if idle is not None and idle.total_mw is not None:
        above = (steady.total_mw - idle.total_mw) * steady.seconds / calls
        found |= {"energy_above_idle_mj": above, "energy_per_frame_above_idle_mj": above / batch}
    return found


def _facts(window: PowerWindow) -> dict[str, Any]:
    return {**asdict(window), "total_mw": window.total_mw, "hottest_c": window.hottest_c}


def _idle_span(log: Sequence[str]) -> tuple[float, float]:
    for line in log:
        match = re.match(r"idle ([0-9.]+) ([0-9.]+)$", line)
        if match:
            return _CLOCK.decimal("the time of the rest", match[1]), _CLOCK.decimal("the time of the rest", match[2])
    return 0.0, 0.0


def _steady_span(log: Sequence[str], seconds: float) -> tuple[float, float]:
    """Board time of the timed queries: they end when the timer says so, and took as long as it says.

    The first 200 ms are left out where there is enough: tegrastats' figures trail behind.
    """
    for line in log:
        match = re.match(r"([0-9.]+) \S+ .*Warmup completed", line)
        if match:
            end = _CLOCK.decimal("the time of the warm-up", match[1])
            return end - seconds + (0.2 if seconds > 2 else 0.0), end
    return 0.0, 0.0


def _clock_limits(log: Sequence[str]) -> list[float] | None:
    """Lowest and highest GPU clock allowed while it was measured, MHz."""
    for line in log:
        match = re.match(r"clocks ([0-9]+) ([0-9]+)$", line)
        if match:
            return [_CLOCK.whole("a limit of the GPU's clock", match[i], most=10**12) / 1e6 for i in (1, 2)]
    return None


def _warnings(
    log: TimingLog,
    idle: PowerWindow | None,
    steady: PowerWindow | None,
    limits: list[float] | None,
    board: Board,
    options: BoardOptions,
) -> list[str]:
    found = [f"trtexec: {warning}" for warning in log.warnings]
    if limits is None:
        found.append("The GPU's clock limits could not be read: whether the clocks were locked is not known.")
    elif limits[0] != limits[1]:
        found.append(
            f"The clocks were not locked (GPU {limits[0]:.0f} to {limits[1]:.0f} MHz): the times vary with "
            "what the board makes of the load. Lock them with --lock-clocks."
        )
    if board.tegrastats is None:
        found.append("There is no tegrastats: power, temperature and clocks were not measured.")
    elif steady is None:
        found.append("tegrastats said nothing while it was timed: power, temperature and clocks were not measured.")
    elif steady.total_mw is None:
        found.append(
            f"The module's power is not known: of its rails ({', '.join(steady.rails_mw) or 'none'}) none is the whole."
        )
    if idle is not None and idle.gpu_load is not None and idle.gpu_load > BUSY_PERCENT:
        found.append(f"The GPU was {idle.gpu_load:.0f}% busy before it was measured: something else uses it.")
    if steady is not None:
        found += tegrastats.heat_warnings(steady, limits[1] if limits else None)
    return found


def measurement_key(artifact: Artifact, machine: Machine, board: Board, options: BoardOptions) -> dict[str, Any]:
    """The conditions: the same file, timed in the same way, with the same versions and power mode."""
    how = asdict(replace(options, again=False))
    # What says when and where, not how; the rest stands in the keys of versions that had no cooling.
    del how["cool_patience_s"], how["power_mode"]
    if options.cool_to_c is None:
        del how["cool_to_c"]
    return {"sha256": artifact.sha256, "how": how, "versions": dict(machine.versions), "power_mode": board.power_mode}


def measured_before(
    directory: Path, artifact: Artifact, machine: Machine, board: Board, options: BoardOptions
) -> Measurement | None:
    """What was measured before under the same conditions; None where nothing was."""
    stem = measurement_stem(artifact.name, artifact.format, None, board.power_mode or "")
    path = measurements_folder(directory, machine.machine_id) / f"{stem}.json"
    if not path.is_file():
        return None
    old = load_measurement(path)
    return old if old.details.get("key") == measurement_key(artifact, machine, board, options) else None
