"""Golden vectors: what an app does beside the model, as this package does it; one set for the tests of every platform.

    python -m veca_edge.apps.golden_vectors FOLDER

writes `vectors.json` and the arrays that it names, each raw and little-endian: `u8`, `i32` or `f32`, the last axis
fastest. They depend on no bundle, and are the same bytes wherever they are made. A `tolerance` is the largest
difference of a value: 0 is equal. What has none is to be equal, but for the last digits of a float.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..base.spec import ImageSize
from ..images.geometry import FrameGeometry, Resize
from ..images.mapping import NO_CLASS, map_to_frame
from ..images.overlay import DepthRange, depth_range, seen_classes, tint_depth, tint_masks
from ..images.palette import palette, ramp
from ..images.patches import PatchBasis, patch_basis, patch_colours
from ..images.preprocessing import Preprocessing, resized
from ..images.scaling import Interpolation
from ..runtime.classes import top_classes
from .governor_traces import frame_traces, governor_traces, rules_json

VERSION = 1
INDEX = "vectors.json"
_TYPES = {"uint8": ("u8", "u1"), "int32": ("i32", "<i4"), "float32": ("f32", "<f4")}

# Every way that a frame can become the input.
WAYS = (
    Preprocessing(),
    Preprocessing(Resize.CROP, 0.875),
    Preprocessing(Resize.SHORT_SIDE),
    Preprocessing(Resize.SHORT_SIDE, 0.889),
    Preprocessing(Resize.LETTERBOX),
    Preprocessing(Resize.STRETCH),
)
# Frames that are halved on their way, as far as the interpolation says so.
HALVING = (*(replace(way, interpolation=kind) for kind in Interpolation for way in WAYS),)
# Height and width: camera frames in both orientations, odd ones, a line, one smaller than the input.
FRAMES = (
    (1080, 1920),
    (1920, 1080),
    (480, 640),
    (97, 131),
    (131, 97),
    (45, 80),
    (33, 33),
    (19, 23),
    (1, 200),
    (301, 7),
    (35, 200),
)
SIZES = ((256, 256), (224, 320), (32, 48), (56, 40))


class _Writer:
    """Arrays as files of a folder, and what the index says of each."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __call__(self, name: str, values: np.ndarray) -> dict[str, Any]:
        kind, stored = _TYPES[values.dtype.name]
        file = f"{name}.{kind}"
        (self._folder / file).write_bytes(np.ascontiguousarray(values).astype(stored).tobytes())
        return {"file": file, "type": kind, "shape": list(values.shape)}


