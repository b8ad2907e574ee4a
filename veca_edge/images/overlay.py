"""What a model says, drawn on the frame that it saw: classes, masks, depth, patch features, attention.

Every function takes a frame uint8 RGB `[H, W, 3]` and returns another; maps are those of `map_to_frame`, of the frame's
size, so that pixels that the model did not see stay as they are. Text needs room: `enlarged` makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..base.errors import EdgeError
from .mapping import NO_CLASS
from .palette import ATTENTION, palette, ramp
from .scaling import strips

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

OPACITY = 0.55
MOST_CLASSES = 5
MOST_LEGEND = 10
LEAST_TEXT = 11
PANEL = 0.6


@dataclass(frozen=True)
class DepthRange:
    """Metres of the two ends of a colour scale; one for a whole run keeps colours from flickering."""

    near: float
    far: float


def enlarged(pixels: np.ndarray, least: int = 320) -> np.ndarray:
    """A frame or map `[H, W, ...]` with every pixel repeated by the smallest whole factor that makes it `least` wide.

    A frame and its maps stay on each other. What is wide enough comes back as it is.
    """
    factor = max(1, -(-least // pixels.shape[1]))
    return pixels if factor == 1 else pixels.repeat(factor, 0).repeat(factor, 1)


# ---------------------------------------------------------------------------------------- classes


def draw_classes(frame: np.ndarray, classes: Sequence[tuple[str, float]], most: int = MOST_CLASSES) -> np.ndarray:
    """Class names with their probabilities, best first, at the top left.

    Args:
        classes: names and probabilities in 0..1, best first.
    """
    _check(frame)
    return _with_panel(frame, [_Row(f"{name}  {share:.1%}") for name, share in classes[:most]])


def draw_masks(
    frame: np.ndarray, labels: np.ndarray, names: Sequence[str] | None = None, colours: Sequence[str] | None = None
) -> np.ndarray:
    """Coloured masks, with a legend of the classes that are seen, the largest first.

    Args:
        labels: integers `[H, W]`; 255 in uint8, and negative numbers, are no class.
        names: of the classes; None is their numbers.
        colours: `#rrggbb` of each class, as bundles hold them; None is `palette`'s.

    Raises:
        EdgeError: a map of another size, or a class without a name or a colour.
    """
    _check(frame, labels)
    if labels.dtype.kind not in "iu":
        raise EdgeError(f"Labels are integers, not {labels.dtype}.", "Give `segmentation` of a model.")
    seen = seen_classes(labels)
    highest = max((label for label, _ in seen), default=0)
    table = colours if colours is not None else palette(highest + 1)
    for what, given in (("colours", table), ("names", names)):
        if given is not None and highest >= len(given):
            raise EdgeError(f"The map has a class {highest}, and there are {len(given)} {what}.", "Give one for each.")
    made = tint_masks(frame, labels, np.array([_rgb(colour) for colour in table] or [(0, 0, 0)], np.uint8))
    rows = []
    for label, share in seen[:MOST_LEGEND]:
        said = names[label] if names is not None else str(label)
        rows.append(_Row(f"{said}  {share:.0%}", _rgb(table[label])))
    if len(seen) > MOST_LEGEND:
        rows.append(_Row(f"and {len(seen) - MOST_LEGEND} more"))
    return _with_panel(made, rows)


def seen_classes(labels: np.ndarray) -> list[tuple[int, float]]:
    """The classes of labels `[H, W]` with their shares of the pixels that have one, the largest first."""
    known = labels[_known(labels)]
    if known.max(initial=0) <= known.size:  # not a number that would take more memory than the labels
        counts = np.bincount(known)
        found = np.flatnonzero(counts)
        counts = counts[found]
    else:
        found, counts = np.unique(known, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [(int(found[i]), float(counts[i] / counts.sum())) for i in order]


def tint_masks(frame: np.ndarray, labels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """The masks of `draw_masks` without a legend.

    Args:
        labels: as `draw_masks` takes them, each below `len(colours)`.
        colours: uint8 RGB `[classes, 3]`.
    """
    table, made = colours.astype(np.float32), np.empty(frame.shape, np.uint8)
    for strip in strips(*frame.shape[:2]):
        known = _known(labels[strip])
        tints = table.take(np.where(known, labels[strip], 0), 0)
        made[strip] = _mixed(frame[strip], tints, np.where(known, OPACITY, 0))
    return made


def _known(labels: np.ndarray) -> np.ndarray:
    """Where labels `[H, W]` name a class."""
    return (labels >= 0) & (labels != NO_CLASS) if labels.dtype == np.uint8 else labels >= 0


# ------------------------------------------------------------------------------------------ depth


def depth_range(metres: np.ndarray) -> DepthRange:
    """The range of a frame's depths, without the 2% that are nearest and farthest.

    Raises:
        EdgeError: no depth is known.
    """
    known = metres[np.isfinite(metres)]
    if not known.size:
        raise EdgeError("No depth is known, so it has no range.", "Give a DepthRange in metres.")
    near, far = (float(value) for value in np.percentile(known, (2, 98)))
    return DepthRange(near, far)


def draw_depth(frame: np.ndarray, metres: np.ndarray, scale: DepthRange, opacity: float = 0.8) -> np.ndarray:
    """Depth as colours, near bright and far dark, with their scale at the bottom right.

    Args:
        metres: floats `[H, W]`; nan is unknown.
    """
    _check(frame, metres)
    return _with_scale(tint_depth(frame, metres, scale, opacity), scale)


def tint_depth(frame: np.ndarray, metres: np.ndarray, scale: DepthRange, opacity: float = 0.8) -> np.ndarray:
    """The colours of `draw_depth` without their scale."""
    known = np.isfinite(metres)
    width = scale.far - scale.near
    far = (np.where(known, metres, scale.near) - scale.near) / (width if width > 0 else 1.0)
    return _blended(frame, ramp(1 - far), np.where(known, opacity, 0))


# ---------------------------------------------------------------------------- features, attention


def draw_colours(frame: np.ndarray, colours: np.ndarray, opacity: float = 0.85) -> np.ndarray:
    """Colours such as those of `patch_colours`, over the frame.

    Args:
        colours: floats `[H, W, 3]`, 0 to 255; nan leaves the frame.
    """
    _check(frame, colours)
    finite = np.isfinite(colours)
    known = finite[..., 0] & finite[..., 1] & finite[..., 2]
    return _blended(frame, np.where(finite, colours, np.float32(0)), np.where(known, opacity, 0))


def draw_attention(frame: np.ndarray, weights: np.ndarray, peak: float | None = None) -> np.ndarray:
    """Where core tokens look: bright amber where they look most, the frame darker where they do not.

    Args:
        weights: floats `[H, W]`, 0 or more; nan leaves the frame.
        peak: the weight that is brightest; None is the largest of this frame. One for a run keeps it from flickering.
    """
    _check(frame, weights)
    known = np.isfinite(weights)
    strongest = peak if peak is not None else float(weights[known].max(initial=0.0))
    share = np.clip(np.where(known, weights, 0) / (strongest or 1.0), 0, 1)
    dark = _blended(frame, np.zeros(3), np.where(known, 0.5 * (1 - share), 0))
    return _blended(dark, np.array(ATTENTION), np.where(known, 0.75 * share, 0))


# ---------------------------------------------------------------------------------------- drawing


@dataclass(frozen=True)
class _Row:
    text: str
    swatch: Colour | None = None


def _check(frame: np.ndarray, values: np.ndarray | None = None) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise EdgeError(f"The frame is {frame.dtype} {list(frame.shape)}.", "Give uint8 RGB [H, W, 3].")
    if values is not None and values.shape[:2] != frame.shape[:2]:
        raise EdgeError(
            f"The map has {list(values.shape[:2])} pixels, and the frame {list(frame.shape[:2])}.",
            "Bring it to the frame with map_to_frame.",
        )


def _rgb(colour: str) -> Colour:
    try:
        red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    except ValueError:
        raise EdgeError(f"'{colour}' is not a colour.", "Colours are #rrggbb.") from None
    return red, green, blue


def _blended(frame: np.ndarray, colours: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """`colours` `[..., 3]` over the frame, as opaque as `opacity` `[H, W]` says."""
    made, wanted = np.empty(frame.shape, np.uint8), np.broadcast_to(colours, frame.shape)
    for strip in strips(*frame.shape[:2]):
        made[strip] = _mixed(frame[strip], wanted[strip], opacity[strip])
    return made


def _mixed(frame: np.ndarray, colours: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    # A share for each channel: NumPy is slow along axes of three.
    share = np.asarray(opacity, np.float32).repeat(3, 1).reshape(frame.shape)
    mixed = frame * (1 - share)
    mixed += np.ascontiguousarray(colours, np.float32) * share
    return np.rint(mixed, out=mixed)


def _font(frame: np.ndarray) -> tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, int]:
    from PIL import ImageFont

    size = max(LEAST_TEXT, min(frame.shape[:2]) // 28)
    return ImageFont.load_default(size), size


def _fitted(draw: ImageDraw.ImageDraw, text: str, font, room: float) -> str:
    """The text, cut where it would be wider than `room` pixels."""
    text = " ".join(text.split())
    if draw.textlength(text, font) <= room:
        return text
    while text and draw.textlength(text + "...", font) > room:
        text = text[:-1]
    return text + "..."


def _with_panel(frame: np.ndarray, rows: Sequence[_Row]) -> np.ndarray:
    """The frame with a dark panel of rows at its top left; rows that have no room below each other are counted."""
    from PIL import Image, ImageDraw

    if not rows:
        return frame.copy()
    font, size = _font(frame)
    step, edge = size + size // 2, size // 2
    fitting = max(1, (frame.shape[0] - edge) // step)
    if len(rows) > fitting:
        rows = [*rows[: fitting - 1], _Row(f"and {len(rows) - fitting + 1} more")]
    picture = Image.fromarray(frame)
    draw = ImageDraw.Draw(picture)
    indent = edge + (step if any(row.swatch for row in rows) else 0)
    texts = [_fitted(draw, row.text, font, frame.shape[1] - indent - edge) for row in rows]
    width = min(frame.shape[1], int(indent + max(draw.textlength(text, font) for text in texts) + edge) + 1)
    height = min(frame.shape[0], edge + step * len(rows))
    draw = _dark_panel(picture, (0, 0, width, height))
    for i, (row, text) in enumerate(zip(rows, texts, strict=True)):
        top = edge + i * step
        if row.swatch is not None:
            draw.rectangle((edge, top, edge + size - 1, top + size - 1), fill=row.swatch)
        draw.text((indent, top), text, fill="white", font=font)
    return np.asarray(picture)


def _with_scale(frame: np.ndarray, scale: DepthRange) -> np.ndarray:
    """The frame with the ramp of colours at its bottom right, and the metres of its ends and middle below it."""
    from PIL import Image, ImageDraw

    font, size = _font(frame)
    picture = Image.fromarray(frame)
    draw = ImageDraw.Draw(picture)
    edge, bar = size // 2, size
    texts = [f"{at:.3g}" for at in (scale.near, (scale.near + scale.far) / 2)] + [f"{scale.far:.3g} m"]
    length = sum(draw.textlength(text, font) for text in texts) + 4 * edge
    width = min(frame.shape[1], int(max(frame.shape[1] / 3, length)) + 2 * edge)
    height = min(frame.shape[0], bar + size + 3 * edge)
    left, top = frame.shape[1] - width, frame.shape[0] - height
    draw = _dark_panel(picture, (left, top, frame.shape[1], frame.shape[0]))
    strip = ramp(np.linspace(1, 0, max(1, width - 2 * edge)))[None].repeat(bar, 0)
    picture.paste(Image.fromarray(strip), (left + edge, top + edge))
    for text, at, anchor in zip(texts, (edge, width / 2, width - edge), ("la", "ma", "ra"), strict=True):
        draw.text((left + at, top + edge + bar + edge // 2), text, fill="white", font=font, anchor=anchor)
    return np.asarray(picture)


def _dark_panel(picture: Image.Image, box: tuple[int, int, int, int]) -> ImageDraw.ImageDraw:
    """Darkens a box of the picture, and returns what draws on it."""
    from PIL import ImageDraw

    picture.paste(picture.crop(box).point(lambda value: int(value * (1 - PANEL))), box)
    return ImageDraw.Draw(picture)
