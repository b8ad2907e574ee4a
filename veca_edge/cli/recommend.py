"""`veca-edge recommend`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..actions.limits import Choice, Limits
from ..base.options import made_of
from ..base.text import quoted
from . import options
from .console import Column, Terminal, command
from .fields import Group, Typed, with_fields

if TYPE_CHECKING:
    from ..actions.candidate import Candidate


@with_fields(Group(Choice), Group(Limits))
def recommend(
    bundle: options.BundlePath, typed: Typed, json: options.Json = False, debug: options.Debug = False
) -> None:
    """Name the best measured variant for a budget.

    Exit code 1 when nothing fits: it says which limit binds, and by how much.
    """
    with command(json, debug) as terminal:
        from ..actions.recommend import NothingFits
        from ..actions.recommend import recommend as recommend_variant

        choice, limits = made_of(Choice, typed), made_of(Limits, typed)
        try:
            found = recommend_variant(bundle, limits, choice.by, choice.image_size, choice.machine)
        except NothingFits as nothing:
            show_candidates(terminal, [(f.candidate, f.reason) for f in nothing.rejected], "What was rejected")
            terminal.known["fallen"] = [f.to_json() for f in nothing.rejected]
            raise
        best = found.best
        terminal.say(f"Best by {found.by}: {best.name}", "bold green")
        terminal.say(f"  {bundle / best.artifact.path}")
        terminal.say()
        show_candidates(
            terminal, [(best, "the best"), *((b.candidate, b.reason) for b in found.outranked)], "What fits"
        )
        show_candidates(terminal, [(f.candidate, f.reason) for f in found.rejected], "What was rejected")
        for note in found.notes:
            terminal.note(note)
        terminal.next(
            quoted(
                "veca-edge",
                "run",
                bundle,
                "IMAGE",
                "--cores",
                str(best.artifact.core_count),
                "--precision",
                best.artifact.precision,
            )
        )
        terminal.result(found.to_json())


def show_candidates(terminal: Terminal, rows: Sequence[tuple[Candidate, str]], title: str) -> None:
    if not rows:
        return
    from ..actions.candidate import BY

    quality = {name: one for name, one in BY.items() if name != "latency"}
    used = [one for name, one in quality.items() if name == "cosine" or any(one.of(c) is not None for c, _ in rows)]
    columns = [Column("variant", False), Column("p95 ms"), *(Column(one.label) for one in used)]
    cells = []
    for c, why in rows:
        values = [(one, one.of(c)) for one in used]
        shown = ["" if value is None else one.text(value) for one, value in values]
        memory = "" if c.memory_bytes is None else f"{c.memory_bytes / 1e6:.1f}"
        cells.append([c.name, f"{c.p95_ms:.2f}", *shown, memory, why])
    terminal.table([*columns, Column("MB"), Column("why", False)], cells, title)
