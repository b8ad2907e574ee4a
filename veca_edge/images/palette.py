"""Colours for the classes of a label map."""

from __future__ import annotations

import colorsys

# Steps of the golden angle keep neighbours apart, however many classes there are.
GOLDEN = 0.618033988749895


def palette(classes: int) -> tuple[str, ...]:
    """`classes` colours as `#rrggbb`, the same for the same number, each far from the ones before it."""
    colours = []
    for i in range(classes):
        value, saturation = (0.95, 0.7, 0.85)[i % 3], (0.75, 0.95)[i // 3 % 2]
        parts = colorsys.hsv_to_rgb(i * GOLDEN % 1.0, saturation, value)
        colours.append("#" + "".join(f"{round(255 * part):02x}" for part in parts))
    return tuple(colours)
