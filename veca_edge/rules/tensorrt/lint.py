"""Checks an ONNX file against TensorRT's rules, before anything slow runs.

They hold for any ONNX file, ours or another tool's:

    for finding in lint_onnx("model.onnx", "10.3"):
        print(finding.rule, finding.node, finding.message)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..finding import Finding
from .graph import CheckedModel
from .reading import read_onnx
from .releases import tensorrt_version
from .table import RULES, VALID

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir


def lint_onnx(
    model: str | Path | onnx.ModelProto | ir.Model, version: str, allow_dynamic: bool = False
) -> list[Finding]:
    """Checks an ONNX file against the rules of one TensorRT release; an empty list is a clean file.

    Args:
        model: a path, or a model in memory. It is not changed.
        version: the TensorRT release, `10.3`.
        allow_dynamic: accept inputs of dynamic length (elastic files with optimization profiles).

    Raises:
        EdgeError: the file cannot be read as ONNX, or `version` is not a version of 8.5 or newer.
    """
    subject = CheckedModel(read_onnx(model), tensorrt_version(version), allow_dynamic)
    # The rules take nodes that have their inputs for granted.
    rules = (VALID,) if any(VALID.check(subject)) else RULES
    return [
        Finding(rule.name, node, message, rule.why, rule.source)
        for rule in rules
        for node, message in rule.check(subject)
    ]
