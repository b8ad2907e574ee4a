"""What only one target's rules understand."""

from __future__ import annotations

from dataclasses import dataclass

from ..base.options import option


@dataclass(frozen=True)
class TensorrtLintOptions:
    """How to judge an ONNX file for TensorRT.

    Attributes:
        tensorrt: the version that has to build it, `major.minor`.
        dynamic: inputs of dynamic length are meant, as in an elastic export.
    """

    tensorrt: str = option("10.3", "The board's TensorRT.", metavar="X.Y", shown="10.3")
    dynamic: bool = option(False, "Inputs of dynamic length are meant, as in an --elastic export.", kind=bool)
