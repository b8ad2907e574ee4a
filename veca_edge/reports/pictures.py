"""Pictures on real images: how faithful every patch is, and what the core tokens look at.

A map has one pixel a patch; the page scales it up without smoothing, so it stays exact and small.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..base.errors import EdgeError
from ..base.progress import Progress, silent
from ..base.spec import ImageSize
from ..bundle.store import verify_artifacts
from ..bundle.types import Artifact, Bundle
from ..images.palette import ATTENTION, RAMP, ramp
from ..images.preprocessing import normalised
from ..proof.evaluate import run_frames, run_reference
from ..proof.fidelity import cosine
from ..proof.golden import read_golden
from ..targets.table import format_of, open_artifact, target_named

if TYPE_CHECKING:
    from ..model.checkpoint import Checkpoint
    from ..model.reference import Veca

# What is shown of a bundle with many variants.
MOST_CORE_COUNTS = 4
MOST_LAYERS = 3
CORES_SHOWN = 8
# Frames lower than this are enlarged on the page, as squares.
SMALL_FRAME = 128
# A cosine's distance from 1 spans decades: the colours go over this many nines, 0.9999 and above are the brightest.
MOST_NINES = 4


@dataclass(frozen=True)
class Tile:
    """One map: `image` is a data URI of one pixel a patch; `dot` is a place in percent from the top left."""

    image: str
    caption: str
    details: tuple[str, ...]
    description: str
    dot: tuple[float, float] | None = None


class TileGroup(NamedTuple):
    """Maps of one kind."""

    title: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class FrameTiles:
    """A real frame (`image`, a data URI; `small` where it has to be enlarged) and its maps, in titled groups."""

    image: str
    small: bool
    groups: tuple[TileGroup, ...]


@dataclass(frozen=True)
class PatchFidelity:
    """Cosine of every patch's `dense` with a reference's.

    Attributes:
        against: what the reference is, in words.
        how: what ran the variants, a sentence.
        ticks: the cosines along the colours, dark to bright, evenly spaced.
        aspect: width over height of a frame.
    """

    against: str
    how: str
    ticks: tuple[str, ...]
    aspect: float
    frames: tuple[FrameTiles, ...]


@dataclass(frozen=True)
class Attention:
    """What the first core tokens look at, in some layers, in the float32 reference."""

    core_count: int
    cores: int
    layers: tuple[int, ...]
    aspect: float
    frames: tuple[FrameTiles, ...]


# ---------------------------------------------------------------------------- patch fidelity


def patch_fidelity(
    bundle: Bundle, size: ImageSize, checkpoint: Checkpoint | None, threads: int | None, progress: Progress = silent
) -> PatchFidelity:
    """Runs variants on the bundle's golden frames and compares every patch.

    Args:
        checkpoint: with it the reference is the float32 model at its full core bank; without, the bundle's own
            largest core count in its highest precision.

    Raises:
        EdgeError: there is no `dense` output, or an artifact was changed or can't be run on this machine.
    """
    artifacts = comparable_artifacts(bundle, size)
    verify_artifacts(bundle, artifacts)
    frames = read_golden(bundle.directory, artifacts[0].core_count, size).frames
    best = artifacts[-1]
    if checkpoint is not None:
        from ..model.reference import reference_model

        bank = checkpoint.config.core_bank
        expected = run_reference(reference_model(checkpoint), checkpoint, frames, bank)["dense"]
        against = f"the float32 model at its full core bank ({bank} cores)"
    else:
        expected = _dense(bundle, best, frames, threads)
        against = (
            f"the bundle's own {best.core_count} cores in {best.precision}, its largest core count and highest "
            "precision"
        )
    counts = spread(sorted({a.core_count for a in artifacts}), MOST_CORE_COUNTS)
    dense = {}
    for i, artifact in enumerate(shown := [a for a in artifacts if a.core_count in counts]):
        dense[artifact.name] = _dense(bundle, artifact, frames, threads)
        progress("drawing patch fidelity", i + 2, len(shown) + 1)
    groups: dict[str, list[tuple[Artifact, np.ndarray]]] = {}
    for artifact in shown:
        if checkpoint is not None or artifact != best:
            groups.setdefault(artifact.precision, []).append((artifact, cosine(dense[artifact.name], expected)))
    for artifact in shown:
        higher = next((a for a in shown if a.core_count == artifact.core_count and a.precision == best.precision), None)
        if higher is not None and artifact.precision != best.precision:
            title = f"{artifact.precision} against {best.precision} at the same core count"
            groups.setdefault(title, []).append((artifact, cosine(dense[artifact.name], dense[higher.name])))
    if not groups:
        raise EdgeError("There is only one variant, and nothing to compare it with.", "Give --checkpoint FILE.")
    worst = min(float(m.min()) for maps in groups.values() for _, m in maps)
    first = min(MOST_NINES - 1, max(0, int(_nines(np.array(worst)))))
    ticks = tuple(f"{1 - 10.0**-n:g}" for n in range(first, MOST_NINES + 1))
    grid = bundle.checkpoint.config.grid(*size)
    found = tuple(
        FrameTiles(
            frame_uri(frame),
            frame.shape[0] < SMALL_FRAME,
            tuple(
                TileGroup(title, tuple(_patch_tile(a, m[f].reshape(grid), first) for a, m in maps))
                for title, maps in groups.items()
            ),
        )
        for f, frame in enumerate(frames)
    )
    return PatchFidelity(against, _how(best), ticks, size.width / size.height, found)


def _how(artifact: Artifact) -> str:
    """What runs an artifact here, and whether that is what runs it on the device."""
    runtime, here = target_named(artifact.target).runtime, format_of(artifact).runner
    rest = "." if here == runtime else f", not with {runtime}, whose arithmetic differs."
    return f"Computed with {here} when this report was made{rest}"


def comparable_artifacts(bundle: Bundle, size: ImageSize) -> list[Artifact]:
    """Those with `dense` at one image size, the best last; of several formats the one that is not tied to a board."""
    target = target_named(bundle.spec.target)
    every = [a for a in bundle.artifacts if a.image_size == size and "dense" in a.outputs]
    if not every:
        raise EdgeError("The bundle's models have no 'dense' output.", "Export with dense among --outputs.")
    formats = {a.format for a in every}
    chosen = next(f.name for f in sorted(target.formats, key=lambda f: not f.is_portable) if f.name in formats)
    return sorted(
        (a for a in every if a.format == chosen), key=lambda a: (a.core_count, target.precisions.index(a.precision))
    )


def _dense(bundle: Bundle, artifact: Artifact, frames: np.ndarray, threads: int | None) -> np.ndarray:
    with closing(open_artifact(bundle.directory, artifact, threads)) as runner:
        return run_frames(runner, artifact, frames)["dense"]


def _patch_tile(artifact: Artifact, cosines: np.ndarray, first: int) -> Tile:
    mean, worst = float(cosines.mean()), float(cosines.min())
    return Tile(
        _png(ramp((_nines(cosines) - first) / (MOST_NINES - first))),
        f"{artifact.core_count} cores",
        (f"mean {mean:.4f}", f"worst {worst:.4f}"),
        f"{artifact.core_count} cores, {artifact.precision}: cosine per patch, mean {mean:.4f}, worst {worst:.4f}",
    )


def _nines(cosines: np.ndarray) -> np.ndarray:
    """1 for a cosine of 0.9, 2 for 0.99, and so on."""
    return -np.log10(np.maximum(1 - cosines, 1e-9))


# --------------------------------------------------------------------------------- attention


def attention_pictures(
    checkpoint: Checkpoint, bundle: Bundle, size: ImageSize, layers: Sequence[int], progress: Progress = silent
) -> Attention:
    """The core-to-patch attention of chosen layers on the bundle's golden frames, at its largest core count.

    Args:
        layers: counted from 0; empty for the first, the middle and the last.

    Raises:
        EdgeError: the model has no such layer.
    """
    from ..model.reference import reference_model

    config, count = checkpoint.config, max(a.core_count for a in bundle.artifacts if a.image_size == size)
    chosen = tuple(layers) or tuple(spread(range(config.layers), MOST_LAYERS))
    for layer in chosen:
        if not 0 <= layer < config.layers:
            raise EdgeError(f"The model has no layer {layer}.", f"Its layers are 0 to {config.layers - 1}.")
    frames = read_golden(bundle.directory, count, size).frames
    shown = min(CORES_SHOWN, count)
    rows, columns = config.grid(*size)
    model = reference_model(checkpoint)
    found = []
    for f, frame in enumerate(frames):
        looks = core_attention(model, frame, count, chosen)
        groups = []
        for layer in chosen:
            weights, places = looks[layer]
            tiles = tuple(
                _attention_tile(weights[core].reshape(rows, columns), places[core], core, layer)
                for core in range(shown)
            )
            groups.append(TileGroup(f"layer {layer}{' (last)' if layer == config.layers - 1 else ''}", tiles))
        found.append(FrameTiles(frame_uri(frame), frame.shape[0] < SMALL_FRAME, tuple(groups)))
        progress("drawing attention", f + 1, len(frames))
    return Attention(count, shown, chosen, size.width / size.height, tuple(found))


def core_attention(
    model: Veca, frame: np.ndarray, core_count: int, layers: Sequence[int]
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Runs the reference on a frame and watches what its core tokens look at.

    Args:
        frame: uint8 RGB `[H, W, 3]`.

    Returns:
        Per layer: the attention of every core on every patch, mean of the heads, float32 `[C, N]` (the share that
        goes to other cores is missing from its sum), and where the cores stand, `[C, 2]` as x, y in -1..1.
    """
    import torch

    seen: dict[int, np.ndarray] = {}
    moved: dict[int, torch.Tensor] = {}

    def watch(layer: int):
        def hook(attention, args) -> None:
            seen[layer] = attention.core_weights(*args).mean(1)[0, :, core_count:].numpy()

        return hook

    def follow(layer: int):
        def hook(linear, args, output) -> None:
            moved[layer] = model.pos_alpha[layer - 1] * output[0]

        return hook

    hooks = [model.blocks[layer].get_submodule("attn").register_forward_pre_hook(watch(layer)) for layer in layers]
    hooks += [linear.register_forward_hook(follow(i + 1)) for i, linear in enumerate(model.pos_linears)]
    try:
        with torch.inference_mode():
            model(torch.from_numpy(normalised(frame[None])), core_count)
    finally:
        for hook in hooks:
            hook.remove()
    raw = torch.cat(list(model.qcoord_chunks), dim=1)[0, :core_count]
    places = {}
    for layer in range(len(model.blocks)):
        raw = raw + moved[layer] if layer else raw
        places[layer] = torch.tanh(raw).numpy()
    return {layer: (seen[layer], places[layer]) for layer in layers}


