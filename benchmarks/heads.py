"""What a segmentation head costs on top of the backbone: 150 classes, a map of a quarter of each side, on the CPU.

`python -m benchmarks.heads` writes two files of one random `small` model, one that gives `dense` and one that gives
`segmentation` alone, in INT8 and in FP32, and times them in interleaved rounds, each in a process of its own.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from veca_edge.base.spec import GraphSpec, ImageSize
from veca_edge.base.tasks import Task, Tokens
from veca_edge.converters.cpu import CpuDialect
from veca_edge.converters.onnx.graph import onnx_from_veca
from veca_edge.model.checkpoint import random_checkpoint
from veca_edge.model.config import FAMILIES
from veca_edge.model.folding import inference_weights
from veca_edge.model.heads import Head, Term

from .common import absmax_quantized, add_run_options, median, say, write_result
from .race import race
from .toolchains import Candidate

CORE_COUNT = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--map-stride", type=int, default=4)
    add_run_options(parser, rounds=15, per_round=3)
    given = parser.parse_args()
    size, random = ImageSize(given.size, given.size), np.random.default_rng(0)
    checkpoint = random_checkpoint(FAMILIES["small"].config())
    config = checkpoint.config
    weight = random.normal(size=(given.classes, config.output_dim)).astype(np.float32) / config.output_dim**0.5
    term = Term(config.layers - 1, Tokens.PATCHES, weight)
    head = Head(Task.SEGMENT, (term,), np.zeros(given.classes, np.float32))
    weights = inference_weights(replace(checkpoint, heads=(head,)))
    candidates = []
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        tensor = GraphSpec(CORE_COUNT, size, input="tensor", outputs=("dense",))
        ir.save(onnx_from_veca(weights, tensor, CpuDialect, {}), directory / "float.onnx")
        noise = random.standard_normal((1, 3, *size), dtype=np.float32)
        integer = absmax_quantized(weights, directory / "float.onnx", noise, CORE_COUNT)
        for precision, used in (("int8", integer), ("fp32", weights)):
            for output in ("dense", "segmentation"):
                spec = replace(tensor, outputs=(output,), map_stride=given.map_stride)
                path = directory / f"{precision}_{output}.onnx"
                ir.save(onnx_from_veca(used, spec, CpuDialect, {}), path)
                key = f"ours_{precision}_{output}"
                candidates.append(Candidate(key, key, "onnxruntime", path, precision, CORE_COUNT, size))
        raced = race(candidates, given.threads, given.rounds, given.per_round)
    if raced["failed"]:
        raise SystemExit(str(raced["failed"]))
    samples = raced["samples_ms"]
    costs = {}
    for precision in ("int8", "fp32"):
        backbone, whole = (median(samples[f"ours_{precision}_{output}"]) for output in ("dense", "segmentation"))
        costs[precision] = {"backbone_ms": backbone, "with_head_ms": whole, "cost": whole / backbone - 1}
        say(f"{precision}: {backbone:.2f} ms alone, {whole:.2f} ms with the head: {whole / backbone - 1:+.1%}")
    content = {
        "benchmark": "heads",
        "size": given.size,
        "classes": given.classes,
        "map_stride": given.map_stride,
        "core_count": CORE_COUNT,
        "threads": given.threads,
        "costs": costs,
        "discarded_rounds": raced["discarded_rounds"],
        "others_share": raced["others_share"],
    }
    say(f"Wrote {write_result(given.output, 'heads', content)}")


if __name__ == "__main__":
    main()
