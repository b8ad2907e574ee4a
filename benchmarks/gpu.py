"""The files for a Jetson on an NVIDIA GPU: does FP16 there do what is written out for the CPU?

`python -m benchmarks.gpu` needs an NVIDIA GPU and `onnxruntime-gpu` in the place of `onnxruntime`. The very files that
an export writes are computed by ONNX Runtime's CUDA kernels, in FP16 where they say so, and on the CPU in two ways: as
`converters.tensorrt.half` writes FP16 out, which is how an export proves them, and as ONNX Runtime computes them by
itself. Neither TensorRT nor a Jetson is in it, and nothing is timed.

The hard twin is the same function with rescaled channels, the loud ones with gated products or with a residual stream
beyond FP16's 65504.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from veca_edge.base.progress import silent
from veca_edge.base.spec import QUANTIZED_PRECISIONS, ExportSpec, ImageSize
from veca_edge.bundle.runner import Runner
from veca_edge.bundle.types import Artifact
from veca_edge.demo import demo_calibration, demo_checkpoint, demo_evaluation
from veca_edge.images.folder import ImageSet, find_images, load_images
from veca_edge.model.checkpoint import Checkpoint, load_checkpoint, random_checkpoint
from veca_edge.model.config import FAMILIES
from veca_edge.model.folding import inference_weights
from veca_edge.model.plan import Variant
from veca_edge.profiles.measurement import utc_now
from veca_edge.proof.evaluate import run_frames, run_reference
from veca_edge.proof.fidelity import likeness
from veca_edge.runtime.onnxruntime import OnnxRunner, open_onnx
from veca_edge.targets.jetson import JETSON
from veca_edge.targets.jetson import open_onnx as open_written_out

from .common import (
    add_output_option,
    hard_twin,
    loud_products_twin,
    loud_stream_twin,
    random_frames,
    say,
    table,
    write_result,
)
from .fidelity import our_weights, reference

OUTPUTS = ("cls", "dense")
CORE_COUNTS = (8, 16, 64)
RANDOM_FRAMES = 8
COLUMNS = ("model", "weights", "cores", "precision", "output", "GPU", "written out", "as written", "GPU / written out")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", default="small", help="random models at 256 px, beside the demo (default small)")
    add_output_option(parser)
    asked, started = parser.parse_args(), utc_now()
    demo, size = load_checkpoint(demo_checkpoint()), ImageSize(32, 32)
    calibrating, judging = (load_images(find_images(d), size) for d in (demo_calibration(), demo_evaluation()))
    rows: list[dict[str, Any]] = []
    for name, model in (("original", demo), ("hard", hard_twin(demo)), ("loud products", loud_products_twin(demo))):
        rows += compared("demo", name, model, judging.frames, ("int8", "fp16", "fp32"), calibrating)
    rows += compared("demo", "loud stream", loud_stream_twin(demo), judging.frames, ("fp16", "fp32"))
    large = ImageSize(256, 256)
    for family in filter(None, asked.families.split(",")):
        frames = random_frames(RANDOM_FRAMES, large)
        rows += compared(family, "random", random_checkpoint(FAMILIES[family].config()), frames, ("fp16", "fp32"))
    say(table(COLUMNS, [[cell(row[name]) for name in COLUMNS] for row in rows]))
    say("1 - mean cosine with the FP32 reference, and of the GPU with what is written out; none: not a number.")
    content = {
        "benchmark": "gpu",
        "gpu": gpu_name(),
        "started_at": started,
        "evaluation_images": len(judging.frames),
        "rows": rows,
    }
    say(f"Wrote {write_result(asked.output, 'gpu', content)}")


def cell(value: object) -> str:
    return f"{value:.1e}" if isinstance(value, float) else str(value if value is not None else "none")


def compared(
    model: str,
    weights: str,
    checkpoint: Checkpoint,
    frames: np.ndarray,
    precisions: Sequence[str],
    calibrating: ImageSet | None = None,
) -> Iterator[dict[str, Any]]:
    """Distances of all of a model's files, a row per output."""
    size, folded, whole = ImageSize(*frames.shape[1:3]), inference_weights(checkpoint), reference(checkpoint)
    options = {"compile": False}
    spec = ExportSpec("jetson", CORE_COUNTS, tuple(precisions), (size,), outputs=OUTPUTS, target_options=options)
    integer = {} if calibrating is None else our_weights(checkpoint, calibrating, CORE_COUNTS)
    expected = {count: run_reference(whole, checkpoint, frames, count) for count in CORE_COUNTS}
    variants = [
        Variant(spec.graph(count, size), precision, integer[count] if precision in QUANTIZED_PRECISIONS else folded)
        for count in CORE_COUNTS
        for precision in precisions
    ]
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for artifact in JETSON.write(spec, variants, directory, {}, silent):
            say(f"{model}, {weights} weights, {artifact.name}")
            made = {how: run_frames(run, artifact, frames) for how, run in ways(directory, artifact).items()}
            for output in OUTPUTS:
                wanted = expected[artifact.core_count][output]
                distances = {how: distance(output, values[output], wanted) for how, values in made.items()}
                yield {
                    "model": model,
                    "weights": weights,
                    "cores": artifact.core_count,
                    "precision": artifact.precision,
                    "output": output,
                    **distances,
                    "GPU / written out": distance(output, made["GPU"][output], made["written out"][output]),
                }


def ways(directory: Path, artifact: Artifact) -> dict[str, Runner]:
    """Ways to compute a file."""
    return {
        "GPU": on_gpu(directory / artifact.path, artifact),
        "written out": open_written_out(directory, artifact, None),
        "as written": open_onnx(directory / artifact.path, artifact),
    }


def on_gpu(path: Path, artifact: Artifact) -> OnnxRunner:
    """A file in ONNX Runtime's CUDA kernels, all of it: no node may go to the CPU."""
    import onnxruntime

    onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=[("CUDAExecutionProvider", {"use_tf32": "0"})])
    if "CUDAExecutionProvider" not in session.get_providers():
        raise SystemExit("ONNX Runtime has no CUDA here: install onnxruntime-gpu in the place of onnxruntime.")
    return OnnxRunner(session, artifact)


def distance(name: str, value: np.ndarray, expected: np.ndarray) -> float | None:
    """1 - mean cosine; None where that is not a number."""
    with np.errstate(invalid="ignore", over="ignore"):
        found = 1 - likeness(name, value, expected)
    return found if np.isfinite(found) else None


def gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name()


if __name__ == "__main__":
    main()
