"""What trtexec prints and writes, from TensorRT 8.5 to 11."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from ...base.errors import EdgeError
from ...devices.jetson.modules import version_tuple
from ...devices.jetson.probe import banner_version


def timing_arguments(version: str, warmup_s: float, seconds: float) -> list[str]:
    """Options of a timing run: compute only (no copies between host and device), CUDA graph, spinning wait.

    From TensorRT 11 on that is what trtexec does by itself, and says so when it is asked to.
    """
    asked = ["--useCudaGraph", "--useSpinWait", "--noDataTransfers"] if version_tuple(version) < (11,) else []
    return [
        *asked,
        f"--warmUp={round(warmup_s * 1000)}",
        f"--duration={max(1, round(seconds))}",
        "--percentile=50,90,95,99",
        "--exportTimes=times.json",
    ]


def layer_arguments(version: str) -> list[str]:
    """Options of a run for layer times: without CUDA graph, which hides the layers."""
    graph = [] if version_tuple(version) < (11,) else ["--noCudaGraph"]
    return [
        *graph,
        "--dumpProfile",
        "--exportProfile=layers.json",
        "--separateProfileRun",
        "--warmUp=500",
        "--duration=3",
    ]


# ------------------------------------------------------------------------------------------ times


@dataclass(frozen=True)
class Times:
    """Every query of a timing run after warm-up.

    Attributes:
        compute_ms: the GPU's time for each, in order.
        window_s: from the start of the first to the end of the last.
    """

    compute_ms: tuple[float, ...]
    window_s: float


def read_times(text: str) -> Times:
    """Reads what `--exportTimes` wrote. Raises `EdgeError` for something else."""
    try:
        entries = json.loads(text)
        compute = tuple(float(entry["computeMs"]) for entry in entries)
        window_ms = float(entries[-1]["endComputeMs"]) - float(entries[0]["startComputeMs"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise EdgeError(
            "The times that trtexec wrote cannot be read.", "Was the run cut short? Run the same command again."
        ) from error
    if not all(0 < ms < float("inf") for ms in (*compute, window_ms)):
        raise EdgeError("trtexec wrote times that cannot be: one is not above zero.", "Run the same command again.")
    return Times(compute, window_ms / 1000)


# -------------------------------------------------------------------------------------------- log


@dataclass(frozen=True)
class TimingLog:
    """What the log of a timing run says beside the times.

    Attributes:
        version: TensorRT's.
        passed: whether the run ended well.
        load_ms: time to deserialize the engine.
        engine_bytes: the engine's size as TensorRT loads it.
        context_bytes: device memory of the execution context (activations and scratch).
        managed_bytes: everything TensorRT holds on the device then, weights included.
        throughput: queries per second.
        warnings: in trtexec's words.
    """

    version: str | None
    passed: bool
    load_ms: float | None
    engine_bytes: int | None
    context_bytes: int | None
    managed_bytes: int | None
    throughput: float | None
    warnings: tuple[str, ...]


# What a user of the numbers has to know; the rest of trtexec's warnings are advice about its options.
_WARNINGS = (
    "GPU compute time is unstable",
    "Throughput may be bound by Enqueue Time",
    "CUDA graph capture failed",
    "Using an engine plan file across different models of devices",
)


def read_log(text: str) -> TimingLog:
    """Reads the log of a timing run, whatever is missing in that version being None."""

    def number(*patterns: str) -> float | None:
        for pattern in patterns:
            match = re.search(pattern, text)
            if match:
                return float(match[1])
        return None

    def mebibytes(*patterns: str) -> int | None:
        value = number(*patterns)
        return None if value is None else round(value * (1 << 20))

    load_s = number(r"Engine deserialized in ([\d.e+-]+) sec", r"Engine loaded in ([\d.e+-]+) sec")
    said = (match[1].strip(" *") for match in re.finditer(r"\[W\]\s*(?:\[TRT\])?\s*(.+)", text))
    return TimingLog(
        version=banner_version(text),
        passed="&&&& PASSED" in text,
        load_ms=None if load_s is None else load_s * 1000,
        engine_bytes=mebibytes(r"Loaded engine (?:with )?size: ([\d.]+) MiB"),
        context_bytes=mebibytes(
            r"execution context with device memory size: ([\d.]+) MiB",
            r"IExecutionContext creation: CPU [+-]\d+, GPU \+(\d+)",
        ),
        managed_bytes=mebibytes(r"IExecutionContext creation: .*now: CPU \d+, GPU (\d+) \(MiB\)"),
        throughput=number(r"Throughput: ([\d.]+) qps"),
        warnings=tuple(dict.fromkeys(line for line in said if line.startswith(_WARNINGS))),
    )


# ----------------------------------------------------------------------------------------- layers


@dataclass(frozen=True)
class LayerTime:
    """One layer of an engine: TensorRT's name (of all the nodes fused in it) and its mean time."""

    name: str
    mean_ms: float


def read_layers(text: str) -> tuple[LayerTime, ...]:
    """Reads what `--exportProfile` wrote, in order of execution. Raises `EdgeError` for something else."""
    # trtexec writes names as they are: a backslash in one is no escape.
    escaped = re.sub(r'\\(?!["\\/bfnrtu])', r"\\\\", text)
    try:
        entries = json.loads(escaped, strict=False)
        return tuple(LayerTime(entry["name"], float(entry["averageMs"])) for entry in entries if "name" in entry)
    except (ValueError, KeyError, TypeError) as error:
        raise EdgeError("The layer times that trtexec wrote cannot be read.", "Run the same command again.") from error
