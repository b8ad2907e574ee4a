"""Candidates timed beside each other, each in a process of its own.

Inside one process they slow each other down: a runtime's threads go on spinning into the next one's turn. Here one
process opens each candidate and waits; rounds are interleaved, and rounds in which the machine was slow for all are
discarded.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from veca_edge.profiles.sampling import OtherLoad

from .common import PAUSE_S, limit_threads, median, random_frames
from .toolchains import OURS, Candidate, one_line, opened

WARMUP = 2
# A round counts where the candidates took at most this much more than in their own fastest quarter, in the median.
SLOW = 1.15


class Runner:
    """A process that holds one candidate. Raises `RuntimeError` where it can't be opened."""

    def __init__(self, candidate: Candidate, threads: int, outputs: Path):
        self.name, self.outputs = candidate.name, outputs
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.race"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=limit_threads(threads),
            cwd=Path(__file__).parent.parent,
        )
        try:
            answer = self._ask({"candidate": candidate.to_json(), "threads": threads, "outputs": str(outputs)})
            if "failed" in answer:
                raise RuntimeError(answer["failed"])
        except RuntimeError:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def time(self, calls: int) -> list[float]:
        """Milliseconds of so many calls, after one that is not timed."""
        return self._ask({"calls": calls})["ms"]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise RuntimeError(f"the process of {self.name} ended") from None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {self.name} ended")
        return json.loads(line)


def race(
    candidates: Sequence[Candidate],
    threads: int,
    rounds: int,
    per_round: int,
    agreement: Callable[[Mapping[str, np.ndarray], Mapping[str, np.ndarray]], Mapping[str, float]] | None = None,
    reference: str = "",
) -> dict[str, Any]:
    """Raw samples of every candidate from the rounds that count, and how close its outputs come to the reference's.

    Returns:
        `samples_ms` and `agreement` by name, `failed` with a reason for those that could not be opened,
        `discarded_rounds`: how many, `others_share`: how much of the machine other processes used meanwhile.
    """
    failed: dict[str, str] = {}
    runners: dict[str, Runner] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for candidate in candidates:
            try:
                runner = Runner(candidate, threads, Path(folder) / f"{candidate.name}.npz")
            except RuntimeError as error:
                if candidate.name in OURS:
                    raise
                failed[candidate.name] = one_line(error)
                continue
            stack.callback(runner.close)
            runners[candidate.name] = runner
        compared = {}
        if agreement is not None:
            expected = np.load(runners[reference].outputs)
            compared = {name: agreement(np.load(runner.outputs), expected) for name, runner in runners.items()}
        by_round: list[dict[str, list[float]]] = []
        order = list(runners)
        start, own = time.perf_counter(), busy_seconds(runners.values())
        with OtherLoad() as bystanders:
            for number in range(rounds):
                random.Random(number).shuffle(order)
                taken = {}
                for name in order:
                    time.sleep(PAUSE_S)
                    taken[name] = runners[name].time(per_round)
                by_round.append(taken)
        used = (busy_seconds(runners.values()) - own) / (time.perf_counter() - start) / (psutil.cpu_count() or 1)
    kept = counting_rounds(by_round)
    samples = {name: [ms for taken in kept for ms in taken[name]] for name in runners}
    return {
        "samples_ms": samples,
        "agreement": compared,
        "failed": failed,
        "discarded_rounds": len(by_round) - len(kept),
        "others_share": max(0.0, bystanders.share() - used),
    }


def busy_seconds(runners: Iterable[Runner]) -> float:
    """CPU time of the candidates' processes so far."""
    return sum(sum(psutil.Process(runner.pid).cpu_times()[:2]) for runner in runners)


def counting_rounds(rounds: Sequence[Mapping[str, Sequence[float]]]) -> list[Mapping[str, Sequence[float]]]:
    """Those in which the machine was not slow for all; judged by the median over the candidates, not by any of them."""
    names = list(rounds[0]) if rounds else []
    usual = {name: float(np.quantile([median(taken[name]) for taken in rounds], 0.25)) for name in names}
    return [taken for taken in rounds if median([median(taken[name]) / usual[name] for name in names]) <= SLOW]


def main() -> None:
    """The process of one candidate: opens it, then times calls whenever it is asked to."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a runtime prints is no answer
    request = json.loads(sys.stdin.readline())
    candidate = Candidate.from_json(request["candidate"])
    image = candidate.given(random_frames(1, candidate.image_size))

    def answer(content: Mapping[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    try:
        model = opened(candidate, request["threads"])
        np.savez(request["outputs"], **model(image))
        for _ in range(WARMUP):
            model(image)
    except Exception as error:
        answer({"failed": one_line(error)})
        return
    answer({})
    for line in sys.stdin:
        model(image)
        taken = []
        for _ in range(json.loads(line)["calls"]):
            start = time.perf_counter_ns()
            model(image)
            taken.append((time.perf_counter_ns() - start) / 1e6)
        answer({"ms": taken})


if __name__ == "__main__":
    main()
