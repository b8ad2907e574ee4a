"""Latency, peak memory and file size of veca-edge beside other toolchains, in one run.

Random weights of a released family: speed does not depend on what they compute. Every candidate is checked
to compute the same function before it counts. Each is timed in a process of its own, in interleaved rounds (`race`),
and its peak memory is taken in another.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from veca_edge.base.spec import GraphSpec, ImageSize
from veca_edge.model.checkpoint import Checkpoint, random_checkpoint, save_safetensors
from veca_edge.model.config import FAMILIES
from veca_edge.model.folding import inference_weights
from veca_edge.profiles.measurement import utc_now

from .common import (
    MEMORY_PROCESSES,
    absmax_quantized,
    add_run_options,
    median,
    megabytes,
    random_images,
    say,
    table,
    write_result,
)
from .race import race
from .toolchains import Candidate, Task, make_candidates, ours
from .worker import agreement, ask, peak_memories

EVERYONE = (
    "eager",
    "compile",
    "plain_fp32",
    "ort_dynamic",
    "ort_static",
    "nncf_ort",
    "openvino_fp32",
    "openvino_default",
    "nncf_openvino",
    "our_graph_openvino",
    "our_graph_litert",
    "ours_fp32",
    "ours_int8",
)
REFERENCE = "eager"
# Ranges do not change the speed, so a few images of noise calibrate everyone.
CALIBRATION_IMAGES = 4
MAX_DIFFERENCE = 1e-3
# INT8 with ranges from noise is a poor model, but a wrong one would be poorer.
MIN_COSINE = 0.5


def measure(
    checkpoint: Checkpoint,
    spec: GraphSpec,
    threads: int,
    rounds: int,
    per_round: int,
    names: Sequence[str] = EVERYONE,
    memory_processes: int = MEMORY_PROCESSES,
) -> dict[str, Any]:
    """Makes, checks and measures the named candidates; the content of a result file."""
    started = utc_now()
    with tempfile.TemporaryDirectory() as directory:
        task = make_task(checkpoint, spec, Path(directory))
        candidates, failed = make_candidates(task, names, say)
        say("  timing ...")
        timed = race(candidates, threads, rounds, per_round, agreement, REFERENCE)
        failed |= timed["failed"]
        candidates = [c for c in candidates if c.name not in failed]
        for candidate in candidates:
            check(candidate, timed["agreement"][candidate.name])
        rows = [
            {
                "name": c.name,
                "label": c.label,
                "runtime": c.runtime,
                "precision": c.precision,
                "setting": c.setting,
                "file_bytes": c.file_bytes,
                "samples_ms": timed["samples_ms"][c.name],
                "agreement": timed["agreement"][c.name],
                "peak_memory_bytes": peak_memories(c, threads, memory_processes),
            }
            for c in candidates
        ]
        profiled = [c for c in candidates if c.name in ("ours_fp32", "ours_int8")]
        operators = {c.name: ask("operators", [c], threads) for c in profiled}
        products = {c.name: ask("products", [c], threads, rounds=rounds) for c in profiled}
    return {
        "benchmark": "peers",
        "family": checkpoint.config.family,
        "image_size": list(spec.image_size),
        "core_count": spec.core_count,
        "threads": threads,
        "rounds": rounds,
        "per_round": per_round,
        "started_at": started,
        "discarded_rounds": timed["discarded_rounds"],
        "others_share": timed["others_share"],
        "candidates": rows,
        "not_run": failed,
        "operators_ms": operators,
        "products_ms": products,
        "gemm_share": {name: share(ms, "linear", "attention") for name, ms in products.items()},
        "attention_gemm_share": {name: share(ms, "attention") for name, ms in products.items()},
    }


def share(ms: Mapping[str, Sequence[float]], *parts: str) -> float:
    """The part of the whole that these products take; see `products`."""
    return sum(median(ms[part]) for part in parts) / median(ms["whole"])


def make_task(checkpoint: Checkpoint, spec: GraphSpec, directory: Path) -> Task:
    """The checkpoint on disk, and our INT8 with plain ranges."""
    path = directory / "checkpoint.safetensors"
    save_safetensors(checkpoint, path)
    weights = inference_weights(checkpoint)
    images = random_images(CALIBRATION_IMAGES, spec.image_size, seed=1)
    task = Task(checkpoint, path, spec, weights, weights, images, directory)
    float_model = ours("ours_fp32", "fp32", task).path
    int8 = absmax_quantized(weights, float_model, images, spec.core_count)
    return Task(checkpoint, path, spec, weights, int8, images, directory)


def check(candidate: Candidate, agreement: dict[str, float]) -> None:
    """Stops the benchmark when a candidate computes something else: its time would mean nothing."""
    exact = candidate.precision == "fp32" and candidate.name != "openvino_default"
    if exact and not agreement["largest_difference"] <= MAX_DIFFERENCE:
        raise SystemExit(f"{candidate.label} differs from the reference by {agreement['largest_difference']:.2g}.")
    if not min(agreement["cls"], agreement["dense"]) >= MIN_COSINE:
        raise SystemExit(f"{candidate.label} does not compute the model: cosine {agreement}.")


def summary(result: dict[str, Any]) -> str:
    """The result as a table for the terminal."""
    by_name = {row["name"]: row for row in result["candidates"]}
    base = median(by_name["plain_fp32"]["samples_ms"]) if "plain_fp32" in by_name else None
    rows = []
    for row in result["candidates"]:
        ms = median(row["samples_ms"])
        rows.append(
            [
                row["label"],
                f"{ms:.1f}",
                f"{min(row['samples_ms']):.1f}",
                f"{base / ms:.2f}x" if base else "",
                megabytes(row["peak_memory_bytes"]),
                f"{row['file_bytes'] / 1e6:.1f}",
                f"{row['agreement']['cls']:.4f}",
                f"{row['agreement']['dense']:.4f}",
            ]
        )
    shares = ", ".join(
        f"{name} {part:.0%} ({result['attention_gemm_share'][name]:.0%} within attention)"
        for name, part in result["gemm_share"].items()
    )
    return (
        table(["", "median ms", "min ms", "against plain FP32", "peak MB", "file MB", "cos cls", "cos dense"], rows)
        + f"\nGEMM share: {shares}; other processes used {result['others_share']:.0%} of the machine meanwhile"
        + f", {result['discarded_rounds']} of {result['rounds']} rounds were slow for all"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--family", choices=FAMILIES, default="small")
    parser.add_argument("--image-size", type=ImageSize.parse, default=ImageSize(256, 256))
    parser.add_argument("--cores", type=int, default=16, help="core tokens (default 16)")
    parser.add_argument("--candidates", default=",".join(EVERYONE), help=f"any of {','.join(EVERYONE)}")
    add_run_options(parser, rounds=15, per_round=3)
    asked = parser.parse_args()
    names = tuple(asked.candidates.split(","))
    if unknown := set(names) - set(EVERYONE):
        parser.error(f"unknown candidates {', '.join(sorted(unknown))}")
    if not {REFERENCE, "ours_int8"} <= set(names):
        parser.error(f"'{REFERENCE}', which the others are checked against, and 'ours_int8' have to be candidates")
    say(f"{asked.family}, {asked.image_size}, {asked.cores} cores, {asked.threads} threads")
    checkpoint = random_checkpoint(FAMILIES[asked.family].config())
    result = measure(
        checkpoint,
        GraphSpec(asked.cores, asked.image_size, input="tensor"),
        asked.threads,
        asked.rounds,
        asked.per_round,
        names,
        asked.memory_processes,
    )
    say(summary(result))
    name = f"peers_{asked.family}_{asked.image_size}_cores{asked.cores}_threads{asked.threads}"
    say("written:", write_result(asked.output, name, result))


if __name__ == "__main__":
    main()
