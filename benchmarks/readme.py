"""The results: all of them in `docs/results.md`, and a short table in the README between its two markers.

With `--rerun` everything is measured first. Nothing else should use the machine meanwhile.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from veca_edge.base.files import write_atomically
from veca_edge.base.text import counted
from veca_edge.model.config import FAMILIES

from . import litert, npu, races
from .common import OF_FRAME, PACKAGES, RESULTS, median, megabytes, read_results, say, table
from .elastic import compared
from .scaling import DENSE, PLOT, plot
from .toolchains import INT8_TARGETS, LABELS, OTHER_TARGETS
from .web import LATENCY_HEADER, first_cells, latency_rows

README = Path(__file__).parent.parent / "README.md"
DOCUMENT = README.parent / "docs" / "results.md"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
TITLE = (
    "# Results\n\nWritten from the result files in `benchmarks/results` by `python -m benchmarks.readme`; with "
    "`--rerun` it measures everything first. `python -m benchmarks.claims` checks what the project says of "
    "itself against them."
)
# A result with fewer candidates than this goes into the table of configurations only.
FULL_TABLE = 9
BUSY = 0.05

Result = Mapping[str, Any]


# ------------------------------------------------------------------------------------------ rerun


FEW = "--candidates=eager,plain_fp32,ours_fp32,ours_int8"
MAIN_PEER = "--candidates=eager,plain_fp32,nncf_openvino,ours_fp32,ours_int8"
PLAN: tuple[tuple[str, ...], ...] = (
    ("peers", "--family=small"),
    ("peers", "--family=base", MAIN_PEER),
    ("peers", "--family=small", "--image-size=512", MAIN_PEER),
    ("peers", "--family=base", "--image-size=512", MAIN_PEER, "--rounds=10", "--per-round=2"),
    ("peers", "--family=small", "--cores=8", FEW, "--memory-processes=0"),
    ("peers", "--family=small", "--cores=64", FEW, "--memory-processes=0"),
    ("peers", "--family=base", "--cores=8", FEW, "--memory-processes=0", "--rounds=10"),
    ("peers", "--family=base", "--cores=64", FEW, "--memory-processes=0", "--rounds=10"),
    ("races",),
    ("elastic",),
    ("governor",),
    ("governor", "--frame-budget"),
    ("scaling",),
    ("litert",),
    ("fidelity",),
    ("web",),
)


def rerun(threads: int, directory: Path, fidelity_options: Sequence[str]) -> list[str]:
    """Measures everything of the README, one script after the other; returns those that ended with an error."""
    start, failed = time.perf_counter(), []
    for script, *options in PLAN:
        say(f"== {time.perf_counter() - start:5.0f} s: benchmarks.{script} {' '.join(options)}")
        command = [
            sys.executable,
            "-m",
            f"benchmarks.{script}",
            *options,
            # These measure with one thread too.
            *(() if script in ("litert", "races") else (f"--threads={threads}",)),
            f"--output={directory}",
            *(fidelity_options if script == "fidelity" else ()),
        ]
        if subprocess.run(command, check=False, cwd=README.parent).returncode:
            failed.append(f"benchmarks.{script} {' '.join(options)}".strip())
    say(f"== {time.perf_counter() - start:5.0f} s: all done")
    return failed


# ---------------------------------------------------------------------------------------- sections


def summary(directory: Path) -> str:
    """The README's tables: veca-edge beside others at 256 px, and the race. Empty without results."""
    return "\n\n".join(filter(None, (summary_of_peers(directory), summary_of_races(directory))))


def summary_of_races(directory: Path) -> str:
    """A table for each machine that was raced on."""
    results = read_results(directory, "race")
    return "\n\n".join(
        table(
            [f"median ms (against ours), {machine}", *RACED.values()],
            races.rows_of([r for r in results if machine_name(r) == machine], RACED),
        )
        for machine in dict.fromkeys(map(machine_name, results))
    )


RACED = {
    "ours_int8": "**veca-edge INT8**",
    "nncf_openvino": "OpenVINO INT8",
    "our_graph_openvino": "the same of our graph",
    "litert_dynamic": "LiteRT INT8",
    "our_graph_litert": "the same of our graph",
    "ort_dynamic": "ONNX Runtime dynamic INT8",
}


