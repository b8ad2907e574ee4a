"""Many devices at once: each its own queue, and none that fails ends the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any, Generic, TypeVar

from ..base.errors import EdgeError
from ..base.progress import Progress
from ..bundle.store import opened
from ..bundle.types import Bundle
from ..devices.fleet import FleetMember
from ..targets.base import Built, Log
from ..targets.table import target_named
from .build import build
from .profile import Profiled, ProfileRequest, options_of, profile

T = TypeVar("T")
# What a device is doing: its name, the variant (empty where it is none), and the state in words.
Watch = Callable[[str, str, str], None]
TICK_S = 0.2


@dataclass(frozen=True)
class MemberOutcome(Generic[T]):
    """What came of one device.

    Attributes:
        result: None where it failed.
        error: why the last attempt failed, or left a variant out; None where everything was done.
        attempts: 1, or 2 where the first failed.
        first_error: why the first attempt failed, where there were two.
    """

    member: FleetMember
    result: T | None
    error: EdgeError | None
    attempts: int = 1
    first_error: str | None = None


def profile_fleet(
    request: ProfileRequest,
    members: Sequence[FleetMember],
    watch: Watch = lambda device, variant, state: None,
    on_tick: Callable[[], None] = lambda: None,
    on_log: Log = lambda line: None,
) -> tuple[MemberOutcome[Profiled], ...]:
    """Measures a bundle's variants on every device at the same time; see `on_members`.

    Measurements are stored as they are made, those of each device apart; the same command goes on where it was.

    Raises:
        EdgeError: no bundle, options of another target, a target without devices.
    """
    bundle = opened(request.bundle)
    target = target_named(bundle.spec.target)
    options = options_of(request, target)
    if not target.devices:
        raise EdgeError(
            f"A fleet is for targets that measure on a device, and '{target.name}' measures on this machine.",
            "Leave --fleet and --device out.",
        )

    def work(member: FleetMember, progress: Progress) -> Profiled:
        asked = replace(request, bundle=bundle, device=member.device, options=with_power_mode(options, member))
        return profile(asked, progress, on_log, on_variant=lambda variant, state: watch(member.name, variant, state))

    def left_out(done: Profiled) -> EdgeError | None:
        failures = done.profile.failures
        if not failures:
            return None
        names = ", ".join(failure.artifact.name for failure in failures)
        return EdgeError(f"{names}: {failures[0].message}", failures[0].hint)

    return on_members(members, work, left_out, watch, on_tick)


def build_fleet(
    path: str | Path | Bundle,
    members: Sequence[FleetMember],
    options: Any = None,
    watch: Watch = lambda device, variant, state: None,
    on_tick: Callable[[], None] = lambda: None,
    on_log: Log = lambda line: None,
) -> tuple[MemberOutcome[Built], ...]:
    """Builds on every board at the same time what a bundle leaves to them; see `on_members`.

    Boards for which one engine will do build it once. Raises `EdgeError` as `build` does for a bundle.
    """
    bundle = opened(path)
    builder = target_named(bundle.spec.target).builder
    given = options if options is not None or builder is None else builder.options()

    def work(member: FleetMember, progress: Progress) -> Built:
        return build(bundle, member.device, with_power_mode(given, member), progress, on_log)

    return on_members(members, work, lambda built: None, watch, on_tick)


def with_power_mode(options: Any, member: FleetMember) -> Any:
    """The options, for a device that has to be in a power mode. Raises `EdgeError` where they know none."""
    if member.power_mode is None:
        return options
    if not is_dataclass(options) or "power_mode" not in {f.name for f in fields(options)}:
        raise EdgeError(f"'{member.name}' has a power mode, which this target does not know.", "Leave it out.")
    return replace(options, power_mode=member.power_mode)  # type: ignore[type-var]


def on_members(
    members: Sequence[FleetMember],
    work: Callable[[FleetMember, Progress], T],
    left_out: Callable[[T], EdgeError | None],
    watch: Watch,
    on_tick: Callable[[], None],
) -> tuple[MemberOutcome[T], ...]:
    """Does the same on every device, all at once and each in a thread of its own.

    One that fails, or leaves something out, is tried once more when all the others have ended. An interruption ends
    here at once; what runs on the devices goes on, and the same command picks it up.

    Args:
        left_out: what a result lacks, as an error, or None.
        on_tick: called in this thread every `TICK_S` seconds.
    """
    first = _attempt(members, work, left_out, watch, on_tick)
    failed = [outcome.member for outcome in first if outcome.error is not None]
    second = {o.member.name: o for o in _attempt(failed, work, left_out, watch, on_tick)} if failed else {}
    return tuple(_last(outcome, second.get(outcome.member.name)) for outcome in first)


def _last(first: MemberOutcome[T], second: MemberOutcome[T] | None) -> MemberOutcome[T]:
    if second is None:
        return first
    why = first.error and first.error.message
    result = second.result if second.result is not None else first.result
    return replace(second, result=result, attempts=2, first_error=why)


def _attempt(
    members: Sequence[FleetMember],
    work: Callable[[FleetMember, Progress], T],
    left_out: Callable[[T], EdgeError | None],
    watch: Watch,
    on_tick: Callable[[], None],
) -> list[MemberOutcome[T]]:
    ended: dict[str, MemberOutcome[T]] = {}
    bugs: list[Exception] = []

    def queue(member: FleetMember) -> None:
        def progress(stage: str, done: int, total: int) -> None:
            watch(member.name, "", f"{stage.removesuffix(f' on {member.device}')}, {done} of {total}")

        try:
            result = work(member, progress)
            error = left_out(result)
            ended[member.name] = MemberOutcome(member, result, error)
            watch(member.name, "", "done" if error is None else f"left out: {error.message}")
        except EdgeError as error:
            ended[member.name] = MemberOutcome(member, None, error)
            watch(member.name, "", f"failed: {error.message}")
        except Exception as error:
            bugs.append(error)

    # Daemons: an interruption does not wait for devices that may never answer.
    threads = [Thread(target=queue, args=(member,), name=f"device {member.name}", daemon=True) for member in members]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for thread in threads:
            thread.join(TICK_S / len(threads))
        on_tick()
    if bugs:
        raise bugs[0]
    return [ended[member.name] for member in members]
