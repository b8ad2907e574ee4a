"""What the project says of itself, checked against the result files. Exits with 1 where something falls short."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from veca_edge.base.text import counted

from . import npu
from .common import OF_FRAME, RESULTS, median, read_results, say
from .elastic import compared
from .toolchains import INT8_TARGETS
from .web import MOST_FIRST_MS


class Claim(NamedTuple):
    """`value` has to be at least (`>=`) or at most (`<=`) the limit."""

    text: str
    value: float
    sign: str
    limit: float

    @property
    def holds(self) -> bool:
        return self.value >= self.limit if self.sign == ">=" else self.value <= self.limit


def peer_claims(result: dict[str, Any]) -> Iterator[Claim]:
    """Speed, memory and size of one model."""
    rows = {row["name"]: row for row in result["candidates"]}
    ms = {name: median(row["samples_ms"]) for name, row in rows.items()}
    family, pixels, cores = result["family"], result["image_size"][0], result["core_count"]
    where = f"{result['machine']['int8']}: {family}, {pixels} px, {cores} cores"
    if cores != 16 or family not in ("small", "base") or pixels not in (256, 512):
        return
    # Without instructions made for it INT8 is for size and memory; it must still beat what it replaces.
    fast = "without" not in result["machine"]["int8"]
    wanted = [
        ("INT8 against OpenVINO's INT8", "nncf_openvino", 1.4),
        ("INT8 against our FP32", "ours_fp32", 2.5 if fast else 1.0),
    ]
    if (family, pixels) == ("small", 256):
        wanted += [
            ("INT8 against the plain FP32 export", "plain_fp32", 2.2 if fast else 1.0),
            ("INT8 against PyTorch eager", "eager", 4.5 if fast else 1.0),
        ]
        yield Claim(
            f"{where}: INT8 file against the FP32 file",
            rows["ours_int8"]["file_bytes"] / rows["ours_fp32"]["file_bytes"],
            "<=",
            0.27,
        )
    for text, name, limit in wanted:
        if name in ms:
            yield Claim(f"{where}: {text}", ms[name] / ms["ours_int8"], ">=", limit)
    yield Claim(f"{where}: share of matrix products", result["gemm_share"]["ours_int8"], ">=", 0.7)
    if rows["ours_int8"]["peak_memory_bytes"]:
        yield Claim(
            f"{where}: peak memory against our FP32",
            median(rows["ours_int8"]["peak_memory_bytes"]) / median(rows["ours_fp32"]["peak_memory_bytes"]),
            "<=",
            0.5,
        )


def scaling_claims(result: dict[str, Any]) -> Iterator[Claim]:
    ms = {
        (row["model"], row["image_size"]): median(row["samples_ms"])
        for row in result["rows"]
        if row["precision"] == "int8"
    }
    model = "VECA, 16 cores"
    if (model, 256) in ms and (model, 1024) in ms:
        yield Claim(f"{result['family']}, 16 cores: 1024 px against 256 px", ms[model, 1024] / ms[model, 256], "<=", 18)


def elastic_claims(result: dict[str, Any]) -> Iterator[Claim]:
    where = (
        f"{result['machine']['int8']}: {result['family']}, {result['image_size'][0]} px, "
        f"{len(result['core_counts'])} core counts"
    )
    found = compared(result)
    yield Claim(f"{where}: bundle against one core count", found.bundle, "<=", 1.1)
    if "without" not in result["machine"]["int8"]:  # where each core count has to hold weights of its own
        yield Claim(f"{where}: memory, all loaded against a bundle of one", found.memory, "<=", 1.5)
    yield Claim(f"{where}: a switch, ms", found.switch_ms, "<=", 1.0)


def governor_claims(result: dict[str, Any]) -> Iterator[Claim]:
    """Beside a competing load. A frame that even the smallest core count could not make counts for nobody."""
    where = (
        f"{result['machine']['int8']}: governor, {result['model']}, {counted(result['threads'], 'thread')}, "
        f"budget {result['budget_ms']:.0f} ms{OF_FRAME[result.get('budget_of', 'model')]}"
    )
    before, load, after = result["phases"]
    for phase in result["phases"]:
        could = 1 - phase["missed_at_smallest"]
        yield Claim(
            f"{where}, {phase['name']}: frames within the budget, where any core count can meet it",
            phase["within_budget"] / could if could else 0.0,
            ">=",
            0.95,
        )
    fastest = max(phase["switches_per_second"] for phase in result["phases"])
    yield Claim(f"{where}: switches a second", fastest, "<=", 1.0)
    yield Claim(f"{where}: fewest cores under load", load["lowest"], "<=", before["core_count"] - 1)
    yield Claim(f"{where}: cores once the load is gone", after["core_count"], ">=", before["core_count"])


def export_claims(result: dict[str, Any]) -> Iterator[Claim]:
    pixels, counts = result["image_size"][0], result["core_counts"]
    where = f"{result['family']}, {pixels} px, {counted(len(counts), 'core count')}"
    if (result["family"], pixels) != ("small", 256):
        return
    if len(counts) == 1:
        yield Claim(
            f"{where}: INT8 bundle against the checkpoint",
            result["bundle_bytes"] / result["checkpoint_bytes"],
            "<=",
            0.27,
        )
    yield Claim(f"{where}: export, seconds", result["seconds"], "<=", 240 if len(counts) <= 4 else 360)
    yield Claim(f"{where}: export, GiB", result["peak_memory_bytes"] / 2**30, "<=", 6 if len(counts) <= 4 else 8)


def fidelity_claims(result: dict[str, Any]) -> Iterator[Claim]:
    ours = {
        (row["name"], row["weights"], row["core_count"]): row for row in result["rows"] if row["name"] in INT8_TARGETS
    }
    for (name, weights, count), row in sorted(ours.items(), key=lambda item: (item[0][1] != "original", item[0])):
        where = f"{result['checkpoint']} on {INT8_TARGETS[name]}, {count} cores, {result['evaluation_images']} images"
        if weights == "original":
            yield Claim(f"{where}: cls", row["cls"]["mean"], ">=", 0.9998)
            yield Claim(f"{where}: dense", row["dense"]["mean"], ">=", 0.9997)
            yield Claim(f"{where}: dense, first percentile", row["dense"]["first_percentile"], ">=", 0.998)
            if row["top1_agreement"] is not None:
                yield Claim(f"{where}: top-1 agreement", row["top1_agreement"], ">=", 0.985)
        elif original := ours.get((name, "original", count)):
            for output in ("cls", "dense"):
                lost = original[output]["mean"] - row[output]["mean"]
                yield Claim(f"{where}: {output} lost on hard weights", lost, "<=", 0.0002)


def web_claims(result: dict[str, Any]) -> Iterator[Claim]:
    where = f"{result['browser']}: {result['family']}, {result['image_size'][0]} px"
    for row in result["first_frames"]:
        counts = counted(len(row["core_counts"]), "core count")
        yield Claim(f"{where}, {counts}: the first frame, ms", median(row["first_ms"]), "<=", MOST_FIRST_MS)


def npu_claims(result: dict[str, Any]) -> Iterator[Claim]:
    """Likeness of what the NPU's compiler made, executed in its emulation."""
    for row in result["rows"]:
        if row["precision"] in npu.LEAST:
            where = f"{result['checkpoint']}, {row['precision']} for {row['soc']}, emulated"
            yield Claim(where, min(row["likeness"].values()), ">=", npu.LEAST[row["precision"]])


