"""LiteRT's INT8 beside its FP32: the files that are exported for Android, on this machine's CPU.

The same files as on a phone, by the same source (XNNPACK), but with kernels for this processor: a ratio here says that
the file is a fast one, and nothing of how fast a phone is. ONNX Runtime runs our files for the CPU beside them; its
FP32 is what all are checked against.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from veca_edge.base.spec import GraphSpec, ImageSize
from veca_edge.base.text import counted
from veca_edge.model.checkpoint import Checkpoint, random_checkpoint
from veca_edge.model.config import FAMILIES
from veca_edge.profiles.measurement import utc_now

from .common import (
    MEMORY_PROCESSES,
    add_memory_option,
    add_output_option,
    add_round_options,
    median,
    megabytes,
    numbers,
    say,
    table,
    write_result,
)
from .peers import check, make_task
from .race import race
from .toolchains import make_candidates
from .worker import agreement, peak_memories

REFERENCE = "ours_fp32"
FP32, INT8 = "our_graph_litert_fp32", "our_graph_litert"
CANDIDATES = (FP32, INT8, REFERENCE, "ours_int8")


def measure(
    checkpoint: Checkpoint,
    sizes: Sequence[int],
    core_count: int,
    threads: Sequence[int],
    rounds: int,
    per_round: int,
    memory_processes: int = MEMORY_PROCESSES,
) -> dict[str, Any]:
    """Measures the candidates at every image size with every number of threads; the content of a result file."""
    started, rows = utc_now(), []
    for side in sizes:
        spec = GraphSpec(core_count, ImageSize(side, side), input="tensor")
        with tempfile.TemporaryDirectory() as directory:
            candidates, failed = make_candidates(make_task(checkpoint, spec, Path(directory)), CANDIDATES, say)
            for count in threads:
                say(f"  {side} px, {counted(count, 'thread')}: timing ...")
                timed = race(candidates, count, rounds, per_round, agreement, REFERENCE)
                if failed := failed | timed["failed"]:
                    raise SystemExit("\n".join(f"{name}: {reason}" for name, reason in failed.items()))
                for candidate in candidates:
                    check(candidate, timed["agreement"][candidate.name])
                    rows.append(
                        {
                            "name": candidate.name,
                            "label": candidate.label,
                            "precision": candidate.precision,
                            "image_size": side,
                            "threads": count,
                            "file_bytes": candidate.file_bytes,
                            "samples_ms": timed["samples_ms"][candidate.name],
                            "agreement": timed["agreement"][candidate.name],
                            "peak_memory_bytes": peak_memories(candidate, count, memory_processes),
                            "discarded_rounds": timed["discarded_rounds"],
                            "others_share": timed["others_share"],
                        }
                    )
    return {
        "benchmark": "litert",
        "family": checkpoint.config.family,
        "core_count": core_count,
        "threads": max(threads),
        "rounds": rounds,
        "per_round": per_round,
        "started_at": started,
        "others_share": max(row["others_share"] for row in rows),
        "rows": rows,
    }


HEADER = ("median ms", "LiteRT FP32", "LiteRT INT8", "INT8 against FP32", "file", "peak memory", "ONNX Runtime INT8")


def rows_of(result: Mapping[str, Any]) -> list[list[str]]:
    """A line for each image size and number of threads."""
    at = {(row["image_size"], row["threads"], row["name"]): row for row in result["rows"]}
    lines = []
    for side, threads in dict.fromkeys(key[:2] for key in at):
        fp32, int8, ours = (at[side, threads, name] for name in (FP32, INT8, "ours_int8"))
        ms = [median(row["samples_ms"]) for row in (fp32, int8, ours)]
        memory = [megabytes(row["peak_memory_bytes"]) for row in (int8, fp32)]
        lines.append(
            [
                f"{result['family']}, {side} px, {result['core_count']} cores, {counted(threads, 'thread')}",
                *(f"{taken:.1f}" for taken in ms[:2]),
                f"{ms[0] / ms[1]:.2f}x",
                f"{int8['file_bytes'] / fp32['file_bytes']:.2f}x",
                f"{memory[0]} of {memory[1]} MB" if all(memory) else "",
                f"{ms[2]:.1f}",
            ]
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.litert", description=__doc__)
    parser.add_argument("--family", choices=FAMILIES, default="small")
    parser.add_argument("--image-sizes", type=numbers, default=[256, 512], help="pixels, a list (default 256,512)")
    parser.add_argument("--cores", type=int, default=16, help="core tokens (default 16)")
    parser.add_argument("--threads", type=numbers, default=[1, 2], help="CPU threads, a list (default 1,2)")
    add_round_options(parser, rounds=15, per_round=3)
    add_memory_option(parser)
    add_output_option(parser)
    asked = parser.parse_args(arguments)
    result = measure(
        random_checkpoint(FAMILIES[asked.family].config()),
        asked.image_sizes,
        asked.cores,
        asked.threads,
        asked.rounds,
        asked.per_round,
        asked.memory_processes,
    )
    say(table(HEADER, rows_of(result)))
    say(f"other processes used {result['others_share']:.0%} of the machine meanwhile")
    say("written:", write_result(asked.output, f"litert_{asked.family}_cores{asked.cores}", result))


if __name__ == "__main__":
    main()
