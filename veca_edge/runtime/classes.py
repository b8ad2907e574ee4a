"""What class scores say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class LikelyClass(NamedTuple):
    """A class and its softmax probability."""

    name: str
    share: float


def top_classes(logits: np.ndarray | None, labels: Sequence[str] | None, most: int = 5) -> tuple[LikelyClass, ...]:
    """The most likely classes, best first; none without logits.

    Args:
        logits: float32 `[K]`, or None.
        labels: K names; without them, classes are called by their index.
    """
    if logits is None:
        return ()
    likely = np.exp(logits - logits.max())
    likely /= likely.sum()
    return tuple(
        LikelyClass(labels[i] if labels else str(i), float(likely[i])) for i in map(int, np.argsort(-likely)[:most])
    )