def _attention_tile(weights: np.ndarray, place: np.ndarray, core: int, layer: int) -> Tile:
    share = float(weights.sum())
    strength = weights / max(float(weights.max()), 1e-12)
    pixels = np.empty((*weights.shape, 4), np.uint8)
    pixels[..., :3] = ATTENTION
    pixels[..., 3] = np.rint(235 * strength)
    name = "core 0 (cls)" if core == 0 else f"core {core}"
    return Tile(
        _png(pixels),
        name,
        (f"{share:.0%} on patches",),
        f"What {name} looks at in layer {layer}; {share:.0%} of its attention goes to patches",
        (round(50 * (1 + float(place[0])), 1), round(50 * (1 + float(place[1])), 1)),
    )


# ------------------------------------------------------------------------------------ pixels


def spread(values: Sequence[int], most: int) -> list[int]:
    """At most so many of them, evenly spread, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]


def ramp_css() -> str:
    """The same colours as a CSS gradient."""
    return f"linear-gradient(to right, {', '.join(f'rgb{colour}' for colour in RAMP)})"


def frame_uri(frame: np.ndarray) -> str:
    """A frame uint8 `[H, W, 3]` as a data URI: exact where it is small, JPEG where it is large."""
    if frame.shape[0] * frame.shape[1] <= 64 * 64:
        return _png(frame)
    return _uri(frame, "JPEG", {"quality": 85})


def _png(pixels: np.ndarray) -> str:
    return _uri(pixels, "PNG", {"optimize": True})


def _uri(pixels: np.ndarray, format: str, options: Mapping[str, int]) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format, **options)
    return f"data:image/{format.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
