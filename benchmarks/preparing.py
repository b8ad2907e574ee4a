"""What preparing a frame takes on one core, beside resizing it in one step as version 0.1 did.

`python -m benchmarks.preparing` prepares a picture of 1080p and one of 4K, in every layout of cameras and decoders, in
interleaved rounds. Both have the spectrum of photographs. It says as well how far the result is from the one step's.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import numpy as np

from veca_edge.base.spec import ImageSize
from veca_edge.images.pictures import Layout, Picture
from veca_edge.images.preprocessing import prepare
from veca_edge.profiles.sampling import OtherLoad

from .common import (
    VIDEO_SIZES,
    add_output_option,
    add_round_options,
    interleaved,
    median,
    photograph,
    say,
    table,
    write_result,
)
from .live import prepared_before

# Milliseconds on one core, for 256 px.
AT_MOST = {"1080p": 3.0, "4k": 8.0}
# How far from antialiased bicubic in one step, of 255, on average.
DIFFERENCE = 1.0
LAYOUTS = (Layout.RGB, Layout.I420, Layout.NV12, Layout.YUYV)
IN_ONE_STEP = "in one step"


def in_layout(layout: Layout, pixels: np.ndarray) -> Picture:
    """A picture of the same size, with channels of it as luma and chroma: what they show does not matter for time."""
    luma, u, v = (np.ascontiguousarray(pixels[..., channel]) for channel in range(3))
    halves = u[::2, ::2], v[::2, ::2]
    planes = {
        Layout.RGB: (pixels,),
        Layout.I420: (luma, *(np.ascontiguousarray(half) for half in halves)),
        Layout.NV12: (luma, np.stack(halves, -1)),
        Layout.YUYV: (np.stack([luma, np.stack([u[:, ::2], v[:, ::2]], -1).reshape(luma.shape)], -1),),
    }[layout]
    return Picture(layout, planes)


def measure(name: str, size: ImageSize, rounds: int, per_round: int) -> dict[str, Any]:
    """Median milliseconds of every layout and of the one step, and what was promised."""
    pixels = photograph(*VIDEO_SIZES[name])
    calls = {layout.value: partial(prepare, in_layout(layout, pixels), size) for layout in LAYOUTS}
    samples = interleaved({**calls, IN_ONE_STEP: partial(prepared_before, pixels, size)}, rounds, per_round)
    medians = {call: median(times) for call, times in samples.items()}
    apart = np.abs(prepare(pixels, size).astype(int) - prepared_before(pixels, size).astype(int)).mean()
    took = medians[Layout.RGB.value]
    return {
        "picture": name,
        "median_ms": medians,
        "difference": float(apart),
        "findings": {
            "fast": (took <= AT_MOST[name], f"{name} takes {took:.1f} ms, at most {AT_MOST[name]:g} wanted"),
            "close": (bool(apart < DIFFERENCE), f"{name} is {apart:.2f} of 255 from one step"),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.preparing", description=__doc__)
    parser.add_argument("--image-size", type=ImageSize.parse, default=ImageSize(256, 256))
    add_round_options(parser, rounds=15, per_round=5)
    add_output_option(parser)
    asked = parser.parse_args()
    with OtherLoad() as others:
        pictures = [measure(name, asked.image_size, asked.rounds, asked.per_round) for name in VIDEO_SIZES]
    columns = [*(layout.value for layout in LAYOUTS), IN_ONE_STEP]
    rows = [[one["picture"], *(f"{one['median_ms'][column]:.1f}" for column in columns)] for one in pictures]
    findings = [finding for one in pictures for finding in one["findings"].values()]
    say(table([f"ms to {asked.image_size}", *columns], rows))
    say("\n".join(f"{'kept' if ok else 'MISSED'}: {said}" for ok, said in findings))
    result = {"benchmark": "preparing", "image_size": list(asked.image_size), "pictures": pictures}
    content = {**result, "others_share": others.share()}
    say("written:", write_result(asked.output, f"preparing_{asked.image_size}", content))
    if not all(ok for ok, _ in findings):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
