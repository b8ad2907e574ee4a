"""`veca-edge export`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..base.errors import EdgeError
from ..targets.table import target_named
from . import options
from .console import Column, Terminal, command, quoted

if TYPE_CHECKING:
    from ..actions.build import Built
    from ..actions.export import ExportResult
    from ..bundle.store import Bundle
    from ..proof.fidelity import Agreement, CosineStatistics, Fidelity

ESTIMATED_MODULES = ("Orin Nano 8GB", "Orin NX 16GB", "AGX Orin 64GB")


def export(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A trained checkpoint, .pt or .safetensors; without one, the bundled demo model.",
            show_default=False,
        ),
    ] = None,
    cores: options.Cores = "16",
    target: Annotated[str, typer.Option(metavar="NAME", help="cpu, jetson or apple.")] = "cpu",
    precision: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="One, a list, or auto: the fastest that passes. cpu: int8,fp32; jetson: int8,fp16,fp32; "
            "apple: int8,w8,fp16.",
            show_default="int8",
        ),
    ] = "",
    image_size: Annotated[
        str, typer.Option(metavar="LIST", help="256 or HxW, or a list.", show_default="256; the demo's own 32")
    ] = "",
    batch: Annotated[int, typer.Option(min=1, max=4096, help="Images per call.")] = 1,
    input: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="image: the camera's frame, uint8 RGB [B,H,W,3]; tensor: normalised float32 [B,3,H,W]."
        ),
    ] = "image",
    outputs: Annotated[
        str,
        typer.Option(metavar="LIST", help="Any of cls,dense,logits.", show_default="cls,dense, and logits with a head"),
    ] = "",
    calibration: options.Calibration = None,
    calibration_count: options.CalibrationCount = 128,
    calibration_method: Annotated[
        str, typer.Option(metavar="NAME", help="search (smoothing, ranges and rounding by output error) or nncf.")
    ] = "search",
    evaluation: options.Evaluation = None,
    seed: options.Seed = 0,
    min_cosine: Annotated[float, typer.Option(help="The gate: mean cosine with the FP32 reference.")] = 0.99,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The bundle to write.", show_default="veca-edge-out/NAME-TARGET")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that is there.")] = False,
    measure: Annotated[
        bool, typer.Option(help="Time INT8 against the next precision, where the target runs here.")
    ] = True,
    head: options.Head = None,
    labels: options.Labels = None,
    heads: options.Heads = None,
    rope_zero: options.RopeZero = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="DEVICE", help="jetson: build the engines there; local, or ssh://[user@]host[:port]."),
    ] = None,
    jetpack: Annotated[
        str | None,
        typer.Option(
            metavar="X.Y", help="jetson: the board's JetPack, 5.1, 6.0, 6.1, 6.2, 7.0, 7.1 or 7.2.", show_default="6.2"
        ),
    ] = None,
    tensorrt: Annotated[
        str | None, typer.Option(metavar="X.Y", help="jetson: the board's TensorRT, instead of --jetpack.")
    ] = None,
    elastic: Annotated[
        bool,
        typer.Option("--elastic", help="jetson: one file and one engine for all core counts, which share its weights."),
    ] = False,
    ios: Annotated[
        int | None,
        typer.Option(
            help="apple: the oldest iOS that loads the package: 17, 18 or 26.", show_default="18", metavar="N"
        ),
    ] = None,
    default_cores: Annotated[
        int | None,
        typer.Option(
            help="apple: core count of the function an app gets when it names none.", show_default="the smallest"
        ),
    ] = None,
    separate: Annotated[
        bool, typer.Option("--separate", help="apple: one package per core count instead of one for all.")
    ] = False,
    layout: Annotated[
        str | None, typer.Option(metavar="NAME", help="apple: tokens, or ane: 1x1 convolutions.", show_default="tokens")
    ] = None,
    coordinates: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="apple: the core tokens' positions in fp16, or fp32, which the Neural Engine lacks.",
            show_default="fp16",
        ),
    ] = None,
    classifier: Annotated[
        bool, typer.Option("--classifier", help="apple: add the outputs label and label_probs.")
    ] = False,
    threads: options.Threads = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Export a checkpoint as a verified bundle.

    INT8 by default. Converts, calibrates and quantizes, compares every variant with the FP32 reference on images
    that did not calibrate it, and writes a bundle only if all of them pass.
    """
    with command(json, debug) as terminal:
        if checkpoint is None:
            terminal.say(options.DEMO)
        target_named(target)
        core_counts = options.core_counts(cores)
        precisions = options.names(precision, "--precision")
        sizes = options.image_sizes(image_size)
        wanted_outputs = options.names(outputs, "--outputs")
        jetson = {"--device": device, "--jetpack": jetpack, "--tensorrt": tensorrt, "--elastic": elastic or None}
        apple = {
            "--ios": ios,
            "--default-cores": default_cores,
            "--separate": separate or None,
            "--layout": layout,
            "--coordinates": coordinates,
            "--classifier": classifier or None,
        }
        refuse_foreign_options(target, {"jetson": jetson, "apple": apple})
        if device and (jetpack or tensorrt):
            raise EdgeError(
                "A board was given with --device, and a version for it.",
                "The board knows its own: leave --jetpack and --tensorrt out.",
            )

        from ..actions.export import ExportRequest
        from ..actions.export import export as export_bundle
        from ..proof.evaluate import BelowGate

        request = ExportRequest(
            output=output or default_output(checkpoint, target),
            checkpoint=checkpoint,
            target=target,
            core_counts=core_counts,
            precisions=precisions,
            image_sizes=sizes,
            batch=batch,
            input=input,
            outputs=wanted_outputs,
            heads=heads,
            rope_zero=rope_zero,
            head=head,
            labels=labels,
            calibration=calibration,
            calibration_count=calibration_count,
            calibration_method=calibration_method,
            seed=seed,
            evaluation=evaluation,
            min_cosine=min_cosine,
            force=force,
            threads=threads,
            measure=measure,
            target_options=target_options(
                target, jetpack, tensorrt, elastic, ios, default_cores, separate, layout, coordinates, classifier
            ),
        )
        built = None
        try:
            with terminal.progress() as progress:
                if device is None:
                    result = export_bundle(request, progress)
                else:
                    from ..actions.build import export_for

                    result, built = export_for(request, device, progress, terminal.log)
        except BelowGate as failed:
            fidelity_tables(terminal, failed.fidelity)
            raise
        show(terminal, result, built, device)


