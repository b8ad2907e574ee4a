"""Chooses the best variant of a bundle for a budget, from what was measured of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import EdgeError, GateError, unknown_name
from ..base.spec import ImageSize
from ..base.text import counted, quoted
from ..bundle.store import open_bundle
from ..bundle.types import Bundle
from ..evaluation.known import KnownFidelity, known_fidelity
from ..profiles.machine import this_machine
from ..profiles.store import of_one_machine, read_measurements
from ..profiles.verdict import speedup
from .candidate import BY, QUANTITIES, SIZE_FREE, Candidate, Quantity
from .limits import ALL_MACHINES, CRITERIA, DEFAULT_CRITERION, Limits

# A variant this near to a limit may miss it the next time.
NARROW = 0.05
ROUNDING = 1e-9


@dataclass(frozen=True)
class Shortfall:
    """One limit that a variant misses. `value` is None where it was not measured."""

    quantity: Quantity
    limit: float
    value: float | None

    @property
    def excess(self) -> float:
        """How much too much, or too little, in the quantity's unit."""
        return math.inf if self.value is None else self.quantity.sign * (self.value - self.limit)

    @property
    def relative(self) -> float:
        return self.excess / max(abs(self.limit), 1e-12)

    @property
    def allow(self) -> str:
        """The option that would let it pass."""
        q = self.quantity
        return f"no {q.option}" if self.value is None else f"{q.option} {q.short(self.value)}"

    @property
    def text(self) -> str:
        q = self.quantity
        if self.value is None:
            return f"{q.name} was not measured"
        too = f"{q.text(self.excess)} too {'high' if q.sign > 0 else 'low'}"
        share = ""
        if q.sign > 0 and self.limit > 0:
            share = f" ({self.relative:.0%})" if self.relative < 2 else f" ({self.value / self.limit:.1f}x the limit)"
        return f"{q.name} {q.text(self.value)} is {too}{share}"


@dataclass(frozen=True)
class Rejected:
    """A variant that misses limits."""

    candidate: Candidate
    shortfalls: tuple[Shortfall, ...]

    @property
    def reason(self) -> str:
        return "; ".join(s.text for s in self.shortfalls)

    def to_json(self) -> dict[str, Any]:
        return {**self.candidate.to_json(), "reason": self.reason}


@dataclass(frozen=True)
class Outranked:
    """A variant within the limits that is not the best, and why."""

    candidate: Candidate
    reason: str

    def to_json(self) -> dict[str, Any]:
        return {**self.candidate.to_json(), "reason": self.reason}


@dataclass(frozen=True)
class Recommendation:
    """The best variant, those it beat (the next best first), those it rejected, and what to know about it."""

    by: str
    limits: Limits
    best: Candidate
    outranked: tuple[Outranked, ...]
    rejected: tuple[Rejected, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "by": self.by,
            "limits": vars(self.limits),
            "best": self.best.to_json(),
            "beaten": [b.to_json() for b in self.outranked],
            "fallen": [f.to_json() for f in self.rejected],
            "notes": list(self.notes),
        }


class NothingFits(GateError):
    """No variant keeps within all limits; `rejected` has every one of them with its reasons."""

    def __init__(self, message: str, hint: str, rejected: tuple[Rejected, ...]):
        super().__init__(message, hint)
        self.rejected = rejected


# ------------------------------------------------------------------------------------- choosing


