"""What was measured of one artifact: raw samples are stored, statistics are derived from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from typing import Any, NamedTuple

import numpy as np

from ..base.spec import ImageSize
from ..bundle.store import Artifact
from .machine import Machine

# Above these the numbers say more about the machine's other work than about the model.
MAX_SPREAD = 0.10
MAX_TAIL = 2.0
MAX_DRIFT = 1.10
MAX_SLOWDOWN = 1.10
MAX_OTHER_LOAD = 0.10
FEW_SAMPLES = 20


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

    @property
    def seconds(self) -> float:
        return self.windows[-1].elapsed_s

    @property
    def first_minute_ms(self) -> float:
        """Median over the first minute, or over the first half of a run shorter than two minutes."""
        return self._median(lambda w: w.elapsed_s <= self._span)

    @property
    def last_minute_ms(self) -> float:
        """Median over the last minute, or over the last half of a run shorter than two minutes."""
        return self._median(lambda w: w.elapsed_s > self.seconds - self._span)

    @property
    def slowdown(self) -> float:
        """Last minute over first minute: 1 where nothing throttles."""
        return self.last_minute_ms / self.first_minute_ms

    @property
    def _span(self) -> float:
        return min(60.0, self.seconds / 2)

    def _median(self, inside) -> float:
        return float(np.median([w.p50_ms for w in self.windows if inside(w)] or [w.p50_ms for w in self.windows]))


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
    sha256: str
    format: str
    target: str
    core_count: int
    precision: str
    image_size: ImageSize
    batch: int
    samples_ms: tuple[float, ...]
    file_bytes: int
    machine: Machine
    started_at: str
    threads: int | None = None
    setting: str = ""
    load_ms: float | None = None
    first_ms: float | None = None
    peak_memory_bytes: int | None = None
    round_sizes: tuple[int, ...] = ()
    sustained: Sustained | None = None
    recorded_warnings: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.samples_ms or min(self.samples_ms) <= 0:
            raise ValueError(f"a measurement of {self.artifact} needs positive samples")
        if self.round_sizes and sum(self.round_sizes) != len(self.samples_ms):
            raise ValueError(f"the rounds of {self.artifact} do not add up to its samples")

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
            found.append(f"Only {len(self.samples_ms)} samples: p95 and p99 are close to the slowest call.")
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
        data: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        data["image_size"] = list(self.image_size)
        data["machine"] = self.machine.to_json()
        data["samples_ms"] = list(self.samples_ms)
        data["round_sizes"] = list(self.round_sizes)
        data["recorded_warnings"] = list(self.recorded_warnings)
        data["details"] = dict(self.details)
        data["sustained"] = self.sustained and [list(w) for w in self.sustained.windows]
        data["statistics"] = {
            "p50_ms": self.p50_ms,
            "p90_ms": self.p90_ms,
            "p95_ms": self.p95_ms,
            "p99_ms": self.p99_ms,
            "mean_ms": self.mean_ms,
            "throughput": self.throughput,
            "spread": self.spread,
            "warnings": list(self.warnings),
        }
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        """The inverse of `to_json`. Raises `KeyError`, `TypeError` or `ValueError` for what is not a measurement."""
        known = {f.name for f in fields(cls)}
        values = {key: value for key, value in data.items() if key in known}
        values["image_size"] = ImageSize(*data["image_size"])
        values["machine"] = Machine.from_json(data["machine"])
        values["samples_ms"] = tuple(data["samples_ms"])
        values["round_sizes"] = tuple(data["round_sizes"])
        values["recorded_warnings"] = tuple(data["recorded_warnings"])
        if data["sustained"] is not None:
            values["sustained"] = Sustained(tuple(Window(*w) for w in data["sustained"]))
        return cls(**values)


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
