"""Golden frames and what the reference answered, as an app's test reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..base.errors import EdgeError
from ..bundle.types import Artifact
from ..proof.golden import read_golden

# How much lower a device's arithmetic may leave the mean cosine.
TOLERANCE = 0.005


def write_golden_frames(
    directory: Path, folder: Path, chosen: Sequence[Artifact], golden_cosine: Mapping[str, float]
) -> None:
    """Writes `golden.json` and what it names: raw RGB bytes of frames, and outputs as little-endian float32.

    Args:
        directory: the bundle.
        chosen: the models of the app.
        golden_cosine: by artifact name, the lowest mean cosine of its outputs with the golden ones when executed.

    Raises:
        EdgeError: the golden data is missing or damaged, or nobody said how alike the outputs are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for artifact in chosen:
        if artifact.name not in golden_cosine:
            raise EdgeError(
                f"The bundle does not say how {artifact.name} compared with the reference.", "Export again."
            )
        golden = read_golden(directory, artifact.core_count, artifact.image_size)
        frames = f"frames_{artifact.image_size}.rgb"
        (folder / frames).write_bytes(golden.frames.tobytes())
        outputs = {}
        for name, value in golden.outputs.items():
            file = f"cores{artifact.core_count}_{artifact.image_size}_{name}.f32"
            (folder / file).write_bytes(value.astype("<f4").tobytes())
            outputs[name] = {"file": file, "width": value.shape[-1] if name == "dense" else value[0].size}
        listed.append(
            {
                "coreCount": artifact.core_count,
                "width": artifact.image_size.width,
                "height": artifact.image_size.height,
                "frames": frames,
                "frameCount": len(golden.frames),
                "patches": np.asarray(golden.patches).tolist(),
                "outputs": outputs,
                "minimumCosine": round(golden_cosine[artifact.name] - TOLERANCE, 6),
            }
        )
    (folder / "golden.json").write_text(json.dumps(listed, indent=1) + "\n")
