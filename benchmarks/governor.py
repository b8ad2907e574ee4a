"""The governor under a real load: a process that never rests starts and stops while frames run live.

First the smallest and the largest core count are timed alone and beside the competitor. The budget is put just above
what the smallest one takes beside it, so that it can be held, though not by the largest. Then frames run alone, beside
the competitor, and alone again, as `veca-edge run --source --budget` runs them.

With `--frame-budget` the budget is that of the whole frame, from its capture to its result, as for `veca-edge run
--frame-budget`: the frames are a 1080p video, and what the core counts take is the age of results of live runs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from veca_edge.actions.live import LiveRequest, open_live
from veca_edge.actions.load import load_bundle
from veca_edge.base.spec import ImageSize
from veca_edge.bundle.store import open_bundle
from veca_edge.bundle.types import Bundle
from veca_edge.demo import demo_evaluation
from veca_edge.images.folder import find_images
from veca_edge.model.config import FAMILIES
from veca_edge.profiles.measurement import utc_now
from veca_edge.profiles.sampling import OtherLoad
from veca_edge.runtime.live import steps_of
from veca_edge.runtime.pipeline import Pace
from veca_edge.runtime.sources import find_source, frames_of

from .bundles import made_bundle
from .common import VIDEO_SIZES, add_output_option, interleaved, made_video, median, numbers, say, table, write_result

# The budget over the 95th percentile of the smallest core count beside the competitor.
MARGIN = 1.05
# What the governor promises once it has settled: share of frames within the budget, switches a second.
WITHIN, SWITCHES = 0.95, 1.0
COMPETITOR = "while True: pass"
# The live runs by which a frame's budget is chosen: of each core count so many, whose first frames do not count.
TURNS, LEARNING = 3, 10


class Timed(NamedTuple):
    """One frame: seconds since the first, what it ran at, and what the budget is for: the model alone or all of it."""

    at: float
    core_count: int
    latency_ms: float


@dataclass(frozen=True)
class Phase:
    """What happened between two changes of the load.

    Attributes:
        start, stop: seconds since the first frame.
        frames, within_budget, switches_per_second: of the time after settling.
        missed_at_smallest: share of those frames that missed the budget where there was no smaller core count.
        core_count: the last one; `lowest` and `highest` are of the whole phase.
    """

    name: str
    start: float
    stop: float
    frames: int
    within_budget: float
    missed_at_smallest: float
    switches_per_second: float
    p50_ms: float
    p95_ms: float
    core_count: int
    lowest: int
    highest: int


# -------------------------------------------------------------------------------------- statistics


def chosen_budget(idle: Mapping[int, Sequence[float]], loaded: Mapping[int, Sequence[float]]) -> float:
    """Milliseconds that the smallest core count keeps to under load.

    Stops where the largest does so, too, and where it does not even without the load.
    """
    smallest, largest = min(loaded), max(loaded)
    budget = MARGIN * float(np.percentile(loaded[smallest], 95))
    if within(loaded[largest], budget) >= WITHIN:
        raise SystemExit(
            f"{largest} cores meet {budget:.0f} ms under this load as well, so there is nothing to "
            "govern; give more --processes."
        )
    if within(idle[largest], budget) < WITHIN:
        raise SystemExit(
            f"{largest} cores miss {budget:.0f} ms even without the load, which slows this machine too "
            "little for a budget between the two; give more --processes."
        )
    return budget


def within(latencies_ms: Sequence[float], budget_ms: float) -> float:
    return float(np.mean([ms <= budget_ms for ms in latencies_ms]))


def phase_of(
    name: str,
    frames: Sequence[Timed],
    moves: Sequence[float],
    start: float,
    stop: float,
    settle_s: float,
    budget_ms: float,
    smallest: int,
) -> Phase:
    """The statistics of one phase.

    Args:
        frames: of the whole run, as `moves`: the times of all switches.
        start, stop: of the phase; the first `settle_s` seconds count only for the core counts.
    """
    inside = [f for f in frames if start <= f.at < stop]
    settled = [f for f in inside if f.at >= start + settle_s]
    if not settled:
        raise SystemExit(f"No frame ended in the phase '{name}' after {settle_s:g} s; give more --seconds.")
    latencies = [f.latency_ms for f in settled]
    counts = [f.core_count for f in inside]
    switches = sum(start + settle_s <= at < stop for at in moves)
    helpless = np.mean([f.core_count == smallest and f.latency_ms > budget_ms for f in settled])
    p50, p95 = np.percentile(latencies, (50, 95))
    return Phase(
        name,
        start,
        stop,
        len(settled),
        within(latencies, budget_ms),
        float(helpless),
        switches / (stop - start - settle_s),
        float(p50),
        float(p95),
        counts[-1],
        min(counts),
        max(counts),
    )


def findings(before: Phase, load: Phase, after: Phase, of_frame: bool = False) -> dict[str, tuple[bool, str]]:
    """What the governor promises: whether it was kept, and how it came out.

    Args:
        of_frame: the budget is the whole frame's; it is promised where any core count can meet it, so a frame that
            missed it at the smallest one does not count.
    """
    phases = (before, load, after)
    frames = sum(p.frames for p in phases)
    could = sum(p.frames * (1 - p.missed_at_smallest) for p in phases) if of_frame else frames
    share = sum(p.frames * p.within_budget for p in phases) / could if could else 0.0
    counted = f"{frames} frames" + (f", of which {frames - round(could)} met it at no core count," if of_frame else "")
    fastest = max(p.switches_per_second for p in phases)
    return {
        "within": (share >= WITHIN, f"{share:.1%} of {counted} within the budget after settling"),
        "steady": (fastest <= SWITCHES, f"at most {fastest:.2f} switches a second after settling"),
        "down": (load.lowest < before.core_count, f"under load down from {before.core_count} to {load.lowest} cores"),
        "up": (
            after.core_count >= before.core_count,
            f"{after.core_count} cores when the load was gone, {before.core_count} before",
        ),
    }


# ------------------------------------------------------------------------------------- measurement


@contextmanager
def competitors(count: int) -> Iterator[None]:
    """Processes that never rest while the block runs."""
    running = [subprocess.Popen([sys.executable, "-c", COMPETITOR]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def latencies(bundle: Bundle, threads: int, rounds: int, image: Path) -> dict[int, list[float]]:
    """Milliseconds of the smallest and the largest core count, interleaved, loaded as the governor has them."""
    model = load_bundle(bundle, threads=threads)
    frame = model.prepare(image)

    def call(count: int):
        def run() -> None:
            model.core_count = count
            model(frame)

        return run

    samples = interleaved(
        {str(count): call(count) for count in (model.core_counts[0], model.core_counts[-1])}, rounds, 1, 0.0
    )
    return {int(name): values for name, values in samples.items()}


def ages(bundle: Bundle, threads: int, rounds: int, source: Path) -> dict[int, list[float]]:
    """Milliseconds from capture to result of live runs at the smallest and the largest core count, by turns.

    Stage by stage, as runs with a budget are; an ordinary run of a file takes two frames at a time.
    The first frames of each run, while the pipeline learns how long its stages take, are left out.
    """
    counts = (bundle.core_counts[0], bundle.core_counts[-1])
    taken: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(TURNS):
        for count in counts:
            pace = Pace(frames=LEARNING + -(-rounds // TURNS))
            with load_bundle(bundle, [count], threads=threads) as model:
                steps = steps_of(model, frames_of(find_source(str(source)), repeat=True), pace, lambda: False)
                taken[count] += [step.frame_ms for step in steps][LEARNING:]
    return taken


def measure(
    bundle: Bundle,
    threads: int,
    processes: int,
    seconds: Sequence[float],
    settle_s: float,
    rounds: int,
    source: Path,
    of_frame: bool = False,
) -> dict[str, Any]:
    """Latencies, budget and the three phases; a result file's content.

    Args:
        source: images, or with `of_frame` also a video.
        of_frame: the budget is for a frame's way from capture to result, not for the model alone.
    """
    started = utc_now()

    def timed() -> dict[int, list[float]]:
        if of_frame:
            return ages(bundle, threads, rounds, source)
        return latencies(bundle, threads, rounds, find_images(source)[0])

    with OtherLoad() as others:
        idle = timed()
    with competitors(processes):
        loaded = timed()
    budget = chosen_budget(idle, loaded)
    say(f"  budget {budget:.1f} ms; others use {others.share():.0%} of the machine")
    frames, decisions, changes = governed(bundle, threads, processes, seconds, budget, source, of_frame)
    moves = [d.at for d in decisions if d.before != d.after]
    ends = (*changes, frames[-1].at + 1e-9)
    phases = [
        phase_of(name, frames, moves, start, stop, settle_s, budget, min(idle))
        for name, start, stop in zip(("alone", "beside", "alone again"), (0.0, *changes), ends, strict=True)
    ]
    found = findings(phases[0], phases[1], phases[2], of_frame)
    return {
        "benchmark": "governor",
        "model": bundle.checkpoint.name,
        "precision": bundle.spec.precisions[0],
        "image_size": list(bundle.spec.image_sizes[0]),
        "threads": threads,
        "processes": processes,
        "settle_s": settle_s,
        "started_at": started,
        "others_share": others.share(),
        "budget_of": "frame" if of_frame else "model",
        "budget_ms": budget,
        "idle_ms": idle,
        "loaded_ms": loaded,
        "phases": [asdict(p) for p in phases],
        "findings": {name: {"kept": kept, "what": what} for name, (kept, what) in found.items()},
        "decisions": [asdict(d) for d in decisions],
        "frames": frames,
    }


def governed(
    bundle: Bundle,
    threads: int,
    processes: int,
    seconds: Sequence[float],
    budget_ms: float,
    source: Path,
    of_frame: bool = False,
) -> tuple[list[Timed], list, tuple[float, float]]:
    """Runs frames live; returns them, the decisions, and when the competitor started and stopped."""
    model_ms, frame_ms = (None, budget_ms) if of_frame else (budget_ms, None)
    live = open_live(
        LiveRequest(bundle.directory, str(source), model_ms, threads=threads, repeat=True, frame_budget_ms=frame_ms)
    )
    frames: list[Timed] = []
    decisions, changes = [], []
    with closing(live.steps) as steps:

        def run_for(duration: float) -> float:
            """Runs at least so long, and returns when."""
            start = time.perf_counter()
            for step in steps:
                frames.append(Timed(step.at, step.core_count, step.frame_ms if of_frame else step.latency_ms))
                if step.decision is not None:
                    decisions.append(step.decision)
                if time.perf_counter() - start >= duration:
                    break
            return frames[-1].at + 1e-9  # the next frame is the first of the next phase

        changes.append(run_for(seconds[0]))
        with competitors(processes):
            changes.append(run_for(seconds[1]))
        run_for(seconds[2])
    return frames, decisions, (changes[0], changes[1])


# ------------------------------------------------------------------------------------ command line


def summary(result: Mapping[str, Any]) -> str:
    """Latencies, the phases, and what was promised."""
    by_count = [
        [
            f"{count} cores",
            *(
                f"{value:.1f}"
                for ms in (result["idle_ms"][count], result["loaded_ms"][count])
                for value in (median(ms), float(np.percentile(ms, 95)))
            ),
        ]
        for count in result["idle_ms"]
    ]
    phases = [
        [
            p["name"],
            f"{p['stop'] - p['start']:.0f}",
            str(p["frames"]),
            f"{p['within_budget']:.1%}",
            f"{p['missed_at_smallest']:.1%}",
            f"{p['p50_ms']:.1f}",
            f"{p['p95_ms']:.1f}",
            f"{p['switches_per_second']:.2f}",
            f"{p['lowest']}-{p['highest']}",
            str(p["core_count"]),
        ]
        for p in result["phases"]
    ]
    moves = [f"{d['at']:.1f} s: {d['before']} to {d['after']} cores, {d['reason']}" for d in result["decisions"]]
    kept = [f"{'kept' if f['kept'] else 'MISSED'}: {f['what']}" for f in result["findings"].values()]
    return "\n".join(
        [
            table(["", "p50 alone", "p95", "p50 beside", "p95"], by_count),
            "",
            table(
                [
                    f"budget {result['budget_ms']:.1f} ms of the {result['budget_of']}",
                    "s",
                    "frames",
                    "within",
                    "no smaller",
                    "p50",
                    "p95",
                    "switches/s",
                    "cores",
                    "at its end",
                ],
                phases,
            ),
            "",
            *moves,
            "",
            *kept,
            f"other processes used {result['others_share']:.0%} of the machine before the competitor started",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.governor", description=__doc__)
    parser.add_argument("bundle", type=Path, nargs="?", help="a bundle for the CPU; without one it is made")
    parser.add_argument("--family", choices=FAMILIES, default="small")
    parser.add_argument("--image-size", type=ImageSize.parse, default=ImageSize(256, 256))
    parser.add_argument("--cores", type=numbers, default=list(range(8, 72, 8)), help="core tokens (default: all eight)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--processes", type=int, help="competing processes (default: one more than there are CPU cores left)"
    )
    parser.add_argument("--seconds", type=numbers, default=[15, 30, 30], help="of the phases (default 15,30,30)")
    parser.add_argument("--settle", type=float, default=5.0, help="seconds of each phase that do not count")
    parser.add_argument("--rounds", type=int, default=60, help="timed calls for the budget (default 60)")
    parser.add_argument("--frame-budget", action="store_true", help="govern the whole frame's time, not the model's")
    parser.add_argument(
        "--source",
        type=Path,
        help="images; with --frame-budget also a video (default: the demo's images, a 1080p video)",
    )
    add_output_option(parser)
    asked = parser.parse_args()
    processes = asked.processes or max(1, (psutil.cpu_count() or 1) - asked.threads + 1)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        bundle = (
            open_bundle(asked.bundle)
            if asked.bundle
            else made_bundle(FAMILIES[asked.family], asked.image_size, asked.cores, directory)
        )
        say(f"{bundle.checkpoint.name}, {bundle.spec.image_sizes[0]}, {asked.threads} threads")
        source = asked.source or (
            made_video(directory / "1080p.mp4", VIDEO_SIZES["1080p"], 60) if asked.frame_budget else demo_evaluation()
        )
        result = measure(
            bundle, asked.threads, processes, asked.seconds, asked.settle, asked.rounds, source, asked.frame_budget
        )
    say(summary(result))
    kind = "frame_budget_" if asked.frame_budget else ""
    name = f"governor_{kind}{result['model']}_{bundle.spec.image_sizes[0]}_threads{asked.threads}"
    say("written:", write_result(asked.output, name, result))
    if not all(finding["kept"] for finding in result["findings"].values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
