"""One checkpoint for several targets, as one job: read once, and calibrated once for all that are calibrated alike.

On a cluster that much is done here, and every target is written and compared on a worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..base.errors import EdgeError
from ..base.progress import Progress, silent
from ..targets.base import Log
from ..targets.table import target_named
from .export import ExportResult, Shared, export, fastest_first, read_sources
from .make_on_cluster import making_on
from .request import AUTO, ExportRequest
from .resolve import check_request

# What has to be the same for exports to share what they are made from.
_COMMON = ("checkpoint", "images", "core_counts", "image_sizes", "calibration_method")


def export_matrix(
    requests: Sequence[ExportRequest],
    progress: Progress = silent,
    on_log: Log = lambda line: None,
    cluster: str | None = None,
) -> Iterator[ExportResult]:
    """Exports for one target after the other; each result comes as soon as its bundle is there.

    Every request is checked before anything slow. One that fails ends the rest; bundles that were made stay.

    Args:
        requests: as for `export`, alike but for target, precisions, options and output.
        cluster: an address, `local:N`, `tcp://SCHEDULER:8786` or `ssh:HOST*N`, on whose workers the targets are made at
            the same time; None makes them here, one after the other. The bundles are the same. What is timed is timed
            on this machine, when all workers have ended.

    Raises:
        EdgeError: they differ in more, or two write to one place; no such cluster; or as `export`.
        MissingDependency: Dask is not installed.
    """
    first, *others = requests
    for name in _COMMON:
        if any(getattr(other, name) != getattr(first, name) for other in others):
            raise EdgeError(
                f"The exports differ in their {name.replace('_', ' ')}, so they can't be one job.",
                "Export them one after the other.",
            )
    if len({request.output.absolute() for request in requests}) < len(requests):
        raise EdgeError("Two exports would write the same bundle.", "Give each an output of its own.")
    for request in requests:
        check_request(replace(request, precisions=()) if request.precisions == (AUTO,) else request)
    shared = Shared()
    if cluster is None:
        for request in requests:
            yield export(request, progress, on_log, shared)
        return
    with making_on(cluster, [request.target for request in requests]) as make:
        for request in requests:
            first = fastest_first(request) if request.precisions == (AUTO,) else request
            make.start(read_sources(first, progress, shared)[1])
        for request in requests:
            yield export(request, progress, on_log, shared, make)


def precisions_for(target: str, asked: Sequence[str]) -> tuple[str, ...]:
    """Those of a list for several targets that one of them has.

    Raises:
        EdgeError: it has none of them.
    """
    known = target_named(target).precisions
    found = tuple(p for p in asked if p in known or p == AUTO)
    if asked and not found:
        raise EdgeError(
            f"The target '{target}' has none of the precisions {', '.join(asked)}.", f"It has: {', '.join(known)}."
        )
    return found