def gpu_claims(result: dict[str, Any]) -> Iterator[Claim]:
    """What is written out for CPUs loses what the GPU loses, and is infinite where it is."""
    for row in result["rows"]:
        where = f"{result['gpu']}: {row['model']}, {row['weights']}, {row['cores']} cores, {row['precision']}"
        gpu, written_out = row["GPU"], row["written out"]
        if row["precision"] == "fp32" or gpu is None or written_out is None:
            agree = (gpu is None) == (written_out is None)
            yield Claim(f"{where}: {row['output']} is a number on both or on neither", float(agree), ">=", 1.0)
        else:
            yield Claim(f"{where}: {row['output']} lost, against written out", gpu / written_out, "<=", 1.25)


def claims(directory: Path) -> list[Claim]:
    of = {
        "peers": peer_claims,
        "scaling": scaling_claims,
        "export": export_claims,
        "fidelity": fidelity_claims,
        "elastic": elastic_claims,
        "governor": governor_claims,
        "web": web_claims,
        "npu": npu_claims,
        "gpu": gpu_claims,
    }
    return [
        claim
        for benchmark, found in of.items()
        for result in read_results(directory, benchmark)
        for claim in found(result)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.claims", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory of the result files")
    found = claims(parser.parse_args().results)
    for claim in found:
        say(
            f"{'reached    ' if claim.holds else 'FALLS SHORT'}  {claim.text}: {claim.value:.5g} "
            f"(needed {claim.sign} {claim.limit:g})"
        )
    missed = sum(not claim.holds for claim in found)
    say(f"{len(found) - missed} of {len(found)} reached")
    raise SystemExit(1 if missed or not found else 0)


if __name__ == "__main__":
    main()
