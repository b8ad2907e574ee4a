"""What an elastic file takes beside the image: the core tokens, and where they start. Needs only numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..base.errors import EdgeError
from ..base.files import inside
from ..bundle.details import TensorrtDetails, details_as
from ..bundle.types import Artifact
from ..formats.npz import read_npz


def core_inputs(file: Path, artifact: Artifact) -> dict[str, np.ndarray]:
    """The further inputs of one artifact by name, float32 `[B, C, ...]`; none for a file of one core count.

    Args:
        file: the artifact's. What its details call `constants` is a path relative to the bundle.

    Raises:
        EdgeError: the file with the core tokens is missing, damaged or not this artifact's.
    """
    name = details_as(artifact.details, TensorrtDetails, artifact.name).constants
    if name is None:
        return {}
    hint = "Copy the whole bundle again, or export it again."
    path = inside(file.parents[len(Path(artifact.path).parts) - 1], name, hint)
    try:
        arrays = read_npz(path)
    except (OSError, ValueError) as error:
        raise EdgeError(f"The core tokens of {artifact.name} cannot be read from {path}: {error}", hint) from error
    wanted = (artifact.batch, artifact.core_count)
    if not arrays or any(array.shape[:2] != wanted or array.dtype != np.float32 for array in arrays.values()):
        raise EdgeError(
            f"{path} does not hold the {artifact.core_count} core tokens of {artifact.name}.",
            "Export the bundle again.",
        )
    return arrays
