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
    shape = {
        "cls": f"float32 `[{spec.batch}, {config.output_dim}]`: one feature vector per image",
        "dense": f"float32 `[{spec.batch}, N, {config.output_dim}]`: one feature vector per patch of "
        f"{config.patch_size} pixels, row by row ({grid[0]} x {grid[1]} patches at {size})",
        "logits": f"float32 `[{spec.batch}, {len(bundle.labels) if bundle.labels else 'K'}]`: class scores"
        + (", in the order of `labels` in `manifest.json`" if bundle.labels else ""),
    }
    outputs = "\n".join(f"- `{name}`: {shape[name]}" for name in spec.outputs)
    image = (
        f"uint8 RGB `[{spec.batch}, H, W, 3]`, values 0 to 255; the normalisation is inside the model"
        if spec.input == "image"
        else f"float32 `[{spec.batch}, 3, H, W]`, normalised as described below"
    )
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
"""