def write_golden_vectors(folder: Path) -> None:
    """Writes the vectors into a folder, which is made where there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    array = _Writer(folder)
    index = {
        "version": VERSION,
        "geometry": [_geometry(way, frame, size) for way in WAYS for frame in FRAMES for size in SIZES],
        "preprocessing": _preprocessing(array),
        "maps": _maps(array),
        "palette": list(palette(40)),
        "ramp": [[share / 64, *ramp(np.array(share / 64)).tolist()] for share in range(-2, 67)],
        "masks": _masks(array),
        "depth": _depth(array),
        "pca": _pca(array),
        "classes": _classes(),
        "governor": {"rules": rules_json(), "traces": governor_traces(), "frameTraces": frame_traces()},
    }
    (folder / INDEX).write_text(_listed(index))


def _listed(index: dict[str, Any]) -> str:
    """JSON with an entry of a list on each line: short, and a changed entry is one changed line."""
    parts = []
    for key, value in index.items():
        if isinstance(value, list):
            rows = ",\n".join("  " + json.dumps(row, separators=(",", ":")) for row in value)
            parts.append(f' "{key}": [\n{rows}\n ]')
        else:
            parts.append(f' "{key}": {json.dumps(value, separators=(",", ":"))}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def picture(height: int, width: int) -> np.ndarray:
    """A frame uint8 `[h, w, 3]` of which every part and channel looks different: ramps, fine noise and hard edges."""
    y, x = np.mgrid[0:height, 0:width]
    red = 255 * x // max(1, width - 1)
    green = 255 * y // max(1, height - 1)
    blue = (x * x * 3 + y * y * 5 + x * y * 7) % 256
    made = np.stack([red, green, blue], 2)
    made[: height // 3, : width // 4] = (250, 5, 120)
    made[height // 2 : height // 2 + 3] = 255 - made[height // 2 : height // 2 + 3]
    made[:, (2 * width) // 3 : (2 * width) // 3 + 2] = 0
    return made.astype(np.uint8)


def _way_json(way: Preprocessing, frame: tuple[int, int], size: tuple[int, int]) -> dict[str, Any]:
    return {
        "resize": str(way.resize),
        "cropRatio": way.crop_ratio,
        "interpolation": str(way.interpolation),
        "padding": list(way.padding),
        "frame": list(frame),
        "size": list(size),
    }


def _boxes(geometry: FrameGeometry) -> dict[str, Any]:
    return {"cut": list(geometry.cut), "laid": list(geometry.laid)}


def _geometry(way: Preprocessing, frame: tuple[int, int], size: tuple[int, int]) -> dict[str, Any]:
    """Boxes are left, top, width, height; frames and sizes are height, width."""
    return {**_way_json(way, frame, size), **_boxes(way.geometry(frame, size))}


def _preprocessing(array: _Writer) -> list[dict[str, Any]]:
    made = []
    cases = [(frame, (32, 48), WAYS) for frame in ((97, 131), (131, 97), (19, 23), (64, 96))]
    cases += [(frame, (16, 24), HALVING) for frame in ((151, 219), (133, 149))]
    for (height, width), size, ways in cases:
        pixels = picture(height, width)
        source = array(f"frame_{height}x{width}", pixels)
        for way in ways:
            name = f"input_{way.resize}_{way.crop_ratio:g}_{way.interpolation}_{height}x{width}"
            made.append(
                {
                    **_way_json(way, (height, width), size),
                    **_boxes(way.geometry((height, width), size)),
                    "pixels": source,
                    "expected": array(name, resized(pixels, ImageSize(*size), way)),
                    "tolerance": 0,
                }
            )
    return made


def _labels(rows: int, columns: int) -> np.ndarray:
    """A label map uint8 with 7 classes in blocks of odd sizes, and a corner without a class."""
    y, x = np.mgrid[0:rows, 0:columns]
    labels = ((x // 3 + y // 2 * 3) % 7).astype(np.uint8)
    labels[-2:, -2:] = NO_CLASS
    return labels


def _metres(rows: int, columns: int) -> np.ndarray:
    """A depth map float32 that rises to the lower right; every value is a multiple of 1/64."""
    y, x = np.mgrid[0:rows, 0:columns]
    return ((64 + 9 * x + 5 * y + (x * 7 + y * 13) % 11) / 64).astype(np.float32)


def _maps(array: _Writer) -> list[dict[str, Any]]:
    """Maps of the input on the frame; where the model saw nothing: 255 in u8, -1 in i32, nan in f32."""
    made, size = [], (32, 48)
    values = {
        "labels": _labels(8, 12),
        "classes": _labels(16, 24).astype(np.int32),
        "metres": _metres(8, 12),
        "colours": np.stack([_metres(4, 6), _metres(4, 6)[::-1], _metres(4, 6)[:, ::-1]], 2),
    }
    stored = {name: array(f"map_{name}", value) for name, value in values.items()}
    for frame in ((53, 71), (41, 27)):
        for way in WAYS:
            for name, value in values.items():
                if name == "colours" and frame != (41, 27):
                    continue
                found = map_to_frame(value, frame, size, way)
                file = f"mapped_{name}_{way.resize}_{way.crop_ratio:g}_{frame[0]}x{frame[1]}"
                floats = value.dtype.kind == "f"
                made.append(
                    {
                        **_way_json(way, frame, size),
                        "interpolation": "bilinear" if floats else "nearest",
                        "values": stored[name],
                        "expected": array(file, found),
                        "tolerance": 1e-4 if floats else 0,
                    }
                )
    return made


def _masks(array: _Writer) -> list[dict[str, Any]]:
    """Label maps of the frame's size, painted in colours `[classes, 3]`; `seen` are classes with their shares."""
    frame, labels = picture(45, 61), _labels(45, 61)
    signed = labels.astype(np.int32)
    signed[labels == NO_CLASS] = -1
    colours = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in palette(7)], np.uint8)
    stored, painted = array("masks_frame", frame), array("masks_painted", tint_masks(frame, labels, colours))
    return [
        {
            "frame": stored,
            "labels": array(name, values),
            "colours": colours.tolist(),
            "expected": painted,
            "tolerance": 1,
            "seen": seen_classes(values),
        }
        for name, values in (("masks_labels", labels), ("masks_signed", signed))
    ]