def default_output(checkpoint: Path | None, target: str) -> Path:
    return Path("veca-edge-out") / f"{checkpoint.stem if checkpoint else 'demo'}-{target}"


def refuse_foreign_options(target: str, given: dict[str, dict[str, object]]) -> None:
    """An option of another target is a mistake, not something to ignore."""
    for owner, values in given.items():
        foreign = [name for name, value in values.items() if value is not None]
        if owner != target and foreign:
            raise EdgeError(
                f"{foreign[0]} is an option of the target '{owner}', not of '{target}'.",
                f"Leave it out, or give --target {owner}.",
            )


def target_options(
    target: str,
    jetpack: str | None,
    tensorrt: str | None,
    elastic: bool,
    ios: int | None,
    default_cores: int | None,
    separate: bool,
    layout: str | None,
    coordinates: str | None,
    classifier: bool,
) -> object:
    """The options of the one target that is asked for, or None for its defaults."""
    if target == "jetson":
        from ..converters.tensorrt.dialects import TensorrtOptions
        from ..devices.jetson.modules import jetpack_tensorrt

        if jetpack and tensorrt:
            raise EdgeError("Both --jetpack and --tensorrt were given.", "A JetPack brings its TensorRT: give one.")
        version = jetpack_tensorrt(jetpack) if jetpack else tensorrt or TensorrtOptions.version
        return TensorrtOptions(version, elastic)
    if target == "apple":
        from ..converters.coreml.packages import CoremlOptions

        return CoremlOptions(
            ios=ios or 18,
            default_cores=default_cores,
            separate=separate,
            layout=layout or "tokens",
            coordinates=coordinates or "fp16",
            classifier=classifier,
        )
    return None


# ------------------------------------------------------------------------------------- rendering


