"""What only exports for a Snapdragon's NPU understand."""

from __future__ import annotations

from dataclasses import dataclass

from ...base.errors import EdgeError, unknown_name
from ...base.options import option
from ...devices.android.socs import SOCS

FP16, A16W8, A8W8 = NPU_PRECISIONS = ("fp16", "a16w8", "a8w8")


def parse_names(text: str) -> tuple[str, ...]:
    """`SM8650,SM8750` as two names, each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",")))


@dataclass(frozen=True)
class SnapdragonOptions:
    """What is compiled for NPUs beside the `.tflite` files.

    Attributes:
        npu: names of SoCs; () compiles nothing.
        npu_precision: `fp16`; `a16w8`, INT8 weights with 16-bit activations; `a8w8`, with 8-bit ones.
    """

    npu: tuple[str, ...] = option(
        (), "Also compile for the NPU of these Snapdragons: SM8650,SM8750.", metavar="LIST", parse=parse_names
    )
    npu_precision: tuple[str, ...] = option(
        (FP16,), "For the NPU: fp16, a16w8, a8w8.", metavar="LIST", shown="fp16", parse=parse_names
    )

    def __post_init__(self) -> None:
        for name in self.npu:
            if name not in SOCS:
                raise unknown_name("Snapdragon", name, SOCS)
        for name in self.npu_precision:
            if name not in NPU_PRECISIONS:
                raise unknown_name("NPU precision", name, NPU_PRECISIONS)
        if self.npu_precision != (FP16,) and not self.npu:
            raise EdgeError("--npu-precision says nothing without --npu.", "Say for which SoCs: --npu SM8650,SM8750.")
