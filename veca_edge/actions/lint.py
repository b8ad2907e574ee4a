"""A model file against the rules of a target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import unknown_name
from ..base.options import check_kind
from ..targets.table import linters

if TYPE_CHECKING:
    from ..rules.finding import Finding


def lint(file: Path, target: str, options: Any = None) -> Sequence[Finding]:
    """Everything in a model file that a target refuses, runs slowly or computes wrongly.

    Args:
        file: an ONNX file or a Core ML package, whoever wrote it.
        options: of the target's linter; None is its defaults.

    Raises:
        EdgeError: no such target, or it has no rules; the file can't be read.
    """
    known = linters()
    if target not in known:
        raise unknown_name("target with rules", target, known)
    linter = known[target]
    return linter.lint(file, check_kind(options, linter.options, f"Checking for '{target}'"))