def _depth(array: _Writer) -> list[dict[str, Any]]:
    """Metres of the frame's size, painted; `near` and `far` are the range of the map unless one is given."""
    frame, metres = picture(45, 61), _metres(45, 61)
    unknown = metres.copy()
    unknown[:5], unknown[:, -7:] = np.nan, np.nan
    flat = np.full_like(metres, 2.5)
    made, stored = [], array("depth_frame", frame)
    cases = {
        "whole": (metres, None),
        "unknown": (unknown, None),
        "given": (metres, DepthRange(2.0, 4.0)),
        "flat": (flat, None),
    }
    for name, (values, given) in cases.items():
        scale = given or depth_range(values)
        made.append(
            {
                "frame": stored,
                "metres": array(f"depth_{name}", values),
                "rangeIsGiven": given is not None,
                "near": round(scale.near, 6),
                "far": round(scale.far, 6),
                "expected": array(f"depth_{name}_painted", tint_depth(frame, values, scale)),
                "tolerance": 1,
                "rangeTolerance": 1e-4,
            }
        )
    return made


def _features(patches: int, width: int) -> np.ndarray:
    """Features float32 `[N, D]` that vary along three directions, in widths 16, 7 and 3, and a little everywhere."""
    n, d = np.mgrid[0:patches, 0:width]
    along = [np.sign(np.sin(0.9 + n * rate)) * scale for rate, scale in ((0.31, 16.0), (0.73, 7.0), (1.37, 3.0))]
    shape = [(d % 2 * 2.0 - 1), (d // 2 % 2 * 2.0 - 1), (d // 4 % 2 * 2.0 - 1)]
    noise = ((n * 37 + d * 61 + n * d * 11) % 29 - 14) / 64
    return (sum(a * s for a, s in zip(along, shape, strict=True)) + (d + 1) * 0.5 + noise).astype(np.float32)


def _pca(array: _Writer) -> list[dict[str, Any]]:
    """Patch features: the basis that they have, and their colours 0 to 255 on the rounded basis that is stored."""
    grid, width = (8, 12), 16
    features = _features(grid[0] * grid[1], width)
    exact = patch_basis(features)
    basis = PatchBasis(
        *(np.round(part, 4).astype(np.float32) for part in (exact.mean, exact.axes, exact.low, exact.high))
    )
    colours = np.round(patch_colours(features, basis, grid), 3).astype(np.float32)
    return [
        {
            "grid": list(grid),
            "features": array("pca_features", features),
            "mean": array("pca_mean", basis.mean),
            "axes": array("pca_axes", basis.axes),
            "low": basis.low.astype(float).round(4).tolist(),
            "high": basis.high.astype(float).round(4).tolist(),
            "basisTolerance": 2e-3,
            "expected": array("pca_colours", colours),
            "tolerance": 0.05,
        }
    ]


def _classes() -> list[dict[str, Any]]:
    """Scores, and the most likely classes with their probabilities."""
    made = []
    for scores in ([0.5, 3.25, -1.0, 3.0, 0.0, 2.0, 7.5], [200.0, 190.0, -200.0], [1.0]):
        best = top_classes(np.array(scores, np.float32), None)
        made.append({"logits": scores, "best": [[int(c.name), round(c.share, 7)] for c in best], "tolerance": 1e-5})
    return made


if __name__ == "__main__":
    write_golden_vectors(Path(sys.argv[1]))
