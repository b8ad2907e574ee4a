"""`veca-edge verify`."""

from __future__ import annotations

import typer

from ..base.options import made_of
from . import options
from .console import Column, command
from .fields import Group, Typed, with_fields
from .next_steps import show_next


@with_fields(Group(options.ThreadOptions))
def verify(bundle: options.BundlePath, typed: Typed, json: options.Json = False, debug: options.Debug = False) -> None:
    """Check a bundle: schema, digests, golden outputs.

    Exit code 1 when a model no longer computes what was exported.
    """
    with command(json, debug) as terminal:
        from ..actions.verify import verify as verify_bundle
        from ..bundle.store import open_bundle

        opened = open_bundle(bundle)
        with terminal.progress() as progress:
            checks = verify_bundle(opened, made_of(options.ThreadOptions, typed).threads, progress)
        terminal.table(
            [Column("", False), Column("variant", False), Column("cosine now"), Column("when exported")],
            [
                [
                    terminal.mark(c.ok if c.cosine is not None else None),
                    c.artifact.name,
                    "not run here" if c.cosine is None else f"{c.cosine:.6f}",
                    f"{c.exported_cosine:.6f}",
                ]
                for c in checks
            ],
            "Golden frames against the FP32 reference",
        )
        for check in checks:
            if check.obstacle is not None:
                terminal.note(f"{check.artifact.name}: digest only: {check.obstacle}")
        failed = [c for c in checks if not c.ok]
        terminal.result(
            {
                "bundle": bundle,
                "ok": not failed,
                "variants": [
                    {
                        "name": c.artifact.name,
                        "ok": c.ok,
                        "cosine": c.cosine,
                        "exported_cosine": c.exported_cosine,
                        "obstacle": c.obstacle,
                    }
                    for c in checks
                ],
            }
        )
        if failed:
            terminal.say(
                f"{len(failed)} of {len(checks)} variants no longer compute what was exported. The files are "
                "unchanged, so this machine's runtime differs: compare 'veca-edge doctor' here and there.",
                "red",
            )
            raise typer.Exit(1)
        not_run = sum(c.cosine is None for c in checks)
        rest = f"; {not_run} of them were not run here, and only their digests checked" if not_run else ""
        said = "The variant is" if len(checks) == 1 else f"All {len(checks)} variants are"
        terminal.say(f"{said} what was exported{rest}.", "green")
        show_next(terminal, opened, done="verify")
