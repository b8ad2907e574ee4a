"""One checkpoint for several targets, as one job: read once, and calibrated once for all that are calibrated alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ..base.errors import EdgeError
from ..base.progress import Progress, silent
from ..targets.base import Log
from ..targets.table import target_named
from .export import ExportResult, Shared, export
from .request import AUTO, ExportRequest
from .resolve import check_request

# What has to be the same for exports to share what they are made from.
_COMMON = ("checkpoint", "images", "core_counts", "image_sizes", "calibration_method")


def export_matrix(
    requests: Sequence[ExportRequest], progress: Progress = silent, on_log: Log = lambda line: None
) -> Iterator[ExportResult]:
    """Exports for one target after the other; each result comes as soon as its bundle is there.

    Every request is checked before anything slow. One that fails ends the rest; bundles that were made stay.

    Args:
        requests: as for `export`, alike but for target, precisions, options and output.

    Raises:
        EdgeError: they differ in more, or two write to one place; or as `export`.
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
    for request in requests:
        yield export(request, progress, on_log, shared)


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
