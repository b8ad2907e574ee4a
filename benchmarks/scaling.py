"""VECA beside a dense vision transformer of the same size, from 256 to 1024 pixels.

Both go through the same graph writer and run in the same runtime. Random weights; INT8 with plain ranges from
noise, which has the speed of a calibrated one. Each is timed in a process of its own (`race`).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from veca_edge.base.spec import GraphSpec, ImageSize
from veca_edge.converters.cpu import CpuDialect
from veca_edge.converters.onnx.files import save_models
from veca_edge.converters.onnx.graph import onnx_from_veca
from veca_edge.model.checkpoint import random_checkpoint
from veca_edge.model.config import FAMILIES, Family
from veca_edge.model.folding import InferenceWeights, inference_weights
from veca_edge.profiles.cost import attention_block_macs, cost_of_onnx, dense_attention_block_macs
from veca_edge.profiles.measurement import utc_now

from .common import (
    MEMORY_PROCESSES,
    absmax_quantized,
    add_run_options,
    median,
    megabytes,
    numbers,
    random_images,
    read_results,
    say,
    table,
    write_result,
)
from .dense_vit import TOKENS, dense_checkpoint, onnx_from_dense
from .race import race
from .toolchains import Candidate
from .worker import peak_memories

SIZES = (256, 384, 512, 768, 1024)
DENSE = "dense ViT"
PLOT = Path(__file__).parent.parent / "docs" / "scaling.svg"
# GFLOP of one attention block (projections and attention) as published for base with 64 cores, and for DINOv3-B.
PUBLISHED = {
    256: (1.623, 1.441),
    384: (3.259, 3.778),
    512: (5.549, 8.108),
    768: (12.092, 27.274),
    1024: (21.253, 71.016),
}


def block_gflop(size: int) -> tuple[float, float]:
    """What `PUBLISHED` says, computed: VECA base with 64 cores, and the dense model."""
    width, patches = FAMILIES["base"].hidden, (size // 16) ** 2
    return (2e-9 * attention_block_macs(width, patches, 64), 2e-9 * dense_attention_block_macs(width, patches + TOKENS))


def check_published() -> None:
    """Stops unless the published attention-block counts come out to all their digits."""
    for size, published in PUBLISHED.items():
        ours = tuple(round(count, 3) for count in block_gflop(size))
        if ours != published:
            raise SystemExit(f"At {size} pixels the attention block counts {ours} GFLOP; published are {published}.")


def measure(
    family: Family,
    core_counts: Sequence[int],
    sizes: Sequence[int],
    threads: int,
    rounds: int,
    per_round: int,
    memory_processes: int = MEMORY_PROCESSES,
) -> dict[str, Any]:
    """Writes all models, times them together, and takes the peak memory of each; a result file's content."""
    check_published()
    started = utc_now()
    with tempfile.TemporaryDirectory() as directory:
        candidates, models = [], {count: inference_weights(random_checkpoint(family.config())) for count in core_counts}
        models[TOKENS] = inference_weights(dense_checkpoint(family))
        for size in sizes:
            for count, weights in models.items():
                candidates += write_pair(weights, count, ImageSize(size, size), Path(directory))
            say(f"  {size} px: models written")
        say("  timing ...")
        timed = race(candidates, threads, rounds, per_round)
        rows = [
            {
                "model": c.label,
                "core_count": c.core_count,
                "image_size": c.image_size.height,
                "precision": c.precision,
                "samples_ms": timed["samples_ms"][c.name],
                "file_bytes": c.file_bytes,
                "peak_memory_bytes": peak_memories(c, threads, memory_processes),
                **asdict(cost_of_onnx(c.path)),
            }
            for c in candidates
        ]
    return {
        "benchmark": "scaling",
        "family": family.name,
        "threads": threads,
        "rounds": rounds,
        "per_round": per_round,
        "started_at": started,
        "others_share": timed["others_share"],
        "rows": rows,
        "attention_block_gflop": {str(size): block_gflop(size) for size in PUBLISHED},
    }


