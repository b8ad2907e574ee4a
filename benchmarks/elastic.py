"""What many core counts in one bundle cost beside a bundle of one: size on disk, memory with all loaded, switching.

Random weights, INT8. Memory (also that of one core count out of the many) is what a fresh process holds after a few
frames at every core count, above what it held with its runtime loaded; of pages that are mapped several times each
counts once (PSS). A switch costs what the first frame after it takes longer than those that follow.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from veca_edge.actions.load import load_bundle
from veca_edge.base.files import bytes_of
from veca_edge.base.spec import ImageSize
from veca_edge.model.config import FAMILIES, Family
from veca_edge.profiles.measurement import utc_now
from veca_edge.profiles.sampling import OtherLoad
from veca_edge.runtime.model import Model

from .bundles import made_bundle
from .common import add_output_option, median, megabytes, numbers, say, table, write_result
from .worker import ask

BLOCK = 5  # frames after the first one at a core count


def measure(
    family: Family, size: ImageSize, core_counts: list[int], threads: int, rounds: int, processes: int
) -> dict[str, Any]:
    """A result file's content."""
    started = utc_now()
    with tempfile.TemporaryDirectory() as directory:
        every, one = (
            made_bundle(family, size, counts, Path(directory) / name).directory
            for name, counts in (("every", core_counts), ("one", [max(core_counts)]))
        )
        memory = {
            name: [ask("held", [], threads, bundle=str(bundle), core_counts=counts) for _ in range(processes)]
            for name, bundle, counts in (
                ("every", every, core_counts),
                ("one", one, [max(core_counts)]),
                ("one_of_them", every, [max(core_counts)]),
            )
        }
        with OtherLoad() as others:
            first, steady, setting = switched(load_bundle(every, threads=threads), rounds)
        return {
            "benchmark": "elastic",
            "family": family.name,
            "image_size": list(size),
            "core_counts": core_counts,
            "threads": threads,
            "started_at": started,
            "others_share": others.share(),
            "bundle_bytes": {"every": bytes_of(every), "one": bytes_of(one)},
            "memory_bytes": memory,
            "first_ms": first,
            "steady_ms": steady,
            "setting_ms": setting,
        }


def switched(model: Model, rounds: int) -> tuple[dict[int, list[float]], dict[int, list[float]], list[float]]:
    """Milliseconds by core count: the first frame after a switch, `BLOCK` frames that follow it; and of setting."""
    frame = np.zeros((*model.image_size, 3), np.uint8)
    first: dict[int, list[float]] = {count: [] for count in model.core_counts}
    steady: dict[int, list[float]] = {count: [] for count in model.core_counts}
    setting, order = [], list(model.core_counts)
    for number in range(rounds):
        random.Random(number).shuffle(order)
        for count in order:
            start = time.perf_counter_ns()
            model.core_count = count
            setting.append((time.perf_counter_ns() - start) / 1e6)
            first[count].append(model(frame).latency_ms)
            steady[count] += [model(frame).latency_ms for _ in range(BLOCK)]
    return first, steady, setting


class Compared(NamedTuple):
    """All core counts beside one; `memory_of_one_of_them` is against one of the same bundle, loaded alone.

    Attributes:
        switch_ms: the median of what a first frame takes longer than those right after it, and of setting it.
    """

    bundle: float
    memory: float
    memory_of_one_of_them: float
    switch_ms: float


def compared(result: Mapping[str, Any]) -> Compared:
    size, memory = result["bundle_bytes"], {name: median(held) for name, held in result["memory_bytes"].items()}
    longer = []
    for count, first in result["first_ms"].items():
        following = np.reshape(result["steady_ms"][count], (len(first), BLOCK))
        longer += list(np.array(first) - np.median(following, axis=1))
    return Compared(
        size["every"] / size["one"],
        memory["every"] / memory["one"],
        memory["every"] / memory["one_of_them"],
        max(0.0, median(longer)) + median(result["setting_ms"]),
    )


def summary(result: Mapping[str, Any]) -> str:
    found = compared(result)
    rows = [
        [f"{count}", f"{median(ms):.2f}", f"{median(result['first_ms'][count]):.2f}"]
        for count, ms in result["steady_ms"].items()
    ]
    return "\n".join(
        [
            table(["cores", "ms", "ms right after a switch"], rows),
            "",
            f"bundle: {result['bundle_bytes']['every'] / 1e6:.1f} MB, {found.bundle:.3f}x of "
            f"{max(result['core_counts'])} cores alone",
            f"memory: {megabytes(result['memory_bytes']['every'])} MB, {found.memory:.2f}x, and "
            f"{found.memory_of_one_of_them:.2f}x of one of them loaded alone",
            f"a switch costs {found.switch_ms:.2f} ms",
            f"other processes used {result['others_share']:.0%} of the machine meanwhile",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.elastic", description=__doc__)
    parser.add_argument("--family", choices=FAMILIES, default="small")
    parser.add_argument("--image-size", type=ImageSize.parse, default=ImageSize(256, 256))
    parser.add_argument("--cores", type=numbers, default=list(range(8, 72, 8)), help="core tokens (default: all eight)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--processes", type=int, default=3, help="that take the memory (default 3)")
    add_output_option(parser)
    asked = parser.parse_args()
    result = measure(
        FAMILIES[asked.family], asked.image_size, asked.cores, asked.threads, asked.rounds, asked.processes
    )
    say(summary(result))
    say("written:", write_result(asked.output, f"elastic_{asked.family}_{asked.image_size}", result))


if __name__ == "__main__":
    main()
