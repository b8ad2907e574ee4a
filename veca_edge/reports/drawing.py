"""Drawing a figure: matplotlib's SVG, made to live inside a page.

Every figure is drawn twice, for a wide and for a narrow screen, with letters of the same size; the page
shows the one that fits. Colours are the page's own (CSS variables), so that light and dark both work,
and the text is text, in the page's typeface.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..base.errors import MissingDependency
from .facts import Series

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

WIDE = (536, 330)
NARROW = (346, 290)
FONT_SIZE = 12.5
COLOURS = 8
# Markers tell precisions apart, colours tell series apart.
MARKERS = {"int8": "o", "w8": "^", "fp16": "s", "fp32": "D"}
# Stand-ins that matplotlib takes for colours, and what the page has in their place.
INK, SURFACE = "#abc100", "#abc103"
_MUTED, _GRID = "#abc101", "#abc102"
_VARIABLES = {
    INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _GRID: "var(--grid)",
    SURFACE: "var(--surface)",
    **{f"#abc0{i:02d}": f"var(--c{i})" for i in range(COLOURS)},
}
# A linear axis that starts at zero shows nothing of the small ones beyond this ratio.
LOG_RATIO = 15
STEPS = (1, 2, 2.5, 5, 10)  # of ticks


@dataclass(frozen=True)
class LegendEntry:
    """One series' name, with the colour (`--cN`), marker and dashes that it is drawn with."""

    label: str
    colour: int
    marker: str
    dashed: bool


@dataclass(frozen=True)
class Figure:
    """A plot in its two layouts, as SVG that is safe to put in a page."""

    title: str
    caption: str
    wide: Markup
    narrow: Markup
    legend: tuple[LegendEntry, ...]


@dataclass(frozen=True)
class Plot:
    """What a figure is drawn with: axes, its width in pixels, and the tips of its points, by SVG id."""

    axes: Axes
    narrow: bool
    tips: dict[str, str]

    def tip(self, text: str) -> str:
        """An id for a point, which makes `text` appear when the pointer rests on it."""
        name = f"tip{len(self.tips)}"
        self.tips[name] = text
        return name


def number(value: float) -> str:
    """Three digits, and no exponent."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def figure_of(
    name: str, title: str, caption: str, unit: str, series: Sequence[Series], draw: Callable[[Plot], None]
) -> Figure:
    """Draws a figure in its two layouts.

    Args:
        name: unique in its page; its ids begin with it.
        unit: of the y axis, written above it.
        series: what the legend lists.
        draw: called for each layout.
    """
    wide, narrow = (
        _svg(f"{name}-{kind}", f"{title}: {caption}", size, unit, draw, narrow=size is NARROW)
        for kind, size in (("wide", WIDE), ("narrow", NARROW))
    )
    legend = tuple(LegendEntry(s.label, s.index % COLOURS, _marker(s), s.index >= COLOURS) for s in series)
    return Figure(title, caption, wide, narrow, legend)


def _svg(
    name: str, description: str, size: tuple[int, int], unit: str, draw: Callable[[Plot], None], narrow: bool
) -> Markup:
    matplotlib = import_matplotlib()
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # the user's own style must not come in
        matplotlib.rcParams.update(
            {
                "svg.fonttype": "none",
                "svg.hashsalt": name,
                "font.size": FONT_SIZE,
                "text.color": INK,
                "font.family": "DejaVu Sans",
                "axes.unicode_minus": False,
                "text.parse_math": False,
                "axes.formatter.useoffset": False,
                "path.simplify": False,
            }
        )
        canvas = Canvas(figsize=(size[0] / 72, size[1] / 72), dpi=72)
        FigureCanvasSVG(canvas)
        plot = Plot(_axes(canvas, size, unit), narrow, {})
        draw(plot)
        file = io.StringIO()
        canvas.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return embedded(file.getvalue(), name, description, plot.tips)


def _axes(canvas: Canvas, size: tuple[int, int], unit: str) -> Axes:
    width, height = size
    axes = canvas.add_axes((50 / width, 46 / height, 1 - 64 / width, 1 - 78 / height))
    axes.set_title(unit, loc="left", fontsize=FONT_SIZE, color=_MUTED, pad=12, x=-36 / (width - 64))
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_MUTED)
    axes.grid(axis="y", color=_GRID, linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(axis="both", which="both", color=_MUTED, labelcolor=_MUTED, length=0, labelsize=FONT_SIZE, pad=6)
    axes.tick_params(axis="x", which="major", length=4, width=0.8)
    axes.xaxis.label.set_color(_MUTED)
    axes.xaxis.labelpad = 8
    return axes


def embedded(svg: str, name: str, description: str, tips: dict[str, str]) -> Markup:
    """An SVG file's text as an element of a page: its own ids, the page's colours and typeface, tips on points."""
    from markupsafe import Markup, escape

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    if box is None:
        raise ValueError("an SVG file without a viewBox")
    width, height = box.groups()
    head = (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(description)}" xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    svg = re.sub(r"<svg[^>]*>", lambda _: head, svg, count=1)
    for tip, text in tips.items():
        svg = svg.replace(f'<g id="{tip}">', f'<g id="{tip}"><title>{escape(text)}</title>')
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r'xlink:href="#', f'xlink:href="#{name}-', svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    return Markup(svg.strip())


def mark(plot: Plot, series: Series, x: float, y: float, tip: str, hollow: bool = False) -> None:
    """A point in its series' colour and marker, with a tip."""
    plot.axes.plot(
        [x],
        [y],
        marker=_marker(series),
        markersize=7,
        linestyle="none",
        gid=plot.tip(tip),
        zorder=3,
        markerfacecolor=SURFACE if hollow else colour(series),
        markeredgecolor=colour(series),
        markeredgewidth=1.5,
        clip_on=False,
    )


