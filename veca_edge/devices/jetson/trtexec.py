"""What building and timing share of trtexec: options for optimization profiles, its version, its complaints."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...bundle.details import TensorrtDetails, details_as

# Of a log the end is searched for the reason of a failure.
_SEARCHED_CHARACTERS = 1 << 18
_SHOWN_CHARACTERS = 400


def profile_arguments(profiles: Sequence[Mapping[str, Sequence[Sequence[int]]]]) -> list[str]:
    """Options for optimization profiles: each gives smallest, likely and largest shape by input name."""
    arguments = []
    for i, shapes in enumerate(profiles):
        if len(profiles) > 1:
            arguments.append(f"--profile={i}")
        for j, kind in enumerate(("min", "opt", "max")):
            listed = ",".join(f"{name}:{'x'.join(map(str, triple[j]))}" for name, triple in shapes.items())
            arguments.append(f"--{kind}Shapes={listed}")
    return arguments


def profile_selection(details: Mapping[str, Any]) -> list[str]:
    """trtexec's options to run an artifact's own optimization profile; none for a file of static shapes."""
    facts = details_as(details, TensorrtDetails)
    if facts.own_shapes is None:
        return []
    listed = ",".join(f"{name}:{'x'.join(map(str, triple[1]))}" for name, triple in facts.own_shapes.items())
    return [f"--useProfile={facts.profile}", f"--shapes={listed}"]


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
