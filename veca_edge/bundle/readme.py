"""The README inside a bundle, generated from its manifest."""

from __future__ import annotations

from ..base.files import write_atomically
from .store import Bundle

README = "README.md"


def write_readme(bundle: Bundle, preprocessing: str) -> None:
    """Writes the bundle's own README.

    Args:
        preprocessing: `Preprocessing.description`, the words of how an image file becomes the input.
    """
    write_atomically(bundle.directory / README, readme_text(bundle, preprocessing))


def readme_text(bundle: Bundle, preprocessing: str) -> str:
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
{_loading(bundle)}
## Check it
`golden/` holds real frames (`frames_HxW.npz`) and what the float32 model answers at each core count
(`coresC_HxW.npz`; `dense` at the patches that `patches` lists).

```
pip install veca-edge
veca-edge verify .
veca-edge profile .
```
"""


def _loading(bundle: Bundle) -> str:
    parts = []
    by_format = {a.format: a for a in reversed(bundle.artifacts)}
    if "onnx" in by_format:
        a = by_format["onnx"]
        frame = (
            f"np.zeros(({a.batch}, {a.image_size.height}, {a.image_size.width}, 3), np.uint8)  # your RGB frame"
            if a.input == "image"
            else f"np.zeros(({a.batch}, 3, {a.image_size.height}, {a.image_size.width}), np.float32)  # normalised"
        )
        note = (
            "The ONNX files are written for TensorRT; ONNX Runtime runs them too, to check them:\n\n"
            if a.target == "jetson"
            else ""
        )
        parts.append(f"""{note}```python
from pathlib import Path

import numpy as np
import onnxruntime

options = onnxruntime.SessionOptions()
cpu = Path("/proc/cpuinfo")
if not (cpu.exists() and "vnni" in cpu.read_text()):
    # Without VNNI, INT8 on x86 saturates unless exact products are asked for; with it they are, and this is slow.
    options.add_session_config_entry("session.x64quantprecision", "1")
session = onnxruntime.InferenceSession("{a.path}", options, providers=["CPUExecutionProvider"])
image = {frame}
{", ".join(a.outputs)}{"," if len(a.outputs) == 1 else ""} = session.run({list(a.outputs)}, {{"image": image}})
```

On Linux, a call of the C library's `malloc_trim(0)` after loading returns what loading has freed, which may be a
quarter of the memory; `veca_edge.runtime.load` makes it.
""")
    if "mlpackage" in by_format:
        a = by_format["mlpackage"]
        function = f', function_name="{a.function}"' if a.function else ""
        parts.append(f"""On a Mac, from Python (in an app, drag the package into Xcode):

```python
import coremltools

model = coremltools.models.MLModel("{a.path}"{function})
```
""")
    if "engine" in by_format:
        a = by_format["engine"]
        parts.append(f"""An engine runs only on the board and the TensorRT version that built it:

```python
from veca_edge.runtime import load

model = load(".")          # {a.path}
```
""")
    return "\n".join(parts)
