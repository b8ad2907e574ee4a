"""Whole data sets: peak memory against the number of images, kills and resumed runs, a cluster that loses a worker, and
the speed of processes against one.

    python -m benchmarks.evaluate --images 1000,50000 --kills 20
    python -m benchmarks.evaluate --images 1000,5000 --model demo    # speed with a model that takes time

Generated images of 32 x 32 pixels through a model in float32 at 16 cores, with its float32 reference: one of random
weights, 2 layers and a width of 32, so that 50,000 images take minutes; memory, journal and sums do not depend on it.
Every run is a process of its own; its peak is the largest sum of the proportional set sizes of it and its children.
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

from veca_edge.demo import demo_checkpoint
from veca_edge.model.checkpoint import load_checkpoint, random_checkpoint, save_safetensors
from veca_edge.model.config import ModelConfig
from veca_edge.profiles.measurement import utc_now

from .common import add_output_option, numbers, say, table, write_result

TINY = ModelConfig(32, 2, 2, 64, 8, 16, 8, 32)
DEMO = "demo"
MODELS = ("tiny", DEMO)
# What the largest run may take of the smallest's memory.
MAX_GROWTH = 1.2
SAMPLE_S = 0.25


@dataclass(frozen=True)
class Run:
    """How one evaluation ended: seconds, the peak in bytes, and whether it was killed."""

    seconds: float
    peak_bytes: int
    killed: bool


def model_file(name: str, folder: Path) -> Path:
    if name == DEMO:
        return demo_checkpoint()
    save_safetensors(random_checkpoint(TINY, classes=10), folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


def write_images(folder: Path, count: int, classes: Sequence[str]) -> Path:
    """So many different PNG files, in a folder for each class."""
    from PIL import Image

    for i in range(count):
        coarse = np.random.default_rng(i).integers(0, 256, (4, 4, 3), np.uint8)
        path = folder / classes[i % len(classes)] / f"{i:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC).save(path)
    return folder


def veca_edge(*words: object) -> list[str]:
    return [sys.executable, "-m", "veca_edge", *map(str, words)]


def export(checkpoint: Path, output: Path) -> Path:
    words = ("export", checkpoint, "--cores", 16, "--precision", "fp32", "--image-size", 32, "--output", output)
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


def run(words: Sequence[object], bundle: Path, kill_after: float | None = None, lose: bool = False) -> Run:
    """Runs `veca-edge evaluate` with such words.

    Args:
        kill_after: seconds after which the whole family of processes is killed.
        lose: kill one worker of a cluster once it has been at work for a moment.
    """
    start, peak, lost = time.monotonic(), 0, not lose
    with tempfile.TemporaryFile() as log:
        child = psutil.Popen(veca_edge("evaluate", bundle, *words), stdout=subprocess.DEVNULL, stderr=log)
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


def killed_runs(words: Sequence[object], bundle: Path, kills: int, whole_s: float) -> int:
    """Kills a run at random moments, and lets the last one end. Returns how often it was killed; one that ends before
    that starts over."""
    rng, done, again = random.Random(0), 0, True
    while done < kills:
        patience = rng.uniform(0.2, 1.0) * max(6.0, 1.5 * whole_s / kills)
        ended = run((*words, *(["--again"] if again else [])), bundle, kill_after=patience)
        done, again = done + ended.killed, not ended.killed
    run(words, bundle)
    return done


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", default="1000,50000", help="numbers of images, the last for everything but memory")
    parser.add_argument("--model", default=MODELS[0], choices=MODELS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--cluster-workers", type=int, default=3)
    add_output_option(parser)
    asked = parser.parse_args(arguments)
    counts, processes = numbers(asked.images), list(dict.fromkeys((1, asked.workers)))
    with tempfile.TemporaryDirectory() as work:
        checkpoint = model_file(asked.model, Path(work))
        classes = load_checkpoint(checkpoint).labels
        assert classes is not None
        bundle, runs = export(checkpoint, Path(work) / "bundle"), {}
        totals, words = [], ("--checkpoint", checkpoint, "--data")
        for count in counts:
            images = write_images(Path(work) / str(count), count, classes)
            for path in (bundle / "evaluations").glob("*"):
                path.unlink()
            totals = []
            for workers in processes:
                say(f"{count} images, {workers} processes")
                runs[count, workers] = run((*words, images, "--workers", workers, "--again"), bundle)
                totals.append(totals_of(bundle))
        images, whole = Path(work) / str(counts[-1]), totals[0]
        say(f"{asked.kills} kills")
        every = (*words, images, "--workers", asked.workers)
        killed = killed_runs(every, bundle, asked.kills, runs[counts[-1], asked.workers].seconds)
        same = {"processes": all(one == whole for one in totals), "killed": totals_of(bundle) == whole}
        say(f"a cluster of {asked.cluster_workers} workers that loses one")
        cluster = run((*words, images, "--cluster", f"local:{asked.cluster_workers}", "--again"), bundle, lose=True)
        same["cluster"] = totals_of(bundle) == whole
    growth = {n: runs[counts[-1], n].peak_bytes / runs[counts[0], n].peak_bytes for n in processes}
    rows = [
        [str(n), str(w), f"{r.seconds:.1f}", f"{n / r.seconds:.0f}", f"{r.peak_bytes / 1e6:.0f}"]
        for (n, w), r in runs.items()
    ]
    say(table(["images", "processes", "seconds", "images/s", "peak MB"], rows))
    words_of = {True: "the same totals", False: "OTHER totals"}
    for n, ratio in growth.items():
        say(f"{n} processes: the peak for {counts[-1]} images is {ratio:.2f} times that for {counts[0]}.")
    say(f"{' and '.join(map(str, processes))} processes: {words_of[same['processes']]}.")
    say(f"Killed {killed} times and resumed: {words_of[same['killed']]}.")
    say(f"A cluster that lost a worker: {words_of[same['cluster']]}, {cluster.seconds:.1f} s.")
    measured = {
        "measured_at": utc_now(),
        "model": asked.model,
        "runs": [
            {"images": n, "processes": w, "seconds": r.seconds, "peak_bytes": r.peak_bytes}
            for (n, w), r in runs.items()
        ],
        "growth": {str(n): ratio for n, ratio in growth.items()},
        "same_totals": same,
        "kills": killed,
        "cluster": {"workers": asked.cluster_workers, "lost": 1, "seconds": cluster.seconds},
    }
    write_result(asked.output, "evaluate", measured)
    if not (all(same.values()) and max(growth.values()) <= MAX_GROWTH):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