def summary_of_peers(directory: Path) -> str:
    """One line for each model and machine, at 256 px and 16 cores."""
    shown = [
        result
        for result in read_results(directory, "peers")
        if result["core_count"] == 16 and tuple(result["image_size"]) == (256, 256)
    ]
    rows = []
    for result in sorted(shown, key=lambda result: (configuration(result), machine_name(result))):
        ms = milliseconds(result)
        cells = [f"{ms[name]:.1f}" if name in ms else "" for name in SUMMARY]
        ratio = f"{ms['plain_fp32'] / ms['ours_int8']:.2f}x" if "plain_fp32" in ms else ""
        rows.append([f"{result['family']}, {machine_name(result)}", *cells, ratio])
    if not rows:
        return ""
    header = ["median ms, 256 px, 16 cores", *SUMMARY.values(), "INT8 against plain FP32"]
    return table(header, rows)


SUMMARY = {
    "eager": "PyTorch eager",
    "plain_fp32": "plain export FP32",
    "nncf_openvino": "OpenVINO INT8",
    "ours_fp32": "veca-edge FP32",
    "ours_int8": "**veca-edge INT8**",
}


def rendered(directory: Path) -> str:
    """All results: latencies by machine, then the rest; of the long ones the last measured."""
    machines: dict[str, list[Result]] = {}
    for result in read_results(directory, "peers"):
        machines.setdefault(machine_name(result), []).append(result)
    sections = [
        section
        for section in (
            *(section for peers in machines.values() for section in latencies(sorted(peers, key=configuration))),
            raced(read_results(directory, "race")),
            elastic(read_results(directory, "elastic")),
            governor(read_results(directory, "governor")),
            *map(fidelity, by_subject(read_results(directory, "fidelity"), "checkpoint")),
            on_litert(read_results(directory, "litert")),
            on_npus(read_results(directory, "npu")),
            on_gpus(read_results(directory, "gpu")),
            *(scaling(last) for *_, last in by_subject(read_results(directory, "scaling"), "family")),
            *(web(result) for result in read_results(directory, "web")),
        )
        if section
    ]
    if not sections:
        raise SystemExit(f"There are no results in {directory}; measure first, or give --rerun.")
    return "\n\n".join(sections)


def by_subject(results: Sequence[Result], subject: str) -> list[list[Result]]:
    """Those about the same subject together, on whatever machine, from the first measured to the last."""
    found: dict[str, list[Result]] = {}
    for result in sorted(results, key=lambda r: r["started_at"]):
        found.setdefault(result[subject], []).append(result)
    return list(found.values())


def machine_name(result: Result) -> str:
    """Such as `AMD EPYC (AVX-512 VNNI), 2 cores`."""
    machine = result["machine"]
    return f"{machine['name']} ({machine['int8']}), {machine['cores']} cores"


def latencies(peers: Sequence[Result]) -> list[str]:
    """The sections of one machine."""
    return [configurations(peers), *(everyone(result) for result in peers if len(result["candidates"]) >= FULL_TABLE)]


def configuration(result: Result) -> tuple:
    """The order of results: families from small to large, then image sizes and core counts."""
    return list(FAMILIES).index(result["family"]), result["image_size"], result["core_count"]


def milliseconds(result: Result) -> dict[str, float]:
    """Median latency of every candidate, by name."""
    return {row["name"]: median(row["samples_ms"]) for row in result["candidates"]}


def configurations(peers: Sequence[Result]) -> str:
    """One line per model, image size and core count, of one machine."""
    rows = []
    for result in peers:
        ms = milliseconds(result)
        cells = [f"{ms[name]:.1f}" if name in ms else "" for name in SUMMARY]
        rows.append(
            [
                f"{result['family']}, {result['image_size'][0]} px, {result['core_count']} cores",
                *cells,
                *(f"{ms[name] / ms['ours_int8']:.2f}x" if name in ms else "" for name in list(SUMMARY)[:4]),
            ]
        )
    header = [
        "median ms",
        *SUMMARY.values(),
        "INT8 against eager",
        "against plain FP32",
        "against OpenVINO INT8",
        "against our FP32",
    ]
    # Older results, which tell of no discarded rounds, were measured in one process.
    own = ["discarded_rounds" in result for result in peers]
    where = "in a process each" if all(own) else "in one process or several" if any(own) else "in one process"
    return (
        f"### Latency: {machine_name(peers[0])}\n\nBatch 1, random weights; the candidates of a line "
        f"take turns, {where}.\n\n{table(header, rows)}\n\n{provenance(peers)}"
    )


