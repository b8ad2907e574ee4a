"""Numbers of which some may not be numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable


def lowest(values: Iterable[float], default: float = math.nan) -> float:
    """The lowest of some, not a number where one of them is none (`min` tells by which of them comes first).

    Args:
        default: of no values.
    """
    found = list(values)
    return math.nan if any(math.isnan(value) for value in found) else min(found, default=default)
