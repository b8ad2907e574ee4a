"""Runs a sweep and kills it at each of its file-system operations in turn.

Started by `test_killed.py` in a process of its own: `python killed.py DIRECTORY {first,again}`. Instead of measuring
it counts: every round has a time of its own. Prints how many operations there were.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import killing  # noqa: I001

import shutil
from dataclasses import replace
from pathlib import Path

from standin.fixtures import write_bundle, write_model

from veca_edge.bundle.store import open_bundle, verify_files
from veca_edge.profiles import sweep
from veca_edge.profiles.machine import Machine
from veca_edge.profiles.options import ProfileOptions
from veca_edge.profiles.sampling import Answer
from veca_edge.profiles.store import read_measurements

MACHINE = Machine("double", "x86_64", 2, 2, 1 << 30, "Linux")
OPTIONS = ProfileOptions(threads=1, rounds=2)
STEMS = {f"cores{count}_fp16_32x32_onnx_threads1" for count in (8, 16)}
root, again = Path(sys.argv[1]), sys.argv[2] == "again"


class Counting(sweep.Sweep):
    """Its rounds take 1 ms, 2 ms, ... from `first` on."""

    first = 1.0

    def ask_worker(self, item, sustained):
        Counting.first += 1
        return Answer(1.0, 1.0, 1, 2, 0.0, samples_ms=(Counting.first,) * 20)


def profile(directory: Path, anew: bool = False) -> sweep.Profile:
    bundle, options = open_bundle(directory), replace(OPTIONS, again=anew)
    one = Counting(bundle, options, sweep.ONNX_RUNTIME, MACHINE, lambda *step: None)
    return sweep.sweep_items(one, [sweep.Item(a) for a in bundle.artifacts])


def main() -> None:
    template = root / "template"
    write_bundle(template, [write_model(template, f"cores{count}_fp16_32x32") for count in (8, 16)])
    if again:
        profile(template)
    old = Counting.first
    directory = template

    def prepare(step: int) -> None:
        nonlocal directory
        directory = root / str(step)
        shutil.copytree(template, directory)
        Counting.first = 1000.0

    def check(ended: bool) -> None:
        bundle = open_bundle(directory)
        verify_files(bundle)
        for measurement in read_measurements(bundle):
            # Of one sweep, never of two.
            assert len({ms > old for ms in measurement.samples_ms}) == 1
        assert len(read_measurements(bundle)) == 2 or not (again or ended)
        made = profile(directory)
        assert len(made.measurements) == 2
        if ended:
            assert len(made.kept) == 2
        [folder] = (directory / "profiles").iterdir()
        assert {path.stem for path in folder.glob("*.json")} == STEMS
        assert not list(folder.glob("failed/*.json"))
        Counting.first = 5000.0
        anew = profile(directory, anew=True)
        assert not list(folder.glob("unfinished/*.json"))
        if not again:
            # --again takes no rounds of the sweep that was killed: they are in its measurements.
            assert all(min(m.samples_ms) > 5000 for m in anew.measurements)

    print(killing.killed_at_each(prepare, lambda: profile(directory, again), check))


main()
