"""The plots: matplotlib's SVG, made to live inside a page.

Every plot is drawn twice, for a wide and for a narrow screen, with letters of the same size; the page
shows the one that fits. Colours are the page's own (CSS variables), so that light and dark both work,
and the text is text, in the page's typeface.
"""

from __future__ import annotations

import io
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ..actions.candidate import Candidate
from ..base.errors import MissingDependency
from .facts import Series, pareto_front

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
_INK, _MUTED, _GRID, _SURFACE = "#abc100", "#abc101", "#abc102", "#abc103"
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _GRID: "var(--grid)",
    _SURFACE: "var(--surface)",
    **{f"#abc0{i:02d}": f"var(--c{i})" for i in range(COLOURS)},
}
# A linear axis that starts at zero shows nothing of the small ones beyond this ratio.
LOG_RATIO = 15
_STEPS = (1, 2, 2.5, 5, 10)


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


def core_count_figure(
    name: str,
    title: str,
    caption: str,
    unit: str,
    series: Sequence[Series],
    value: Callable[[Candidate], float | None],
    upper: Callable[[Candidate], float] | None = None,
) -> Figure | None:
    """A quantity against the core count, with a band up to `upper`; None where nothing was measured."""
    drawn = [(s, points) for s in series if (points := _known(s, value))]
    if not drawn:
        return None
    counts = sorted({c.artifact.core_count for _, points in drawn for c, _ in points})
    values = [v for _, points in drawn for _, v in points]

    def draw(plot: Plot) -> None:
        axes = plot.axes
        for s, points in drawn:
            x, y = [c.artifact.core_count for c, _ in points], [v for _, v in points]
            if upper is not None:
                axes.fill_between(x, y, [upper(c) for c, _ in points], color=_colour(s), alpha=0.16, linewidth=0)
            axes.plot(x, y, color=_colour(s), linewidth=1.75, dashes=_dashes(s))
            for c, v in points:
                high = "" if upper is None else f", p95 {number(upper(c))} {unit}"
                _mark(
                    plot,
                    s,
                    c.artifact.core_count,
                    v,
                    f"{s.label}, {c.artifact.core_count} cores: {number(v)} {unit}{high}",
                )
        _scale_y(axes, values)
        axes.set_xticks(_thinned(counts, 5 if plot.narrow else 8))
        axes.set_xlim(min(counts) - _margin(counts), max(counts) + _margin(counts))
        axes.set_xlabel("core tokens")

    return _figure(name, title, caption, unit, [s for s, _ in drawn], draw)


def trade_off_figure(
    name: str,
    title: str,
    caption: str,
    quantity: str,
    series: Sequence[Series],
    value: Callable[[Candidate], float | None],
    percent: bool = False,
) -> Figure | None:
    """Fidelity against the median latency, the Pareto front of every machine marked; None where fidelity is unknown."""
    known = [(s, c, v) for s in series for c, v in _known(s, value)]
    if not known:
        return None
    points = [(s, c) for s, c, _ in known]
    places = [(c.measurement.p50_ms, v) for _, c, v in known]
    machines: dict[str, list[int]] = defaultdict(list)
    for i, (_, c) in enumerate(points):
        machines[c.measurement.machine.machine_id].append(i)
    # What is slow on one machine is not beaten by another machine.
    fronts = [[of[i] for i in pareto_front([places[i] for i in of])] for of in machines.values()]
    front = {i for f in fronts for i in f}

    def draw(plot: Plot) -> None:
        axes = plot.axes
        for line in fronts:
            axes.plot(
                [places[i][0] for i in line],
                [places[i][1] for i in line],
                color=_INK,
                linewidth=1,
                alpha=0.55,
                drawstyle="steps-post",
                zorder=1,
            )
        for i, (s, c) in enumerate(points):
            p50, v = places[i]
            shown = f"{v:.1%}" if percent else f"{v:.5f}"
            _mark(
                plot,
                s,
                p50,
                v,
                f"{s.label}, {c.artifact.core_count} cores: {number(p50)} ms, "
                f"{quantity} {shown}{'; on the Pareto front' if i in front else ''}",
                hollow=i not in front,
            )
        _scale_x(axes, [x for x, _ in places])
        if percent:
            axes.yaxis.set_major_formatter(lambda v, _: f"{100 * v:.3g}")
        axes.margins(y=0.12)
        axes.yaxis.set_major_locator(_matplotlib().ticker.MaxNLocator(6, steps=_STEPS))
        axes.set_xlabel("p50 latency, ms")
        labels = [(*places[i], str(points[i][1].artifact.core_count)) for line in fronts for i in line]
        _label_points(plot, labels, places)

    unit = f"{quantity}, %" if percent else quantity
    return _figure(name, title, caption, unit, _unique(s for s, _ in points), draw)


