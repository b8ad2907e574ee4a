"""What a model says, painted on the pictures that it saw: one picture for each thing that is shown, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..base.errors import EdgeError, unknown_name
from ..base.tasks import Task
from ..bundle.types import Artifact, Bundle
from ..images.mapping import map_to_frame
from ..images.overlay import (
    DepthRange,
    depth_range,
    draw_attention,
    draw_classes,
    draw_colours,
    draw_depth,
    draw_masks,
    enlarged,
)
from ..images.patches import PatchBasis, patch_basis, patch_colours
from ..images.preprocessing import Preprocessing
from .classes import LikelyClass

# What can be shown, with the output that each needs.
SHOWN = {"classes": "logits", "segmentation": "segmentation", "depth": "depth", "pca": "dense", "cores": "attention"}
FEATURES = ("pca", "cores")


def chosen_shows(wanted: Sequence[str], outputs: Sequence[str]) -> tuple[str, ...]:
    """What to show: what was asked for; else what the tasks say; else the patch features.

    Raises:
        EdgeError: an unknown name, or one whose output the model does not give.
    """
    for name in wanted:
        if name not in SHOWN:
            raise unknown_name("thing to show", name, SHOWN)
        if SHOWN[name] not in outputs:
            raise EdgeError(
                f"--show {name} needs the output '{SHOWN[name]}', which this model does not give.",
                f"It gives {', '.join(outputs)}; export with {SHOWN[name]} among --outputs.",
            )
    tasks = tuple(name for name in SHOWN if name not in FEATURES and SHOWN[name] in outputs)
    return tuple(wanted) or tasks or (("pca",) if "dense" in outputs else ())


class Painter:
    """Paints frame after frame of one model. Colours mean the same for a whole run: bases and ranges are of its first.

    Args:
        artifact: the model.
        shows: of `SHOWN`, see `chosen_shows`.
    """

    def __init__(self, bundle: Bundle, artifact: Artifact, shows: Sequence[str]):
        self.shows = tuple(shows)
        self._size = artifact.image_size
        self._grid = bundle.checkpoint.config.grid(*artifact.image_size)
        self._preprocessing = Preprocessing.from_json(bundle.preprocessing)
        self._segment = bundle.head_for(Task.SEGMENT)
        self._range: DepthRange | None = None
        self._basis: PatchBasis | None = None
        self._peak: float | None = None

    def __call__(
        self, pixels: np.ndarray, outputs: Mapping[str, np.ndarray], classes: Sequence[LikelyClass] = ()
    ) -> np.ndarray:
        """The picture uint8 RGB `[h, w, 3]` with what the outputs (without a batch axis) say; wider for several."""
        panels = [self._panel(name, pixels, outputs, classes) for name in self.shows]
        return np.concatenate(panels, axis=1) if panels else pixels

    def _panel(
        self, name: str, pixels: np.ndarray, outputs: Mapping[str, np.ndarray], classes: Sequence[LikelyClass]
    ) -> np.ndarray:
        large = enlarged(pixels)
        if name == "classes":
            return draw_classes(large, [(c.name, c.share) for c in classes])
        values = outputs[SHOWN[name]]
        if name == "segmentation":
            labels = self._on(values.astype(np.int32), large)
            head = self._segment
            return draw_masks(large, labels, head and head.labels, head and head.palette)
        if name == "depth":
            metres = self._on(values, large)
            if self._range is None:
                self._range = depth_range(metres)
            return draw_depth(large, metres, self._range)
        if name == "cores":
            weights = self._on(values, large)
            if self._peak is None:
                self._peak = float(np.nanmax(weights))
            return draw_attention(large, weights, self._peak)
        if self._basis is None:
            self._basis = patch_basis(values)
        return draw_colours(large, self._on(patch_colours(values, self._basis, self._grid), large))

    def _on(self, values: np.ndarray, large: np.ndarray) -> np.ndarray:
        """A map of the model's input on the enlarged picture."""
        return map_to_frame(values, (large.shape[0], large.shape[1]), self._size, self._preprocessing)
