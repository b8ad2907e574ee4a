"""What an export is asked to make. Frozen values that validate themselves; no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .errors import EdgeError, unknown_name
from .text_enum import TextEnum

OUTPUTS = ("cls", "dense", "logits", "segmentation", "segmentation_logits", "depth", "attention")
# Outputs of which every pixel or patch is one number or class, by `map_stride`.
MAP_OUTPUTS = ("segmentation", "depth")
MAP_STRIDE = 4
# The forms of a graph's input, in words for people and for the files themselves.
INPUT_FORMS = {
    "image": "uint8 RGB [B, H, W, 3]; normalisation is inside",
    "tensor": "float32 [B, 3, H, W], normalised with mean and std",
    "planar": "float32 RGB [B, 3, H, W], 0 to 255; normalisation is inside",
}
INPUTS = tuple(INPUT_FORMS)


class Precision(TextEnum):
    """The precisions of all targets, the lowest first. Each is the string that manifests hold.

    `int8` has INT8 weights and activations, `w8` INT8 weights alone.
    """

    INT8 = "int8"
    W8 = "w8"
    FP16 = "fp16"
    FP32 = "fp32"

    @property
    def is_quantized(self) -> bool:
        return self in (Precision.INT8, Precision.W8)


PRECISIONS: tuple[str, ...] = tuple(Precision)
QUANTIZED_PRECISIONS: tuple[str, ...] = tuple(p for p in Precision if p.is_quantized)


def check_precision(name: str) -> None:
    """Raises `EdgeError` that lists the precisions there are."""
    if name not in PRECISIONS:
        raise unknown_name("precision", name, PRECISIONS)


class ImageSize(NamedTuple):
    """Height and width in pixels."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"

    @classmethod
    def parse(cls, text: str) -> ImageSize:
        """Reads `256` (square) or `HxW`."""
        if read := re.fullmatch(r"\s*([1-9][0-9]{0,4})(?:[xX]([1-9][0-9]{0,4}))?\s*", text):
            return cls(int(read[1]), int(read[2] or read[1]))
        raise EdgeError(
            f"'{text}' is not an image size.",
            "Give one number (256) or HEIGHTxWIDTH (256x384), in pixels: 1 to 99999 each.",
        )


def variant_name(core_count: int, precision: str, image_size: ImageSize) -> str:
    """What a variant is called wherever it is named: `cores16_int8_256x256`."""
    return f"cores{core_count}_{precision}_{image_size}"


@dataclass(frozen=True)
class GraphSpec:
    """One static graph: everything a writer needs to know beside the weights.

    Attributes:
        core_count: active core tokens C, a prefix of the bank.
        image_size: input height and width in pixels, multiples of the patch size.
        batch: images per call.
        input: `image` takes uint8 RGB `[B, H, W, 3]`; `tensor` takes normalised float32 `[B, 3, H, W]`; `planar`
            takes float32 RGB `[B, 3, H, W]` of 0 to 255. The graph's input is named `image` in each case.
        outputs: which of `OUTPUTS` the graph computes, in that order.
        map_stride: pixels of the image to one of `segmentation` and `depth`, along each side.
    """

    core_count: int
    image_size: ImageSize
    batch: int = 1
    input: str = "image"
    outputs: tuple[str, ...] = ("cls", "dense")
    map_stride: int = MAP_STRIDE

    def __post_init__(self) -> None:
        if self.core_count < 1:
            raise EdgeError(f"A core count of {self.core_count} is impossible.", "Give --cores 8 or more.")
        if min(self.image_size) < 1:
            raise EdgeError(f"An image of {self.image_size} pixels is impossible.", "Give --image-size 256 or another.")
        if self.batch < 1:
            raise EdgeError(f"Batch is {self.batch}.", "Give --batch 1 or more.")
        if self.input not in INPUTS:
            raise unknown_name("input", self.input, INPUTS)
        for name in self.outputs:
            if name not in OUTPUTS:
                raise unknown_name("output", name, OUTPUTS)
        if not self.outputs:
            raise EdgeError("No output was asked for.", f"Give --outputs, any of {', '.join(OUTPUTS)}.")
        object.__setattr__(self, "outputs", tuple(o for o in OUTPUTS if o in self.outputs))
        if set(self.outputs) & set(MAP_OUTPUTS):
            self._check_map_stride()

    def _check_map_stride(self) -> None:
        height, width = self.image_size
        if self.map_stride < 1 or height % self.map_stride or width % self.map_stride:
            fitting = [s for s in (1, 2, 4, 7, 8, 14, 16) if not (height % s or width % s)]
            raise EdgeError(
                f"A map stride of {self.map_stride} does not divide an image of {self.image_size} pixels.",
                f"Give --map-stride {fitting[-1]}, or another divisor of both sides.",
            )

    @property
    def normalises(self) -> bool:
        """Whether the normalisation is inside of the graph, so that the input's values are those of pixels."""
        return self.input != "tensor"

    @property
    def map_size(self) -> tuple[int, int]:
        """Rows and columns of `segmentation` and `depth`."""
        return self.image_size.height // self.map_stride, self.image_size.width // self.map_stride


@dataclass(frozen=True)
class ExportSpec:
    """The whole request of `veca-edge export`; one `GraphSpec` per variant comes out of it.

    `min_cosine`, `min_agreement` and `max_depth_error` are the gates; None is no gate. `target_options` holds what only
    one target understands, as JSON values; `Target.options_of` makes the target's own dataclass of them.
    """

    target: str
    core_counts: tuple[int, ...]
    precisions: tuple[str, ...]
    image_sizes: tuple[ImageSize, ...]
    batch: int = 1
    input: str = "image"
    outputs: tuple[str, ...] = ("cls", "dense")
    min_cosine: float = 0.99
    target_options: Mapping[str, Any] = field(default_factory=dict)
    map_stride: int = MAP_STRIDE
    min_agreement: float | None = None
    max_depth_error: float | None = None

    def __post_init__(self) -> None:
        for name in ("core_counts", "precisions", "image_sizes"):
            values = getattr(self, name)
            if not values:
                raise EdgeError(f"The export names no {name.replace('_', ' ')}.", "Name at least one.")
            object.__setattr__(self, name, tuple(dict.fromkeys(values)))
        for precision in self.precisions:
            check_precision(precision)
        if not -1.0 <= self.min_cosine <= 1.0:
            raise EdgeError(
                f"--min-cosine is {self.min_cosine}, but a cosine lies between -1 and 1.", "Give 0.99 or another."
            )
        if self.min_agreement is not None and not 0.0 <= self.min_agreement <= 1.0:
            raise EdgeError(
                f"--min-agreement is {self.min_agreement}, but a share lies between 0 and 1.", "Give 0.98 or another."
            )
        if self.max_depth_error is not None and not self.max_depth_error > 0.0:
            raise EdgeError(
                f"--max-depth-error is {self.max_depth_error}, but it has to be above 0.", "Give 0.02 or another."
            )
        for core_count in self.core_counts:
            for image_size in self.image_sizes:
                self.graph(core_count, image_size)

    def graph(self, core_count: int, image_size: ImageSize) -> GraphSpec:
        return GraphSpec(core_count, image_size, self.batch, self.input, self.outputs, self.map_stride)