def recommend(
    bundle: Path,
    limits: Limits,
    by: str = DEFAULT_CRITERION,
    image_size: ImageSize | None = None,
    machine: str | None = None,
) -> Recommendation:
    """The best measured variant of a bundle within the limits.

    Args:
        by: what the best has most of: `top1`, `miou`, `cosine` (with the float32 model at its full core bank), or
            least of: `depth` (mean relative error), `latency` (p95). Equals are told apart by p95.
        image_size: only variants of this size. Needed where several were measured, unless `by` is `top1`: a cosine
            or a latency of one size says nothing about another.
        machine: a machine's id, or `all` to compare machines on purpose; None is the only one there is.

    Raises:
        NothingFits: exit code 1; it names the limits that bind, and by how much.
        EdgeError: there are no measurements, they are of several machines, or what is asked for was not measured.
    """
    if by not in CRITERIA:
        raise unknown_name("criterion", by, CRITERIA)
    opened = open_bundle(bundle)
    known = known_fidelity(opened)
    measured = of_image_size(candidates(opened, machine, known), image_size, by)
    every = [c for c in measured if not c.is_broken]
    if not every:
        raise EdgeError(
            f"Of every measured variant some outputs were not numbers: {', '.join(broken_names(measured))}.",
            "Look at its evaluation, and export again, with --precision fp32 where the target has it.",
        )
    check_known(every, limits, by)
    judged = [Rejected(c, shortfalls(c, limits)) for c in every]
    rejected = tuple(f for f in judged if f.shortfalls)
    fitting = sorted((f.candidate for f in judged if not f.shortfalls), key=lambda c: _rank(c, by))
    if not fitting:
        raise nothing_fits(limits, rejected)
    best, *others = fitting
    return Recommendation(
        by,
        limits,
        best,
        tuple(Outranked(c, _why_outranked(c, best, by)) for c in others),
        rejected,
        tuple(_notes(opened, best, limits, measured, known.sources)),
    )


def candidates(bundle: Bundle, machine: str | None = None, known: KnownFidelity | None = None) -> list[Candidate]:
    """Every measurement of a variant that the bundle holds, of one machine, or of `all` on purpose.

    Args:
        known: of the bundle; None reads it.

    Raises:
        EdgeError: there are none, or they are of several machines and none was chosen.
    """
    artifacts = {(a.name, a.format, a.sha256): a for a in bundle.artifacts}
    fidelity = (known or known_fidelity(bundle)).by_variant
    measured = [m for m in read_measurements(bundle) if (m.artifact, m.format, m.sha256) in artifacts]
    if not measured:
        raise EdgeError(
            f"The bundle {bundle.directory} has no measurements of the models it holds.",
            f"Make some with: {quoted('veca-edge', 'profile', bundle.directory)}",
        )
    if machine != ALL_MACHINES:
        try:
            measured = of_one_machine(measured, machine)
        except EdgeError as error:
            raise EdgeError(
                f"{bundle.directory}: {error.message}",
                f"{error.hint} Give --machine ID, or --machine {ALL_MACHINES} to compare them on purpose.",
            ) from error
    return [Candidate(artifacts[m.artifact, m.format, m.sha256], m, fidelity.get(m.artifact)) for m in measured]


def of_image_size(every: Sequence[Candidate], size: ImageSize | None, by: str) -> list[Candidate]:
    """Those of one image size. Raises `EdgeError` where none was measured, or sizes that `by` can't compare."""
    known = list(dict.fromkeys(c.artifact.image_size for c in every))
    if size is not None and size not in known:
        raise EdgeError(f"No variant of {size} was measured.", f"Measured: {', '.join(map(str, known))}.")
    if size is None and len(known) > 1 and by not in SIZE_FREE:
        raise EdgeError(
            f"Variants of {len(known)} image sizes were measured, and by {by} they cannot be compared.",
            f"Say which with --image-size, one of {', '.join(map(str, known))}; or choose --by top1.",
        )
    return [c for c in every if size in (None, c.artifact.image_size)]


def check_known(every: Iterable[Candidate], limits: Limits, by: str) -> None:
    """Raises `EdgeError` where no variant at all has what is asked for."""
    every = list(every)
    if all(BY[by].of(c) is None for c in every):
        raise EdgeError(*BY[by].missing)
    for quantity in QUANTITIES:
        if quantity.limit(limits) is not None and all(quantity.of(c) is None for c in every):
            how = {"energy": "It is measured on a Jetson: veca-edge profile BUNDLE --device ssh://HOST"}
            raise EdgeError(
                f"{quantity.option} needs the {quantity.name}, which was not measured of any variant.",
                how.get(quantity.name, f"Measure again, or leave out {quantity.option}."),
            )


def shortfalls(candidate: Candidate, limits: Limits) -> tuple[Shortfall, ...]:
    """Every limit that a candidate misses, and those on what was not measured of it."""
    missed = []
    for quantity in QUANTITIES:
        limit = quantity.limit(limits)
        if limit is not None:
            shortfall = Shortfall(quantity, limit, quantity.of(candidate))
            if shortfall.relative > ROUNDING:
                missed.append(shortfall)
    return tuple(missed)


