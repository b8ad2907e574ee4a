"""One release against another, or one board against another: times, memory and fidelity, variant by variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import EdgeError, unknown_name
from ..base.text import counted, quoted
from ..bundle.store import opened
from ..bundle.types import Agreement, Bundle, Fidelity
from ..profiles.comparison import DEFAULT_MAX_SLOWDOWN, ComparedVariant, compared, name_of
from ..profiles.machine import Machine
from ..profiles.measurement import Measurement
from ..profiles.store import read_measurements

# Measurements by the id of their machine.
ByMachine = dict[str, list[Measurement]]


@dataclass(frozen=True)
class CompareRequest:
    """What to compare.

    Attributes:
        before, after: bundles with measurements; `after` None is the same bundle, measured on two machines.
        machines: none takes the machines that both were measured on; one, that machine; two, the first for `before`
            and the second for `after`. A machine's id, or its name where it is the only one of that name.
        max_slowdown: a share, 0.05 for 5%: what a variant may get slower, in its median and its 95th percentile.
    """

    before: Path | Bundle
    after: Path | Bundle | None = None
    machines: tuple[str, ...] = ()
    max_slowdown: float = DEFAULT_MAX_SLOWDOWN


@dataclass(frozen=True)
class OnMachine:
    """What two sides say on one machine, or on a pair of them."""

    before: Machine
    after: Machine
    variants: tuple[ComparedVariant, ...]
    only_before: tuple[Measurement, ...]
    only_after: tuple[Measurement, ...]

    @property
    def title(self) -> str:
        names = [f"{m.name} ({m.machine_id})" for m in (self.before, self.after)]
        return names[0] if self.before.machine_id == self.after.machine_id else " against ".join(names)


@dataclass(frozen=True)
class FidelityChange:
    """How close a variant is to the FP32 model before and after, by quantity; both sides have the quantity."""

    name: str
    values: dict[str, tuple[float, float]]

    @property
    def rows(self) -> list[tuple[str, float, float]]:
        """Every quantity for people, before and after."""
        # Programs read the name that it had before `evaluate` told errors, to what is known, from differences.
        shown = {"depth error": "depth difference"}
        return [(shown.get(name, name), *pair) for name, pair in self.values.items()]


@dataclass(frozen=True)
class TimeComparison:
    """What differs between two releases or devices.

    Attributes:
        fidelity: of the variants that both bundles hold; empty where it is one bundle.
    """

    before: Bundle
    after: Bundle
    max_slowdown: float
    machines: tuple[OnMachine, ...]
    fidelity: tuple[FidelityChange, ...]

    @property
    def regressions(self) -> tuple[ComparedVariant, ...]:
        return tuple(v for here in self.machines for v in here.variants if v.is_regression)

    @property
    def variants(self) -> tuple[ComparedVariant, ...]:
        return tuple(v for here in self.machines for v in here.variants)

    @property
    def sentence(self) -> str:
        """The result in a line."""
        count, found = len(self.variants), len(self.regressions)
        open_ones = sum(any(c.is_open for c in v.changes) and not v.is_regression for v in self.variants)
        allowed = f"{100 * self.max_slowdown:g}%"
        first = f"{found} of {counted(count, 'variant')} got slower by more than {allowed}."
        return first + (f" Of {open_ones} the samples can't exclude it." if open_ones else "")

    def to_json(self) -> dict[str, Any]:
        return {
            "before": self.before.directory,
            "after": self.after.directory,
            "max_slowdown": self.max_slowdown,
            "regressions": [v.name for v in self.regressions],
            "machines": [
                {
                    "before": here.before.to_json(),
                    "after": here.after.to_json(),
                    "variants": [_variant_json(v) for v in here.variants],
                    "only_before": [name_of(m) for m in here.only_before],
                    "only_after": [name_of(m) for m in here.only_after],
                }
                for here in self.machines
            ],
            "fidelity": [{"name": f.name, **{q: list(pair) for q, pair in f.values.items()}} for f in self.fidelity],
        }


def _variant_json(variant: ComparedVariant) -> dict[str, Any]:
    return {
        "name": variant.name,
        "regression": variant.is_regression,
        "memory_ratio": variant.memory_ratio,
        **{
            f"p{change.percent:g}": {
                "before_ms": change.before.percentile_ms(change.percent),
                "after_ms": change.after.percentile_ms(change.percent),
                "slowdown": change.slowdown,
                "interval": list(change.interval),
                "measurable": change.speed.is_measurable,
                "verdict": change.verdict,
            }
            for change in variant.changes
        },
    }


def compare(request: CompareRequest) -> TimeComparison:
    """Compares two bundles, or two machines, by the distributions of their samples.

    Raises:
        EdgeError: no measurements, no machine or variant that both have, or a machine that is not there.
    """
    if not 0 <= request.max_slowdown < 10:
        raise EdgeError(f"A slowdown of {request.max_slowdown:.0%} is no limit.", "Give for example --max-slowdown 5%.")
    if len(request.machines) > 2:
        raise EdgeError(f"{len(request.machines)} machines were given.", "Give one, or two to compare.")
    before = opened(request.before)
    after = before if request.after is None else opened(request.after)
    first, second = (_by_machine(bundle) for bundle in (before, after))
    pairs = _machine_pairs(request.machines, first, second, before, after)
    found = []
    for one, other in pairs:
        variants, only_before, only_after = compared(first[one], second[other], request.max_slowdown)
        machines = first[one][0].machine, second[other][0].machine
        found.append(OnMachine(*machines, tuple(variants), tuple(only_before), tuple(only_after)))
    if not any(here.variants for here in found):
        raise EdgeError(
            f"{before.directory} and {after.directory} have no variant that was measured in the same setting.",
            f"Measured are: {_listed(found, 'only_before')}; and {_listed(found, 'only_after')}.",
        )
    if not any(change.speed.is_measurable for here in found for v in here.variants for change in v.changes):
        why = found[0].variants[0].median.speed if found[0].variants else None
        raise EdgeError(
            f"Nothing can be said of any variant: {why.text if why else 'no samples'}.",
            f"Measure both again {why.how_again if why else ''}: veca-edge profile BUNDLE --again",
        )
    same = before.directory.resolve() == after.directory.resolve()
    return TimeComparison(
        before, after, request.max_slowdown, tuple(found), () if same else fidelity_changes(before, after)
    )


def _listed(found: Sequence[OnMachine], side: str) -> str:
    return "; ".join(name_of(m) for here in found for m in getattr(here, side)) or "nothing"


def _by_machine(bundle: Bundle) -> ByMachine:
    found: ByMachine = {}
    for m in read_measurements(bundle):
        found.setdefault(m.machine.machine_id, []).append(m)
    if not found:
        raise EdgeError(
            f"The bundle {bundle.directory} has no measurements.",
            f"Make some with: {quoted('veca-edge', 'profile', bundle.directory)}",
        )
    return found


def _machine_pairs(
    asked: Sequence[str], first: ByMachine, second: ByMachine, before: Bundle, after: Bundle
) -> list[tuple[str, str]]:
    if asked:
        return [(_machine_named(asked[0], first, before), _machine_named(asked[-1], second, after))]
    if before.directory.resolve() == after.directory.resolve():
        raise EdgeError(
            "One bundle on one machine has nothing to be compared with.",
            f"Give another bundle, or two machines: --machine ONE --machine OTHER. Measured on: {_machines(first)}.",
        )
    common = [machine for machine in first if machine in second]
    if not common:
        raise EdgeError(
            f"{before.directory} and {after.directory} were measured on different machines.",
            "Their times can be compared all the same with --machine ONE --machine OTHER. "
            f"Measured on: {_machines(first)}; and {_machines(second)}.",
        )
    return [(machine, machine) for machine in common]


def _machine_named(name: str, known: ByMachine, bundle: Bundle) -> str:
    found = [key for key, measurements in known.items() if name in (key, measurements[0].machine.name)]
    if not found:
        raise unknown_name(f"machine of {bundle.directory}", name, [_machines(known)])
    if len(found) > 1:
        raise EdgeError(f"{len(found)} machines are called '{name}'.", f"Give one's id: {', '.join(found)}.")
    return found[0]


def _machines(known: ByMachine) -> str:
    return ", ".join(f"{key} ({measurements[0].machine.name})" for key, measurements in known.items())


# -------------------------------------------------------------------------------------- fidelity


def fidelity_changes(before: Bundle, after: Bundle) -> tuple[FidelityChange, ...]:
    """How close to their own FP32 models the variants are that both bundles hold."""
    first, second = ({f.name: f for f in bundle.fidelity} for bundle in (before, after))
    found = []
    for name in [name for name in first if name in second]:
        one, other = _quantities(first[name]), _quantities(second[name])
        values = {quantity: (one[quantity], other[quantity]) for quantity in one if quantity in other}
        if values:
            found.append(FidelityChange(name, values))
    return tuple(found)


def _quantities(fidelity: Fidelity) -> dict[str, float]:
    own: Agreement = fidelity.reference
    every = {
        "cls cosine": own.cls and own.cls.mean,
        "dense cosine": own.dense and own.dense.mean,
        "top-1 agreement": own.top1_agreement,
        "top-1": own.top1,
        "mIoU": own.segmentation_truth and own.segmentation_truth.miou,
        "pixel agreement": own.segmentation and own.segmentation.pixels,
        "AbsRel": own.depth_truth and own.depth_truth.mean_error,
        "depth error": own.depth and own.depth.mean_error,
        "attention cosine": own.attention and own.attention.mean,
    }
    return {name: value for name, value in every.items() if value is not None}
