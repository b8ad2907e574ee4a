"""`veca-edge export`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..actions.request import CheckpointSource, ExportRequest, ImageSource
from ..actions.run_file import targets_of
from ..base import lists
from ..base.errors import EdgeError
from ..base.options import made_of
from ..base.text import counted, quoted
from ..cluster.options import ClusterOptions
from ..targets.table import target_named
from . import options
from .console import Column, Terminal, command
from .fields import Group, Typed, of_targets, owners_of, refuse_foreign, with_fields
from .next_steps import show_next

if TYPE_CHECKING:
    from ..actions.export import ExportResult
    from ..proof.fidelity import Agreement, CosineStatistics, Fidelity
    from ..targets.base import Built, Table

TARGET_OPTIONS = of_targets(lambda target: target.options)


@with_fields(Group(ExportRequest), Group(ImageSource), Group(CheckpointSource), Group(ClusterOptions), *TARGET_OPTIONS)
def export(
    typed: Typed,
    checkpoint: options.CheckpointPath = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The bundle to write.", show_default="veca-edge-out/NAME-TARGET")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A run file: TOML with options by name; what is typed wins over it."),
    ] = None,
    like: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="Repeat the export that made a bundle, on other weights.")
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Export a checkpoint as a verified bundle.

    INT8 by default. Converts, calibrates and quantizes, compares every variant with the FP32 reference on images
    that did not calibrate it, and writes a bundle only if all of them pass.
    """
    with command(json, debug) as terminal:
        targets = list(dict.fromkeys(lists.names(typed.get("--target") or "", "--target")))
        if len(targets) == 1:
            typed = {**typed, "--target": targets[0]}
        if not targets and config is not None:
            targets = list(targets_of(config))
        cluster = made_of(ClusterOptions, typed).cluster
        if len(targets) > 1:
            requests = requests_of(terminal, targets, typed, checkpoint, output, config, like)
            made = export_for_all(terminal, requests, cluster)
            terminal.result({"exports": [as_json(result) for result in made]})
            return
        request = request_of(typed, checkpoint, output, config, like)
        if cluster is not None:
            (result,) = export_for_all(terminal, [request], cluster)
            terminal.result(as_json(result))
            return
        if request.checkpoint.path is None:
            terminal.say(options.DEMO)
        from ..actions.export import export as export_bundle

        with below_gate_shown(terminal), terminal.progress() as progress:
            result = export_bundle(request, progress, terminal.log)
        show(terminal, result, request.device)
        terminal.result(as_json(result))


@contextmanager
def below_gate_shown(terminal: Terminal) -> Iterator[None]:
    """Shows what a variant that misses the gate was like."""
    from ..proof.gate import BelowGate

    try:
        yield
    except BelowGate as failed:
        fidelity_tables(terminal, failed.fidelity)
        raise


def export_for_all(terminal: Terminal, requests: Sequence[ExportRequest], cluster: str | None) -> list[ExportResult]:
    """A bundle for each target on one calibration: one after the other, or all at once on a cluster."""
    from ..actions.matrix import export_matrix

    if requests[0].checkpoint.path is None:
        terminal.say(options.DEMO)
    made: list[ExportResult] = []
    try:
        with below_gate_shown(terminal), terminal.progress() as progress:
            made += export_matrix(requests, progress, terminal.log, cluster)
    finally:
        # Of those that were made before one failed, too.
        for request, result in zip(requests, made, strict=False):
            show(terminal, result, request.device)
    return made


def requests_of(
    terminal: Terminal,
    targets: Sequence[str],
    typed: Typed,
    checkpoint: Path | None,
    output: Path | None,
    config: Path | None,
    like: Path | None,
) -> list[ExportRequest]:
    """A request for each target: its own options of those that were typed, its own of the precisions, and a place below
    `output`. Raises `EdgeError` as `request_of`."""
    from ..actions.matrix import precisions_for

    owners, made = owners_of(TARGET_OPTIONS), []
    for target in targets:
        others = {flag for flag, (_, whose) in owners.items() if target not in whose and {*whose} & {*targets}}
        own = {flag: value for flag, value in typed.items() if flag not in others} | {"--target": target}
        place = output / target_named(target).name if output is not None else None
        request = request_of(own, checkpoint, place, config, like)
        precisions = precisions_for(target, request.precisions)
        if left_out := [p for p in request.precisions if p not in precisions]:
            terminal.note(f"The target '{target}' has no {', '.join(left_out)}.")
        made.append(replace(request, precisions=precisions))
    return made


def as_json(result: ExportResult) -> dict[str, Any]:
    return {
        "bundle": result.bundle.directory,
        "notes": result.notes,
        "verdict": result.verdict and result.verdict.sentence,
        "manifest": result.bundle.to_json(),
    }


def request_of(
    typed: Typed, checkpoint: Path | None, output: Path | None, config: Path | None = None, like: Path | None = None
) -> ExportRequest:
    """What was typed as a request. Raises `EdgeError` for a value that cannot be, or an option of another target."""
    if config is not None and like is not None:
        raise EdgeError("Both --config and --like were given.", "Each says the whole run: give one of them.")
    if config is not None or like is not None:
        request = (
            ExportRequest.from_toml(config, checkpoint, output, typed)
            if config is not None
            else ExportRequest.like(like or "", checkpoint, output, typed)
        )
        refuse_foreign(typed, TARGET_OPTIONS, request.target)
        return request
    refuse_foreign(typed, TARGET_OPTIONS, target_named(typed.get("--target") or ExportRequest.target).name)
    return ExportRequest.from_typed(typed, checkpoint, output)


