"""What is counted image by image and merged in any order to the same value, to the last digit.

Sums are integers in units of 2^-60, quantiles a DDSketch, whose bins are counts; nothing here is a float that grows.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddsketch.ddsketch import BaseDDSketch

UNIT_BITS = 60
# Images are put into so many groups by their names; intervals come from drawing groups again.
GROUPS = 32
# Of a quantile's value.
SKETCH_ACCURACY = 0.01
# Below this a sketched value is 0: what rounding leaves of 1 - cosine.
NOTHING = 1e-12


def group_of(name: str) -> int:
    """The group of an image, the same wherever it is computed."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:4], "big") % GROUPS


class ExactSum:
    """A sum of floats that does not depend on their order: each is rounded once, to a multiple of 2^-60.

    Values that are no numbers, or infinite, are counted beside it and make the sum one that is not a number.
    """

    __slots__ = ("undefined", "units")

    def __init__(self, units: int = 0, undefined: int = 0):
        self.units, self.undefined = units, undefined

    def add(self, value: float) -> None:
        if math.isfinite(value):
            top, bottom = float(value).as_integer_ratio()
            # Round half up: `bottom` is a power of two.
            self.units += ((top << (UNIT_BITS + 1)) // bottom + 1) >> 1
        else:
            self.undefined += 1

    def merge(self, other: ExactSum) -> None:
        self.units += other.units
        self.undefined += other.undefined

    @property
    def value(self) -> float:
        return math.nan if self.undefined else float(Fraction(self.units, 1 << UNIT_BITS))

    def encoded(self) -> str:
        """`HEX` or `HEX,UNDEFINED`."""
        return f"{self.units:x}" + (f",{self.undefined}" if self.undefined else "")

    @classmethod
    def decoded(cls, text: str) -> ExactSum:
        units, _, undefined = text.partition(",")
        return cls(int(units, 16), int(undefined or 0))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExactSum) and (self.units, self.undefined) == (other.units, other.undefined)

    __hash__ = None  # type: ignore[assignment]


class QuantileSketch:
    """Quantiles of values that are not negative, each within one percent of its value; a value below 1e-12 is 0."""

    __slots__ = ("_sketch",)

    def __init__(self) -> None:
        self._sketch = _new_sketch()

    def add(self, values: Iterable[float]) -> None:
        """Values that are no numbers count as infinitely large, which is the largest that a bin has room for."""
        add = self._sketch.add
        for value in values:
            add(0.0 if value < NOTHING else min(value, _LARGEST) if value == value else _LARGEST)

    def merge(self, other: QuantileSketch) -> None:
        self._sketch.merge(other._sketch)

    def quantile(self, share: float) -> float:
        """The value that `share` of all values do not exceed; not a number where there are none."""
        found = self._sketch.get_quantile_value(share)
        return math.nan if found is None else float(found)

    def encoded(self) -> dict[str, int]:
        """How many values each bin holds, by its key; `zero` are those below 1e-12."""
        store = self._sketch._store
        bins = {str(i + store.offset): int(n) for i, n in enumerate(store.bins) if n}
        return {"zero": int(self._sketch._zero_count), **bins}

    @classmethod
    def decoded(cls, counts: Mapping[str, int]) -> QuantileSketch:
        made = cls()
        for key, count in counts.items():
            if count:
                made._sketch.add(0.0 if key == "zero" else made._sketch._mapping.value(int(key)), float(count))
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QuantileSketch) and self.encoded() == other.encoded()

    __hash__ = None  # type: ignore[assignment]


_LARGEST = 1e9


def _new_sketch() -> BaseDDSketch:
    from ddsketch import DDSketch

    return DDSketch(SKETCH_ACCURACY)


EXACT = (ExactSum, QuantileSketch)


def encode_exact(value: Any) -> Any:
    """For `msgspec.to_builtins`."""
    if isinstance(value, EXACT):
        return value.encoded()
    raise NotImplementedError(type(value).__name__)


def decode_exact(kind: type, value: Any) -> Any:
    """For `msgspec.convert`. Raises `ValueError` where it is not what `encode_exact` makes."""
    if kind is ExactSum and isinstance(value, str):
        return ExactSum.decoded(value)
    if kind is QuantileSketch and isinstance(value, Mapping):
        if not all(isinstance(n, int) and 0 <= n < 1 << 53 for n in value.values()):
            raise ValueError("a sketch counts values")
        if not all(key == "zero" or abs(int(key)) < 1 << 20 for key in value):
            raise ValueError("a sketch has bins within its range")
        return QuantileSketch.decoded(value)
    raise ValueError(f"it is no {kind.__name__}")
