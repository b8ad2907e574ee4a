"""The gate: how close to the float32 reference a variant has to be to ship."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..base.errors import GateError
from ..base.spec import ExportSpec
from .fidelity import Agreement, Fidelity

NOT_NUMBERS = (
    "Outputs that are not numbers come of values beyond 65504, which are infinite in FP16, or of a checkpoint that "
    "holds some. Export with --precision fp32, for a target that has it."
)


@dataclass(frozen=True)
class Requirement:
    """One number of an agreement beside the least or the most that the gate allows."""

    name: str
    option: str
    value: float
    limit: float
    at_least: bool

    @property
    def holds(self) -> bool:
        """A value that is not a number misses every limit."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def excess(self) -> float:
        """The loss as a multiple of the loss allowed; infinite for a value that is not a number."""
        loss, allowed = (1 - self.value, 1 - self.limit) if self.at_least else (self.value, self.limit)
        if math.isnan(loss):
            return math.inf
        return loss / allowed if allowed > 0 else (math.inf if loss > 0 else 0.0)


@dataclass(frozen=True)
class Gate:
    """What a variant has to reach against the float32 reference at its own core count; None asks for nothing.

    Attributes:
        min_cosine: mean cosine of `cls`, of `dense` and of `attention`.
        min_agreement: share of images with the same most likely class, and of pixels with the same class.
        max_depth_error: mean relative difference of depth.
    """

    min_cosine: float
    min_agreement: float | None = None
    max_depth_error: float | None = None

    def criteria(self, agreement: Agreement) -> list[Requirement]:
        """What the gate asks of these outputs, as far as they are there."""
        found = [
            Requirement(f"mean cosine of {name}", "--min-cosine", statistics.mean, self.min_cosine, True)
            for name, statistics in agreement.cosines.items()
        ]
        if self.min_agreement is not None:
            shares = (
                ("top-1 agreement", agreement.top1_agreement),
                ("pixel agreement", agreement.segmentation and agreement.segmentation.pixels),
            )
            found += [
                Requirement(name, "--min-agreement", share, self.min_agreement, True)
                for name, share in shares
                if share is not None
            ]
        if self.max_depth_error is not None and agreement.depth is not None:
            error = agreement.depth.mean_error
            found.append(Requirement("mean depth difference", "--max-depth-error", error, self.max_depth_error, False))
        return found

    def excess(self, agreement: Agreement) -> float:
        """The worst criterion's loss as a multiple of what is allowed: above 1 it misses the gate."""
        return max((c.excess for c in self.criteria(agreement)), default=0.0)

    def misses(self, agreement: Agreement) -> list[Requirement]:
        return [c for c in self.criteria(agreement) if not c.holds]


def gate_of(spec: ExportSpec) -> Gate:
    """What an export has to hold."""
    return Gate(spec.min_cosine, spec.min_agreement, spec.max_depth_error)


class BelowGate(GateError):
    """Some variants are less faithful than the gate asks; `fidelity` is that of all of them."""

    def __init__(self, message: str, hint: str, fidelity: Sequence[Fidelity]):
        super().__init__(message, hint)
        self.fidelity = tuple(fidelity)


def below_gate(fidelity: Sequence[Fidelity], gate: Gate, precisions: Sequence[str]) -> list[Fidelity]:
    """Those of the named precisions that miss the gate."""
    return [f for f in fidelity if f.precision in precisions and gate.misses(f.reference)]


def check_gate(fidelity: Sequence[Fidelity], gate: Gate) -> None:
    """Raises `BelowGate` that names every variant that misses the gate, and by how much."""
    failed = below_gate(fidelity, gate, [f.precision for f in fidelity])
    if not failed:
        return
    said: dict[str, list[str]] = {}
    for f in failed:
        for c in gate.misses(f.reference):
            start = (
                f"The {c.name} with the float32 reference is {'below' if c.at_least else 'above'} {c.option} {c.limit}"
            )
            variant = f"{f.core_count} cores {f.precision} at {f.image_size}"
            said.setdefault(start, []).append(f"{variant}: {_seen_beyond(c)}")
    missed = [c for f in failed for c in gate.misses(f.reference)]
    options = dict.fromkeys(c.option for c in missed)
    hint = f"Calibrate on more images that look like the camera's, or accept less with {' and '.join(options)}."
    if any(math.isnan(c.value) for c in missed):
        hint = NOT_NUMBERS
    raise BelowGate(
        " ".join(f"{start}: {', '.join(values)}." for start, values in said.items()) + " No bundle was written.",
        hint,
        fidelity,
    )


def _seen_beyond(criterion: Requirement) -> str:
    """With five digits, or as many more as it takes not to look like the limit."""
    value, limit = criterion.value, criterion.limit
    digits = (f"{value:.{digits}f}" for digits in range(5, 10))
    beyond = (text for text in digits if (float(text) < limit if criterion.at_least else float(text) > limit))
    return next(beyond, repr(value))
