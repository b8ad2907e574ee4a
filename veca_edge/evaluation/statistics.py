"""What is kept of a data set: merged from any parts in any order, it is exactly what one pass would give.

Each class has `add`, which takes one image, and all are merged field by field by `merge`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import msgspec
import numpy as np

from ..base.errors import EdgeError
from ..proof.fidelity import counted_labels, depth_differences, labels_of, output_cosines
from .exact import EXACT, GROUPS, ExactSum, QuantileSketch, decode_exact, encode_exact

# How many of the worst images, and of the failures, are kept by name.
WORST = 20
NAMED_FAILURES = 100
TOP = 5
HUGE_ERROR = 1e9


def merge(into: Any, other: Any) -> None:
    """Adds another's statistics, field by field: numbers are added, lists element by element, mappings by key."""
    for f in fields(into):
        setattr(into, f.name, _merged(getattr(into, f.name), getattr(other, f.name), f.metadata.get("merge")))


def _merged(one: Any, other: Any, how: Any) -> Any:
    if how is not None:
        return how(one, other)
    if isinstance(one, int):
        return one + other
    if isinstance(one, EXACT):
        one.merge(other)
    elif isinstance(one, dict):
        for key, value in other.items():
            one[key] = _merged(one[key], value, None) if key in one else value
    elif isinstance(one, list):
        return [_merged(a, b, None) for a, b in zip(one, other, strict=True)]
    else:
        merge(one, other)
    return one


def _disjoint(one: dict[str, str], other: dict[str, str]) -> dict[str, str]:
    if twice := one.keys() & other.keys():
        raise ValueError(f"{sorted(twice)[0]} was counted twice")
    return {**one, **other}


def _worst(one: list, other: list) -> list:
    return sorted([*one, *other])[:WORST]


def first_failures(one: list, other: list) -> list:
    """Of names with reasons, as many as are kept."""
    return sorted([*one, *other])[:NAMED_FAILURES]


def _number(value: float, otherwise: float) -> float:
    """JSON has no word for what is no number, or infinite: the worst that can be stands for it."""
    return value if math.isfinite(value) else otherwise


def _sums() -> list[ExactSum]:
    return [ExactSum() for _ in range(GROUPS)]


def _counts() -> list[int]:
    return [0] * GROUPS


@dataclass
class CosineSums:
    """Cosines of vectors, one or many an image.

    Attributes:
        images, sums: by group, images and the sum of their mean cosines.
        losses: of 1 - cosine, over all vectors.
        lowest: of all vectors; 2 where there are none.
        worst: mean cosine and name of the least similar images.
    """

    images: list[int] = field(default_factory=_counts)
    sums: list[ExactSum] = field(default_factory=_sums)
    losses: QuantileSketch = field(default_factory=QuantileSketch)
    lowest: float = field(default=2.0, metadata={"merge": min})
    worst: list[tuple[float, str]] = field(default_factory=list, metadata={"merge": _worst})

    def add(self, cosines: np.ndarray, group: int, name: str) -> None:
        """Of one image, float64 `[vectors]`."""
        mean = float(cosines.mean())
        self.images[group] += 1
        self.sums[group].add(mean)
        self.losses.add((1.0 - cosines).tolist())
        self.lowest = min(self.lowest, _number(float(cosines.min()), -1.0))
        self.worst = _worst(self.worst, [(_number(mean, -1.0), name)])


@dataclass
class Shares:
    """How many of how many, by group."""

    hits: list[int] = field(default_factory=_counts)
    total: list[int] = field(default_factory=_counts)

    def add(self, hits: int, total: int, group: int) -> None:
        self.hits[group] += hits
        self.total[group] += total