def everyone(result: Result) -> str:
    """Every toolchain, for one model."""
    ms = milliseconds(result)
    rows = []
    for row in sorted(result["candidates"], key=lambda r: -ms[r["name"]]):
        label = f"{row['label']} ({row['setting']})" if row["setting"] else row["label"]
        rows.append(
            [
                f"**{label}**" if row["name"] == "ours_int8" else label,
                f"{ms[row['name']]:.1f}",
                f"{ms['plain_fp32'] / ms[row['name']]:.2f}x",
                megabytes(row["peak_memory_bytes"]),
                f"{row['file_bytes'] / 1e6:.1f}",
            ]
        )
    left_out = "".join(f"\n\nNot run: {name} ({reason})." for name, reason in result["not_run"].items())
    pixels = "x".join(map(str, result["image_size"]))
    model = f"{result['family']}, {pixels}, {result['core_count']} cores"
    return (
        f"### Every toolchain: {model}, on {machine_name(result)}\n\n"
        f"{table(['', 'median ms', 'speed against plain FP32', 'peak memory MB', 'file MB'], rows)}{left_out}\n\n"
        f"Matrix products take {result['gemm_share']['ours_int8']:.0%} of veca-edge's INT8 time "
        f"({products_told(result)}). Peak memory: "
        "loading and a few runs in a process of its own, above the idle process with the runtime loaded; the "
        f"median of {len(result['candidates'][0]['peak_memory_bytes'])} processes.\n\n"
        f"{provenance([result])}"
    )


def products_told(result: Result) -> str:
    """What counts among the products, and how they were timed."""
    if "attention_gemm_share" not in result:
        return "linear layers, in a profile"
    return f"{result['attention_gemm_share']['ours_int8']:.0%} within attention; timed alone, beside the whole"


def raced(results: Sequence[Result]) -> str:
    """INT8 of every runtime beside ours, by machine; nothing without results."""
    if not results:
        return ""
    parts = ["### The race: INT8 on the CPU", "16 core tokens, batch 1, random weights; a process for each candidate."]
    for machine in dict.fromkeys(machine_name(result) for result in results):
        mine = [result for result in results if machine_name(result) == machine]
        missing = {name: reason for result in mine for name, reason in result["not_run"].items()}
        parts += [
            f"On {machine}:",
            table(races.HEADER, races.rows_of(mine)),
            *(f"Not run: {LABELS[name]} ({reason})." for name, reason in missing.items()),
            provenance(mine),
        ]
    return "\n\n".join(parts)


def elastic(results: Sequence[Result]) -> str:
    """What many core counts cost beside one; nothing without results."""
    if not results:
        return ""
    rows = []
    for result in results:
        found = compared(result)
        rows.append(
            [
                f"{result['family']}, {result['image_size'][0]} px, {machine_name(result)}",
                f"{result['bundle_bytes']['every'] / 1e6:.1f} MB, {found.bundle:.2f}x",
                f"{megabytes(result['memory_bytes']['every'])} MB, {found.memory:.2f}x",
                f"{found.memory_of_one_of_them:.2f}x",
                f"{found.switch_ms:.2f} ms",
            ]
        )
    header = [
        f"{len(results[0]['core_counts'])} core counts, INT8",
        "bundle, against a bundle of one",
        "memory with all loaded, against a bundle of one",
        "against one of them loaded alone",
        "a switch",
    ]
    return f"### Many core counts in one bundle\n\n{table(header, rows)}\n\n{provenance(results)}"


