"""Live runs on large videos beside the loop that they replaced, and a camera over minutes.

The loop reads, converts to RGB, prepares in one antialiased step and runs the model, one after the other; its code is
that of the release before and stands here, so that it does not get faster with the package's. Both run the same video
and the same model in turns, in one process; what counts is the ratio of their frames a second in each round.
With `--minutes` a GStreamer test camera of 30 frames a second runs instead: latency, memory and drops over the time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from veca_edge.actions.live import LiveRequest, open_live
from veca_edge.actions.load import load_bundle
from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ImageSize
from veca_edge.bundle.types import Bundle
from veca_edge.images.preprocessing import Preprocessing
from veca_edge.model.config import FAMILIES, IMAGE_MEAN, IMAGE_STD
from veca_edge.profiles.measurement import utc_now
from veca_edge.profiles.sampling import OtherLoad
from veca_edge.runtime.opencv import import_cv2
from veca_edge.runtime.tally import Tally

from .bundles import made_bundle
from .common import VIDEO_RATE, VIDEO_SIZES, add_output_option, made_video, median, say, table, write_result

# What a live run has to be, against the loop, and how old a result may be in frame times.
AT_LEAST = {"1080p": 1.35, "4k": 2.5}
OLDEST = 2.0
# Over minutes: how much the age of a result (a share) and the memory may grow.
DRIFT, GROWTH_BYTES = 0.05, 2e6


class Sample(NamedTuple):
    """At `at` seconds: the median age of the last second's results, and the memory of the process."""

    at: float
    age_ms: float
    memory_bytes: int


def loop(bundle: Bundle, video: Path, threads: int) -> float:
    """Frames a second of one after the other, as live runs were before they had threads."""
    cv2 = import_cv2("Reading the video")
    with load_bundle(bundle, threads=threads) as model:
        capture = cv2.VideoCapture(str(video))
        count, start = 0, time.perf_counter()
        while True:
            there, pixels = capture.read()
            if not there:
                break
            frame = prepared_before(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), model.image_size)
            model(frame if model.input == "image" else normalised_before(frame[None]))
            count += 1
        seconds = time.perf_counter() - start
        capture.release()
    return count / seconds


def prepared_before(pixels: np.ndarray, size: ImageSize) -> np.ndarray:
    """A box of uint8 RGB `[h, w, 3]` with the model's aspect ratio, in its size; as version 0.1 did it."""
    from PIL import Image

    cut = Preprocessing(interpolation="bicubic-antialiased").geometry((pixels.shape[0], pixels.shape[1]), size).cut
    box = Image.fromarray(np.ascontiguousarray(pixels[cut.top : cut.top + cut.height, cut.left : cut.left + cut.width]))
    return np.asarray(box.resize((size.width, size.height), Image.Resampling.BICUBIC))


def normalised_before(frames: np.ndarray) -> np.ndarray:
    """uint8 `[n, H, W, 3]` to float32 `[n, 3, H, W]`; as version 0.1 did it."""
    mean, std = np.array(IMAGE_MEAN, np.float32), np.array(IMAGE_STD, np.float32)
    return np.ascontiguousarray(((frames.astype(np.float32) / 255.0 - mean) / std).transpose(0, 3, 1, 2))


def live(bundle: Bundle, video: Path, threads: int) -> dict[str, Any]:
    """Frames a second of a live run, the age of its results, and its stages."""
    tally, ages = Tally(None), []
    opened = open_live(LiveRequest(bundle.directory, str(video), threads=threads))
    start = time.perf_counter()
    with opened:
        for step in opened:
            tally.add(step)
            ages.append(step.frame_ms)
        seconds = time.perf_counter() - start
    stages = {stage.name: asdict(stage) for stage in tally.summary().stages}
    return {"fps": len(ages) / seconds, "age_p95_ms": float(np.percentile(ages, 95)), "stages": stages}


def compare(bundle: Bundle, name: str, threads: int, rounds: int, frames: int, directory: Path) -> dict[str, Any]:
    """Both in every round, in an order that alternates."""
    video = made_video(directory / f"{name}.mp4", VIDEO_SIZES[name], frames)
    loops: list[float] = []
    lives: list[dict[str, Any]] = []
    for number in range(rounds):
        for is_live in (number % 2 == 0, number % 2 == 1):
            if is_live:
                lives.append(live(bundle, video, threads))
            else:
                loops.append(loop(bundle, video, threads))
    ratios = [after["fps"] / before for before, after in zip(loops, lives, strict=True)]
    ages = [after["age_p95_ms"] * after["fps"] / 1000 for after in lives]
    parts = [(s["waiting"], s["preparing"], s["model"], s["frame"]) for s in (after["stages"] for after in lives)]
    apart = max(abs(sum(p["mean_ms"] for p in stages[:3]) - stages[3]["mean_ms"]) for stages in parts)
    return {
        "video": name,
        "loop_fps": loops,
        "live": lives,
        "ratios": ratios,
        "age_in_frame_times": ages,
        "findings": {
            "faster": (median(ratios) >= AT_LEAST[name], f"{median(ratios):.2f}x, wanted {AT_LEAST[name]}x"),
            "fresh": (median(ages) < OLDEST, f"p95 of a result's age {median(ages):.2f} frame times"),
            "adds up": (apart < 0.01, f"stages add up to the frame's time within {apart:.4f} ms"),
        },
    }


@dataclass(frozen=True)
class Drift:
    """How something changed over a run: the slope of Theil and Sen, which outliers do not move, times its length.

    Attributes:
        change: from the begin to the end; `low` and `high` are its 95 % interval.
    """

    change: float
    low: float
    high: float


