"""The race: INT8 of veca-edge beside other runtimes and float32, for every model, image size and number of threads.

Each configuration is a result file of its own, written when it is done, so that a race that was stopped goes on where
it was: a configuration whose file is there, made with the same versions and the same questions, is not run again. The
table of `docs/results.md` is made of them by `python -m benchmarks.readme`, and printed here.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, product
from pathlib import Path
from typing import Any, NamedTuple

from veca_edge.base.spec import GraphSpec, ImageSize
from veca_edge.base.text import counted
from veca_edge.model.checkpoint import random_checkpoint
from veca_edge.model.config import FAMILIES
from veca_edge.profiles.machine import this_machine
from veca_edge.profiles.measurement import utc_now

from .common import PACKAGES, add_output_option, add_round_options, median, read_results, say, table, write_result
from .peers import check, make_task
from .race import race
from .toolchains import LABELS, Candidate, make_candidates
from .worker import agreement

OURS = "ours_int8"
# What the others are checked against.
REFERENCE = "ours_fp32"
RUNNERS = (
    OURS,
    "nncf_openvino",
    "our_graph_openvino",
    "litert_dynamic",
    "our_graph_litert",
    "ort_static",
    "ort_dynamic",
    "plain_fp32",
)
COLUMNS = (*RUNNERS, REFERENCE)
CORES = 16


class Configuration(NamedTuple):
    """One race."""

    family: str
    pixels: int
    threads: int

    def __str__(self) -> str:
        return f"{self.family}:{self.pixels}:{self.threads}"

    @property
    def stem(self) -> str:
        """Of its result file."""
        return f"race_{self.family}_{self.pixels}x{self.pixels}_cores{CORES}_threads{self.threads}"


EVERY = tuple(Configuration(*parts) for parts in product(("small", "base"), (256, 512), (1, 2)))


def chosen(text: str) -> list[Configuration]:
    """Of `EVERY`, those that a list like `small,base:512,small:256:1` names. Raises `ValueError` for other names."""
    found = []
    for part in filter(None, text.split(",")):
        wanted = [c for c in EVERY if f"{c}:".startswith(f"{part}:")]
        if not wanted:
            raise ValueError(
                f"there is no race {part}; there are {', '.join(map(str, EVERY))}, and groups such as small"
            )
        found += wanted
    return [c for c in EVERY if c in found]


class Field(NamedTuple):
    """Who races, at any number of threads: the candidates, and why others could not be made."""

    candidates: Sequence[Candidate]
    not_made: Mapping[str, str]


def made(family: str, pixels: int, names: Sequence[str], directory: Path) -> Field:
    """The candidates' files, in `directory`."""
    checkpoint = random_checkpoint(FAMILIES[family].config())
    spec = GraphSpec(CORES, ImageSize(pixels, pixels), input="tensor")
    return Field(*make_candidates(make_task(checkpoint, spec, directory), (REFERENCE, *names), say))


def measure(
    configuration: Configuration, field: Field, rounds: int, per_round: int, names: Sequence[str]
) -> dict[str, Any]:
    """Times and checks the candidates; a result file's content."""
    started = utc_now()
    timed = race(field.candidates, configuration.threads, rounds, per_round, agreement, REFERENCE)
    failed = {**field.not_made, **timed["failed"]}
    for candidate in field.candidates:
        if candidate.name not in failed:
            check(candidate, timed["agreement"][candidate.name])
    return {
        "benchmark": "race",
        "family": configuration.family,
        "image_size": [configuration.pixels, configuration.pixels],
        "core_count": CORES,
        "threads": configuration.threads,
        "asked": asked_for(names, rounds, per_round),
        "started_at": started,
        "discarded_rounds": timed["discarded_rounds"],
        "others_share": timed["others_share"],
        "samples_ms": timed["samples_ms"],
        "agreement": timed["agreement"],
        "not_run": failed,
    }


def asked_for(names: Sequence[str], rounds: int, per_round: int) -> dict[str, Any]:
    """What has to be the same for a result to count as the answer."""
    return {"candidates": sorted(names), "rounds": rounds, "per_round": per_round}


def is_done(configuration: Configuration, asked: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> bool:
    """Whether this machine, with these versions, answered already."""
    machine = this_machine(PACKAGES).to_json()
    return any(
        (result["family"], result["image_size"][0], result["threads"]) == configuration
        and result["asked"] == asked
        and all(result["machine"][name] == machine[name] for name in ("machine_id", "versions"))
        for result in results
    )


def rows_of(results: Sequence[Mapping[str, Any]], names: Iterable[str] = COLUMNS) -> list[list[str]]:
    """A line for each configuration: milliseconds of each candidate, in parentheses against ours."""
    lines = []
    for result in sorted(results, key=lambda r: (list(FAMILIES).index(r["family"]), r["image_size"], r["threads"])):
        ms = {name: median(samples) for name, samples in result["samples_ms"].items()}
        cells = []
        for name in names:
            if name not in ms:
                cells.append("")
            else:
                cells.append(f"{ms[name]:.1f}" if name == OURS else f"{ms[name]:.1f} ({ms[name] / ms[OURS]:.2f}x)")
        side, threads = result["image_size"][0], counted(result["threads"], "thread")
        lines.append([f"{result['family']}, {side} px, {threads}", *cells])
    return lines


HEADER = ("median ms (against our INT8)", *(LABELS[name] for name in COLUMNS))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.races", description=__doc__)
    parser.add_argument("--only", default="", help="such as small, base:512, small:256:1; a list (default: all eight)")
    parser.add_argument("--candidates", default=",".join(RUNNERS), help=f"any of {','.join(RUNNERS)}")
    add_round_options(parser, rounds=15, per_round=3)
    parser.add_argument("--again", action="store_true", help="measure also what there are results of")
    add_output_option(parser)
    asked = parser.parse_args(arguments)
    names = tuple(asked.candidates.split(","))
    if unknown := set(names) - set(RUNNERS):
        parser.error(f"unknown candidates {', '.join(sorted(unknown))}; there are {', '.join(RUNNERS)}")
    if OURS not in names:
        parser.error(f"{OURS}, which the others are compared with, has to be a candidate")
    try:
        wanted = chosen(asked.only) if asked.only else list(EVERY)
    except ValueError as error:
        parser.error(str(error))
    start, question = time.perf_counter(), asked_for(names, asked.rounds, asked.per_round)
    left = []
    for configuration in wanted:
        if not asked.again and is_done(configuration, question, read_results(asked.output, "race")):
            say(f"{configuration}: there already (--again measures it once more)")
        else:
            left.append(configuration)
    for (family, pixels), configurations in groupby(left, lambda c: (c.family, c.pixels)):
        with tempfile.TemporaryDirectory() as directory:
            field = made(family, pixels, names, Path(directory))
            for configuration in configurations:
                say(f"== {time.perf_counter() - start:5.0f} s: {configuration}")
                result = measure(configuration, field, asked.rounds, asked.per_round, names)
                written = write_result(asked.output, configuration.stem, result)
                for name, reason in result["not_run"].items():
                    say(f"  not run: {LABELS[name]} ({reason})")
                say(f"  others used {result['others_share']:.0%} of the machine; written: {written}")
    machine = this_machine(PACKAGES).machine_id
    mine = [r for r in read_results(asked.output, "race") if r["machine"]["machine_id"] == machine]
    say(table(HEADER, rows_of(mine)))


if __name__ == "__main__":
    main()
