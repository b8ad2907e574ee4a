"""A fresh process that opens candidates and measures them; `ask` starts one.

A request is JSON on standard input, the answer a JSON file that it names. Four jobs: `memory` takes the peak of one
candidate; `held` takes what core counts of a bundle hold, which needs no candidate; `operators` says where ONNX Runtime
spends the time of one candidate; `products` times its matrix products beside the whole of it. `race` times candidates.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from veca_edge.proof.fidelity import cosine

from .common import limit_threads, median, random_frames
from .toolchains import Candidate, Outputs, opened

WARMUP = 2
MEMORY_RUNS = 5
PROFILED_RUNS = 20


def ask(job: str, candidates: Sequence[Candidate], threads: int, **settings: Any) -> Any:
    """Does one job in a fresh process and returns its answer."""
    with tempfile.TemporaryDirectory() as directory:
        answer = Path(directory) / "answer.json"
        request = {
            "job": job,
            "candidates": [c.to_json() for c in candidates],
            "threads": threads,
            "settings": settings,
            "answer": str(answer),
        }
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.worker"],
            input=json.dumps(request),
            text=True,
            env=limit_threads(threads),
            cwd=Path(__file__).parent.parent,
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        if done.returncode:
            raise RuntimeError(f"the {job} job of {', '.join(c.name for c in candidates)} failed:\n{done.stderr}")
        return json.loads(answer.read_text())


def peak_memories(candidate: Candidate, threads: int, processes: int) -> list[int]:
    """The peak memory of a candidate, bytes, in each of several processes: chance has a large say in one."""
    return [ask("memory", [candidate], threads) for _ in range(processes)]


# ------------------------------------------------------------------------------------- agreement


def agreement(made: Outputs, expected: Outputs) -> dict[str, float]:
    """Cosines of one image, and the largest difference relative to the largest magnitude."""
    difference = max(float(np.abs(made[n] - expected[n]).max() / np.abs(expected[n]).max()) for n in ("cls", "dense"))
    return {
        "cls": float(cosine(made["cls"], expected["cls"]).mean()),
        "dense": float(cosine(made["dense"], expected["dense"]).mean()),
        "largest_difference": difference,
    }


# ---------------------------------------------------------------------------------------- memory


def peak_memory(candidate: Candidate, threads: int) -> int:
    """Bytes of resident memory at the peak of loading and running, above the idle process with its runtime loaded."""
    for module in {"onnxruntime": ["onnxruntime"], "openvino": ["openvino"]}.get(candidate.runtime, ["torch"]):
        importlib.import_module(module)
    importlib.import_module("veca_edge.runtime.onnxruntime")
    image = candidate.given(random_frames(1, candidate.image_size))
    idle = psutil.Process().memory_info().rss
    reset_peak()
    model = opened(candidate, threads)
    for _ in range(MEMORY_RUNS):
        model(image)
    return peak() - idle


def held_memory(bundle: str, core_counts: Sequence[int], threads: int) -> int:
    """Bytes that core counts of a bundle hold once they have run, above the idle process with its runtime loaded.

    Of pages that are mapped several times each counts once (PSS); Linux only.
    """
    from veca_edge.actions.load import load_bundle

    importlib.import_module("onnxruntime")
    idle = psutil.Process().memory_full_info().pss
    model = load_bundle(bundle, core_counts=core_counts, threads=threads)
    frame = np.zeros((*model.image_size, 3), np.uint8)
    for count in model.core_counts:
        model.core_count = count
        for _ in range(MEMORY_RUNS):
            model(frame)
    return psutil.Process().memory_full_info().pss - idle


def reset_peak() -> None:
    """Forgets the peak of the imports; Linux only."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


# -------------------------------------------------------------------------------------- operators


def operator_times(candidate: Candidate, threads: int) -> dict[str, float]:
    """Milliseconds of every kind of operator in one run: medians of its nodes, from ONNX Runtime's own profile."""
    from veca_edge.runtime.onnxruntime import session_from_file, session_options

    with tempfile.TemporaryDirectory() as directory:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(directory) / "profile")
        session = session_from_file(candidate.path, options)
        image = candidate.given(random_frames(1, candidate.image_size))
        for _ in range(WARMUP + PROFILED_RUNS):
            session.run(None, {"image": image})
        events = json.loads(Path(session.end_profiling()).read_text())
    nodes: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            nodes[event["name"], event["args"]["op_name"]].append(event["dur"] / 1e3)
    times: dict[str, float] = defaultdict(float)
    for (_, op), runs in nodes.items():
        times[op] += median(runs[WARMUP:])
    return dict(sorted(times.items(), key=lambda item: -item[1]))


def product_times(candidate: Candidate, threads: int, rounds: int) -> dict[str, list[float]]:
    """See `products.products_beside_whole`."""
    from veca_edge.runtime.onnxruntime import session_options

    from .products import products_beside_whole

    options = session_options(threads)
    frame = candidate.given(random_frames(1, candidate.image_size))
    return products_beside_whole(candidate.path, options, frame, rounds)


def main() -> None:
    request = json.load(sys.stdin)
    candidates = [Candidate.from_json(c) for c in request["candidates"]]
    jobs = {
        "memory": lambda: peak_memory(candidates[0], request["threads"]),
        "held": lambda: held_memory(threads=request["threads"], **request["settings"]),
        "operators": lambda: operator_times(candidates[0], request["threads"]),
        "products": lambda: product_times(candidates[0], request["threads"], **request["settings"]),
    }
    Path(request["answer"]).write_text(json.dumps(jobs[request["job"]]()))


if __name__ == "__main__":
    main()