def nothing_fits(limits: Limits, rejected: tuple[Rejected, ...]) -> NothingFits:
    """Says which limit binds: the one that alone keeps a variant out; and by how much."""
    asked = ", ".join(
        f"{q.name} {'at most' if q.sign > 0 else 'at least'} {q.text(limit)}"
        for q in QUANTITIES
        if (limit := q.limit(limits)) is not None
    )
    message = f"None of the {len(rejected)} measured variants keeps within the limits ({asked})."
    nearest = [f for f in (_nearest(rejected, quantity) for quantity in QUANTITIES) if f is not None]
    if nearest:
        lines = [
            f"{f.shortfalls[0].quantity.name} binds: {f.candidate.name} misses nothing else, but its "
            f"{f.shortfalls[0].text}."
            for f in nearest
        ]
        hint = f"Allow {' or '.join(f.shortfalls[0].allow for f in nearest)}."
    else:
        near = min(rejected, key=lambda f: max(s.relative for s in f.shortfalls))
        lines = [f"No single limit binds. The nearest is {near.candidate.name}: {near.reason}."]
        hint = f"Allow {' and '.join(s.allow for s in near.shortfalls)}."
    return NothingFits(" ".join([message, *lines]), hint, rejected)


def _nearest(rejected: Sequence[Rejected], quantity: Quantity) -> Rejected | None:
    """Of those that miss this limit and no other, the one that misses it least."""
    alone = [
        f
        for f in rejected
        if len(f.shortfalls) == 1 and f.shortfalls[0].quantity is quantity and f.shortfalls[0].value is not None
    ]
    return min(alone, key=lambda f: f.shortfalls[0].excess, default=None)


def _rank(candidate: Candidate, by: str) -> tuple[float, float, float]:
    """The best first."""
    value = BY[by].of(candidate)
    cosine = -math.inf if candidate.cosine is None else candidate.cosine
    return (math.inf if value is None else BY[by].sign * value, candidate.p95_ms, -cosine)


def _why_outranked(loser: Candidate, best: Candidate, by: str) -> str:
    latency = QUANTITIES[0].text
    speed = speedup(best.measurement, loser.measurement, 95)
    doubt = "" if speed.is_known else f" ({speed.text})"
    slower = f"p95 {latency(loser.p95_ms)} against {latency(best.p95_ms)}{doubt}"
    if by == "latency":
        return slower
    value, best_value = BY[by].of(loser), BY[by].of(best)
    text, label = BY[by].text, BY[by].label
    if value is None or best_value is None:
        return f"its {label} was not measured"
    if value == best_value:
        return f"the same {label}, {slower}"
    return f"{label} {text(value)} against {text(best_value)}"


def broken_names(every: Iterable[Candidate]) -> list[str]:
    return sorted({c.artifact.name for c in every if c.is_broken})


def _notes(
    bundle: Bundle, best: Candidate, limits: Limits, every: Sequence[Candidate], sources: Sequence[str]
) -> list[str]:
    machine = best.measurement.machine
    where = "this machine" if machine.machine_id == this_machine().machine_id else f"{machine.name}, not this machine"
    notes = [f"Measured on {where} ({machine.machine_id})."]
    for quantity in QUANTITIES:
        limit, value = quantity.limit(limits), quantity.of(best)
        if limit is not None and value is not None and quantity.sign > 0 and value > (1 - NARROW) * limit:
            notes.append(f"Its {quantity.name} is only {1 - value / limit:.1%} below the limit.")
    notes += best.measurement.warnings
    notes += sources
    images = best.fidelity.reference.images if best.fidelity else 0
    if best.fidelity and not sources:
        notes.append(f"Fidelity was measured on {counted(images, 'image')}.")
    measured = {(c.artifact.name, c.artifact.format) for c in every}
    missing = [
        a.name
        for a in bundle.artifacts
        if (a.name, a.format) not in measured
        and a.image_size in {c.artifact.image_size for c in every}
        and any(c.artifact.format == a.format for c in every)
    ]
    if broken := broken_names(every):
        notes.append(f"Some outputs were not numbers, so not considered: {', '.join(broken)}.")
    if missing:
        notes.append(f"Not measured, so not considered: {', '.join(missing)}.")
    return notes
