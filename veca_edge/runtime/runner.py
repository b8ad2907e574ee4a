"""What every runtime gives: a runner for one artifact."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..base.errors import unknown_name
from ..bundle.store import Artifact

if TYPE_CHECKING:
    import numpy as np

FORMATS = ("onnx", "engine", "mlpackage")


class Runner(Protocol):
    """An opened artifact."""

    artifact: Artifact

    def __call__(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """Runs one whole batch.

        Args:
            batch: uint8 RGB `[B, H, W, 3]` where the artifact's input is `image`, normalised float32
                `[B, 3, H, W]` where it is `tensor`; B, H and W are the artifact's.

        Returns:
            The artifact's outputs by name, float32: `cls` `[B, D]`, `dense` `[B, N, D]`, `logits` `[B, K]`.
            They are the caller's to keep.

        Raises:
            EdgeError: the batch has another shape or type.
        """
        ...


def open_runner(directory: Path, artifact: Artifact, threads: int | None = None) -> Runner:
    """Opens one artifact of the bundle at `directory`.

    Args:
        threads: CPU threads; None leaves it to the runtime. Runtimes of other processors ignore it.

    Raises:
        EdgeError: the file is broken or is not what the manifest says; MissingDependency: no runtime for it.
    """
    path = directory / artifact.path
    if artifact.format == "onnx":
        from .onnxruntime import open_onnx

        return open_onnx(path, artifact, threads)
    if artifact.format == "engine":
        from .tensorrt import open_engine

        return open_engine(path, artifact)
    if artifact.format == "mlpackage":
        if sys.platform == "darwin":
            from .coreml import open_mlpackage
        else:
            from .program import open_mlpackage
        return open_mlpackage(path, artifact.function, artifact, threads)
    raise unknown_name("format", artifact.format, FORMATS)