@dataclass
class MapCounts:
    """Label maps beside the expected ones, pixel by pixel.

    Attributes:
        pairs: pixels by `EXPECTED,FOUND`.
        overlaps: by `GROUP,CLASS`: pixels that both have, and those that either has.
        pixels: those with the same class.
    """

    pairs: dict[str, int] = field(default_factory=dict)
    overlaps: dict[str, list[int]] = field(default_factory=dict)
    pixels: Shares = field(default_factory=Shares)

    def add(self, labels: np.ndarray, expected: np.ndarray, group: int) -> None:
        """Of one image, class indices; pixels where `expected` is negative are not counted."""
        found, wanted = counted_labels(labels, expected)
        if not len(found):
            return
        self.pixels.add(int((found == wanted).sum()), len(found), group)
        base = 1 + max(int(found.max()), int(wanted.max()))
        codes, counts = np.unique(wanted * base + found, return_counts=True)
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            want, got = divmod(code, base)
            _count(self.pairs, f"{want},{got}", count)
            for one in {want, got}:
                both_either = self.overlaps.setdefault(f"{group},{one}", [0, 0])
                both_either[0] += count if want == got else 0
                both_either[1] += count


@dataclass
class DepthSums:
    """Depth maps beside the expected ones, pixel by pixel, by group.

    Attributes:
        relative: of |depth - expected| / expected; `squares`: of squared differences, metres.
        close: pixels within a factor of 1.25.
        largest: relative difference of all.
        worst: minus the mean relative difference, and name, of the worst images.
    """

    close: Shares = field(default_factory=Shares)
    relative: list[ExactSum] = field(default_factory=_sums)
    squares: list[ExactSum] = field(default_factory=_sums)
    largest: float = field(default=0.0, metadata={"merge": max})
    worst: list[tuple[float, str]] = field(default_factory=list, metadata={"merge": _worst})

    def add(self, depth: np.ndarray, expected: np.ndarray, group: int, name: str) -> None:
        """Of one image, metres; pixels where `expected` is not above 0 are not counted."""
        found = depth_differences(depth, expected)
        if found is None:
            return
        relative = found.relative
        self.close.add(found.close, len(relative), group)
        self.relative[group].add(float(relative.sum()))
        self.squares[group].add(float(found.squares.sum()))
        self.largest = max(self.largest, _number(float(relative.max()), HUGE_ERROR))
        self.worst = _worst(self.worst, [(-_number(float(relative.mean()), HUGE_ERROR), name)])


@dataclass
class OutputStatistics:
    """Outputs beside the reference's."""

    cls: CosineSums = field(default_factory=CosineSums)
    dense: CosineSums = field(default_factory=CosineSums)
    top1: Shares = field(default_factory=Shares)
    segmentation: MapCounts = field(default_factory=MapCounts)
    depth: DepthSums = field(default_factory=DepthSums)
    attention: CosineSums = field(default_factory=CosineSums)

    @property
    def worst(self) -> list[tuple[float, str]]:
        """The images that are least like the reference's, with their mean cosines."""
        return self.dense.worst or self.cls.worst or self.attention.worst

    def add(self, outputs: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], group: int, name: str) -> None:
        """Of one image, without the batch axis; as far as both have them."""
        for output, sums in (("cls", self.cls), ("dense", self.dense), ("attention", self.attention)):
            if output in outputs and output in expected:
                cosines = output_cosines(output, outputs[output], expected[output])
                sums.add(np.atleast_1d(cosines), group, name)
        if "logits" in outputs and "logits" in expected:
            same = int(outputs["logits"].argmax()) == int(expected["logits"].argmax())
            self.top1.add(int(same), 1, group)
        if labels := labels_of(outputs, expected):
            self.segmentation.add(*labels, group)
        if "depth" in outputs and "depth" in expected:
            self.depth.add(outputs["depth"], expected["depth"], group, name)


@dataclass(frozen=True)
class ImageTruth:
    """What one image shows: a class, a mask `[H', W']` (negative where nobody labelled), depths in metres."""

    label: int | None = None
    mask: np.ndarray | None = None
    depth: np.ndarray | None = None


