"""Latency and memory of a bundle's variants, wherever it runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import EdgeError
from ..base.moved import with_moved_fields
from ..base.options import check_kind, from_mapping
from ..base.progress import Progress, silent
from ..base.text import quoted
from ..bundle.store import opened, verify_artifacts
from ..bundle.types import Artifact, Bundle
from ..profiles.sweep import Profile
from ..targets.base import Log, Measuring, Target
from ..targets.table import TARGETS, target_named

# Fields that lay at the top level of a request in version 0.1; they are the target's to know.
_MOVED = {
    **{name: f"options.{name}" for name in ("seconds", "rounds", "threads", "sustained_seconds", "layers")},
    **{name: f"options.{name}" for name in ("lock_clocks", "units")},
    "team": "options.development_team",
}


@with_moved_fields(_MOVED)
@dataclass(frozen=True)
class ProfileRequest:
    """What to measure and how.

    Attributes:
        bundle: a path, or one that was opened.
        core_counts, precisions: only these; () is all.
        device: where a target needs one: the board that built its engines, or a connected `iphone` or
            `ipad[:NAME]`.
        options: the target's `profile_options`, or a mapping of its fields; None is its defaults.
        again: also measure what has been measured before.
    """

    bundle: Path | Bundle
    core_counts: tuple[int, ...] = ()
    precisions: tuple[str, ...] = ()
    device: str | None = None
    options: Any = None
    again: bool = False


@dataclass(frozen=True)
class Profiled:
    """A profile, and the bundle that it is of."""

    bundle: Bundle
    profile: Profile

    def __iter__(self) -> Iterator[Bundle | Profile]:
        """As it was in version 0.1, a pair."""
        warnings.warn("What profile returns has fields: bundle and profile.", DeprecationWarning, stacklevel=2)
        yield self.bundle
        yield self.profile


def profile(
    request: ProfileRequest,
    progress: Progress = silent,
    on_log: Log = lambda line: None,
    say: Log = lambda line: None,
    on_variant: Callable[[str, str], None] = lambda variant, state: None,
) -> Profiled:
    """Measures the variants that are asked for, and stores the measurements in the bundle.

    Args:
        say: told what the user has to do meanwhile: which page to open in a browser.
        on_variant: gets a variant's name and its state in words, from devices that say so.

    Raises:
        EdgeError: no bundle; it lacks what is asked for; options of another target; it does not run here.
    """
    bundle = opened(request.bundle)
    target = target_named(bundle.spec.target)
    options = options_of(request, target)
    if request.device is not None and not target.devices:
        those = " or ".join(f"'{t.name}'" for t in TARGETS.values() if t.devices)
        raise EdgeError(
            f"--device is for bundles of the target {those}; this one is for '{target.name}'.",
            "Leave it out, and run veca-edge profile on the machine itself.",
        )
    artifacts = chosen(bundle, request)
    verify_artifacts(bundle, artifacts)
    asked = Measuring(bundle, artifacts, options, request.device, request.again, say=say, on_variant=on_variant)
    return Profiled(bundle, target.measure(asked, progress, on_log))


def options_of(request: ProfileRequest, target: Target) -> Any:
    """The target's `profile_options` that a request asks for. Raises `EdgeError` for another target's."""
    given, whose = request.options, f"Measuring for '{target.name}'"
    if isinstance(given, Mapping):
        given = from_mapping(target.profile_options, given, whose)
    return check_kind(given, target.profile_options, whose)


def chosen(bundle: Bundle, request: ProfileRequest) -> list[Artifact]:
    """The artifacts that were asked for, of the format that runs on the device."""
    for name, wanted, known in (
        ("core count", request.core_counts, bundle.core_counts),
        ("precision", request.precisions, bundle.precisions),
    ):
        for value in wanted:
            if value not in known:
                raise EdgeError(
                    f"The bundle {bundle.directory} has no {name} {value}.", f"It has: {', '.join(map(str, known))}."
                )
    target = target_named(bundle.spec.target)
    deployed = [a for a in bundle.artifacts if a.format == target.deployed.name]
    if not deployed:
        raise EdgeError(
            f"The bundle {bundle.directory} holds no {target.deployed.name} to measure, and the latency of its other "
            "files would mean nothing.",
            f"Build them first: {quoted('veca-edge', 'build', bundle.directory)} --device ssh://HOST",
        )
    return [
        a
        for a in deployed
        if (not request.core_counts or a.core_count in request.core_counts)
        and (not request.precisions or a.precision in request.precisions)
    ]
