"""The plot of a sensitivity measurement: what INT8 in each layer alone does to the outputs."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.errors import EdgeError, MissingDependency
from ..base.files import write_atomically
from ..base.text import counted

if TYPE_CHECKING:
    from ..calibration.sensitivity import LayerSensitivity

FORMATS = ("svg", "png", "pdf")
COLOURS = {"cls": "#2a6fbb", "dense": "#d1762b", "top1": "#2a6fbb", "miou": "#2a6fbb", "depth": "#2a6fbb"}
AXES = {
    "cosine": "1 - mean cosine with the FP32 model",
    "top1": "1 - top-1 agreement with the FP32 model",
    "miou": "1 - mIoU with the FP32 model",
    "depth": "mean relative depth difference to the FP32 model",
}
# Below this a loss is rounding noise, and a logarithmic axis has no zero.
FLOOR = 1e-8


def check_plot(path: Path) -> None:
    """Raises `EdgeError` for a format that is not known, `MissingDependency` where matplotlib is missing."""
    if path.suffix.lstrip(".").lower() not in FORMATS:
        raise EdgeError(
            f"'{path}' names no kind of plot that is known.",
            f"Give a name that ends in {', '.join('.' + f for f in FORMATS)}.",
        )
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingDependency("matplotlib", "report", "The plot of a sensitivity") from None


def plot_sensitivity(layers: Sequence[LayerSensitivity], images: int, path: Path, by: str = "cosine") -> None:
    """Draws the layers in order of execution, from top to bottom; the format is that of the file's name.

    A dot is the worst of the core counts, and its line reaches to the best.

    Args:
        by: a criterion of `calibration.sensitivity.LOSSES`; by cosine, `cls` and `dense` are drawn apart.

    Raises:
        EdgeError: the file cannot be written, or its format is not known.
    """
    check_plot(path)
    from matplotlib.figure import Figure

    counts = sorted({count for layer in layers for count in layer.agreement})
    figure = Figure(figsize=(7.2, 1.4 + 0.2 * len(layers)), layout="constrained")
    axes = figure.add_subplot()
    for offset, output in ((-0.14, "cls"), (0.14, "dense")) if by == "cosine" else ((0.0, by),):
        known = [(i, losses) for i, layer in enumerate(layers) if (losses := losses_of(layer, output))]
        if not known:
            continue
        rows = [i + offset for i, _ in known]
        worst, best = ([pick(losses) for _, losses in known] for pick in (max, min))
        axes.hlines(rows, best, worst, color=COLOURS[output], alpha=0.45, linewidth=2)
        axes.plot(worst, rows, "o", markersize=4.5, color=COLOURS[output], label=output)
    axes.set_xscale("log")
    axes.set_yticks(range(len(layers)), [layer.name for layer in layers], fontsize=8)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.set_xlabel(AXES[by])
    axes.set_title(
        f"This layer alone in INT8, {', '.join(map(str, counts))} cores, {counted(images, 'image')}", fontsize=10
    )
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix.lstrip(".").lower(), dpi=150)
    write_atomically(path, content.getvalue())


def losses_of(layer: LayerSensitivity, output: str) -> list[float]:
    """1 - mean cosine of an output, or a task's loss, at every core count that has it."""
    every = layer.agreement.values()
    if output in ("cls", "dense"):
        found = [s and 1.0 - s.mean for s in (getattr(agreement, output) for agreement in every)]
    else:
        from ..calibration.sensitivity import LOSSES

        found = [LOSSES[output](agreement) for agreement in every]
    return [max(FLOOR, loss) for loss in found if loss is not None]
