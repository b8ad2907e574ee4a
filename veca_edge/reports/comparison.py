"""A comparison as Markdown, for a pull request."""

from __future__ import annotations

from ..actions.compare import OnMachine, TimeComparison
from ..profiles.comparison import ComparedVariant
from .text import markdown_cell


def comparison_markdown(comparison: TimeComparison) -> str:
    """Headings, tables and sentences; ends with a line break."""
    failed = bool(comparison.regressions)
    before, after = (markdown_cell(str(b.directory)) for b in (comparison.before, comparison.after))
    lines = [
        f"### {'Slower' if failed else 'No slowdown found'}: {after} against {before}"
        if before != after
        else f"### {'Slower' if failed else 'No slowdown found'}: {after}",
        "",
        comparison.sentence,
        "",
    ]
    for here in comparison.machines:
        lines += [f"**{markdown_cell(here.title)}**", "", *_times(here), ""]
    if comparison.fidelity:
        lines += ["**Fidelity to each one's own FP32 model**", "", *_fidelity(comparison), ""]
    lines.append("<sub>95% intervals of a bootstrap over rounds and samples, widened for few rounds.</sub>")
    return "\n".join(lines) + "\n"


def _times(here: OnMachine) -> list[str]:
    rows = [
        [
            markdown_cell(variant.name),
            f"p{change.percent:g}",
            *(f"{m.percentile_ms(change.percent):.2f}" for m in (change.before, change.after)),
            change.text,
            f"**{change.verdict}**" if change.is_regression else change.verdict,
            memory_text(variant) if i == 0 else "",
        ]
        for variant in here.variants
        for i, change in enumerate(variant.changes)
    ]
    return _table(["variant", "", "before ms", "after ms", "change", "", "memory"], rows, 2)


def _fidelity(comparison: TimeComparison) -> list[str]:
    rows = [
        [markdown_cell(f.name), quantity, f"{one:.5f}", f"{other:.5f}", f"{other - one:+.5f}"]
        for f in comparison.fidelity
        for quantity, one, other in f.rows
    ]
    return _table(["variant", "", "before", "after", "difference"], rows, 2)


def _table(names: list[str], rows: list[list[str]], left: int) -> list[str]:
    rule = ["---" if i < left else "---:" for i in range(len(names))]
    return [f"| {' | '.join(cells)} |" for cells in (names, rule, *rows)]


def memory_text(variant: ComparedVariant) -> str:
    return "" if variant.memory_ratio is None else f"{variant.memory_ratio - 1:+.1%}"


def remarks(comparison: TimeComparison) -> list[str]:
    """What a reader of the times should know, a sentence each."""
    found = []
    one_run = [v.name for v in comparison.variants if v.has_one_run]
    if one_run:
        found.append(
            f"{len(one_run)} of {len(comparison.variants)} variants were measured in one run: how runs differ is not "
            "in their intervals."
        )
    for here in comparison.machines:
        for side, bundle, others in (
            ("before", comparison.before, here.only_before),
            ("after", comparison.after, here.only_after),
        ):
            if others:
                found.append(f"Only {side} ({bundle.directory}): {len(others)} measured variants, not compared.")
        doubtful = {v.name: m.warnings[0] for v in here.variants for m in (v.before, v.after) if m.warnings}
        found += [f"{name}: {warning}" for name, warning in doubtful.items()]
    return found
