"""What was measured of one artifact: raw samples are stored, statistics are derived from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta

from ..base.json_files import typed
from ..base.spec import ImageSize, check_precision, variant_name
from ..base.text import counted
from ..bundle.types import Artifact, Count, Digest
from .machine import Machine

# Above these the numbers say more about the machine's other work than about the model.
MAX_SPREAD = 0.10
MAX_TAIL = 2.0
MAX_DRIFT = 1.10
MAX_SLOWDOWN = 1.10
MAX_OTHER_LOAD = 0.10
FEW_SAMPLES = 20
# No call takes longer than a week.
LONGEST_MS = 7 * 24 * 3600 * 1000.0

Time = Annotated[float, Meta(ge=0, le=LONGEST_MS)]


class Window(NamedTuple):
    """One second of a sustained run. `elapsed_s` is its end, counted from the start of the run."""

    elapsed_s: float
    count: int
    p50_ms: float
    p95_ms: float
    max_ms: float


@dataclass(frozen=True)
class Sustained:
    """A run long enough to heat the machine up, as one window per second."""

    windows: tuple[Window, ...]

    def __post_init__(self) -> None:
        if not self.windows or not all(0 < w.p50_ms <= LONGEST_MS and w.elapsed_s > 0 for w in self.windows):
            raise ValueError("a long run needs windows with positive times")

    @property
    def seconds(self) -> float:
        return self.windows[-1].elapsed_s

    @property
    def first_minute_ms(self) -> float:
        """Median over the first minute, or over the first half of a run shorter than two minutes."""
        span = self._span
        return self._median(lambda w: w.elapsed_s <= span)

    @property
    def last_minute_ms(self) -> float:
        """Median over the last minute, or over the last half of a run shorter than two minutes."""
        start = self.seconds - self._span
        return self._median(lambda w: w.elapsed_s > start)

    @property
    def slowdown(self) -> float:
        """Last minute over first minute: 1 where nothing throttles."""
        return self.last_minute_ms / self.first_minute_ms

    @property
    def _span(self) -> float:
        return min(60.0, self.seconds / 2)

    def _median(self, inside: Callable[[Window], bool]) -> float:
        return float(np.median([w.p50_ms for w in self.windows if inside(w)] or [w.p50_ms for w in self.windows]))


@dataclass(frozen=True)
class CostFacts:
    """What one image costs; `counted_from` says what was counted: the `graph`, or the model's `sizes`."""

    macs: Count
    attention_interactions: Count
    counted_from: str


