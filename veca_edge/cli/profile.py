"""`veca-edge profile`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ..base import lists
from ..base.options import made_of
from ..base.spec import PRECISIONS
from ..base.text import quoted
from ..targets.table import TARGETS, target_named
from . import options
from .console import Column, Terminal, command
from .export import megabytes
from .fields import Typed, of_targets, refuse_foreign, with_fields
from .fleet import Fleet, Tag, members_asked, outcome_json, show_failures, show_profiles, watched

if TYPE_CHECKING:
    from ..actions.profile import ProfileRequest
    from ..bundle.types import Bundle
    from ..devices.fleet import FleetMember
    from ..profiles.measurement import Measurement
    from ..profiles.sweep import Profile


PROFILE_OPTIONS = of_targets(lambda target: target.profile_options)


@with_fields(*PROFILE_OPTIONS)
def profile(
    bundle: options.BundlePath,
    typed: Typed,
    cores: Annotated[str, typer.Option(metavar="LIST", help="Only these core counts.", show_default="all")] = "all",
    precision: Annotated[str, typer.Option(metavar="LIST", help="Only these precisions.", show_default="all")] = "",
    device: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DEVICE",
            help="; ".join(f"{name}: {target.devices}" for name, target in TARGETS.items() if target.devices)
            + "; repeatable.",
        ),
    ] = None,
    fleet: Fleet = None,
    tag: Tag = None,
    again: Annotated[bool, typer.Option("--again", help="Also measure what has been measured before.")] = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Measure latency and memory of every variant.

    Interleaved, each in a process of its own, on this machine or on what --device names; on several devices at the
    same time with --device several times, or --fleet. Measurements are kept in the bundle; a profile that was
    interrupted goes on where it stopped.
    """
    with command(json, debug) as terminal:
        from ..actions.profile import ProfileRequest
        from ..actions.profile import profile as measure
        from ..bundle.store import open_bundle

        wanted = lists.core_counts(cores), lists.precisions(precision)
        opened = open_bundle(bundle)
        target = target_named(opened.spec.target)
        refuse_foreign(typed, PROFILE_OPTIONS, target.name, "bundles")
        members = members_asked(device, fleet, tag)
        one = device[0] if device and members is None else None
        request = ProfileRequest(opened, *wanted, one, made_of(target.profile_options, typed), again)
        if members is not None:
            profile_members(terminal, opened, request, members)
            return
        with terminal.progress() as progress:
            profiled = measure(request, progress, terminal.log, terminal.note)
        show(terminal, profiled.bundle, profiled.profile)
        if profiled.profile.failures:
            raise typer.Exit(2)


def profile_members(
    terminal: Terminal, bundle: Bundle, request: ProfileRequest, members: Sequence[FleetMember]
) -> None:
    from ..actions.fleet import profile_fleet

    with watched(terminal, members) as (watch, on_tick):
        outcomes = profile_fleet(request, members, watch, on_tick, terminal.log)
    show_profiles(terminal, outcomes)
    for outcome in outcomes:
        for m in outcome.result.profile.measurements if outcome.result else ():
            for warning in m.warnings:
                terminal.note(f"{outcome.member.name}: {m.artifact}: {warning}")
    failed = show_failures(terminal, outcomes)
    done = [outcome.result.profile for outcome in outcomes if outcome.result]
    directory = bundle.directory
    if len({p.machine.machine_id for p in done}) > 1:
        ids = [word for p in done[:2] for word in ("--machine", p.machine.machine_id)]
        terminal.next(quoted("veca-edge", "compare", directory, *ids), quoted("veca-edge", "report", directory))
    terminal.result(
        {
            "bundle": directory,
            "devices": [
                {
                    **outcome_json(outcome),
                    "machine": outcome.result and outcome.result.profile.machine.to_json(),
                    "kept": outcome.result.profile.kept if outcome.result else (),
                    "measurements": [m.to_json() for m in outcome.result.profile.measurements]
                    if outcome.result
                    else [],
                }
                for outcome in outcomes
            ],
        }
    )
    if failed:
        raise typer.Exit(1)


