"""What all benchmarks share: model sources, INT8 by plain ranges, interleaved timing, and result files."""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from veca_edge.base.files import write_atomically
from veca_edge.base.spec import ImageSize
from veca_edge.images.preprocessing import normalised
from veca_edge.model.checkpoint import Checkpoint
from veca_edge.model.folding import InferenceWeights, pixel_layer
from veca_edge.profiles.machine import Machine, this_machine
from veca_edge.profiles.measurement import utc_now
from veca_edge.runtime.opencv import import_cv2

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("numpy", "torch", "onnx", "onnxruntime", "openvino", "nncf")
# Time for another runtime's threads to stop spinning before the next one is timed.
PAUSE_S = 0.02
MEMORY_PROCESSES = 3
# What a budget is for, in words.
OF_FRAME = {"model": "", "frame": " of the whole frame"}
# Of videos: height and width, frames a second.
VIDEO_SIZES = {"1080p": (1080, 1920), "4k": (2160, 3840)}
VIDEO_RATE = 30


# ----------------------------------------------------------------------------------------- models


def hard_twin(checkpoint: Checkpoint, seed: int = 0, reach: float = 64.0) -> Checkpoint:
    """The same function from weights that are hard to quantize: channels rescaled by factors 1/reach to reach.

    The factors, log-uniform, go into LayerNorm gains against the columns of the next layer, rows of v against
    columns of the output projection, and rows of fc1's linear half against columns of fc2. Exact but for rounding.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    config = checkpoint.config
    tensors = {key: tensor.double() for key, tensor in checkpoint.tensors.items()}

    def move(rows: Sequence[str], columns: Sequence[str], count: int, first: int = 0) -> None:
        """Multiplies rows `first` and on of some tensors, and divides the columns that read them."""
        factors = reach ** (2 * torch.rand(count, generator=generator, dtype=torch.float64) - 1)
        for key in rows:
            kept, scaled = tensors[key][:first], tensors[key][first:]
            tensors[key] = torch.cat([kept, scaled * factors.view(-1, *[1] * (scaled.dim() - 1))])
        for key in columns:
            tensors[key] = tensors[key] / factors

    def both(key: str) -> tuple[str, str]:
        return f"{key}.weight", f"{key}.bias"

    for i in range(config.layers):
        block = f"blocks.{i}"
        move(both(f"{block}.norm_attn"), [f"{block}.attn.{n}_proj.weight" for n in "qkv"], config.hidden)
        move(both(f"{block}.attn.v_proj"), [f"{block}.attn.out_proj.weight"], config.hidden)
        move(both(f"{block}.norm_ffn"), [f"{block}.fc1.weight"], config.hidden)
        move(both(f"{block}.fc1"), [f"{block}.fc2.weight"], config.mlp_hidden, config.mlp_hidden)
    if "output_proj.weight" in tensors:
        move(both("final_norm"), ["output_proj.weight"], config.hidden)
    floats = {key: tensor.float() for key, tensor in tensors.items()}
    return replace(
        checkpoint,
        tensors=floats,
        name=f"{checkpoint.name}_hard",
        digest=f"{checkpoint.digest}, hard twin, seed {seed}, reach {reach:g}",
    )


def loud_stream_twin(checkpoint: Checkpoint, factor: float = 2.0**13) -> Checkpoint:
    """The same function with a residual stream `factor` times as large, but for the epsilon of its norms.

    What writes into the stream is multiplied, and what reads it without a norm, the positions, divided.
    """
    tensors = dict(checkpoint.tensors)
    for key, tensor in tensors.items():
        if key.startswith(("patch_embed.proj", "query_token_chunks")) or ".out_proj." in key or ".fc2." in key:
            tensors[key] = tensor * factor
        elif key.startswith("pos_linears") and key.endswith("weight"):
            tensors[key] = tensor / factor
    return replace(checkpoint, tensors=tensors)


def loud_products_twin(checkpoint: Checkpoint, factor: float = 2.0**13) -> Checkpoint:
    """The same function with gated products `factor` times as large: fc1's linear half against columns of fc2."""
    import torch

    tensors, hidden = dict(checkpoint.tensors), checkpoint.config.mlp_hidden
    for key, tensor in tensors.items():
        if ".fc1." in key:
            tensors[key] = torch.cat([tensor[:hidden], tensor[hidden:] * factor])
        elif key.endswith(".fc2.weight"):
            tensors[key] = tensor / factor
    return replace(checkpoint, tensors=tensors)