@dataclass
class TruthStatistics:
    """Outputs beside what the images show.

    Attributes:
        confusion: images by `TRUE,PREDICTED`.
        right: by chunk, the images of it: a hexadecimal digit string of bits, two an image in their order: whether it
            has a label, whether the most likely class is right. What a paired test needs.
    """

    top1: Shares = field(default_factory=Shares)
    top5: Shares = field(default_factory=Shares)
    confusion: dict[str, int] = field(default_factory=dict)
    right: dict[str, str] = field(default_factory=dict, metadata={"merge": _disjoint})
    segmentation: MapCounts = field(default_factory=MapCounts)
    depth: DepthSums = field(default_factory=DepthSums)

    def add(self, outputs: Mapping[str, np.ndarray], truth: ImageTruth, group: int, name: str) -> bool | None:
        """Of one image. Returns whether its class is right; None where nobody knows."""
        right = None
        if truth.label is not None and "logits" in outputs:
            likely = np.argsort(-outputs["logits"], kind="stable")[:TOP].tolist()
            right = likely[0] == truth.label
            self.top1.add(int(right), 1, group)
            self.top5.add(int(truth.label in likely), 1, group)
            _count(self.confusion, f"{truth.label},{likely[0]}", 1)
        if truth.mask is not None and "segmentation" in outputs:
            self.segmentation.add(outputs["segmentation"], truth.mask, group)
        if truth.depth is not None and "depth" in outputs:
            self.depth.add(outputs["depth"], truth.depth, group, name)
        return right


@dataclass
class VariantStatistics:
    """One variant: against the reference at its own core count, at the full core bank, and against the labels."""

    own: OutputStatistics = field(default_factory=OutputStatistics)
    full: OutputStatistics = field(default_factory=OutputStatistics)
    truth: TruthStatistics = field(default_factory=TruthStatistics)


@dataclass
class Totals:
    """Everything of a part of a data set, or of all of it.

    Attributes:
        images: those that were evaluated.
        failed: those that could not be read; `failures` are names and reasons of the first of them.
        variants: by artifact name.
        references: the float32 model against the labels, by `reference_key`.
    """

    images: int = 0
    failed: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list, metadata={"merge": first_failures})
    variants: dict[str, VariantStatistics] = field(default_factory=dict)
    references: dict[str, TruthStatistics] = field(default_factory=dict)

    def named_failures(self, most: int) -> str:
        """The first of them, and why each failed."""
        return "; ".join(f"{name} ({why})" for name, why in self.failures[:most])

    def to_json(self) -> dict[str, Any]:
        return msgspec.to_builtins(self, enc_hook=encode_exact)


def reference_key(core_count: int, image_size: object) -> str:
    """How `Totals.references` calls the float32 model at a core count and size."""
    return f"cores{core_count}_{image_size}"


def packed_bits(right: Sequence[bool | None]) -> str:
    """Whether images have a label and are right, as `TruthStatistics.right` holds it."""
    bits = [bit for one in right for bit in (one is not None, bool(one))]
    return np.packbits(np.array(bits, np.uint8)).tobytes().hex()


def unpacked_bits(text: str) -> np.ndarray:
    """`[n, 2]` of what `packed_bits` packed; n may be rounded up, with images that have no label."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8)).reshape(-1, 2).astype(bool)


def totals_from(data: Any, whose: str, hint: str | None = None) -> Totals:
    """Reads what `Totals.to_json` made. Raises `EdgeError`."""
    try:
        return msgspec.convert(data, Totals, dec_hook=decode_exact)
    except (msgspec.ValidationError, ValueError) as error:
        raise EdgeError(f"{whose} is not what veca-edge writes: {error}.", hint) from error


def totals_text(totals: Totals) -> bytes:
    """The same for the same totals: keys are sorted."""
    return json.dumps(totals.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _count(counts: dict[str, int], key: str, count: int) -> None:
    counts[key] = counts.get(key, 0) + count
