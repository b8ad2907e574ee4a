"""What goes into a report beside what the bundles hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..base import lists
from ..base.errors import EdgeError
from ..base.options import option, threads_option


def layer_numbers(text: str) -> tuple[int, ...]:
    """`0,5,11` as numbers. Raises `EdgeError` for anything else."""
    return tuple(layer_number(part) for part in lists.names(text, "--layers"))


def layer_number(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 5:
        return int(text)
    raise EdgeError(f"--layers: '{text}' is not a layer.", "Give numbers from 0, for example 0,5,11.")


@dataclass(frozen=True)
class ReportOptions:
    """What goes into a report beside what the bundles hold.

    Attributes:
        title: of the page; empty for one made from the bundles' names.
        machine: as in `recommend`: whose measurements, where a bundle has those of several; `all` compares them.
        checkpoint: the file that bundles were made from: patches are compared with its float32 model, and its
            attention is drawn.
        layers: whose attention, counted from 0; empty for the first, the middle and the last.
        pictures: run variants on the bundles' golden frames to draw how faithful every patch is.
        operators: profile operators and layers, on this machine (`cpu` bundles).
        runs: files that `run --summary` wrote, of live runs of these bundles.
        threads: of the runs for pictures; None leaves it to the runtime.
        force: replace a report that is there.
    """

    title: str = option("", "Title of the page.", metavar="TEXT", shown="the bundles' names")
    machine: str | None = option(
        None, "Measurements of this machine, or all to compare machines on purpose.", metavar="ID"
    )
    checkpoint: Path | None = option(
        None, "What the bundles were made from: draws fidelity per patch and attention.", kind=Path, metavar="FILE"
    )
    layers: tuple[int, ...] = option(
        (),
        "Layers whose attention is drawn, counted from 0.",
        metavar="LIST",
        shown="first, middle, last",
        parse=layer_numbers,
    )
    pictures: bool = option(True, "Draw how faithful every patch of the golden frames is.", kind=bool, shown="pictures")
    operators: bool = option(False, "Time operators and layers on this machine.", kind=bool)
    runs: tuple[Path, ...] = option(
        (),
        "Live runs to show: files of run --summary.",
        metavar="LIST",
        shown="none",
        parse=lambda text: tuple(Path(name) for name in lists.names(text, "--runs")),
    )
    threads: int | None = threads_option("the runtime's choice")
    force: bool = option(False, "Replace a report that is there.", kind=bool)