# ------------------------------------------------------------------------------------- rendering


def show(terminal: Terminal, result: ExportResult, device: str | None) -> None:
    bundle = result.bundle
    fidelity_tables(terminal, result.fidelity)
    rows = [[a.core_count, a.precision, a.image_size, megabytes(a.bytes), a.path] for a in bundle.artifacts]
    terminal.table(
        [Column("cores"), Column("precision", False), Column("size", False), Column("MB"), Column("file", False)], rows
    )
    if result.verdict is not None:
        terminal.say(result.verdict.sentence, "red" if result.verdict.is_slower else "")
        for measured in (result.verdict.lower, result.verdict.higher):
            for warning in measured.warnings:
                terminal.note(f"{measured.artifact}: {warning}")
    for note in result.notes:
        terminal.note(note)
    target = target_named(bundle.spec.target)
    if result.built is None and (estimates := target.estimates(bundle)) is not None:
        show_table(terminal, estimates)
    terminal.say(f"Bundle: {bundle.directory}", "bold green")
    if result.built is not None:
        show_board(terminal, result.built)
        terminal.next(quoted("veca-edge", "profile", bundle.directory, "--device", device or ""))
    else:
        show_next(terminal, bundle)


def show_board(terminal: Terminal, built: Built) -> None:
    """What the engines were built on, and the engines."""
    from ..bundle.details import TensorrtDetails, details_as

    terminal.facts(f"Engines built on {built.place}", built.facts)
    terminal.table(
        [
            Column("cores"),
            Column("precision", False),
            Column("size", False),
            Column("MB"),
            Column("seconds"),
            Column("file", False),
        ],
        [
            [
                e.core_count,
                e.precision,
                e.image_size,
                megabytes(e.bytes),
                f"{details_as(e.details, TensorrtDetails, e.name).build_seconds or 0:.0f}",
                e.path,
            ]
            for e in built.artifacts
        ],
    )


def show_table(terminal: Terminal, table: Table) -> None:
    columns = [Column(name, i == 0 or i >= table.names) for i, name in enumerate(table.columns)]
    terminal.table(columns, table.rows, table.title)


def fidelity_tables(terminal: Terminal, fidelity: Sequence[Fidelity]) -> None:
    """What conversion and quantization cost, and what fewer cores cost on top; one pair of tables per image size."""
    for size in dict.fromkeys(f.image_size for f in fidelity):
        here = [f for f in fidelity if f.image_size == size]
        count = here[0].reference.images
        agreement_table(
            terminal,
            f"Agreement with the FP32 model at the same core count, {size}, {counted(count, 'image')}",
            [(f, f.reference) for f in here],
        )
        agreement_table(terminal, "The same with the FP32 model at its full core bank", [(f, f.elastic) for f in here])


def agreement_table(terminal: Terminal, title: str, rows: Sequence[tuple[Fidelity, Agreement]]) -> None:
    features = ["cores", "prec.", "cls", "worst", "dense", "1%", "worst", "agree", "top-1", "FP32"]
    cells = [
        [
            f.core_count,
            f.precision,
            *cosines(a.cls, "mean", "worst"),
            *cosines(a.dense, "mean", "first_percentile", "worst"),
            percent(a.top1_agreement),
            percent(a.top1),
            percent(f.reference_top1 if a.top1 is not None else None),
        ]
        for f, a in rows
    ]
    has_title = used_columns(terminal, features, cells, title)
    maps = ["cores", "prec.", "attention", "pixels", "mIoU", "depth difference", "true mIoU", "FP32", "AbsRel", "FP32"]
    cells = [
        [
            f.core_count,
            f.precision,
            *cosines(a.attention, "mean"),
            percent(a.segmentation and a.segmentation.pixels),
            percent(a.segmentation and a.segmentation.miou),
            percent(a.depth and a.depth.mean_error, 2),
            percent(a.segmentation_truth and a.segmentation_truth.miou),
            percent(a.segmentation_truth and f.reference_segmentation and f.reference_segmentation.miou),
            percent(a.depth_truth and a.depth_truth.mean_error, 2),
            percent(a.depth_truth and f.reference_depth and f.reference_depth.mean_error, 2),
        ]
        for f, a in rows
    ]
    used_columns(terminal, maps, cells, None if has_title else title)


def used_columns(terminal: Terminal, names: Sequence[str], cells: list[list], title: str | None) -> bool:
    """A table without its empty columns; none where nothing but core counts and precisions is left, which it says."""
    used = [i for i in range(len(names)) if any(row[i] != "" for row in cells)]
    if len(used) <= 2:
        return False
    columns = [Column(names[i], names[i] != "prec.") for i in used]
    terminal.table(columns, [[row[i] for i in used] for row in cells], title)
    return True


def cosines(statistics: CosineStatistics | None, *names: str) -> list[str]:
    return [f"{getattr(statistics, name):.{5 if name == 'mean' else 4}f}" if statistics else "" for name in names]


def percent(share: float | None, digits: int = 1) -> str:
    return "" if share is None else f"{share:.{digits}%}"


def megabytes(count: int) -> str:
    return f"{count / 1e6:.2f}"
