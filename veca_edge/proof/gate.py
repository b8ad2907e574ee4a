"""The gate: the least mean cosine with the float32 reference that a variant ships with."""

from __future__ import annotations

from collections.abc import Sequence

from ..base.errors import GateError
from .fidelity import Fidelity


class BelowGate(GateError):
    """Some variants are less faithful than the gate asks; `fidelity` is that of all of them."""

    def __init__(self, message: str, hint: str, fidelity: Sequence[Fidelity]):
        super().__init__(message, hint)
        self.fidelity = tuple(fidelity)


def below_gate(fidelity: Sequence[Fidelity], min_cosine: float, precisions: Sequence[str]) -> list[Fidelity]:
    """Those of the named precisions that miss the gate; a cosine that is not a number misses every gate."""
    return [f for f in fidelity if f.precision in precisions and not f.reference.lowest_mean >= min_cosine]


def check_gate(fidelity: Sequence[Fidelity], min_cosine: float) -> None:
    """Raises `BelowGate` that names every variant below the gate, and by how much."""
    failed = below_gate(fidelity, min_cosine, [f.precision for f in fidelity])
    if failed:
        worst = ", ".join(
            f"{f.core_count} cores {f.precision} at {f.image_size}: {_seen_below(f.reference.lowest_mean, min_cosine)}"
            for f in failed
        )
        raise BelowGate(
            f"The mean cosine with the float32 reference is below --min-cosine {min_cosine}: {worst}. "
            "No bundle was written.",
            "Calibrate on more images that look like the camera's, or accept less with --min-cosine.",
            fidelity,
        )


def _seen_below(value: float, limit: float) -> str:
    """With five digits, or as many more as it takes not to look like the limit."""
    digits = (f"{value:.{digits}f}" for digits in range(5, 10))
    return next((text for text in digits if float(text) < limit), repr(value))
