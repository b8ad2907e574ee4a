"""What only one target's rules understand."""

from __future__ import annotations

from dataclasses import dataclass

from ..base.errors import unknown_name
from ..base.options import option

DELEGATES = ("xnnpack", "gpu", "npu", "mediatek", "tensor", "nnapi")


@dataclass(frozen=True)
class TensorrtLintOptions:
    """How to judge an ONNX file for TensorRT.

    Attributes:
        tensorrt: the version that has to build it, `major.minor`.
        dynamic: inputs of dynamic length are meant, as in an elastic export.
    """

    tensorrt: str = option("10.3", "The board's TensorRT.", metavar="X.Y", shown="10.3")
    dynamic: bool = option(False, "Inputs of dynamic length are meant, as in an --elastic export.", kind=bool)


@dataclass(frozen=True)
class LitertLintOptions:
    """How to judge a LiteRT file.

    Attributes:
        delegate: what has to take it: `xnnpack` (the CPU), `gpu`, `npu` (Qualcomm's), `mediatek`, `tensor` (Google's)
            or `nnapi`, which is deprecated.
    """

    delegate: str = option(
        "xnnpack",
        "xnnpack (the CPU), gpu, npu (Qualcomm's), mediatek, tensor (Google's), nnapi (deprecated).",
        metavar="NAME",
        shown="xnnpack",
    )

    def __post_init__(self) -> None:
        if self.delegate not in DELEGATES:
            raise unknown_name("delegate", self.delegate, DELEGATES)
