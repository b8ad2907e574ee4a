"""Colours: for the classes of a label map, and for values."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# Steps of the golden angle keep neighbours apart, however many classes there are.
GOLDEN = 0.618033988749895
# Yellow to blue through green: even steps look even, in grey and to the colour-blind too (after viridis).
RAMP = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
ATTENTION = (255, 196, 0)


def palette(classes: int) -> tuple[str, ...]:
    """`classes` colours as `#rrggbb`, the same for the same number, each far from the ones before it."""
    colours = []
    for i in range(classes):
        value, saturation = (0.95, 0.7, 0.85)[i % 3], (0.75, 0.95)[i // 3 % 2]
        parts = colorsys.hsv_to_rgb(i * GOLDEN % 1.0, saturation, value)
        colours.append("#" + "".join(f"{round(255 * part):02x}" for part in parts))
    return tuple(colours)


def ramp(values: np.ndarray) -> np.ndarray:
    """Colours of values in 0..1 `[...]`: uint8 `[..., 3]`, dark to bright."""
    import numpy as np

    stops = np.linspace(0, 1, len(RAMP))
    clipped = np.clip(values, 0, 1)
    channels = [np.interp(clipped, stops, [colour[i] for colour in RAMP]) for i in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