def show(terminal: Terminal, bundle: Bundle, result: Profile) -> None:
    from ..actions.candidate import allowing
    from ..profiles.verdict import verdicts

    measurements, machine = result.measurements, result.machine
    compared = verdicts(measurements)
    if measurements:
        threads = measurements[0].threads
        cores = f", {machine.usable_cores} of {machine.cores} cores usable" if machine.cores else ""
        terminal.say(f"{machine.name}{cores}" + (f", {threads} threads" if threads else ""))
        several = len(bundle.image_sizes) > 1
        for size in bundle.image_sizes:
            here = [m for m in measurements if m.image_size == size]
            if here:
                latency_table(terminal, here, f"Milliseconds per call, {size}" if several else "Milliseconds per call")
                size_table(terminal, here)
    for verdict in compared:
        terminal.say(verdict.sentence, "red" if verdict.is_slower else "")
        if verdict.is_slower or verdict.is_close:
            for loss in (target_named(verdict.lower.target).losses(verdict.lower, verdict.higher) or ())[:5]:
                terminal.say(f"  {loss}")
    if compared:
        terminal.say()
    for m in measurements:
        for warning in m.warnings:
            terminal.note(f"{m.artifact}: {warning}")
    if result.kept:
        terminal.note(f"{len(result.kept)} of {len(measurements)} variants were measured before; --again repeats them.")
    for failure in result.failures:
        terminal.failure(f"{failure.artifact.name}: {failure.message}", failure.hint)
    if measurements:
        slowest = max(m.p95_ms for m in measurements)
        terminal.next(
            quoted("veca-edge", "recommend", bundle.directory, "--p95", allowing(slowest, "ms")),
            quoted("veca-edge", "report", bundle.directory),
        )
    terminal.result(
        {
            "bundle": bundle.directory,
            "machine": machine.to_json(),
            "kept": result.kept,
            "measurements": [m.to_json() for m in measurements],
            "verdicts": [v.sentence for v in compared],
            "failures": [{"variant": f.artifact.name, "message": f.message, "hint": f.hint} for f in result.failures],
        }
    )


def latency_table(terminal: Terminal, measurements: Sequence[Measurement], title: str) -> None:
    terminal.table(
        [
            Column(""),
            Column("cores"),
            Column("prec.", False),
            *map(Column, ("p50", "p90", "p95", "p99", "mean", "img/s", "load", "first")),
        ],
        [
            [
                terminal.mark(None if m.warnings else True),
                m.core_count,
                precision_of(m),
                *(f"{ms:.2f}" for ms in (m.p50_ms, m.p90_ms, m.p95_ms, m.p99_ms, m.mean_ms)),
                f"{m.throughput:.1f}",
                optional(m.load_ms, "{:.0f}"),
                optional(m.first_ms, "{:.1f}"),
            ]
            for m in measurements
        ],
        title,
    )
    for m in measurements:
        if m.sustained:
            terminal.say(
                f"{m.core_count} cores {m.precision}: {m.sustained.first_minute_ms:.2f} ms in the first "
                f"minute, {m.sustained.last_minute_ms:.2f} in the last."
            )


def size_table(terminal: Terminal, measurements: Sequence[Measurement]) -> None:
    """Memory, size and cost, and what each precision brings against the highest one that was measured beside it."""
    from ..actions.candidate import energy_mj

    rows = []
    for m in measurements:
        memory = None if m.peak_memory_bytes is None else m.peak_memory_bytes / 1e6
        cost = m.facts.cost
        rows.append(
            [
                m.core_count,
                precision_of(m),
                optional(memory, "{:.1f}"),
                megabytes(m.file_bytes),
                optional(cost and cost.macs / 1e6, "{:,.1f}"),
                optional(cost and cost.attention_interactions / 1e3, "{:,.1f}"),
                optional(energy_mj(m), "{:.1f}"),
                against_highest(m, measurements),
            ]
        )
    columns = [
        Column("cores"),
        Column("prec.", False),
        Column("peak MB"),
        Column("file MB"),
        Column("MMACs"),
        Column("attention k"),
        Column("mJ"),
        Column("speed", False),
    ]
    used = [i for i in range(len(columns)) if any(row[i] != "" for row in rows)]
    terminal.table(
        [columns[i] for i in used],
        [[row[i] for i in used] for row in rows],
        "Memory above an idle runtime, file, cost of one image",
    )


def precision_of(measurement: Measurement) -> str:
    """With what else tells measurements of one variant apart: the power mode, the compute unit."""
    return f"{measurement.precision} {measurement.setting}".rstrip()


def against_highest(measurement: Measurement, measurements: Sequence[Measurement]) -> str:
    """How fast it is against the highest precision measured beside it, as the interval that its samples carry."""
    from ..profiles.verdict import speedup

    beside = [m for m in measurements if (m.core_count, m.setting) == (measurement.core_count, measurement.setting)]
    highest = max(beside, key=lambda m: PRECISIONS.index(m.precision), default=measurement)
    if highest.precision == measurement.precision:
        return ""
    found = speedup(measurement, highest)
    if not found.is_measurable:
        return "not measurable"
    low, high = found.interval
    return f"same as {highest.precision}" if found.is_close else f"{low:.2f}-{high:.2f}x {highest.precision}"


def optional(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
