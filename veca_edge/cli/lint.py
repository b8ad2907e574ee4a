"""`veca-edge lint`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..base.options import made_of
from ..base.text import counted
from ..targets.table import linters
from . import options
from .console import command
from .fields import Typed, of_targets, refuse_foreign, with_fields

LINTERS = linters()
LINT_OPTIONS = of_targets(lambda target: target.linter and target.linter.options)
FILES = "; ".join(f"{name}: {linter.files}" for name, linter in LINTERS.items())


@with_fields(*LINT_OPTIONS)
def lint(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=f"Of the target {FILES}.")],
    target: Annotated[str, typer.Option(metavar="NAME", help=f"{', '.join(LINTERS)}.")],
    typed: Typed,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Check a model file against the rules of a target.

    Works on any file of its kind, before anything slow. Exit code 1 with findings.
    """
    with command(json, debug) as terminal:
        from ..actions.lint import lint as lint_file

        if target in LINTERS:
            refuse_foreign(typed, LINT_OPTIONS, target, "files")
        chosen = made_of(LINTERS[target].options, typed) if target in LINTERS else None
        findings = lint_file(file, target, chosen)
        for finding in findings:
            terminal.say(f"{finding.rule}: {finding.node or 'the whole file'}", "bold red")
            terminal.say(f"  {finding.message}")
            terminal.say(f"  Why it matters: {finding.why}")
            terminal.say(f"  Written down in: {finding.source}")
        terminal.result({"file": file, "target": target, "findings": findings})
        if findings:
            rules = len({finding.rule for finding in findings})
            found = counted(len(findings), "finding")
            terminal.say(f"{found} of {counted(rules, 'rule')}.", "red")
            raise typer.Exit(1)
        terminal.say(f"No findings: {file} keeps every rule of the target '{target}'.", "green")