def governor(results: Sequence[Result]) -> str:
    """How the governor held a budget beside a load that came and went; nothing without results."""
    if not results:
        return ""
    rows = []
    for result in results:
        _, load, after = result["phases"]
        fastest = max(phase["switches_per_second"] for phase in result["phases"])
        rows.append(
            [
                f"{machine_name(result)}, {counted(result['threads'], 'thread')}",
                f"{result['budget_ms']:.0f} ms{OF_FRAME[result.get('budget_of', 'model')]}",
                *(f"{phase['within_budget']:.1%}" for phase in result["phases"]),
                f"{load['missed_at_smallest']:.1%}",
                f"{fastest:.2f}",
                str(load["lowest"]),
                str(after["core_count"]),
            ]
        )
    header = [
        "`small`, 256 px, INT8",
        "budget",
        "frames within it: alone",
        "beside the load",
        "alone again",
        "missed beside the load at the smallest core count",
        "switches a second, at most",
        "fewest cores under load",
        "cores at the end",
    ]
    return (
        "### A latency budget beside a competing load\n\nProcesses that never rest start and stop while frames "
        f"run; the first seconds of each phase do not count.\n\n{table(header, rows)}\n\n{provenance(results)}"
    )


def fidelity(results: Sequence[Result]) -> str:
    """What INT8 costs a trained model: every tool at one core count, and ours on every target at all of them.

    Args:
        results: of one model, the last measured at the end; what it did not run is of the last that did.
    """
    result = results[-1]
    counts = sorted({row["core_count"] for row in result["rows"]})
    shown = 16 if 16 in counts else counts[0]
    at = {(row["weights"], row["core_count"], row["name"]): row for r in results for row in r["rows"]}

    def cells(row: Result | None) -> list[str]:
        if row is None:
            return [""] * 4
        agreed = "" if row["top1_agreement"] is None else f"{row['top1_agreement']:.1%}"
        return [
            f"{row['cls']['mean']:.4f}",
            f"{row['dense']['mean']:.4f}",
            f"{row['dense']['first_percentile']:.3f}",
            agreed,
        ]

    shown_tools = {name for weights, count, name in at if count == shown} - set(OTHER_TARGETS)
    last = {row["name"]: r for r in results for row in r["rows"]}
    tools = [
        [
            f"**{label}**" if name == "ours_int8" else label,
            *cells(at.get(("original", shown, name))),
            *cells(at.get(("hard", shown, name))),
        ]
        for name, label in LABELS.items()
        if name in shown_tools
    ]
    ours = [
        [target, *cells(lowest(last[name], "original", name)), *cells(lowest(last[name], "hard", name))]
        for name, target in INT8_TARGETS.items()
        if name in last
    ]
    columns = ["cls", "dense", "dense, 1st percentile", "top-1 agreement"]
    header = ["", *columns, *(f"hard: {column}" for column in columns)]
    labels = {LABELS.get(name) for name in shown_tools}
    not_run = {label: reason for label, reason in result["not_run"].items() if label not in labels}
    left_out = "".join(f"\n\nNot run: {label} ({reason})." for label, reason in not_run.items())
    every_target = (
        "veca-edge on every target, the lowest of each figure over "
        f"{counted(len(counts), 'core count')}; the files for Jetson, Apple and Android are executed without their "
        f"hardware:\n\n{table(header, ours)}\n\n"
        if ours
        else ""
    )
    return (
        "### Fidelity of INT8 on a trained model\n\n"
        f"`{result['checkpoint']}`, {result['evaluation_images']} images that did not calibrate, "
        f"{result['calibration_images']} that did; cosine with the FP32 reference, at {shown} cores. *hard*: the "
        "same function, its channels rescaled by factors from 1/64 to 64.\n\n"
        f"{table(header, tools)}{left_out}\n\n"
        f"{every_target}{provenance([r for r in results if any(r is one for one in last.values())])}"
    )


def on_litert(results: Sequence[Result]) -> str:
    """What INT8 brings in LiteRT; nothing without results."""
    if not results:
        return ""
    several = len(results) > 1
    rows = [
        [f"{first}, {machine_name(result)}" if several else first, *cells]
        for result in results
        for first, *cells in litert.rows_of(result)
    ]
    return (
        "### The files for Android, in LiteRT on this machine's CPU\n\nBatch 1, random weights; each line is one run "
        "in which all candidates take turns. A phone's processor has other kernels: these are no phone's ratios.\n\n"
        f"{table(litert.HEADER, rows)}\n\n{provenance(results)}"
    )


