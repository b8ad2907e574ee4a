"""Lists as people type them: `8,16,64`, `cls,dense`, `256,384x512`."""

from __future__ import annotations

from collections.abc import Iterable

from .errors import EdgeError
from .spec import ImageSize


def names(text: str, option: str) -> tuple[str, ...]:
    """`a,b` as ("a", "b"); empty text as (). Each name is checked where its table is known."""
    parts = tuple(part.strip() for part in text.split(",")) if text.strip() else ()
    if not all(parts):
        raise EdgeError(f"{option} '{text}' has an empty name in it.", "Separate names by single commas.")
    return parts


def as_typed(value: object) -> str:
    """What Python gives for a list, as people type it: one value, or several; a size may be a pair of numbers."""
    values = value if isinstance(value, Iterable) and not isinstance(value, str | ImageSize) else (value,)
    return ",".join("x".join(map(str, v)) if isinstance(v, tuple | list) else str(v) for v in values)


def core_counts(text: str) -> tuple[int, ...]:
    """`16` or `8,16,64`; `all` as (), which means every count of the checkpoint."""
    if text.strip().lower() == "all":
        return ()
    counts = []
    for part in names(text, "--cores"):
        # The length keeps `int` from being asked for a number of a million digits.
        if not (part.isascii() and part.isdigit() and len(part) < 7):
            raise EdgeError(f"'{part}' is not a core count.", "Give one count (16), a list (8,16,64) or all.")
        counts.append(int(part))
    if not counts:
        raise EdgeError("--cores is empty.", "Give one count (16), a list (8,16,64) or all.")
    return tuple(counts)


def image_sizes(text: str) -> tuple[ImageSize, ...]:
    """`256`, `256x384`, or a list of them; empty text as ()."""
    return tuple(ImageSize.parse(part) for part in names(text, "--image-size"))


def one_image_size(text: str) -> ImageSize | None:
    """`256` or `256x384`; empty text as None."""
    sizes = image_sizes(text)
    if len(sizes) > 1:
        raise EdgeError(f"--image-size '{text}' names several sizes.", "Give one size.")
    return sizes[0] if sizes else None


def precisions(text: str) -> tuple[str, ...]:
    """`int8` or `int8,fp32`; empty text as ()."""
    return names(text, "--precision")


def depth_range(text: str) -> tuple[float, float]:
    """`0.001,10`, metres."""
    parts = names(text, "--depth-range")
    try:
        low, high = (float(part) for part in parts)
    except ValueError:
        raise EdgeError(
            f"'{text}' is not a range of depth.", "Give two numbers of metres: --depth-range 0.1,10"
        ) from None
    return low, high


def outputs(text: str) -> tuple[str, ...]:
    """`cls,dense`; empty text as ()."""
    return names(text, "--outputs")