def absmax_quantized(
    weights: InferenceWeights, float_model: Path, images: np.ndarray, core_count: int, pairs: bool = True
) -> InferenceWeights:
    """Plain symmetric INT8 without any search: as fast as a calibrated one, and less faithful.

    Args:
        float_model: the float32 file of these weights, written by the CPU dialect for `tensor` input.
        images: normalised float32 `[n, 3, H, W]`.
        pairs: scales are so large that `LinearQuantization.sums_fit_16_bits`, as for calibrated codes.
    """
    import torch

    from veca_edge.calibration.recipe import LinearRecipe, PatchRecipe, QuantizationRecipe, quantized
    from veca_edge.calibration.search import weight_scales

    maxima = input_maxima(float_model, images)
    linears = {}
    for name, layer in weights.linears.items():
        scale = weight_scales(torch.from_numpy(layer.weight), pairs).numpy().astype(np.float32)
        linears[name] = LinearRecipe(
            np.ones(layer.weight.shape[1], np.float32), scale, {core_count: maxima[name] / 127}
        )
    patches = PatchRecipe(
        weight_scales(torch.from_numpy(pixel_layer(weights).weight), pairs).numpy().astype(np.float32)
    )
    return quantized(weights, QuantizationRecipe(linears, (core_count,), "absmax", patches=patches), core_count)


def input_maxima(float_model: Path, images: np.ndarray) -> dict[str, float]:
    """The largest magnitude that enters each linear layer, by layer name, over some images."""
    import onnx

    from veca_edge.runtime.onnxruntime import session_options

    model = onnx.load(float_model)
    entering: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type == "MatMul" and (name := linear_of(node.name)):
            entering.setdefault(node.input[0], name)
    for tensor in entering:
        model.graph.output.add().name = tensor
    import onnxruntime

    session = onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(None), providers=["CPUExecutionProvider"]
    )
    maxima: dict[str, float] = {}
    for image in images:
        for tensor, value in zip(entering, session.run(list(entering), {"image": image[None]}), strict=True):
            name = entering[tensor]
            maxima[name] = max(maxima.get(name, 0.0), float(np.abs(value).max()))
    return maxima


def linear_of(node: str) -> str | None:
    """The quantizable layer that a MatMul of the graph belongs to: `blocks.3.q.MatMul` to `blocks.3.qkv`."""
    if read := re.fullmatch(r"(blocks\.\d+)\.(qkv|q|k|v|out|fc1|fc2)(?:\.gate|\.value)?\.MatMul(?:_\d+)?", node):
        return f"{read[1]}.{'qkv' if read[2] in ('q', 'k', 'v') else read[2]}"
    return "output_proj" if node.startswith("final.output_proj.MatMul") else None


def random_images(count: int, size: ImageSize, seed: int = 0) -> np.ndarray:
    """`random_frames`, normalised: float32 `[count, 3, H, W]`."""
    return normalised(random_frames(count, size, seed))


def random_frames(count: int, size: ImageSize, seed: int = 0) -> np.ndarray:
    """uint8 `[count, H, W, 3]`: noise, which is enough where only the time matters."""
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), np.uint8)


# ------------------------------------------------------------------------------------------ frames


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 `[h, w, 3]` with the contrast of photographs and their spectrum, f^-1.2 (Tolhurst et al., 1992)."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width)[None] * width)
    frequency[0, 0] = np.inf
    made = np.empty((height, width, 3), np.uint8)
    for channel in range(3):
        values = np.fft.irfft2(np.exp(2j * np.pi * random.random(frequency.shape)) / frequency**1.2, (height, width))
        made[..., channel] = np.clip(128 + 55 * values / values.std(), 0, 255)
    return made


