"""Google's `benchmark_model`: how it is called on a phone, and what both of its generations print.

It prints no single calls, only statistics of a run: TensorFlow Lite's in microseconds on one line, LiteRT's in
milliseconds on several. Both print a line `count=` for the warm-up and one for the calls that count, in microseconds.

Sources: tensorflow/lite/tools/benchmark/benchmark_model.cc, litert/tools/benchmark_litert_model.h.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from ...base.errors import EdgeError
from ...base.files import read_limited
from ...devices.answers import Reader, shown

LEAST_CALLS = 5
_LONGEST_S = 120.0
_READER = Reader("benchmark_model", "Is it Google's benchmark_model for Android, of TensorFlow Lite or LiteRT?")
_NUMBER = r"([0-9][0-9.]*(?:e[+-]?[0-9]{1,2})?)"
_STATISTICS = re.compile(r"\bcount=[0-9]+ .*")
_IN_ONE_LINE = re.compile(
    rf"Inference timings in (us|ms): Init: {_NUMBER}, First inference: {_NUMBER}, "
    rf"Warmup \(avg\): {_NUMBER}, Inference \(avg\): {_NUMBER}"
)
_LITERT = {
    "load": re.compile(rf"Model initialization:\s+{_NUMBER} (us|ms)"),
    "first": re.compile(rf"Warmup \(first\):\s+{_NUMBER} (us|ms)"),
    "average": re.compile(rf"Inference \(avg\):\s+{_NUMBER} (us|ms) \([0-9]+ runs\)"),
}
_MEMORY = (
    re.compile(rf"Memory footprint delta from the start of the tool \(MB\): init=\S+ overall={_NUMBER}"),
    re.compile(rf"Overall footprint:\s+{_NUMBER} MB"),
    re.compile(rf"Peak memory footprint \(MB\): init=\S+ overall={_NUMBER}"),
)
_UNIT_MS = {"us": 1e-3, "ms": 1.0}
# The average is printed twice, rounded in different ways.
_AGREEMENT = 0.02


@dataclass(frozen=True)
class ToolRun:
    """What one run of the tool says, in milliseconds.

    Attributes:
        count: calls after warm-up; average_ms, lowest_ms, highest_ms: of those.
        median_ms: None where the tool is too old to print it.
        first_ms: the first call of all, in the warm-up; load_ms: from the file to a model that can be called.
        memory_bytes: what resident memory rose by since the tool started, or None where the system does not tell.
    """

    count: int
    average_ms: float
    lowest_ms: float
    highest_ms: float
    median_ms: float | None
    load_ms: float
    first_ms: float
    memory_bytes: int | None


def check_tool(path: Path) -> None:
    """Raises `EdgeError` for a file that is not a program for a phone's processor."""
    try:
        begin = read_limited(path, 256 << 20)[:20]
    except OSError as error:
        raise EdgeError(
            f"--benchmark-model {path} can't be read: {error.strerror or error}.", "Give the file of the tool."
        ) from error
    # ELF, 64 bits, little-endian, for AArch64.
    if begin[:6] != b"\x7fELF\x02\x01" or begin[18:20] != b"\xb7\x00":
        raise EdgeError(
            f"{path} is not a program for Android on arm64.",
            "Take android_aarch64_benchmark_model of TensorFlow Lite's nightly builds, or build LiteRT's for arm64.",
        )


def tool_command(
    tool: str, model: str, signature: str, accelerator: str, threads: int, seconds: float, warmup_seconds: float
) -> str:
    """The command of one run, for the phone's shell. An accelerator takes the whole graph, or the run fails."""
    words = [
        tool,
        f"--graph={model}",
        f"--signature_to_run_for={signature}",
        f"--num_threads={threads}",
        f"--num_runs={LEAST_CALLS}",
        f"--min_secs={seconds:g}",
        f"--max_secs={_LONGEST_S:g}",
        "--warmup_runs=1",
        f"--warmup_min_secs={warmup_seconds:g}",
        *([f"--use_{accelerator}=true", "--require_full_delegation=true"] if accelerator != "cpu" else []),
    ]
    return f"{shlex.join(words)} 2>&1"


def read_run(text: str) -> ToolRun:
    """What a run printed, in its real units. Raises `EdgeError` where it is not what such a tool prints."""
    lines = [match[0] for line in text.splitlines() if (match := _STATISTICS.search(line))]
    if len(lines) != 2:
        raise _READER.refused("the statistics, of warm-up and calls,", "\n".join(lines) or text.strip()[-60:])
    calls = dict(re.findall(r"([a-z0-9]+)=(\S+)", lines[1]))
    only = calls.get("curr") if calls.get("count") == "1" else None

    def ms(name: str) -> float:
        return _READER.decimal(f"'{name}'", calls.get(name) or only or "") / 1e3

    load_ms, first_ms, average_ms = _timings(text)
    found = ToolRun(
        count=_READER.whole("'count'", calls["count"], most=10**9),
        average_ms=ms("avg"),
        lowest_ms=ms("min"),
        highest_ms=ms("max"),
        median_ms=ms("median") if "median" in calls else None,
        load_ms=load_ms,
        first_ms=first_ms,
        memory_bytes=_memory(text),
    )
    if not 0 < found.lowest_ms <= found.average_ms * (1 + _AGREEMENT) <= found.highest_ms * (1 + _AGREEMENT) ** 2:
        raise _READER.refused("the average, which is not between the lowest and the highest,", lines[1])
    if abs(average_ms - found.average_ms) > _AGREEMENT * found.average_ms + 0.01:
        raise _READER.refused(
            "the average, which it gives twice,", f"{found.average_ms:g} ms and {average_ms:g} ms, from their units"
        )
    return found


def _timings(text: str) -> tuple[float, float, float]:
    """Load, first call and average, in ms."""
    if match := _IN_ONE_LINE.search(text):
        unit = _UNIT_MS[match[1]]
        load, first, _, average = (_READER.decimal("a time", match[i]) * unit for i in range(2, 6))
        return load, first, average
    found = []
    for what, pattern in _LITERT.items():
        match = pattern.search(text)
        if match is None:
            raise _READER.refused(f"the output, without its {what} time,", text.strip()[-60:])
        found.append(_READER.decimal("a time", match[1]) * _UNIT_MS[match[2]])
    return found[0], found[1], found[2]


def _memory(text: str) -> int | None:
    for pattern in _MEMORY:
        if match := pattern.search(text):
            return int(_READER.decimal("the memory", match[1]) * (1 << 20))
    return None


def failed_run(code: int, text: str, place: str) -> EdgeError:
    """The error for a run that ended with another code than 0."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = next(
        (line for line in lines if re.search(r"ERROR|error|CANNOT LINK|denied", line)), lines[-1] if lines else ""
    )
    said = shown(told)
    if code == 137:
        return EdgeError(f"{place} ended benchmark_model: it may have run out of memory.", "Close apps on the phone.")
    return EdgeError(
        f"benchmark_model failed on {place} (exit code {code}): {said}.",
        "If it does not know the flag --signature_to_run_for, take a newer one; INT8 files are for the cpu.",
    )
