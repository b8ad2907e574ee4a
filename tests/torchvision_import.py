"""torchvision's image transforms, where its C++ operators do not load.

PyPI has torchvision for one build of torch; beside another, a CPU build, importing it fails because it describes two of
those operators. No image transform uses them, so their schemas are declared, and nothing more.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType

import torch

_kept = []


@cache
def transforms() -> ModuleType:
    """`torchvision.transforms`. Importing it takes a second, in every worker: only for the tests that need it."""
    try:
        from torchvision import transforms
    except RuntimeError as error:
        if "does not exist" not in str(error):
            raise
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)  # its schemas go with it
        from torchvision import transforms
    return transforms
