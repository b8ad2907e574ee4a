"""A model through Qualcomm's compiler and its emulation: whether all of it is taken, how close it is, what it costs.

The compiler has the CPU switched off, so a file that is there was taken whole; every file is then executed in the
emulation of its processor, beside the float32 model. Times and memory are those of the compiler's own process on this
machine: nothing here ran on a phone.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from veca_edge.base.spec import GraphSpec, ImageSize
from veca_edge.base.text import counted
from veca_edge.calibration.calibrate import calibrate
from veca_edge.calibration.recipe import quantized_variants
from veca_edge.calibration.search import PER_TOKEN
from veca_edge.converters.qnn.contexts import compile_contexts, emulated
from veca_edge.converters.qnn.options import SnapdragonOptions, parse_names
from veca_edge.demo import demo_calibration, demo_checkpoint, demo_evaluation
from veca_edge.devices.android.socs import SOCS
from veca_edge.images.folder import ImageSet, find_images, load_images, sample
from veca_edge.model.checkpoint import Checkpoint, load_checkpoint, random_checkpoint
from veca_edge.model.config import FAMILIES
from veca_edge.model.folding import inference_weights
from veca_edge.model.plan import Variant
from veca_edge.profiles.measurement import utc_now

from .common import add_output_option, say, table, write_result

OUTPUTS = ("cls", "dense")
DEMO = "demo"
CALIBRATION_IMAGES = 32
# What an emulated output has to reach at least; `a8w8` only shows what eight bits cost.
LEAST = {"fp16": 0.999, "a16w8": 0.998}


def measure(
    checkpoint: Checkpoint, calibration: ImageSet, frames: np.ndarray, core_count: int, options: SnapdragonOptions
) -> Iterator[dict[str, Any]]:
    """A result file's content, after every file anew: emulation can take hours.

    Args:
        frames: uint8 `[count, H, W, 3]`, which did not calibrate.
    """
    started, size = utc_now(), ImageSize(*frames.shape[1:3])
    weights, spec = inference_weights(checkpoint), GraphSpec(core_count, size, outputs=OUTPUTS)
    recipe = calibrate(weights, [calibration], (core_count,), options=PER_TOKEN, seed=0)
    quantized = quantized_variants(weights, recipe)[core_count]
    variants = [Variant(spec, "int8", quantized), Variant(spec, "fp32", weights)]
    rows = []
    for soc in options.npu:
        for precision in options.npu_precision:
            with tempfile.TemporaryDirectory() as name:
                one = SnapdragonOptions((soc,), (precision,))
                (made,) = (file for files in compile_contexts(variants, Path(name), {}, one).values() for file in files)
                say(f"{checkpoint.name}, {precision} for {soc}: compiled in {made['compile_s']:.0f} s")
                alike, cost = emulated(Path(name, made["path"]), SOCS[soc], variants[1], frames)
            rows.append(
                {
                    **{k: made[k] for k in ("soc", "precision", "bytes", "sdk", "package", "placement")},
                    **{k: made[k] for k in ("compile_s", "compile_peak_bytes")},
                    "likeness": alike,
                    "emulation_s_per_frame": cost.seconds / len(frames),
                    "emulation_peak_bytes": cost.peak_memory_bytes,
                }
            )
            yield {
                "benchmark": "npu",
                "checkpoint": checkpoint.name,
                "image_size": list(size),
                "core_count": core_count,
                "frames": len(frames),
                "calibration_images": len(calibration.frames),
                "threads": 1,
                "started_at": started,
                "rows": [*rows],
            }


def below(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """In words, the outputs that are less like the reference's than `LEAST`."""
    return [
        f"{row['soc']} {row['precision']}: {name} {value:.5f}, below {LEAST[row['precision']]}"
        for row in rows
        for name, value in row["likeness"].items()
        if row["precision"] in LEAST and not value >= LEAST[row["precision"]]
    ]


def rows_of(result: Mapping[str, Any]) -> list[list[str]]:
    """A line for each file: its name, cosines, size, and what compiling and emulating it took."""
    side = result["image_size"][0]
    return [
        [
            f"`{result['checkpoint']}`, {side} px, {result['core_count']} cores: `{row['precision']}`, {row['soc']}",
            *(f"{row['likeness'][name]:.7f}" for name in OUTPUTS),
            f"{row['bytes'] / 1e6:.1f}",
            f"{row['compile_peak_bytes'] / 1e6:.0f}",
            f"{row['emulation_peak_bytes'] / 1e6:.0f}",
        ]
        for row in result["rows"]
    ]


HEADER = ("compiled whole, emulated", *OUTPUTS, "file, MB", "peak memory of compiling, MB", "of emulating, MB")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.npu", description=__doc__)
    parser.add_argument(
        "--model",
        choices=(DEMO, *FAMILIES),
        default=DEMO,
        help=f"{DEMO}, the trained tiny one, or a family with random weights (default {DEMO})",
    )
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint instead")
    parser.add_argument("--image-size", type=ImageSize.parse, help="default 256; the demo's own 32")
    parser.add_argument("--cores", type=int, default=16, help="core tokens (default 16)")
    parser.add_argument("--socs", type=parse_names, default=("SM8650", "SM8750"), help="default SM8650,SM8750")
    parser.add_argument("--precisions", type=parse_names, default=("fp16", "a16w8"), help="default fp16,a16w8")
    parser.add_argument("--frames", type=int, default=2, help="emulated (default 2)")
    add_output_option(parser)
    asked = parser.parse_args(arguments)
    options = SnapdragonOptions(asked.socs, asked.precisions)
    is_demo = asked.checkpoint is None and asked.model == DEMO
    if asked.checkpoint is not None or is_demo:
        checkpoint = load_checkpoint(asked.checkpoint or demo_checkpoint())
    else:
        checkpoint = random_checkpoint(FAMILIES[asked.model].config())
    size = asked.image_size or (ImageSize(32, 32) if is_demo else ImageSize(256, 256))
    calibration = load_images(sample(find_images(demo_calibration()), CALIBRATION_IMAGES, seed=0), size)
    judging = sample(find_images(demo_evaluation()), max(asked.frames, 8), seed=0)
    frames = load_images(judging, size).frames[: asked.frames]
    result: dict[str, Any] = {}
    for result in measure(checkpoint, calibration, frames, asked.cores, options):
        path = write_result(asked.output, f"npu_{checkpoint.name}_{size}_cores{asked.cores}", result)
        say(table(HEADER, rows_of({**result, "rows": result["rows"][-1:]})))
        say("written:", path, f"({counted(len(result['rows']), 'file')})")
    if missed := below(result["rows"]):
        raise SystemExit("\n".join(missed))


if __name__ == "__main__":
    main()