def drift_of(times_s: Sequence[float], values: Sequence[float]) -> Drift:
    """Of values that were sampled now and then; an unsteady tenth at the begin is left out."""
    from scipy.stats import theilslopes

    settled = slice(len(times_s) // 10, None)
    times, length = np.asarray(times_s[settled]), times_s[-1] - times_s[len(times_s) // 10]
    found = theilslopes(np.asarray(values[settled]), times, 0.95)
    return Drift(*(float(slope * length) for slope in (found.slope, found.low_slope, found.high_slope)))


def endure(bundle: Bundle, minutes: float, threads: int) -> dict[str, Any]:
    """A camera of 30 frames a second for some minutes: samples every second, and what was dropped.

    How many frames there were is told by the stamps that GStreamer put on them, not by how they were numbered.
    """
    pipeline = f"videotestsrc is-live=true ! video/x-raw,format=NV12,width=1280,height=720,framerate={VIDEO_RATE}/1"
    request = LiveRequest(bundle.directory, f"gst:{pipeline}", threads=threads, seconds=60 * minutes)
    process, tally = psutil.Process(), Tally(None)
    samples: list[Sample] = []
    ages: deque[float] = deque(maxlen=VIDEO_RATE)
    at = 0.0
    with open_live(request) as run, closing(run.steps) as steps:
        # The time's end is asked of the frames, and a camera has none of its own.
        for step in steps:
            tally.add(step)
            ages.append(step.frame_ms)
            at = step.at
            if at - (samples[-1].at if samples else -1) >= 1:
                samples.append(Sample(at, median(list(ages)), process.memory_info().rss))
    made = round(at * VIDEO_RATE) + 1
    return {
        "minutes": minutes,
        "samples": samples,
        "frames": tally.frames,
        "dropped": tally.dropped,
        "findings": endurance_findings(samples, made - tally.frames, tally.dropped),
    }


def endurance_findings(samples: Sequence[Sample], missing: int, dropped: int) -> dict[str, tuple[bool, str]]:
    """What a run over minutes promises: whether it was kept, and how it came out."""
    if len(samples) < 20:
        raise SystemExit(f"{len(samples)} samples say nothing about a drift; give more --minutes.")
    times, ages, memory = zip(*samples, strict=True)
    age, grown = drift_of(times, ages), drift_of(times, memory)
    share = [value / median(ages) for value in (age.change, age.low, age.high)]
    return {
        "steady": (share[0] <= DRIFT, "the age of a result changed by {:+.1%} ({:+.1%} to {:+.1%})".format(*share)),
        "small": (
            grown.change <= GROWTH_BYTES,
            f"memory changed by {grown.change / 1e6:+.2f} MB ({grown.low / 1e6:+.2f} to {grown.high / 1e6:+.2f})",
        ),
        "honest": (missing == dropped, f"{dropped} drops reported, {missing} made by the camera's stamps"),
    }


def summary(result: Mapping[str, Any]) -> str:
    rows = [
        [
            one["video"],
            f"{median(one['loop_fps']):.1f}",
            f"{median([after['fps'] for after in one['live']]):.1f}",
            f"{median(one['ratios']):.2f}x",
            *(
                f"{median([after['stages'][stage]['mean_ms'] for after in one['live']]):.1f}"
                for stage in ("waiting", "preparing", "model", "frame")
            ),
        ]
        for one in result["videos"]
    ]
    header = ["", "loop frames/s", "live frames/s", "ratio", "waiting ms", "preparing", "model", "frame"]
    parts = [*result["videos"], *([result["endurance"]] if result["endurance"] else [])]
    kept = [f"{'kept' if ok else 'MISSED'}: {said}" for part in parts for ok, said in part["findings"].values()]
    others = f"other processes used {result['others_share']:.0%} of the machine meanwhile"
    return "\n".join([*([table(header, rows)] if rows else []), *kept, others])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live", description=__doc__)
    parser.add_argument("--family", choices=FAMILIES, default="small")
    parser.add_argument("--image-size", type=ImageSize.parse, default=ImageSize(256, 256))
    parser.add_argument("--cores", type=int, default=16, help="core tokens (default 16)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--videos", default="1080p,4k", help="of 1080p, 4k; empty for none")
    parser.add_argument("--frames", type=int, default=120, help="frames of each video (default 120)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of both (default 5)")
    parser.add_argument("--minutes", type=float, default=0.0, help="let a camera run for so long (default: not)")
    add_output_option(parser)
    asked = parser.parse_args()
    names = [name for name in asked.videos.split(",") if name]
    if unknown := set(names) - set(VIDEO_SIZES):
        parser.error(f"unknown videos {', '.join(sorted(unknown))}; there are {', '.join(VIDEO_SIZES)}")
    started = utc_now()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        bundle = made_bundle(FAMILIES[asked.family], asked.image_size, [asked.cores], directory)
        say(f"{bundle.checkpoint.name}, {asked.image_size}, {asked.cores} cores, {asked.threads} threads")
        try:
            with OtherLoad() as others:
                videos = [compare(bundle, name, asked.threads, asked.rounds, asked.frames, directory) for name in names]
                endurance = endure(bundle, asked.minutes, asked.threads) if asked.minutes else None
        except EdgeError as error:
            raise SystemExit(str(error)) from None
    result = {
        "benchmark": "live",
        "model": bundle.checkpoint.name,
        "image_size": list(asked.image_size),
        "core_count": asked.cores,
        "threads": asked.threads,
        "frames": asked.frames,
        "started_at": started,
        "others_share": others.share(),
        "videos": videos,
        "endurance": endurance,
    }
    say(summary(result))
    name = f"live_{result['model']}_{asked.image_size}_threads{asked.threads}"
    say("written:", write_result(asked.output, name, result))
    parts = [*videos, *([endurance] if endurance else [])]
    if not all(ok for part in parts for ok, _ in part["findings"].values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
