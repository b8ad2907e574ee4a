"""What an opened artifact looks like, whatever runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from .types import Artifact


class Runner(Protocol):
    """An opened artifact. Close it to let its memory go; used afterwards, it fails."""

    def __call__(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """Runs one whole batch.

        Args:
            batch: uint8 RGB `[B, H, W, 3]` where the artifact's input is `image`, normalised float32
                `[B, 3, H, W]` where it is `tensor`, float32 RGB `[B, 3, H, W]` of 0 to 255 where it is `planar`; B, H
                and W are the artifact's.

        Returns:
            The artifact's outputs by name, float32: `cls` `[B, D]`, `dense` `[B, N, D]`, `logits` `[B, K]`,
            `segmentation_logits` `[B, K, h, w]`, `depth` `[B, H', W']`, `attention` `[B, h, w]`; and integers:
            `segmentation` `[B, H', W']`. They are the caller's to keep.

        Raises:
            EdgeError: the batch has another shape or type.
        """
        ...

    def close(self) -> None:
        """Lets go of the model's memory, on the GPU too."""
        ...


# Opens one artifact of the bundle at a directory, on so many CPU threads (None leaves them to the runtime).
Opener = Callable[[Path, "Artifact", "int | None"], Runner]


def as_given(array: np.ndarray) -> np.ndarray:
    """A copy of an output for its caller: int32 of integers, else float32."""
    import numpy as np

    return array.astype(np.int32 if array.dtype.kind in "iu" else np.float32)
