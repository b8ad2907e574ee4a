"""Rules for ONNX files that go to Qualcomm's NPU compiler."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .finding import Finding
from .tensorrt.reading import read_file

if TYPE_CHECKING:
    import onnx_ir as ir

SOURCE = "measured with onnxruntime-qnn 2.7.0 (QAIRT 2.51) on x86-64: see docs/android.md, 'On a Snapdragon's NPU'"


def lint_onnx(path: Path) -> list[Finding]:
    """Checks an ONNX file. Raises `EdgeError` where it is none."""
    return lint_model(read_file(path))


def lint_model(model: ir.Model) -> list[Finding]:
    """`image-cast`: floats made of the image's bytes by a Cast, which the compiler's emulation computes wrongly."""
    import onnx_ir as ir

    images = {value.name for value in model.graph.inputs if value.dtype in (ir.DataType.UINT8, ir.DataType.INT8)}
    found = []
    for node in model.graph:
        given = node.inputs[0] if node.inputs else None
        if node.op_type == "Cast" and given is not None and comes_from(given, images):
            found.append(
                Finding(
                    "image-cast",
                    node.name or "",
                    "A Cast makes floats of the image's bytes.",
                    "In the emulation of Qualcomm's compiler that gives wrong numbers, without an error (cosine 0.17). "
                    "A DequantizeLinear with scale 1 and zero point 0 gives right ones.",
                    SOURCE,
                )
            )
    return found


def comes_from(value: ir.Value, images: set[str | None]) -> bool:
    """Whether bytes of the image reach a value unchanged, but for their places."""
    moves = ("Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze", "Slice")
    while value.name not in images:
        node = value.producer()
        if node is None or node.op_type not in moves or node.inputs[0] is None:
            return False
        value = node.inputs[0]
    return True