def made_video(path: Path, size: tuple[int, int], frames: int) -> Path:
    """Smooth colours under moving noise, as MPEG-4."""
    cv2 = import_cv2("Writing the video")
    random = np.random.default_rng(0)
    height, width = size
    coarse = cv2.resize(random.integers(0, 256, (9, 16, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    grain = random.integers(-8, 9, (height, width, 3)).astype(np.int16)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), VIDEO_RATE, (width, height))
    for number in range(frames):
        moved = np.roll(coarse, 8 * number, 1) + np.roll(grain, 5 * number, 0)
        writer.write(np.clip(moved, 0, 255).astype(np.uint8))
    writer.release()
    return path


# ----------------------------------------------------------------------------------------- timing


def interleaved(
    calls: Mapping[str, Callable[[], object]], rounds: int, per_round: int, pause_s: float = PAUSE_S
) -> dict[str, list[float]]:
    """Times every call in every round, in an order that changes, so that drift of the machine hits all alike.

    Before its timed calls, a call runs once untimed: the others have displaced its weights from the caches.

    Returns:
        Milliseconds of every timed call, in order; `per_round` for each round.
    """
    samples: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    for number in range(rounds):
        random.Random(number).shuffle(order)
        for name in order:
            time.sleep(pause_s)
            calls[name]()
            for _ in range(per_round):
                start = time.perf_counter_ns()
                calls[name]()
                samples[name].append((time.perf_counter_ns() - start) / 1e6)
    return samples


def median(samples: Sequence[float]) -> float:
    return float(np.median(samples))


# ---------------------------------------------------------------------------------------- results


def write_result(directory: Path, name: str, content: Mapping[str, Any]) -> Path:
    """Writes `name`.json, with the machine, the versions and the time of writing, into the machine's own folder."""
    machine = this_machine(PACKAGES)
    path = directory / machine_folder(machine) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    stamped = {**content, "machine": machine.to_json(), "finished_at": utc_now()}
    write_atomically(path, json.dumps(stamped, indent=1) + "\n")
    return path


def machine_folder(machine: Machine) -> str:
    """Such as `amd-epyc-avx-512-vnni-2-cores`."""
    return re.sub(r"[^a-z0-9]+", "-", f"{machine.name} {machine.int8} {machine.cores} cores".lower()).strip("-")


def read_results(directory: Path, benchmark: str) -> list[dict[str, Any]]:
    """Every result of one benchmark, in order of machines and file names."""
    found = [json.loads(path.read_text()) for path in sorted(directory.glob("*/*.json"))]
    return [result for result in found if result["benchmark"] == benchmark]


# ------------------------------------------------------------------------------------ command line


def add_run_options(parser: argparse.ArgumentParser, rounds: int, per_round: int) -> None:
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of every candidate (default 2)")
    add_round_options(parser, rounds, per_round)
    add_memory_option(parser)
    add_output_option(parser)


def add_round_options(parser: argparse.ArgumentParser, rounds: int, per_round: int) -> None:
    parser.add_argument("--rounds", type=int, default=rounds, help=f"interleaved rounds (default {rounds})")
    parser.add_argument(
        "--per-round",
        type=int,
        default=per_round,
        help=f"timed calls of each candidate in a round (default {per_round})",
    )


def add_memory_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--memory-processes",
        type=int,
        default=MEMORY_PROCESSES,
        help=f"processes that take the peak memory of each (default {MEMORY_PROCESSES}; 0: none)",
    )


def add_output_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, default=RESULTS, help="directory of the result files")


def numbers(text: str) -> list[int]:
    """Reads `8,16,64`."""
    return [int(part) for part in text.split(",")]


def limit_threads(threads: int) -> dict[str, str]:
    """The environment of a process whose OpenMP and BLAS pools have `threads` threads."""
    return {
        **os.environ,
        **{name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")},
    }


def say(*parts: object) -> None:
    print(*parts, flush=True)


def megabytes(peaks: Sequence[int]) -> str:
    """The median of some peaks for a table; nothing where none was taken."""
    return f"{median(peaks) / 1e6:.0f}" if peaks else ""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