def on_gpus(results: Sequence[Result]) -> str:
    """A Jetson's files on an NVIDIA GPU, and computed on a CPU in two ways; the furthest of all core counts."""

    def furthest(rows: Sequence[Result], how: str) -> str:
        distances = [row[how] for row in rows]
        return "not a number" if None in distances else f"{max(distances):.1e}"

    lines = []
    for result in results:
        found: dict[tuple[str, str, str], list[Result]] = {}
        for row in result["rows"]:
            if row["precision"] != "fp32":
                found.setdefault((row["model"], row["weights"], row["precision"]), []).append(row)
        for (model, weights, precision), rows in found.items():
            ways = (furthest(rows, how) for how in ("GPU", "written out", "as written"))
            lines.append([f"{model}, {weights} weights", precision, result["gpu"], *ways])
    if not lines:
        return ""
    header = ["1 - cosine with FP32", "precision", "GPU", "on the GPU", "FP16 written out, CPU", "as written, CPU"]
    return (
        "### The files for a Jetson on an NVIDIA GPU\n\nThe very files, in ONNX Runtime's CUDA kernels: no TensorRT, "
        "and no Jetson. Beside them what an export computes on a CPU to prove them, where every rounding to FP16 is "
        "written out, and what ONNX Runtime makes of the same file there, which leaves them out. The furthest of "
        "`cls` and `dense` at 8, 16 and 64 cores. *Hard*: channels rescaled by factors from 1/64 to 64. *Loud*: "
        "gated products, or the residual stream, 8192 times as large; an export scales the first back, exactly, and "
        f"refuses the second.\n\n{table(header, lines)}\n\n{provenance(results)}"
    )


def on_npus(results: Sequence[Result]) -> str:
    """What Qualcomm's compiler and its emulation make of models; nothing without results."""
    if not results:
        return ""
    tools = sorted({f"{row['package']} ({row['sdk']})" for result in results for row in result["rows"]})
    rows = [row for result in results for row in npu.rows_of(result)]
    return (
        "### For a Snapdragon's NPU\n\nCompiled whole by Qualcomm's compiler, nothing left to the CPU, and executed in "
        "its emulation of the processor; cosine with the FP32 model on one or two images that did not calibrate. "
        f"`random_` models have random weights. {', '.join(tools)}. Nothing of this ran on a phone.\n\n"
        f"{table(npu.HEADER, rows)}\n\n{provenance(results)}"
    )


def lowest(result: Result, weights: str, name: str) -> Result | None:
    """Of one candidate's rows at several core counts, the lowest of every figure."""
    rows = [row for row in result["rows"] if (row["weights"], row["name"]) == (weights, name)]
    if not rows:
        return None
    agreements = [row["top1_agreement"] for row in rows if row["top1_agreement"] is not None]
    return {
        "top1_agreement": min(agreements, default=None),
        **{
            output: {key: min(row[output][key] for row in rows) for key in ("mean", "first_percentile")}
            for output in ("cls", "dense")
        },
    }


def scaling(result: Result) -> str:
    """VECA beside the dense model: the plot, latencies, and the published counts."""
    sizes = sorted({row["image_size"] for row in result["rows"]})
    at = {(row["model"], row["precision"], row["image_size"]): row for row in result["rows"]}
    kinds = sorted({key[:2] for key in at}, key=lambda kind: (kind[1], kind[0] == DENSE, kind[0]))

    def lines(cell: Callable[[Result], str]) -> list[list[str]]:
        return [
            [f"{model}, {precision.upper()}", *(cell(at[model, precision, size]) for size in sizes)]
            for model, precision in kinds
        ]

    def latency(row: Result) -> str:
        return f"{median(row['samples_ms']):.1f}"

    pixels = [f"{size} px" for size in sizes]
    gflop = [
        ["VECA, 64 cores", *(f"{g[0]:.3f}" for g in result["attention_block_gflop"].values())],
        ["dense", *(f"{g[1]:.3f}" for g in result["attention_block_gflop"].values())],
    ]

    def cost(row: Result) -> str:
        return f"{row['macs'] / 1e9:.1f} / {row['attention_interactions'] / 1e6:.2f}"

    costs = [
        [model, *(cost(at[model, "fp32", size]) for size in sizes)]
        for model in dict.fromkeys(model for model, _ in kinds)
    ]
    return (
        f"### VECA beside a dense ViT of the same size\n\n![Latency, memory and attention interactions]"
        f"({os.path.relpath(PLOT, DOCUMENT.parent)})\n\n`{result['family']}`: the same layers, width, heads and MLP, "
        "through the same graph writer and runtime; the dense model has a class token and four registers. "
        "All sizes in one process.\n\n"
        f"{table(['median ms', *pixels], lines(latency))}\n\n"
        f"{table(['peak memory, MB', *pixels], lines(lambda row: megabytes(row['peak_memory_bytes'])))}\n\n"
        f"{table(['GMAC / million attention interactions', *pixels], costs)}\n\n"
        "One attention block of `base` (projections and attention), in GFLOP, as published:\n\n"
        f"{table(['', *(f'{s} px' for s in result['attention_block_gflop'])], gflop)}\n\n{provenance([result])}"
    )


