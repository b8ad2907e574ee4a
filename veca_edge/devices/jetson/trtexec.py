"""What building and timing share of trtexec: options for optimization profiles, its version, its complaints."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from ...bundle.types import Count

# Of a log the end is searched for the reason of a failure.
_SEARCHED_CHARACTERS = 1 << 18
_SHOWN_CHARACTERS = 400


# Those that an export chooses: no manifest names files to a builder.
Flag = Annotated[
    str, Meta(pattern="^--(int8|fp16|stronglyTyped|noTF32|(precisionConstraints|layerPrecisions|layerOutputTypes)=.*)$")
]
# Smallest, likely and largest shape of every input with a dynamic one, by name.
Shape = tuple[Count, ...]
Shapes = Mapping[str, tuple[Shape, Shape, Shape]]


@dataclass(frozen=True)
class TensorrtDetails:
    """What an export for TensorRT notes of a file.

    Attributes:
        tensorrt: the version it was written for.
        strongly_typed: its types are the file's, not the builder's to choose.
        build_flags: trtexec's options for its dialect.
        profiles: the optimization profiles of a file with dynamic shapes; `profile` is the artifact's own.
        external_data: files beside it that hold weights.
    """

    tensorrt: str | None = None
    opset: int = 17
    strongly_typed: bool = False
    build_flags: tuple[Flag, ...] = ()
    profiles: tuple[Shapes, ...] = ()
    profile: Count = 0
    external_data: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.profiles and self.profile >= len(self.profiles):
            raise ValueError(f"there is no optimization profile {self.profile}")


def profile_arguments(profiles: Sequence[Shapes]) -> list[str]:
    """Options for optimization profiles: each gives smallest, likely and largest shape by input name."""
    arguments = []
    for i, shapes in enumerate(profiles):
        if len(profiles) > 1:
            arguments.append(f"--profile={i}")
        for j, kind in enumerate(("min", "opt", "max")):
            listed = ",".join(f"{name}:{'x'.join(map(str, triple[j]))}" for name, triple in shapes.items())
            arguments.append(f"--{kind}Shapes={listed}")
    return arguments


def profile_selection(details: TensorrtDetails) -> list[str]:
    """trtexec's options to run an artifact's own optimization profile; none for a file of static shapes."""
    if not details.profiles:
        return []
    shapes = details.profiles[details.profile]
    listed = ",".join(f"{name}:{'x'.join(map(str, triple[1]))}" for name, triple in shapes.items())
    return [f"--useProfile={details.profile}", f"--shapes={listed}"]


def banner_version(text: str) -> str | None:
    """The version in a trtexec banner: `v8502` is 8.5.2, `v100300` is 10.3.0, `v110100` is 11.1.0."""
    match = re.search(r"TensorRT v([0-9]{4,6})(?![0-9])", text)
    if match is None:
        return None
    number = int(match[1])
    major, rest = divmod(number, 10000 if number >= 100000 else 1000)
    minor, patch = divmod(rest, 100)
    return f"{major}.{minor}.{patch}"


def end_of(log: str) -> str:
    """The part of a log that is searched for the reason of a failure: bounded, whatever a board sends."""
    return log[-_SEARCHED_CHARACTERS:]


def last_words(log: str) -> str:
    """The last three errors of a log, else its last three lines."""
    lines = [line.strip() for line in end_of(log).splitlines()]
    errors = [line.partition("[E]")[2].strip().removeprefix("[TRT]").strip() for line in lines if "[E]" in line]
    said = [line[:_SHOWN_CHARACTERS] for line in errors or lines if line][-3:]
    return "; ".join(dict.fromkeys(said)) or "it said nothing"
