"""`veca-edge build`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from ..base.options import made_of
from ..base.text import quoted
from . import options
from .console import Terminal, command
from .export import show_board
from .fields import Typed, of_targets, refuse_foreign, with_fields
from .fleet import Fleet, Tag, members_asked, outcome_json, show_failures, watched

if TYPE_CHECKING:
    from ..bundle.types import Bundle
    from ..devices.fleet import FleetMember

BUILD_OPTIONS = of_targets(lambda target: target.builder and target.builder.options)


@with_fields(*BUILD_OPTIONS)
def build(
    bundle: options.BundlePath,
    typed: Typed,
    device: options.Devices = None,
    fleet: Fleet = None,
    tag: Tag = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Build on the board what an export leaves to it: TensorRT engines.

    Detached: after a lost connection the same command goes on where it was. The engines are fetched into the bundle.
    On several boards at the same time with --device several times, or --fleet; boards that one engine fits share it.
    """
    with command(json, debug) as terminal:
        from ..actions.build import build as build_bundle
        from ..bundle.store import open_bundle
        from ..targets.table import target_named

        opened = open_bundle(bundle)
        target = target_named(opened.spec.target)
        refuse_foreign(typed, BUILD_OPTIONS, target.name, "bundles")
        chosen = target.builder and made_of(target.builder.options, typed)
        members = members_asked(device, fleet, tag)
        if members is not None:
            build_members(terminal, opened, members, chosen)
            return
        one = device[0] if device else "local"
        with terminal.progress() as progress:
            built = build_bundle(opened, one, chosen, progress, terminal.log)
        show_board(terminal, built)
        terminal.next(quoted("veca-edge", "profile", built.bundle.directory, "--device", one))
        terminal.result(
            {
                "bundle": built.bundle.directory,
                "board": built.board,
                "engines": [engine.to_json() for engine in built.artifacts],
            }
        )


def build_members(terminal: Terminal, bundle: Bundle, members: Sequence[FleetMember], chosen: Any) -> None:
    from ..actions.fleet import build_fleet

    with watched(terminal, members) as (watch, on_tick):
        outcomes = build_fleet(bundle, members, chosen, watch, on_tick, terminal.log)
    for outcome in outcomes:
        if outcome.result is not None:
            terminal.say(f"{outcome.member.name}: {outcome.member.device}", "bold")
            show_board(terminal, outcome.result)
    failed = show_failures(terminal, outcomes)
    terminal.result(
        {
            "bundle": bundle.directory,
            "devices": [
                {
                    **outcome_json(outcome),
                    "facts": outcome.result and outcome.result.board,
                    "engines": [e.to_json() for e in outcome.result.artifacts] if outcome.result else [],
                }
                for outcome in outcomes
            ],
        }
    )
    if failed:
        raise typer.Exit(1)