def web(result: Result) -> str:
    """The page in a browser: first frames, and INT8 beside FP32."""

    def told(counts: Sequence[int]) -> str:
        return ", ".join(map(str, counts))

    pixels = "x".join(map(str, result["image_size"]))
    firsts = [
        [f"{counted(len(row['core_counts']), 'core count')}: {told(row['core_counts'])}", *first_cells(row)]
        for row in result["first_frames"]
    ]
    opening = table(["first frame", "median ms", "slowest ms"], firsts)
    return (
        f"### In the browser: `{result['family']}`, {pixels}, {result['browser']}, on {machine_name(result)}\n\n"
        "From opening the page on loopback, with nothing kept, to the first frame's result, INT8; the largest core "
        f"count is loaded by then, the others follow:\n\n{opening}\n\n"
        "A call of the model, in interleaved rounds; the ratio of the medians with its 95% interval:\n\n"
        f"{table(LATENCY_HEADER, latency_rows(result))}\n\n{provenance([result])}"
    )


def provenance(results: Sequence[Result]) -> str:
    """Where, when and with what the results were measured; one sentence for each machine and day."""
    lines = []
    for result in results:
        machine, versions = result["machine"], result["machine"]["versions"]
        tools = ", ".join(f"{name} {versions[name]}" for name in ("python", "veca-edge", *PACKAGES) if name in versions)
        threads = f"{counted(result['threads'], 'thread')}, " if "threads" in result else ""
        lines.append(
            f"<sub>{machine_name(result)}, {threads}{machine['system']}, {result['started_at'][:10]}; {tools}.</sub>"
        )
    busiest = max((result.get("others_share", 0.0) for result in results), default=0.0)
    if busiest > BUSY:
        lines.append(
            f"**Other processes used up to {busiest:.0%} of the machine meanwhile: these times are not to be trusted.**"
        )
    return "\n".join(dict.fromkeys(lines))


def replaced(text: str, section: str) -> str:
    """The README with everything between the markers replaced."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise SystemExit(f"The README needs the lines {BEGIN} and {END}, once and in this order.")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{section}\n{END}{rest.split(END)[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme", description=__doc__)
    parser.add_argument("--rerun", action="store_true", help="measure everything first (about an hour)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory of the result files")
    parser.add_argument("--readme", type=Path, default=README)
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    parser.add_argument("--calibration", type=Path, help="images for the fidelity benchmark (default: the demo's)")
    parser.add_argument("--evaluation", type=Path, help="likewise")
    parser.add_argument("--modelopt-python", type=Path, help="see benchmarks.fidelity")
    asked = parser.parse_args()
    text = asked.readme.read_text()
    replaced(text, "")
    failed = []
    if asked.rerun:
        options = [
            f"--{name.replace('_', '-')}={value}"
            for name in ("calibration", "evaluation", "modelopt_python")
            if (value := getattr(asked, name))
        ]
        failed = rerun(asked.threads, asked.results, options)
    sections = rendered(asked.results)
    for *_, last in by_subject(read_results(asked.results, "scaling"), "family"):
        plot(last, PLOT)
    write_atomically(asked.document, f"{TITLE}\n\n{sections}\n")
    write_atomically(asked.readme, replaced(asked.readme.read_text(), summary(asked.results)))
    say("written:", asked.document, asked.readme)
    if failed:
        raise SystemExit(f"Ended with an error, or missed what it promises: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
