"""What `veca-edge export` of a released family costs: time and memory, and how large the bundle is.

Runs the real command on random weights (their fidelity means nothing, so the gate is open), with images that are
resized to the asked size. Memory is that of the command with all its children.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from veca_edge.base.files import bytes_of
from veca_edge.base.spec import ImageSize
from veca_edge.demo import demo_calibration
from veca_edge.model.checkpoint import random_checkpoint, save_safetensors
from veca_edge.model.config import FAMILIES
from veca_edge.profiles.measurement import utc_now

from .common import add_output_option, limit_threads, numbers, say, write_result

SAMPLE_S = 0.1


def measure(
    family: str, image_size: ImageSize, core_counts: list[int], calibration: Path, threads: int
) -> dict[str, Any]:
    """Exports once; a result file's content."""
    started = utc_now()
    with tempfile.TemporaryDirectory() as directory:
        checkpoint, bundle = Path(directory) / "checkpoint.safetensors", Path(directory) / "bundle"
        save_safetensors(random_checkpoint(FAMILIES[family].config()), checkpoint)
        command = [
            sys.executable,
            "-m",
            "veca_edge",
            "export",
            str(checkpoint),
            "--target",
            "cpu",
            "--cores",
            ",".join(map(str, core_counts)),
            "--image-size",
            str(image_size),
            "--min-cosine",
            "-1",
            "--calibration",
            str(calibration),
            "--threads",
            str(threads),
            "--no-measure",
            "--output",
            str(bundle),
        ]
        seconds, peak = watched(command, limit_threads(threads))
        files = {
            str(path.relative_to(bundle)): path.stat().st_size for path in sorted(bundle.rglob("*")) if path.is_file()
        }
        return {
            "benchmark": "export",
            "family": family,
            "image_size": list(image_size),
            "core_counts": core_counts,
            "threads": threads,
            "started_at": started,
            "seconds": seconds,
            "peak_memory_bytes": peak,
            "bundle_bytes": bytes_of(bundle),
            "files": files,
            "checkpoint_bytes": checkpoint.stat().st_size,
        }


def watched(command: list[str], environment: dict[str, str]) -> tuple[float, int]:
    """Runs a command to its end: seconds, and the largest resident memory of it and its children together."""
    start, peak = time.perf_counter(), 0
    process = psutil.Popen(command, env=environment, stdout=subprocess.DEVNULL, cwd=Path(__file__).parent.parent)
    while process.poll() is None:
        peak = max(peak, resident(process))
        time.sleep(SAMPLE_S)
    if process.returncode:
        raise SystemExit(f"the export failed with exit code {process.returncode}")
    return time.perf_counter() - start, peak


def resident(process: psutil.Process) -> int:
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export", description=__doc__)
    parser.add_argument("--family", choices=FAMILIES, default="small")
    parser.add_argument("--image-size", type=ImageSize.parse, default=ImageSize(256, 256))
    parser.add_argument("--cores", type=numbers, default=[16], help="core tokens, a list (default 16)")
    parser.add_argument("--calibration", type=Path, default=demo_calibration(), help="images (default: the demo's)")
    parser.add_argument("--threads", type=int, default=2)
    add_output_option(parser)
    asked = parser.parse_args()
    result = measure(asked.family, asked.image_size, asked.cores, asked.calibration, asked.threads)
    say(
        f"{result['seconds']:.0f} s, {result['peak_memory_bytes'] / 2**30:.2f} GiB, bundle "
        f"{result['bundle_bytes'] / 1e6:.1f} MB:"
    )
    for path, size in sorted(result["files"].items(), key=lambda item: -item[1])[:8]:
        say(f"  {size / 1e6:8.2f} MB  {path}")
    counts = "-".join(map(str, asked.cores))
    say("written:", write_result(asked.output, f"export_{asked.family}_{asked.image_size}_cores{counts}", result))


if __name__ == "__main__":
    main()
