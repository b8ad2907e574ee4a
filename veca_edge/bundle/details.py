"""What artifacts of one kind say beside what all say, as typed values instead of keys of a mapping.

A manifest holds `Artifact.details` as a JSON object that belongs to the target. Who reads it takes one of these views;
keys that a view does not have are left to others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from msgspec import Meta

from ..base.json_files import typed

T = TypeVar("T")

# Only what an export writes: a manifest names no file that a builder on a board reads, writes or loads.
BuildFlag = Annotated[
    str, Meta(pattern="^--(int8|fp16|stronglyTyped|noTF32|(precisionConstraints|layerPrecisions|layerOutputTypes)=.*)$")
]
# Smallest, likely and largest shape of each dynamic input, by name.
Shapes = Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]


@dataclass(frozen=True)
class TensorrtDetails:
    """Of an ONNX file for TensorRT, and of the engine that was built from it.

    Attributes:
        tensorrt: the version that it was written for, `major.minor`.
        opset: of the ONNX file.
        strongly_typed: its types are as written; FP16 codes are quantized in FP16.
        build_flags: what trtexec needs to build it.
        external_data: names of files beside it that hold its weights.
        constants: the file with the core tokens of an elastic artifact, relative to the bundle, or None.
        profiles: the optimization profiles of an elastic file; `profile` is the index of the artifact's own.
        engine_key: the board that an engine was built for, or None.
        build_seconds: how long the engine took to build, or None.
    """

    tensorrt: str | None = None
    opset: int = 17
    strongly_typed: bool = False
    build_flags: tuple[BuildFlag, ...] = ()
    external_data: tuple[str, ...] = ()
    constants: str | None = None
    profiles: tuple[Shapes, ...] = ()
    profile: int = 0
    engine_key: Mapping[str, str | None] | None = None
    build_seconds: float | None = None

    @property
    def own_shapes(self) -> Shapes | None:
        """The artifact's own optimization profile; None for a file of static shapes."""
        return self.profiles[self.profile] if 0 <= self.profile < len(self.profiles) else None


@dataclass(frozen=True)
class CpuDetails:
    """Of an ONNX file for CPUs.

    Attributes:
        sums_fit_16_bits: its INT8 products are exact on every CPU; see `LinearQuantization.sums_fit_16_bits`. For
            files that do not say so, sessions have to ask ONNX Runtime for exact ones.
    """

    sums_fit_16_bits: bool = False


@dataclass(frozen=True)
class CoremlDetails:
    """Of a Core ML package.

    Attributes:
        ios: the oldest iOS that loads it.
        default_function: what an app gets when it names none, or None for a package of one function.
    """

    ios: int = 18
    default_function: str | None = None


def details_as(details: Mapping[str, Any], kind: type[T], whose: str = "the artifact") -> T:
    """A view of some details. Raises `EdgeError` that says what has another type than it should."""
    hint = "The manifest was changed by hand or by another tool; export the bundle again."
    return typed(dict(details), kind, f"What {whose} says of itself", hint)
