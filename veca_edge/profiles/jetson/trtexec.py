"""What trtexec prints and writes, from TensorRT 8.5 to 11."""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass

from packaging.version import Version

from ...devices.answers import Reader
from ...devices.jetson.trtexec import banner_version

# Of a whole run: eleven days.
_LONGEST_MS = 1e9
_READER = Reader("trtexec", "Was the run cut short? Run the same command again.")
_GRAPHS_BY_DEFAULT = Version("11")


def timing_arguments(version: str, warmup_s: float, seconds: float) -> list[str]:
    """Options of a timing run: compute only (no copies between host and device), CUDA graph, spinning wait.

    From TensorRT 11 on that is what trtexec does by itself, and says so when it is asked to.
    """
    asked = ["--useCudaGraph", "--useSpinWait", "--noDataTransfers"] if Version(version) < _GRAPHS_BY_DEFAULT else []
    return [
        *asked,
        f"--warmUp={round(warmup_s * 1000)}",
        f"--duration={max(1, round(seconds))}",
        "--percentile=50,90,95,99",
        "--exportTimes=times.json",
    ]


def layer_arguments(version: str) -> list[str]:
    """Options of a run for layer times: without CUDA graph, which hides the layers."""
    graph = [] if Version(version) < _GRAPHS_BY_DEFAULT else ["--noCudaGraph"]
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
    compute = array("d")
    start_ms = end_ms = 0.0
    for entry in _READER.objects("the times of the queries", text):
        if not compute:
            start_ms = _READER.number_of(entry, "startComputeMs")
        end_ms = _READER.number_of(entry, "endComputeMs")
        compute.append(_READER.number_of(entry, "computeMs"))
    if not compute or min(compute) <= 0 or max(compute) > _LONGEST_MS or not 0 < end_ms - start_ms <= _LONGEST_MS:
        raise _READER.refused("the times of the queries, each above zero,", text[:200].strip())
    return Times(tuple(compute), (end_ms - start_ms) / 1000)


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
_WARNING_CHARACTERS = 400
_WARNINGS = (
    "GPU compute time is unstable",
    "Throughput may be bound by Enqueue Time",
    "CUDA graph capture failed",
    "Using an engine plan file across different models of devices",
)


def read_log(text: str) -> TimingLog:
    """Reads the log of a timing run; what is missing in that version is None. Raises `EdgeError` for odd numbers."""

    def number(*patterns: str) -> float | None:
        for pattern in patterns:
            match = re.search(pattern, text)
            if match:
                return _READER.decimal("a number in its log", match[1].rstrip("."))
        return None

    def mebibytes(*patterns: str) -> int | None:
        value = number(*patterns)
        return None if value is None else round(value * (1 << 20))

    load_s = number(r"Engine deserialized in ([0-9.e+-]+) sec", r"Engine loaded in ([0-9.e+-]+) sec")
    said = (
        line.partition("[W]")[2].strip().removeprefix("[TRT]").strip(" *")[:_WARNING_CHARACTERS]
        for line in text.splitlines()
    )
    return TimingLog(
        version=banner_version(text),
        passed="&&&& PASSED" in text,
        load_ms=None if load_s is None else load_s * 1000,
        engine_bytes=mebibytes(r"Loaded engine (?:with )?size: ([0-9.]+) MiB"),
        context_bytes=mebibytes(
            r"execution context with device memory size: ([0-9.]+) MiB",
            r"IExecutionContext creation: CPU [+-][0-9]+, GPU \+([0-9]+)",
        ),
        managed_bytes=mebibytes(r"IExecutionContext creation: [^\n]{0,200}now: CPU [0-9]+, GPU ([0-9]+) \(MiB\)"),
        throughput=number(r"Throughput: ([0-9.]+) qps"),
        warnings=tuple(dict.fromkeys(line for line in said if line.startswith(_WARNINGS))),
    )


# ----------------------------------------------------------------------------------------- layers


@dataclass(frozen=True)
class LayerTime:
    """One layer of an engine: TensorRT's name (of all the nodes fused in it) and its mean time."""

    name: str
    mean_ms: float


# An engine has hundreds.
_MOST_LAYERS = 100_000


def read_layers(text: str) -> tuple[LayerTime, ...]:
    """Reads what `--exportProfile` wrote, in order of execution. Raises `EdgeError` for something else."""
    # trtexec writes names as they are: a backslash in one is not an escape.
    escaped = re.sub(r'\\(?!["\\/bfnrtu])', r"\\\\", text)
    found = []
    for entry in _READER.objects("the layer times", escaped):
        if "name" not in entry:
            continue
        name, mean_ms = entry["name"], _READER.number_of(entry, "averageMs")
        if not isinstance(name, str) or mean_ms < 0 or len(found) >= _MOST_LAYERS:
            raise _READER.refused("the layer times", name)
        found.append(LayerTime(name, mean_ms))
    return tuple(found)
