"""How every number of a report was obtained, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..actions.candidate import Candidate, energy_mj
from ..profiles.measurement import Measurement
from ..targets.table import target_named


class Method(NamedTuple):
    """How one kind of number was obtained, in sentences."""

    name: str
    text: str


def methods(candidates: Sequence[Candidate], evaluated: bool = False) -> list[Method]:
    """What is said about each kind of number that the measurements hold; `evaluated` on whole data sets, or not."""
    measurements = [c.measurement for c in candidates]
    said = [Method("Latency", _latency(measurements))]
    if any(m.load_ms is not None for m in measurements):
        said.append(
            Method(
                "Load, first call",
                "Opening the model in a fresh process, and the first inference after it. The "
                "system's file caches were not emptied.",
            )
        )
    with_memory = [m for m in measurements if m.peak_memory_bytes is not None]
    if with_memory:
        said.append(Method("Memory", f"{by_target(with_memory, 'memory')}."))
    with_energy = [m for m in measurements if energy_mj(m) is not None]
    if with_energy:
        said.append(
            Method(
                "Energy",
                "Mean power of the whole module over the timed stretch, times its length, over the "
                "number of calls; idle power is included.",
            )
        )
    if any(m.facts.cost for m in measurements):
        said.append(
            Method(
                "GMAC, attention pairs",
                f"Not measured but counted, for one image, from {_sources(measurements)}: multiply-accumulates of "
                "all matrix products and convolutions, and pairs of a query and a key, summed over the layers.",
            )
        )
    said.append(
        Method(
            "File",
            "What the model takes on disk. Variants of one bundle can share weights; each one's file "
            "counts all that it refers to.",
        )
    )
    if any(c.fidelity for c in candidates):
        images = sorted({c.fidelity.reference.images for c in candidates if c.fidelity})
        when, which = "When the bundle was exported,", " that calibrated nothing"
        if evaluated:
            when, which = "When the bundle was exported, or as said under Data sets where it was evaluated,", ""
        said.append(
            Method(
                "Cosine",
                f"{when} on {', '.join(map(str, images))} images{which}: the cosine of cls (one "
                "vector an image) and dense (one a patch) with those of the "
                "float32 model in PyTorch.",
            )
        )
    if any(c.top1 is not None for c in candidates):
        said.append(
            Method(
                "Top-1",
                "The share of the labelled ones among those images whose most likely class is right. On "
                "few images it is rough: one image is one step.",
            )
        )
    return said


def _latency(measurements: Sequence[Measurement]) -> str:
    samples = [len(m.samples_ms) for m in measurements]
    rounds = [len(m.round_sizes) for m in measurements if m.round_sizes]
    text = f"{by_target(measurements, 'calls')}, after warm-up: {_range(samples)} samples a variant"
    if rounds and max(rounds) > 1:
        text += (
            f", from {_range(rounds)} rounds in which every variant has its turn, forwards and then backwards, "
            "so that drift hits all alike"
        )
    batches = sorted({m.batch for m in measurements})
    text += ". " + (
        "A call is one image." if batches == [1] else f"A call is a batch of {', '.join(map(str, batches))} images."
    )
    return text + " p50, p95 and p99 are percentiles of the samples, which the bundle keeps."


def by_target(measurements: Sequence[Measurement], field: str) -> str:
    """A field of `Words` for the targets of these measurements; each with its target's name where there are several."""
    targets = list(dict.fromkeys(m.target for m in measurements))
    words = {name: getattr(target_named(name).words, field) for name in targets}
    text = "; ".join(f"{name}: {said}" if len(targets) > 1 else said for name, said in words.items())
    return text[0].upper() + text[1:]


def _sources(measurements: Sequence[Measurement]) -> str:
    words = {"graph": "the model file's graph", "sizes": "the model's sizes"}
    found: set[str] = {m.facts.cost.counted_from for m in measurements if m.facts.cost}
    return " and ".join(words.get(source, source) for source in sorted(found))


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"