def label_points(plot: Plot, labels: Sequence[tuple[float, float, str]], points: Sequence[tuple[float, float]]) -> None:
    """Writes core counts beside points, on the first side where nothing else is; nowhere if there is no such side."""
    axes = plot.axes
    width, height = 0.62 * FONT_SIZE, FONT_SIZE
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in axes.transData.transform(points)]
    for (x, y, text), (px, py) in zip(labels, axes.transData.transform([(x, y) for x, y, _ in labels]), strict=True):
        wide = width * len(text)
        for dx, dy, ha, va in (
            (-8, 4, "right", "bottom"),
            (0, 8, "center", "bottom"),
            (8, -3, "left", "top"),
            (9, 0, "left", "center"),
            (-9, 0, "right", "center"),
            (0, -8, "center", "top"),
        ):
            left = px + dx - {"left": 0, "center": wide / 2, "right": wide}[ha]
            low = py + dy - {"bottom": 0, "center": height / 2, "top": height}[va]
            box = (left, low, left + wide, low + height)
            if not any(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken):
                taken.append(box)
                axes.annotate(
                    text, (x, y), (dx, dy), textcoords="offset points", ha=ha, va=va, color=INK, annotation_clip=False
                )
                break


def scale_y(axes: Axes, values: Sequence[float]) -> None:
    """From zero on, or logarithmic where the largest value is more than `LOG_RATIO` times the smallest."""
    low, high = min(values), max(values)
    if _scale_axis(axes.yaxis, axes.set_yscale, low, high, 5):
        axes.set_ylim(low / 1.3, high * 1.3)
    else:
        axes.set_ylim(0, 1.1 * max(high, axes.get_ylim()[1] / 1.05))


def scale_x(axes: Axes, values: Sequence[float]) -> None:
    """As `scale_y`."""
    low, high = min(values), max(values)
    if _scale_axis(axes.xaxis, axes.set_xscale, low, high, 6):
        axes.set_xlim(low / 1.2, high * 1.2)
    else:
        axes.set_xlim(0, 1.06 * high)


def _scale_axis(axis, set_scale: Callable[[str], None], low: float, high: float, ticks: int) -> bool:
    """Ticks written as plain numbers. Returns whether they are logarithmic: at 1, 2 and 5 of every decade, fewer over
    many decades; else at most so many."""
    ticker = import_matplotlib().ticker
    if is_log := low > 0 and high / low > LOG_RATIO:
        set_scale("log")
        steps = (1,) if math.log10(high / low) > 3 else (1, 2, 5)
        axis.set_major_locator(ticker.LogLocator(subs=steps))
        axis.set_minor_locator(ticker.NullLocator())
    else:
        axis.set_major_locator(ticker.MaxNLocator(ticks, steps=STEPS))
    axis.set_major_formatter(lambda v, _: number(v))
    return is_log


def colour(series: Series) -> str:
    """The stand-in of a series' colour; beyond `COLOURS` they repeat, and `dashes` tell them apart."""
    return f"#abc0{series.index % COLOURS:02d}"


def _marker(series: Series) -> str:
    return MARKERS.get(series.precision, "o")


def dashes(series: Series) -> tuple[float, float] | tuple[None, None]:
    return (4, 2) if series.index >= COLOURS else (None, None)


def import_matplotlib() -> Any:
    """matplotlib, with its tickers. Raises `MissingDependency`."""
    try:
        import matplotlib
        import matplotlib.ticker
    except ImportError:
        raise MissingDependency("matplotlib", "report", "Drawing a report") from None
    return matplotlib