def write_pair(weights: InferenceWeights, count: int, size: ImageSize, directory: Path) -> list[Candidate]:
    """One model at one image size, in FP32 and INT8; the dense one where `count` is its number of extra tokens."""
    spec, dense = GraphSpec(count, size, input="tensor"), count == TOKENS
    label = DENSE if dense else f"VECA, {count} cores"
    made = []
    for precision in ("fp32", "int8"):
        name = f"ours_{count}_{size.height}_{precision}"
        path = directory / f"{name}.onnx"
        if precision == "int8":
            weights = absmax_quantized(weights, made[0].path, random_images(1, size, seed=1), count)
        model = onnx_from_dense(weights, spec) if dense else onnx_from_veca(weights, spec, CpuDialect, {})
        save_models({path.name: model}, directory, "")
        made.append(Candidate(name, label, "onnxruntime", path, precision, count, size))
    return made


def summary(result: dict[str, Any]) -> str:
    """Latency, memory and cost of every model and size, as a table."""
    rows = [
        [
            row["model"],
            str(row["image_size"]),
            row["precision"],
            f"{median(row['samples_ms']):.1f}",
            megabytes(row["peak_memory_bytes"]),
            f"{row['macs'] / 1e9:.1f}",
            f"{row['attention_interactions'] / 1e6:.2f}",
        ]
        for row in sorted(result["rows"], key=lambda r: (r["precision"], r["model"], r["image_size"]))
    ]
    return (
        table(["", "pixels", "precision", "median ms", "peak MB", "GMAC", "million interactions"], rows)
        + f"\nother processes used {result['others_share']:.0%} of the machine meanwhile"
    )


def plot(result: dict[str, Any], path: Path) -> None:
    """Latency, peak memory and attention interactions against the image size."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "veca-edge"
    from matplotlib import pyplot

    panels = (
        ("latency, ms", lambda row: median(row["samples_ms"])),
        ("peak memory, MB", lambda row: median(row["peak_memory_bytes"]) / 1e6),
        ("attention interactions, millions", lambda row: row["attention_interactions"] / 1e6),
    )
    models = list(dict.fromkeys(row["model"] for row in result["rows"]))
    colors = dict(zip(models, ("#1f77b4", "#17a673", "#9467bd", "#8c564b"), strict=False)) | {DENSE: "#777777"}
    figure, axes = pyplot.subplots(1, len(panels), figsize=(12, 4), layout="constrained")
    for axis, (title, value) in zip(axes, panels, strict=True):
        same = "interactions" in title  # in every precision
        for precision, style in (("int8", "-"),) if same else (("fp32", "--"), ("int8", "-")):
            for model in models:
                rows = [r for r in result["rows"] if r["model"] == model and r["precision"] == precision]
                axis.plot(
                    [r["image_size"] for r in rows],
                    [value(r) for r in rows],
                    style,
                    marker="o",
                    markersize=3,
                    color=colors[model],
                    label=model if same else f"{model}, {precision.upper()}",
                )
        axis.set(
            title=title,
            xlabel="image size, pixels",
            xscale="log",
            yscale="linear" if "memory" in title else "log",
            ylim=(0, None) if "memory" in title else None,
        )
        axis.set_xticks(sizes := sorted({r["image_size"] for r in result["rows"]}), [str(s) for s in sizes])
        axis.yaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, handlelength=4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--family", choices=FAMILIES, default="small")
    parser.add_argument("--cores", type=numbers, default=[16, 64], help="core tokens (default 16,64)")
    parser.add_argument(
        "--sizes", type=numbers, default=list(SIZES), help=f"pixels (default {','.join(map(str, SIZES))})"
    )
    parser.add_argument("--plot", type=Path, help="only draw the results again, into this file")
    add_run_options(parser, rounds=6, per_round=2)
    asked = parser.parse_args()
    if asked.plot:
        for result in read_results(asked.output, "scaling"):
            plot(result, asked.plot)
        return
    say(f"{asked.family}, {asked.threads} threads")
    result = measure(
        FAMILIES[asked.family],
        asked.cores,
        asked.sizes,
        asked.threads,
        asked.rounds,
        asked.per_round,
        asked.memory_processes,
    )
    say(summary(result))
    say("written:", write_result(asked.output, f"scaling_{asked.family}_threads{asked.threads}", result))


if __name__ == "__main__":
    main()