@dataclass(frozen=True)
class PowerFacts:
    """A stretch of time on a board: mean power, the hottest sensor, and the lowest, median and highest GPU clock."""

    total_mw: float | None = None
    hottest_c: float | None = None
    gpu_mhz: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class MeasurementFacts:
    """Those of a measurement's details that anybody reads; what a target did not measure is None.

    Attributes:
        energy_mj: of one call, idle power included; `energy_above_idle_mj` without it.
        steady, idle: while it was timed, and before.
        layers: name and milliseconds of every layer.
        cost_share: of the estimated cost, by compute unit; `operations` is how many each unit gets.
    """

    cost: CostFacts | None = None
    energy_mj: float | None = None
    energy_above_idle_mj: float | None = None
    steady: PowerFacts | None = None
    idle: PowerFacts | None = None
    layers: tuple[tuple[str, float], ...] | None = None
    cost_share: Mapping[str, float] | None = None
    operations: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Measurement:
    """One artifact, measured on one machine with one setting.

    Attributes:
        artifact: `Artifact.name`; `path`, `sha256` and what follows are the artifact's too.
        threads: CPU threads, or None where the runtime has no such setting.
        setting: what else tells measurements of one artifact apart, for display (`ane`, `15W`); often empty.
        samples_ms: wall time of every steady call, in order, after warm-up. Never empty.
        round_sizes: how many of the samples came from each of the interleaved rounds, in order.
        load_ms: cold load in a fresh process (the median of the rounds), or None where it was not measured.
        first_ms: the first inference after it, likewise.
        peak_memory_bytes: peak resident memory above an idle process that has the runtime loaded, or None.
        file_bytes: size on disk, external weights included.
        started_at: UTC, ISO 8601, of the first round.
        sustained: a long run, if one was asked for.
        recorded_warnings: what was noticed while measuring (clocks not locked, busy machine, ...).
        details: what only this target knows (power, energy, clocks, compute units, rounds); JSON values.
    """

    artifact: str
    path: str
    sha256: Digest
    format: str
    target: str
    core_count: Annotated[int, Meta(ge=1)]
    precision: str
    image_size: ImageSize
    batch: Annotated[int, Meta(ge=1)]
    samples_ms: tuple[float, ...]
    file_bytes: Count
    machine: Machine
    started_at: str
    threads: Annotated[int, Meta(ge=1)] | None = None
    setting: str = ""
    load_ms: Time | None = None
    first_ms: Time | None = None
    peak_memory_bytes: Count | None = None
    round_sizes: tuple[int, ...] = ()
    sustained: Sustained | None = None
    recorded_warnings: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_precision(self.precision)
        if self.artifact != variant_name(self.core_count, self.precision, self.image_size):
            raise ValueError(f"{self.artifact:.100} is not what its variant is called")
        if not self.samples_ms or not all(0 < ms <= LONGEST_MS for ms in self.samples_ms):
            raise ValueError(f"a measurement of {self.artifact} needs positive samples")
        if self.round_sizes and sum(self.round_sizes) != len(self.samples_ms):
            raise ValueError(f"the rounds of {self.artifact} do not add up to its samples")
        if self.round_sizes and min(self.round_sizes) < 1:
            raise ValueError(f"a round of {self.artifact} has no samples")

    @cached_property
    def facts(self) -> MeasurementFacts:
        """The details that are read, with their types. Raises `EdgeError` where they have others."""
        return typed(dict(self.details), MeasurementFacts, f"The measurement of {self.artifact}")

    # ------------------------------------------------------------------------------ statistics

    def percentile_ms(self, percent: float) -> float:
        return float(np.percentile(self.samples_ms, percent))

    @property
    def p50_ms(self) -> float:
        return self.percentile_ms(50)

    @property
    def p90_ms(self) -> float:
        return self.percentile_ms(90)

    @property
    def p95_ms(self) -> float:
        return self.percentile_ms(95)

    @property
    def p99_ms(self) -> float:
        return self.percentile_ms(99)

    @property
    def mean_ms(self) -> float:
        return float(np.mean(self.samples_ms))

    @property
    def throughput(self) -> float:
        """Images per second, calls made one after the other."""
        return 1000.0 * self.batch / self.mean_ms

    @property
    def spread(self) -> float:
        """Interquartile range over the median."""
        low, middle, high = np.percentile(self.samples_ms, (25, 50, 75))
        return float((high - low) / middle)

    @property
    def round_medians_ms(self) -> tuple[float, ...]:
        ends = np.cumsum(self.round_sizes)
        return tuple(
            float(np.median(self.samples_ms[end - size : end]))
            for size, end in zip(self.round_sizes, ends, strict=True)
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the numbers should not be trusted, in sentences; empty where they can be."""
        found = list(self.recorded_warnings)
        if len(self.samples_ms) < FEW_SAMPLES:
            found.append(f"Only {counted(len(self.samples_ms), 'sample')}: p95 and p99 are close to the slowest call.")
        if self.spread > MAX_SPREAD:
            found.append(f"The middle half of the samples spans {self.spread:.0%} of the median.")
        if self.p99_ms > MAX_TAIL * self.p50_ms:
            found.append(f"p99 is {self.p99_ms / self.p50_ms:.1f}x the median: something else used the machine.")
        medians = self.round_medians_ms
        if len(medians) > 1 and max(medians) > MAX_DRIFT * min(medians):
            found.append(f"The rounds disagree: their medians go from {min(medians):.2f} to {max(medians):.2f} ms.")
        if self.sustained and self.sustained.slowdown > MAX_SLOWDOWN:
            found.append(
                f"It slows down under load: {self.sustained.first_minute_ms:.2f} ms at first, "
                f"{self.sustained.last_minute_ms:.2f} ms at the end."
            )
        return tuple(found)

    # ------------------------------------------------------------------------------------ JSON

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, with the derived statistics beside the samples for readers of the file."""
        return {
            **msgspec.to_builtins(self),
            "machine": self.machine.to_json(),
            "sustained": None if self.sustained is None else self.sustained.windows,
            "statistics": {
                "p50_ms": self.p50_ms,
                "p90_ms": self.p90_ms,
                "p95_ms": self.p95_ms,
                "p99_ms": self.p99_ms,
                "mean_ms": self.mean_ms,
                "throughput": self.throughput,
                "spread": self.spread,
                "warnings": self.warnings,
            },
        }


def measurement_from(data: object, whose: str, hint: str | None = None) -> Measurement:
    """The inverse of `Measurement.to_json`. Raises `EdgeError` that names `whose` and says what is wrong."""
    if isinstance(data, dict) and isinstance(data.get("sustained"), list):
        data = {**data, "sustained": {"windows": data["sustained"]}}
    made = typed(data, Measurement, whose, hint)
    typed(dict(made.details), MeasurementFacts, f"{whose}, in its details,", hint)
    return made


def measurement_of(artifact: Artifact, machine: Machine, samples_ms: Sequence[float], started_at: str) -> Measurement:
    """The samples of an artifact; what else was measured is added with `dataclasses.replace`."""
    return Measurement(
        artifact=artifact.name,
        path=artifact.path,
        sha256=artifact.sha256,
        format=artifact.format,
        target=artifact.target,
        core_count=artifact.core_count,
        precision=artifact.precision,
        image_size=artifact.image_size,
        batch=artifact.batch,
        file_bytes=artifact.bytes,
        machine=machine,
        samples_ms=tuple(samples_ms),
        started_at=started_at,
    )


def utc_now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
