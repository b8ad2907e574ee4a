"""The figures of a report: a quantity against core counts, fidelity against latency, long runs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from ..actions.candidate import Candidate
from .drawing import (
    INK,
    STEPS,
    Figure,
    Plot,
    colour,
    dashes,
    figure_of,
    import_matplotlib,
    label_points,
    mark,
    number,
    scale_x,
    scale_y,
)
from .facts import Series, pareto_front


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
                axes.fill_between(x, y, [upper(c) for c, _ in points], color=colour(s), alpha=0.16, linewidth=0)
            axes.plot(x, y, color=colour(s), linewidth=1.75, dashes=dashes(s))
            for c, v in points:
                high = "" if upper is None else f", p95 {number(upper(c))} {unit}"
                mark(
                    plot,
                    s,
                    c.artifact.core_count,
                    v,
                    f"{s.label}, {c.artifact.core_count} cores: {number(v)} {unit}{high}",
                )
        scale_y(axes, values)
        axes.set_xticks(_thinned(counts, 5 if plot.narrow else 8))
        axes.set_xlim(min(counts) - _margin(counts), max(counts) + _margin(counts))
        axes.set_xlabel("core tokens")

    return figure_of(name, title, caption, unit, [s for s, _ in drawn], draw)


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
                color=INK,
                linewidth=1,
                alpha=0.55,
                drawstyle="steps-post",
                zorder=1,
            )
        for i, (s, c) in enumerate(points):
            p50, v = places[i]
            shown = f"{v:.1%}" if percent else f"{v:.5f}"
            mark(
                plot,
                s,
                p50,
                v,
                f"{s.label}, {c.artifact.core_count} cores: {number(p50)} ms, "
                f"{quantity} {shown}{'; on the Pareto front' if i in front else ''}",
                hollow=i not in front,
            )
        scale_x(axes, [x for x, _ in places])
        if percent:
            axes.yaxis.set_major_formatter(lambda v, _: f"{100 * v:.3g}")
        axes.margins(y=0.12)
        axes.yaxis.set_major_locator(import_matplotlib().ticker.MaxNLocator(6, steps=STEPS))
        axes.set_xlabel("p50 latency, ms")
        labels = [(*places[i], str(points[i][1].artifact.core_count)) for line in fronts for i in line]
        label_points(plot, labels, places)

    unit = f"{quantity}, %" if percent else quantity
    return figure_of(name, title, caption, unit, _unique(s for s, _ in points), draw)


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
                color=colour(s),
                linewidth=1.25,
                alpha=0.8,
                gid=plot.tip(f"{s.label}, {c.artifact.core_count} cores"),
            )
        plot.axes.set_ylim(bottom=0)
        plot.axes.set_xlabel("seconds under load")

    return figure_of(name, title, caption, "latency relative to the start", _unique(s for s, _, _ in runs), draw)


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
