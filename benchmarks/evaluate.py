"""Whole data sets: peak memory against the number of images, kills and resumed runs, a cluster that loses a worker, and
the speed of processes against one.

    python -m benchmarks.evaluate --images 1000,50000 --kills 20

Generated images of 32 x 32 pixels through the demo model in float32 at 16 cores, with its float32 reference. Every run
is a process of its own; its peak is the largest sum of the proportional set sizes of it and its children.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from veca_edge.profiles.measurement import utc_now

from .common import add_output_option, numbers, say, table, write_result

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SAMPLE_S = 0.25


@dataclass(frozen=True)
class Run:
    """How one evaluation ended: seconds, the peak in bytes, and whether it was killed."""

    seconds: float
    peak_bytes: int
    killed: bool


def write_images(folder: Path, count: int) -> Path:
    """So many different PNG files, in a folder for each class."""
    from PIL import Image

    for i in range(count):
        coarse = np.random.default_rng(i).integers(0, 256, (4, 4, 3), np.uint8)
        path = folder / CLASSES[i % len(CLASSES)] / f"{i:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC).save(path)
    return folder


def veca_edge(*words: object) -> list[str]:
    return [sys.executable, "-m", "veca_edge", *map(str, words)]


def export(output: Path) -> Path:
    words = ("export", "--cores", 16, "--precision", "fp32", "--no-measure", "--output", output)
    subprocess.run(veca_edge(*words), check=True, stdout=subprocess.DEVNULL)
    return output


def family(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def proportional_bytes(process: psutil.Process) -> int:
    with suppress(psutil.Error, AttributeError):
        return process.memory_full_info().pss
    return 0


def run(bundle: Path, images: Path, *words: object, kill_after: float | None = None, lose: bool = False) -> Run:
    """Evaluates.

    Args:
        kill_after: seconds after which the whole family of processes is killed.
        lose: kill one worker of a cluster once it has been at work for a moment.
    """
    start, peak, lost = time.monotonic(), 0, not lose
    with tempfile.TemporaryFile() as log:
        child = psutil.Popen(
            veca_edge("evaluate", bundle, "--data", images, *words), stdout=subprocess.DEVNULL, stderr=log
        )
        while child.poll() is None:
            everyone = family(child)
            peak = max(peak, sum(proportional_bytes(p) for p in everyone))
            passed = time.monotonic() - start
            journal = next((bundle / "evaluations").glob("*.journal"), None)
            if not lost and journal is not None and journal.stat().st_size > 10_000:
                workers = [p for p in everyone[1:] if not p.children()]
                max(workers, key=proportional_bytes).kill()
                lost = True
            if kill_after is not None and passed > kill_after:
                for process in reversed(everyone):
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
                child.wait()
                return Run(passed, peak, True)
            time.sleep(SAMPLE_S)
        if child.returncode != 0:
            log.seek(0)
            raise SystemExit(log.read().decode(errors="replace"))
    if not lost:
        raise SystemExit("The run ended before a worker could be killed: take more images.")
    return Run(time.monotonic() - start, peak, False)


def totals_of(bundle: Path) -> dict:
    (path,) = (bundle / "evaluations").glob("*.json")
    return json.loads(path.read_text())["totals"]


def killed_runs(bundle: Path, images: Path, workers: int, kills: int, whole_s: float) -> int:
    """Kills a run at random moments, and lets the last one end. Returns how often it was killed."""
    rng, done = random.Random(0), 0
    words: tuple[object, ...] = ("--workers", workers, "--again")
    while done < kills:
        ended = run(bundle, images, *words, kill_after=rng.uniform(0.2, 1.0) * max(6.0, 2 * whole_s / kills))
        words = ("--workers", workers)
        if not ended.killed:
            break
        done += 1
    run(bundle, images, *words)
    return done


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="1000,50000", help="numbers of images, the last for everything but memory")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--cluster-workers", type=int, default=3)
    add_output_option(parser)
    asked = parser.parse_args(arguments)
    counts = numbers(asked.images)
    with tempfile.TemporaryDirectory() as work:
        bundle, runs = export(Path(work) / "demo"), {}
        for count in counts:
            images = write_images(Path(work) / str(count), count)
            for workers in (1, asked.workers):
                say(f"{count} images, {workers} processes")
                runs[count, workers] = run(bundle, images, "--workers", workers, "--again")
                expected = totals_of(bundle)
            if count != counts[-1]:
                for path in (bundle / "evaluations").iterdir():
                    path.unlink()
        images = Path(work) / str(counts[-1])
        say(f"{asked.kills} kills")
        killed = killed_runs(bundle, images, asked.workers, asked.kills, runs[counts[-1], asked.workers].seconds)
        same_killed = totals_of(bundle) == expected
        say(f"a cluster of {asked.cluster_workers} workers that loses one")
        cluster = run(bundle, images, "--cluster", f"local:{asked.cluster_workers}", "--again", lose=True)
        same_cluster = totals_of(bundle) == expected
    rows = [
        [str(n), str(w), f"{r.seconds:.1f}", f"{n / r.seconds:.0f}", f"{r.peak_bytes / 1e6:.0f}"]
        for (n, w), r in runs.items()
    ]
    say(table(["images", "processes", "seconds", "images/s", "peak MB"], rows))
    say(f"Killed {killed} times and resumed: {'the same' if same_killed else 'OTHER'} totals.")
    say(f"A cluster that lost a worker: {'the same' if same_cluster else 'OTHER'} totals, {cluster.seconds:.1f} s.")
    measured = {
        "measured_at": utc_now(),
        "runs": [
            {"images": n, "processes": w, "seconds": r.seconds, "peak_bytes": r.peak_bytes}
            for (n, w), r in runs.items()
        ],
        "kills": {"count": killed, "same_totals": same_killed},
        "cluster": {
            "workers": asked.cluster_workers, "lost": 1, "same_totals": same_cluster, "seconds": cluster.seconds
        },
    }  # fmt: skip
    write_result(asked.output, "evaluate", measured)
    if not (same_killed and same_cluster):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
