"""`veca-edge lint`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..base.errors import EdgeError, unknown_name
from . import options
from .console import command

LINTED_TARGETS = ("jetson", "apple")


def lint(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An .onnx file, or an .mlpackage.")],
    target: Annotated[str, typer.Option(help="jetson or apple.")],
    tensorrt: Annotated[
        str | None, typer.Option(metavar="X.Y", help="The board's TensorRT, for jetson.", show_default="10.3")
    ] = None,
    dynamic: Annotated[
        bool, typer.Option("--dynamic", help="jetson: inputs of dynamic length are meant, as in an --elastic export.")
    ] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Check a model file against the rules of a target.

    Works on any .onnx or .mlpackage, before anything slow. Exit code 1 with findings.
    """
    with command(json, debug) as terminal:
        if target not in LINTED_TARGETS:
            raise unknown_name("target with rules", target, LINTED_TARGETS)
        if target == "jetson":
            from ..lint.tensorrt import lint_onnx

            findings = lint_onnx(file, tensorrt or "10.3", allow_dynamic=dynamic)
        else:
            for option, given in (("--tensorrt", tensorrt is not None), ("--dynamic", dynamic)):
                if given:
                    raise EdgeError(f"{option} is an option of the target 'jetson', not of 'apple'.", "Leave it out.")
            from ..lint.coreml import lint_mlpackage

            findings = lint_mlpackage(file)
        for finding in findings:
            terminal.say(f"{finding.rule}: {finding.node or 'the whole file'}", "bold red")
            terminal.say(f"  {finding.message}")
            terminal.say(f"  Why it matters: {finding.why}")
            terminal.say(f"  Written down in: {finding.source}")
        terminal.result({"file": file, "target": target, "findings": findings})
        if findings:
            rules = len({finding.rule for finding in findings})
            terminal.say(f"{len(findings)} findings of {rules} rules.", "red")
            raise typer.Exit(1)
        terminal.say(f"No findings: {file} keeps every rule of the target '{target}'.", "green")
