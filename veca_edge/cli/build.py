"""`veca-edge build`."""

from __future__ import annotations

from ..base.options import made_of
from . import options
from .console import command, quoted
from .export import show_board
from .fields import Typed, of_targets, refuse_foreign, with_fields

BUILD_OPTIONS = of_targets(lambda target: target.builder and target.builder.options)


@with_fields(*BUILD_OPTIONS)
def build(
    bundle: options.BundlePath,
    typed: Typed,
    device: options.Device = "local",
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Build on the board what an export leaves to it: TensorRT engines.

    Detached: after a lost connection the same command goes on where it was. The engines are fetched into the bundle.
    """
    with command(json, debug) as terminal:
        from ..actions.build import build as build_bundle
        from ..bundle.store import open_bundle
        from ..targets.table import target_named

        opened = open_bundle(bundle)
        target = target_named(opened.spec.target)
        refuse_foreign(typed, BUILD_OPTIONS, target.name, "bundles")
        chosen = target.builder and made_of(target.builder.options, typed)
        with terminal.progress() as progress:
            built = build_bundle(opened, device, chosen, progress, terminal.log)
        show_board(terminal, built)
        terminal.next(quoted("veca-edge", "profile", built.bundle.directory, "--device", device))
        terminal.result(
            {
                "bundle": built.bundle.directory,
                "board": built.board,
                "engines": [engine.to_json() for engine in built.artifacts],
            }
        )