def show(terminal: Terminal, result: ExportResult, built: Built | None, device: str | None) -> None:
    bundle = result.bundle if built is None else built.bundle
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
    if bundle.spec.target == "jetson" and built is None:
        estimate_table(terminal, bundle)
    terminal.say(f"Bundle: {bundle.directory}", "bold green")
    if built is not None:
        show_board(terminal, built)
        terminal.next(quoted("veca-edge", "profile", bundle.directory, "--device", device))
    elif bundle.spec.target == "jetson":
        script = bundle.directory / "build.sh"
        terminal.say(
            "The engines are still to be built, on the board"
            + (f": from here, or there with: sh {script.name}" if script.is_file() else ".")
        )
        terminal.next(quoted("veca-edge", "build", bundle.directory, "--device", "ssh://HOST"))
    elif bundle.spec.target == "apple" and sys.platform != "darwin":
        terminal.say("Profiling it takes a Mac; what it computes can be checked anywhere.")
        terminal.next(quoted("veca-edge", "verify", bundle.directory))
    else:
        terminal.next(quoted("veca-edge", "profile", bundle.directory))
    terminal.result(
        {
            "bundle": bundle.directory,
            "notes": result.notes,
            "verdict": result.verdict and result.verdict.sentence,
            "manifest": bundle.to_json(),
        }
    )


def show_board(terminal: Terminal, built: Built) -> None:
    """What the engines were built on, and the engines."""
    board = built.board
    facts = {
        "module": board.name,
        "L4T": board.l4t,
        "JetPack": board.jetpack,
        "TensorRT": board.tensorrt,
        "CUDA": board.cuda,
        "power mode": board.power_mode,
    }
    terminal.facts(f"Engines built on {board.hostname}", {name: value or "unknown" for name, value in facts.items()})
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
                f"{e.details.get('build_seconds') or 0:.0f}",
                e.path,
            ]
            for e in built.engines
        ],
    )


def estimate_table(terminal: Terminal, bundle: Bundle) -> None:
    """What some modules' peaks allow, for want of a board to measure on."""
    from ..actions.build import estimates
    from ..devices.jetson.modules import MODULES

    modules = tuple(MODULES[name] for name in ESTIMATED_MODULES)
    rows = [
        [
            a.core_count,
            a.precision,
            a.image_size,
            *(f"{e.milliseconds:.2f} {'c' if e.bound == 'compute' else 'b'}" for e in found),
        ]
        for a, found in estimates(bundle, modules)
    ]
    terminal.table(
        [Column("cores"), Column("prec.", False), Column("size", False), *(Column(name) for name in ESTIMATED_MODULES)],
        rows,
        "ESTIMATED least ms per frame, not measured (bound by c: compute, b: bandwidth)",
    )


def fidelity_tables(terminal: Terminal, fidelity: Sequence[Fidelity]) -> None:
    """What conversion and quantization cost, and what fewer cores cost on top; one pair of tables per image size."""
    for size in dict.fromkeys(f.image_size for f in fidelity):
        here = [f for f in fidelity if f.image_size == size]
        count = here[0].reference.images
        agreement_table(
            terminal,
            f"Cosine with the FP32 model at the same core count, {size}, {count} images",
            [(f, f.reference) for f in here],
        )
        agreement_table(terminal, "The same with the FP32 model at its full core bank", [(f, f.elastic) for f in here])


def agreement_table(terminal: Terminal, title: str, rows: Sequence[tuple[Fidelity, Agreement]]) -> None:
    columns = [
        Column("cores"),
        Column("prec.", False),
        Column("cls"),
        Column("worst"),
        Column("dense"),
        Column("1%"),
        Column("worst"),
        Column("agree"),
        Column("top-1"),
        Column("FP32"),
    ]
    cells = [
        [
            f.core_count,
            f.precision,
            *cosines(a.cls, "mean", "worst"),
            *cosines(a.dense, "mean", "first_percentile", "worst"),
            percent(a.top1_agreement),
            percent(a.top1),
            percent(f.reference_top1),
        ]
        for f, a in rows
    ]
    used = [i for i in range(len(columns)) if any(row[i] != "" for row in cells)]
    terminal.table([columns[i] for i in used], [[row[i] for i in used] for row in cells], title)


def cosines(statistics: CosineStatistics | None, *names: str) -> list[str]:
    return [f"{getattr(statistics, name):.{5 if name == 'mean' else 4}f}" if statistics else "" for name in names]


def percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def megabytes(count: int) -> str:
    return f"{count / 1e6:.2f}"
