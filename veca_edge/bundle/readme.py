"""The README inside a bundle, generated from its manifest."""

from __future__ import annotations

from collections.abc import Sequence

from ..base.files import write_atomically
from .types import Bundle

README = "README.md"


def write_readme(bundle: Bundle, preprocessing: str, loading: Sequence[str]) -> None:
    """Writes the bundle's own README.

    Args:
        preprocessing: `Preprocessing.description`, the words of how an image file becomes the input.
        loading: how each kind of file in the bundle is loaded, a section each.
    """
    write_atomically(bundle.directory / README, readme_text(bundle, preprocessing, loading))


def readme_text(bundle: Bundle, preprocessing: str, loading: Sequence[str]) -> str:
    config, spec = bundle.checkpoint.config, bundle.spec
    rows = "\n".join(
        f"| {a.core_count} | {a.precision} | {a.image_size} | `{a.path}`"
        f"{f' (function `{a.function}`)' if a.function else ''} | {a.bytes / 1e6:.1f} |"
        for a in bundle.artifacts
    )
    size = bundle.artifacts[0].image_size
    grid = config.grid(*size)
    outputs = "\n".join(f"- `{name}`: {output_text(bundle, name, grid)}" for name in spec.outputs)
    image = {
        "image": f"uint8 RGB `[{spec.batch}, H, W, 3]`, values 0 to 255; the normalisation is inside the model",
        "tensor": f"float32 `[{spec.batch}, 3, H, W]`, normalised as described below",
        "planar": f"float32 RGB `[{spec.batch}, 3, H, W]`, values 0 to 255; the normalisation is inside the model",
    }[spec.input]
    return f"""# {bundle.checkpoint.name}: VECA for {spec.target}

Made by veca-edge from a checkpoint with sha256 `{bundle.checkpoint.digest}`. `manifest.json` says everything
that follows in a form for programs, and how close every variant is to the float32 model.

| cores | precision | image size | file | MB |
|---|---|---|---|---|
{rows}

## Input and outputs
The input is called `image`: {image}.

{outputs}

{preprocessing}

## Load it
{chr(10).join(loading)}
## Check it
`golden/` holds real frames (`frames_HxW.npz`) and what the float32 model answers at each core count
(`coresC_HxW.npz`; `dense` at the patches that `patches` lists).

```
pip install veca-edge
veca-edge verify .
veca-edge profile .
```

## Make it again
`run.toml` says how it was made; with other weights: `veca-edge export --like . NEW.pt`.
"""


def output_text(bundle: Bundle, name: str, grid: tuple[int, int]) -> str:
    """An output's type, shape and meaning; `grid`: rows and columns of the patches at the first image size."""
    spec, config, size = bundle.spec, bundle.checkpoint.config, bundle.artifacts[0].image_size
    if name == "attention":
        return (
            f"float32 `[{spec.batch}, {grid[0]}, {grid[1]}]`: how much of their attention the core tokens give each "
            "patch, in the last block but one"
        )
    head = next((h for h in bundle.linear_heads if name in h.task.outputs), None)
    if head is None:
        vector = f"float32 `[{spec.batch}, {config.output_dim}]`: one feature vector per image"
        patches = (
            f"float32 `[{spec.batch}, N, {config.output_dim}]`: one feature vector per patch of {config.patch_size} "
            f"pixels, row by row ({grid[0]} x {grid[1]} patches at {size})"
        )
        return vector if name == "cls" else patches
    map_size = "H, W" if spec.map_stride == 1 else f"H / {spec.map_stride}, W / {spec.map_stride}"
    named = f", in the order of `labels` of `heads` in `manifest.json`: {_few(head.labels)}" if head.labels else ""
    text = {
        "logits": f"float32 `[{spec.batch}, {head.classes or 'K'}]`: class scores{named}",
        "segmentation": f"integers `[{spec.batch}, {map_size}]`: the class of every square of {spec.map_stride} pixels"
        f"{named}; `palette` has a colour for each",
        "segmentation_logits": f"float32 `[{spec.batch}, {head.classes}, {grid[0]}, {grid[1]}]`: class scores of every "
        "patch, before upsampling",
        "depth": f"float32 `[{spec.batch}, {map_size}]`: metres",
    }
    return text[name]


def _few(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
