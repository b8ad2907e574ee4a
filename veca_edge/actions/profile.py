"""Measures a bundle wherever it runs: on this machine's CPU, on a board, on a Mac."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..base.errors import EdgeError
from ..base.progress import Progress, silent
from ..bundle.store import Artifact, Bundle, open_bundle
from ..devices.jobs import Log, ignore
from ..profiles import Profile, ProfileOptions, profile_bundle


@dataclass(frozen=True)
class ProfileRequest:
    """What to measure and how; None, `()` and False stand for the defaults of the target.

    Attributes:
        core_counts, precisions: only these.
        seconds: of each round, or of one engine's run on a board.
        rounds: processes per variant, interleaved (`cpu`, `apple`).
        threads, sustained_seconds: of the target `cpu`; see `ProfileOptions`.
        device: where its engines were built (`jetson`), or a connected `iphone` or `ipad[:NAME]` (`apple`).
        layers, lock_clocks: of the target `jetson`; see `BoardOptions`.
        units, team: of the target `apple`; see `CoremlProfileOptions` and `RemoteOptions`.
        again: also measure what has been measured before.
    """

    bundle: Path
    core_counts: tuple[int, ...] = ()
    precisions: tuple[str, ...] = ()
    seconds: float | None = None
    rounds: int | None = None
    threads: int | None = None
    sustained_seconds: float | None = None
    device: str | None = None
    layers: bool = False
    lock_clocks: bool = False
    units: tuple[str, ...] = ()
    team: str | None = None
    again: bool = False


# What not every target understands, as the command line calls it, and who does.
TARGETS_OF_OPTION = {
    "threads": ("--threads", ("cpu",)),
    "sustained_seconds": ("--sustained", ("cpu",)),
    "device": ("--device", ("jetson", "apple")),
    "layers": ("--layers", ("jetson",)),
    "lock_clocks": ("--lock-clocks", ("jetson",)),
    "units": ("--units", ("apple",)),
    "team": ("--team", ("apple",)),
}


def profile(request: ProfileRequest, progress: Progress = silent, on_log: Log = ignore) -> tuple[Bundle, Profile]:
    """Measures the variants that are asked for, and stores the measurements in the bundle.

    Raises:
        EdgeError: no bundle; it lacks what is asked for; an option of another target; it does not run here.
    """
    bundle = open_bundle(request.bundle)
    check_options(request, bundle.spec.target)
    artifacts = chosen(bundle, request)
    if bundle.spec.target == "apple":
        measure = on_mac if request.device is None else on_connected_device
        return bundle, measure(bundle, artifacts, request, progress)
    if request.device is not None or any(a.format == "engine" for a in artifacts):
        return bundle, on_board(bundle, artifacts, request, progress, on_log)
    options = replace(
        ProfileOptions(), again=request.again, **given(request, "seconds", "rounds", "threads", "sustained_seconds")
    )
    return bundle, profile_bundle(bundle, options, artifacts, progress)


def on_board(
    bundle: Bundle, artifacts: list[Artifact], request: ProfileRequest, progress: Progress, on_log: Log
) -> Profile:
    """Engines, on the board that they were built on; by default this machine."""
    from ..devices.jetson.probe import open_board
    from ..profiles.jetson.measure import BoardOptions, profile_on_board

    device = request.device or "local"
    options = BoardOptions(
        layers=request.layers, lock_clocks=request.lock_clocks, again=request.again, **given(request, "seconds")
    )
    rebuild = f"veca-edge build {shlex.quote(str(bundle.directory))} --device {device}"
    with open_board(device) as (connection, board):
        return profile_on_board(connection, board, bundle, artifacts, options, progress, on_log, rebuild)


def on_mac(bundle: Bundle, artifacts: list[Artifact], request: ProfileRequest, progress: Progress) -> Profile:
    """Core ML packages, on this Mac."""
    from ..profiles.coreml import CoremlProfileOptions, profile_packages
    from ..profiles.machine import this_machine

    options = CoremlProfileOptions(**given(request, "seconds", "rounds", "units"))
    return Profile(this_machine(("coremltools",)), tuple(profile_packages(bundle, options, artifacts, progress)))


def on_connected_device(
    bundle: Bundle, artifacts: list[Artifact], request: ProfileRequest, progress: Progress
) -> Profile:
    """Core ML packages, on an iPhone or iPad that is connected to this Mac."""
    from ..profiles.coreml import RemoteOptions, device_and_name, profile_on_device

    if request.seconds is not None or request.rounds is not None:
        raise EdgeError(
            "On a connected device predictions are counted, not timed: --seconds and --rounds say nothing.",
            "Leave them out.",
        )
    kind, name = device_and_name(request.device or "")
    options = RemoteOptions(kind, name, request.team or "", **given(request, "units"))
    measured = profile_on_device(bundle, options, artifacts, progress)
    return Profile(measured[0].machine, tuple(measured))


def given(request: ProfileRequest, *names: str) -> Mapping[str, Any]:
    """Those of the named options that were given; the others keep the target's own defaults."""
    return {name: value for name in names if (value := getattr(request, name)) not in (None, ())}


def check_options(request: ProfileRequest, target: str) -> None:
    """An option of another target is a mistake, not something to ignore."""
    for name, (option, owners) in TARGETS_OF_OPTION.items():
        if target not in owners and getattr(request, name):
            raise EdgeError(
                f"{option} is for bundles of the target {' or '.join(map(repr, owners))}; this one is for '{target}'.",
                "Leave it out.",
            )
    if request.team and request.device is None:
        raise EdgeError(
            "--team signs the runner app on a connected device, but no --device was given.",
            "Add --device iphone, or leave it out.",
        )


def chosen(bundle: Bundle, request: ProfileRequest) -> list[Artifact]:
    """The artifacts that were asked for; engines alone, where the bundle holds some."""
    for name, wanted, known in (
        ("core count", request.core_counts, bundle.core_counts),
        ("precision", request.precisions, bundle.precisions),
    ):
        for value in wanted:
            if value not in known:
                raise EdgeError(
                    f"The bundle {bundle.directory} has no {name} {value}.", f"It has: {', '.join(map(str, known))}."
                )
    engines = [a for a in bundle.artifacts if a.format == "engine"]
    return [
        a
        for a in engines or bundle.artifacts
        if (not request.core_counts or a.core_count in request.core_counts)
        and (not request.precisions or a.precision in request.precisions)
    ]