def sustained_figure(name: str, title: str, caption: str, series: Sequence[Series]) -> Figure | None:
    """Median latency of every second of the long runs, relative to the first seconds of each."""
    runs = [(s, c, run) for s in series for c in s.points if (run := c.measurement.sustained)]
    if not runs:
        return None

    def draw(plot: Plot) -> None:
        for s, c, run in runs:
            start_ms = run.first_minute_ms
            plot.axes.plot(
                [w.elapsed_s for w in run.windows],
                [w.p50_ms / start_ms for w in run.windows],
                color=_colour(s),
                linewidth=1.25,
                alpha=0.8,
                gid=plot.tip(f"{s.label}, {c.artifact.core_count} cores"),
            )
        plot.axes.set_ylim(bottom=0)
        plot.axes.set_xlabel("seconds under load")

    return _figure(name, title, caption, "latency relative to the start", _unique(s for s, _, _ in runs), draw)


# ------------------------------------------------------------------------------------- drawing


def number(value: float) -> str:
    """Three digits, and no exponent."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _figure(
    name: str, title: str, caption: str, unit: str, series: Sequence[Series], draw: Callable[[Plot], None]
) -> Figure:
    wide, narrow = (
        _svg(f"{name}-{kind}", f"{title}: {caption}", size, unit, draw, narrow=size is NARROW)
        for kind, size in (("wide", WIDE), ("narrow", NARROW))
    )
    legend = tuple(LegendEntry(s.label, s.index % COLOURS, _marker(s), s.index >= COLOURS) for s in series)
    return Figure(title, caption, wide, narrow, legend)


def _svg(
    name: str, description: str, size: tuple[int, int], unit: str, draw: Callable[[Plot], None], narrow: bool
) -> Markup:
    matplotlib = _matplotlib()
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # the user's own style must not come in
        matplotlib.rcParams.update(
            {
                "svg.fonttype": "none",
                "svg.hashsalt": name,
                "font.size": FONT_SIZE,
                "text.color": _INK,
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


def _mark(plot: Plot, series: Series, x: float, y: float, tip: str, hollow: bool = False) -> None:
    plot.axes.plot(
        [x],
        [y],
        marker=_marker(series),
        markersize=7,
        linestyle="none",
        gid=plot.tip(tip),
        zorder=3,
        markerfacecolor=_SURFACE if hollow else _colour(series),
        markeredgecolor=_colour(series),
        markeredgewidth=1.5,
        clip_on=False,
    )


def _label_points(
    plot: Plot, labels: Sequence[tuple[float, float, str]], points: Sequence[tuple[float, float]]
) -> None:
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
                    text, (x, y), (dx, dy), textcoords="offset points", ha=ha, va=va, color=_INK, annotation_clip=False
                )
                break


def _scale_y(axes: Axes, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    if low > 0 and high / low > LOG_RATIO:
        _log_axis(axes.yaxis, lambda: axes.set_yscale("log"), low, high)
        axes.set_ylim(low / 1.3, high * 1.3)
    else:
        axes.set_ylim(0, 1.1 * max(high, axes.get_ylim()[1] / 1.05))
        axes.yaxis.set_major_locator(_matplotlib().ticker.MaxNLocator(5, steps=_STEPS))
        axes.yaxis.set_major_formatter(lambda v, _: number(v))


def _scale_x(axes: Axes, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    if low > 0 and high / low > LOG_RATIO:
        _log_axis(axes.xaxis, lambda: axes.set_xscale("log"), low, high)
        axes.set_xlim(low / 1.2, high * 1.2)
    else:
        axes.set_xlim(0, 1.06 * high)
        axes.xaxis.set_major_locator(_matplotlib().ticker.MaxNLocator(6, steps=_STEPS))
        axes.xaxis.set_major_formatter(lambda v, _: number(v))


def _log_axis(axis, make_log: Callable[[], None], low: float, high: float) -> None:
    """Ticks at 1, 2 and 5 of every decade, written as plain numbers; fewer over many decades."""
    ticker = _matplotlib().ticker
    make_log()
    steps = (1,) if math.log10(high / low) > 3 else (1, 2, 5)
    axis.set_major_locator(ticker.LogLocator(subs=steps))
    axis.set_major_formatter(lambda v, _: number(v))
    axis.set_minor_locator(ticker.NullLocator())


def _thinned(counts: Sequence[int], most: int) -> list[int]:
    step = math.ceil(len(counts) / most)
    return list(counts[::-1][::step][::-1])


def _margin(counts: Sequence[int]) -> float:
    gaps = [b - a for a, b in pairwise(counts)]
    return 0.35 * min(gaps) if gaps else 1.0


def _known(series: Series, value: Callable[[Candidate], float | None]) -> list[tuple[Candidate, float]]:
    return [(c, v) for c in series.points if (v := value(c)) is not None]


def _unique(series: Iterable[Series]) -> list[Series]:
    return list({s.index: s for s in series}.values())


def _colour(series: Series) -> str:
    return f"#abc0{series.index % COLOURS:02d}"


def _marker(series: Series) -> str:
    return MARKERS.get(series.precision, "o")


def _dashes(series: Series) -> tuple[float, float] | tuple[None, None]:
    return (4, 2) if series.index >= COLOURS else (None, None)


def _matplotlib():
    try:
        import matplotlib
        import matplotlib.ticker
    except ImportError:
        raise MissingDependency("matplotlib", "report", "Drawing a report") from None
    return matplotlib
