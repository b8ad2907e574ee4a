"""`veca-edge inspect`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..actions.request import CheckpointSource
from ..base.errors import EdgeError
from ..base.options import made_of
from ..base.tasks import Task
from ..base.text import quoted
from . import options
from .console import Column, Terminal, command
from .export import fidelity_tables, megabytes
from .fields import Group, Typed, with_fields, words_of
from .next_steps import show_next

if TYPE_CHECKING:
    from ..bundle.types import Bundle
    from ..model.checkpoint import Checkpoint


@with_fields(Group(CheckpointSource))
def inspect(
    typed: Typed,
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="CHECKPOINT|BUNDLE",
            help="What to look into; without it, the bundled demo model.",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show what a checkpoint or a bundle holds."""
    with command(json, debug) as terminal:
        if path is not None and path.is_dir():
            from ..bundle.store import open_bundle

            if given := [flag for flag, value in typed.items() if value is not None]:
                raise EdgeError(
                    f"{given[0]} is about a checkpoint, and {path} is a directory: a bundle.", "Leave it out."
                )
            show_bundle(terminal, open_bundle(path))
            return
        from ..actions.resolve import checkpoint_of

        if path is None:
            terminal.say(options.DEMO)
        elif not path.exists():
            raise EdgeError(f"There is nothing at {path}.", "Give a .pt or .safetensors checkpoint, or a bundle.")
        source = replace(made_of(CheckpointSource, typed), path=path)
        with terminal.progress() as progress:
            checkpoint = checkpoint_of(source, progress)
        show_checkpoint(terminal, checkpoint, path, words_of(typed, CheckpointSource))


def show_checkpoint(terminal: Terminal, checkpoint: Checkpoint, path: Path | None, typed: Sequence[str]) -> None:
    config = checkpoint.config
    zero = f"{config.rope_zero_fraction:g} of the frequencies are zero, from the {config.rope_zero_from} end"
    outputs = f"cls [{config.output_dim}], dense [patches, {config.output_dim}]"
    head = checkpoint.head_for(Task.CLASSIFY)
    classes = 0 if head is None else head.classes
    answers = [
        f"{h.task.outputs[0]} ({h.classes} {'bins' if h.task == Task.DEPTH else 'classes'})" for h in checkpoint.heads
    ]
    facts = {
        "family": config.family,
        "parameters": f"{checkpoint.parameters:,}",
        "layers": config.layers,
        "width": f"{config.hidden}, {config.heads} heads of {config.head_dim}, feed-forward {config.mlp_hidden}",
        "patch": f"{config.patch_size} x {config.patch_size} pixels",
        "rotary": zero,
        "core counts": ", ".join(map(str, config.core_counts)),
        "outputs": ", ".join([outputs, *answers]),
        "labels": "none" if checkpoint.labels is None else listed(checkpoint.labels),
        "sha256": checkpoint.digest,
    }
    terminal.facts(checkpoint.name, facts)
    parts = sorted(checkpoint.parameters_by_part.items(), key=lambda item: -item[1])
    terminal.table(
        [Column("part", False), Column("parameters"), Column("share")],
        [[name, f"{count:,}", f"{count / checkpoint.parameters:.1%}"] for name, count in parts],
    )
    cores = str(16 if 16 in config.core_counts else config.core_counts[0])
    given = () if path is None else (path, "--calibration", "IMAGES")
    terminal.next(quoted("veca-edge", "export", *given, *typed, "--cores", cores))
    terminal.result(
        {
            "kind": "checkpoint",
            "name": checkpoint.name,
            "sha256": checkpoint.digest,
            "config": config,
            "core_counts": config.core_counts,
            "parameters": checkpoint.parameters,
            "parameters_by_part": checkpoint.parameters_by_part,
            "classes": classes,
            "labels": checkpoint.labels,
        }
    )


def listed(names: tuple[str, ...], most: int = 8) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def show_bundle(terminal: Terminal, bundle: Bundle) -> None:

    spec, checkpoint = bundle.spec, bundle.checkpoint
    tools = ", ".join(f"{k} {v}" for k, v in bundle.versions.items() if k in ("veca-edge", "onnxruntime", "torch"))
    terminal.facts(
        str(bundle.directory),
        {
            "target": spec.target,
            "checkpoint": f"{checkpoint.name} ({checkpoint.config.family}, sha256 {checkpoint.digest[:12]})",
            "input": f"{spec.input}, batch {spec.batch}",
            "outputs": ", ".join(spec.outputs),
            "labels": "none" if bundle.labels is None else listed(bundle.labels),
            "made": f"{bundle.created_at} with {tools}",
        },
    )
    terminal.table(
        [
            Column("cores"),
            Column("precision", False),
            Column("size", False),
            Column("format", False),
            Column("MB"),
            Column("file", False),
        ],
        [[a.core_count, a.precision, a.image_size, a.format, megabytes(a.bytes), a.path] for a in bundle.artifacts],
    )
    fidelity_tables(terminal, bundle.fidelity)
    from ..base.toml_options import read_toml
    from ..bundle.store import RUN_FILE, checked_run_file

    run = checked_run_file(bundle) if RUN_FILE in bundle.files else None
    if run is not None:
        terminal.say(f"How it was made ({RUN_FILE})", "bold")
        for line in run.read_text(encoding="utf-8").splitlines():
            terminal.say(f"  {line}")
        for said in bundle.details.overridden:
            terminal.say(f"  # Instead of another run file's: {said}")
        terminal.say()
    show_next(terminal, bundle, "verify")
    terminal.result({"kind": "bundle", "manifest": bundle.to_json(), "run": None if run is None else read_toml(run)})
