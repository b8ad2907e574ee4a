"""Writes the report: collects the facts, draws, fills the two templates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..actions.recommend import Candidate, energy_mj
from ..base.errors import EdgeError, MissingDependency
from ..base.files import disk_errors, write_atomically
from ..base.progress import Progress, silent
from ..base.spec import PRECISIONS, ImageSize
from ..base.versions import own_version
from ..profiles.machine import Machine, this_machine
from ..profiles.measurement import utc_now
from ..proof.golden import read_golden
from ..targets.table import target_named
from .evaluations import EvaluationSection, evaluation_sections
from .facts import (
    Conditions,
    Range,
    ReportedBundle,
    Series,
    VerdictSummary,
    image_sizes,
    labels_of,
    ranges,
    read_subjects,
    series_of,
    verdict_summaries,
)
from .figures import Figure, core_count_figure, sustained_figure, trade_off_figure
from .methods import Method, by_target, methods
from .operators import CALLS, OperatorTimes, TimeRow, layer_rows, measured_layers, operator_rows, operator_times
from .options import ReportOptions
from .pictures import Attention, PatchFidelity, attention_pictures, patch_fidelity, ramp_css, spread
from .runs import RunSection, run_sections
from .text import FILTERS, html_text, markdown_cell

if TYPE_CHECKING:
    from jinja2 import Environment

    from ..model.checkpoint import Checkpoint


class LeftOut(NamedTuple):
    """What a report does not show, and why, with how to get it."""

    what: str
    why: str


@dataclass(frozen=True)
class ReportFiles:
    """What was written, and what was left out."""

    html: Path
    markdown: Path
    left_out: tuple[LeftOut, ...]


class SideBySideRow(NamedTuple):
    """One core count and precision; `cells` as the columns, None where it was not measured."""

    core_count: int
    precision: str
    cells: tuple[Candidate | None, ...]


@dataclass(frozen=True)
class SideBySide:
    """Bundles and machines side by side, at one image size: a row for each core count and precision."""

    columns: tuple[str, ...]
    rows: tuple[SideBySideRow, ...]


@dataclass(frozen=True)
class SizeSection:
    """Everything of one image size."""

    size: ImageSize
    series: tuple[Series, ...]
    speed: tuple[Figure, ...]
    fidelity: tuple[Figure, ...]
    sustained: Figure | None
    comparison: SideBySide | None

    @property
    def rows(self) -> list[Candidate]:
        return [c for s in self.series for c in s.points]


class TimeTable(NamedTuple):
    """Rows of one kind, `operator` or `layer`."""

    kind: str
    rows: list[TimeRow]


@dataclass(frozen=True)
class Operators:
    """Where the time of one bundle's artifacts goes.

    Attributes:
        where: machine and tool, in words.
        how: a sentence on what the times are.
    """

    label: str
    where: str
    how: str
    times: tuple[OperatorTimes, ...]

    @property
    def tables(self) -> list[TimeTable]:
        tables = [TimeTable("operator", operator_rows(self.times)), TimeTable("layer", layer_rows(self.times))]
        return [table for table in tables if table.rows]


@dataclass(frozen=True)
class Pictures:
    """The pictures of one bundle at one image size."""

    label: str
    patches: PatchFidelity | None
    attention: Attention | None


class Labelled(NamedTuple):
    """A candidate with the name of its bundle."""

    label: str
    candidate: Candidate


@dataclass(frozen=True)
class Report:
    """Everything the templates fill in."""

    title: str
    created_at: str
    tool: str
    subjects: tuple[ReportedBundle, ...]
    machines: tuple[Machine, ...]
    sizes: tuple[SizeSection, ...]
    ranges: tuple[Range, ...]
    verdicts: tuple[VerdictSummary, ...]
    operators: tuple[Operators, ...]
    pictures: tuple[Pictures, ...]
    evaluations: tuple[EvaluationSection, ...]
    runs: tuple[RunSection, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def candidates(self) -> list[Candidate]:
        return [c for s in self.subjects for c in s.measured]

    @property
    def doubtful(self) -> list[Labelled]:
        return [Labelled(s.label, c) for s in self.subjects for c in s.measured if c.measurement.warnings]

    @property
    def methods(self) -> list[Method]:
        return methods(self.candidates, bool(self.evaluations))

    @property
    def watched(self) -> list[Labelled]:
        """Those whose power, heat and clocks were watched while they were measured."""
        return [Labelled(s.label, c) for s in self.subjects for c in s.measured if c.measurement.facts.steady]

    @property
    def placed(self) -> list[Labelled]:
        """Those of which it is known what unit runs which operations (Core ML's plan)."""
        return [Labelled(s.label, c) for s in self.subjects for c in s.measured if c.measurement.facts.cost_share]

    @property
    def units(self) -> list[str]:
        return sorted({unit for _, c in self.placed for unit in c.measurement.facts.cost_share or ()})

    @property
    def has_energy(self) -> bool:
        return any(energy_mj(c.measurement) is not None for c in self.candidates)

    @property
    def has_top1(self) -> bool:
        return any(c.top1 is not None for c in self.candidates)

    @property
    def fidelity_images(self) -> list[int]:
        return sorted({c.fidelity.reference.images for c in self.candidates if c.fidelity})


def write_report(
    bundles: Sequence[Path], output: Path, options: ReportOptions | None = None, progress: Progress = silent
) -> ReportFiles:
    """Writes one self-contained HTML file, and the same numbers as Markdown beside it.

    Giving several bundles compares them (devices, releases); each one's measurements are kept apart.

    Args:
        output: the HTML file; the Markdown file has the same name with `.md`.

    Raises:
        EdgeError: a bundle is none or has no measurements, mixes those of several machines, or the output exists
            or can't be written; the checkpoint, or a live run's, is not what any of the bundles was made from.
        MissingDependency: matplotlib or Jinja2 is not installed.
    """
    options = options or ReportOptions()
    markdown = check_output(output, options.force)
    html_template, markdown_template = _templates()
    subjects = read_subjects([Path(path) for path in bundles], options.machine)
    report = make_report(subjects, options, progress)
    html = html_template.render(report=report, ramp=ramp_css())
    text = markdown_template.render(report=report)
    with disk_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, html)
    write_atomically(markdown, text)
    return ReportFiles(output, markdown, report.left_out)


def check_output(output: Path, force: bool) -> Path:
    """The Markdown file's path. Raises `EdgeError` when one of the two is in the way."""
    if output.suffix.lower() not in (".html", ".htm"):
        raise EdgeError(f"{output} is not a name for an HTML file.", "Give one that ends in .html, with --output.")
    markdown = output.with_suffix(".md")
    for path in (output, markdown):
        if path.is_dir():
            raise EdgeError(f"{path} is a directory.", "Give another --output.")
        if path.exists() and not force:
            raise EdgeError(f"{path} exists already.", "Give another --output, or --force to replace it.")
    return markdown


def make_report(subjects: tuple[ReportedBundle, ...], options: ReportOptions, progress: Progress = silent) -> Report:
    """Everything that the templates need, drawn and computed."""
    left_out: list[LeftOut] = []
    checkpoint = _checkpoint(subjects, options.checkpoint)
    runs = run_sections(options.runs, subjects)
    sizes = tuple(_size_section(subjects, size) for size in image_sizes(subjects))
    operators = _operators(subjects, options, left_out, progress)
    pictures = _pictures(subjects, checkpoint, options, left_out, progress)
    machines = {m.machine_id: m for s in subjects for m in s.machines}
    names = list(dict.fromkeys(s.bundle.checkpoint.name for s in subjects))
    title = options.title or f"{', '.join(names)} on {', '.join(dict.fromkeys(s.bundle.spec.target for s in subjects))}"
    return Report(
        title,
        utc_now(),
        own_version(),
        subjects,
        tuple(machines.values()),
        sizes,
        tuple(ranges(subjects)),
        verdict_summaries(subjects),
        operators,
        pictures,
        evaluation_sections(subjects),
        runs,
        tuple(dict.fromkeys(left_out)),
    )


# -------------------------------------------------------------------------------- the sections


def _size_section(subjects: Sequence[ReportedBundle], size: ImageSize) -> SizeSection:
    series = series_of(subjects, size)
    batches = {c.artifact.batch for s in series for c in s.points}
    call = "one image" if batches == {1} else f"a batch of {', '.join(map(str, sorted(batches)))}"
    name = f"at-{size}"
    speed = [
        core_count_figure(
            f"latency-{name}",
            "Latency against core count",
            f"Median of {call}; the band reaches to p95.",
            "ms",
            series,
            lambda c: c.measurement.p50_ms,
            lambda c: c.p95_ms,
        ),
        core_count_figure(
            f"memory-{name}",
            "Memory against core count",
            _memory_caption(series),
            "MB",
            series,
            lambda c: None if c.memory_bytes is None else c.memory_bytes / 1e6,
        ),
        core_count_figure(
            f"energy-{name}",
            "Energy against core count",
            "Of one call, idle power included.",
            "mJ",
            series,
            lambda c: c.energy_mj,
        ),
    ]
    fidelity = [
        trade_off_figure(
            f"cosine-{name}",
            "Fidelity against latency",
            "Mean cosine with the float32 model at its full core bank, the lower of cls and dense. "
            "Filled: on the machine's Pareto front, with the core count.",
            "cosine",
            series,
            lambda c: c.cosine,
        ),
        trade_off_figure(
            f"top1-{name}",
            "Top-1 against latency",
            "Share of labelled images whose most likely class is right. Filled: on the machine's Pareto "
            "front, with the core count.",
            "top-1",
            series,
            lambda c: c.top1,
            percent=True,
        ),
        trade_off_figure(
            f"miou-{name}",
            "mIoU against latency",
            "Of label maps, with masks where the images had them, else with the float32 model at its full core bank.",
            "mIoU",
            series,
            lambda c: c.miou,
            percent=True,
        ),
        trade_off_figure(
            f"depth-{name}",
            "Depth against latency",
            "One less the mean relative error of depth, with known depths where there were some, else with the float32 "
            "model at its full core bank.",
            "1 - error",
            series,
            lambda c: None if c.depth_error is None else 1.0 - c.depth_error,
        ),
    ]
    sustained = sustained_figure(
        f"sustained-{name}",
        "Under sustained load",
        "Median of every second, relative to the beginning of the run (1: not slowed down).",
        series,
    )
    return SizeSection(
        size, series, tuple(f for f in speed if f), tuple(f for f in fidelity if f), sustained, _comparison(series)
    )


def _memory_caption(series: Sequence[Series]) -> str:
    measured = [c.measurement for s in series for c in s.points if c.memory_bytes is not None]
    return f"{by_target(measured, 'memory')}." if measured else ""


def _comparison(series: Sequence[Series]) -> SideBySide | None:
    """A column for each bundle, machine and setting; None where there is but one."""
    columns: dict[Conditions, str] = {}
    cells: dict[tuple[int, str], dict[Conditions, Candidate]] = defaultdict(dict)
    for s in series:
        for c in s.points:
            column = Conditions.of(s.subject, c.measurement)
            # The precision is the last part of a series' label, and a row here.
            columns[column] = s.label.removesuffix(s.precision).removesuffix(", ")
            cells[c.artifact.core_count, c.artifact.precision][column] = c
    if len(columns) < 2:
        return None
    rows = tuple(
        SideBySideRow(count, precision, tuple(found.get(column) for column in columns))
        for (count, precision), found in sorted(cells.items(), key=lambda item: item[0][0])
    )
    return SideBySide(tuple(columns.values()), rows)


def _operators(
    subjects: Sequence[ReportedBundle], options: ReportOptions, left_out: list[LeftOut], progress: Progress
) -> tuple[Operators, ...]:
    found = []
    for subject in subjects:
        measured = [c for c in subject.measured if measured_layers(c)]
        runnable = [c for c in subject.measured if target_named(c.artifact.target).is_local]
        what = f"Operator and layer times of {subject.label}"
        target = target_named(subject.bundle.spec.target)
        hint = target.layers_hint
        if measured:
            times = tuple(t for c in _ends(subject, measured) if (t := measured_layers(c)))
            found.append(
                Operators(
                    subject.label,
                    f"{measured[0].measurement.machine.name}, {target.runtime}",
                    f"{target.runtime}'s own profile on the board: the mean of every layer, from a run of its own.",
                    times,
                )
            )
        elif not runnable:
            left_out.append(LeftOut(what, f"They were not measured; {hint}" if hint else "There are none to show."))
        elif not options.operators:
            left_out.append(
                LeftOut(
                    what, "They were not asked for; make the report with --operators on the machine to be profiled."
                )
            )
        else:
            found.append(_profile_here(subject, _ends(subject, runnable), progress))
    return tuple(found)


def _profile_here(subject: ReportedBundle, chosen: Sequence[Candidate], progress: Progress) -> Operators:
    here = this_machine(("onnxruntime",))
    directory, first = subject.bundle.directory, chosen[0].artifact
    frames = read_golden(directory, first.core_count, first.image_size).frames
    times = tuple(operator_times(directory, chosen, frames, progress))
    threads = {t.threads for t in times if t.threads}
    settings = "".join(f", {n} thread{'' if n == 1 else 's'}" for n in sorted(threads))
    return Operators(
        subject.label,
        f"{here.name}, ONNX Runtime {here.versions.get('onnxruntime', '')}{settings}",
        f"ONNX Runtime's own profile on a golden frame, taken when this report was made: for every node "
        f"the median of {CALLS} calls. Profiling itself takes time, and the machine may have been busier "
        "or idler than before, so compare shares, not sums with latencies.",
        times,
    )


def _ends(subject: ReportedBundle, among: Sequence[Candidate]) -> list[Candidate]:
    """The smallest and the largest core count in every precision, at the smallest image size; one setting of each."""
    size = min(c.artifact.image_size for c in among)
    unique = {(c.artifact.name, c.artifact.format): c for c in among if c.artifact.image_size == size}.values()
    counts = spread(sorted({c.artifact.core_count for c in unique}), 2)
    order = PRECISIONS
    return sorted(
        (c for c in unique if c.artifact.core_count in counts),
        key=lambda c: (order.index(c.artifact.precision), c.artifact.core_count),
    )


def _pictures(
    subjects: Sequence[ReportedBundle],
    checkpoint: Checkpoint | None,
    options: ReportOptions,
    left_out: list[LeftOut],
    progress: Progress,
) -> tuple[Pictures, ...]:
    if not options.pictures:
        left_out.append(LeftOut("Fidelity per patch", "The pictures were not asked for."))
    if checkpoint is None:
        left_out.append(
            LeftOut(
                "Core-to-patch attention",
                "It is computed with the float32 model, which a bundle does not hold; give --checkpoint FILE.",
            )
        )
    found = []
    for subject in subjects:
        own = checkpoint if checkpoint and checkpoint.digest == subject.bundle.checkpoint.digest else None
        if checkpoint and own is None:
            left_out.append(
                LeftOut(
                    f"Core-to-patch attention of {subject.label}",
                    f"It was made from another checkpoint than {options.checkpoint}.",
                )
            )
        size, *others = sorted({c.artifact.image_size for c in subject.measured})
        if others and (options.pictures or own):
            left_out.append(
                LeftOut(
                    f"Pictures of {subject.label} at {', '.join(map(str, others))}",
                    f"They are drawn at the smallest size only, {size}.",
                )
            )
        patches = _patches(subject, size, own, options, left_out, progress) if options.pictures else None
        attention = attention_pictures(own, subject.bundle, size, options.layers, progress) if own else None
        if patches or attention:
            label = f"{subject.label}, {size}" if len(subjects) > 1 else f"At {size}"
            found.append(Pictures(label, patches, attention))
    return tuple(found)


def _patches(
    subject: ReportedBundle,
    size: ImageSize,
    checkpoint: Checkpoint | None,
    options: ReportOptions,
    left_out: list[LeftOut],
    progress: Progress,
) -> PatchFidelity | None:
    try:
        return patch_fidelity(subject.bundle, size, checkpoint, options.threads, progress)
    except EdgeError as error:
        left_out.append(
            LeftOut(f"Fidelity per patch of {subject.label}", f"{error.message} {error.hint or ''}".strip())
        )
        return None


def _checkpoint(subjects: Sequence[ReportedBundle], path: Path | None) -> Checkpoint | None:
    """The checkpoint with what the bundles say about it. Raises `EdgeError` when none was made from it."""
    if path is None:
        return None
    from ..base.files import sha256_of
    from ..model.checkpoint import load_checkpoint

    if not path.is_file():
        raise EdgeError(f"There is no file {path}.", "Give the checkpoint that the bundle was made from.")
    digest = sha256_of(path)
    made = next((s.bundle for s in subjects if s.bundle.checkpoint.digest == digest), None)
    if made is None:
        raise EdgeError(
            f"{path} is not the checkpoint that {_listed(s.bundle for s in subjects)} made from.",
            f"Give the one called '{subjects[0].bundle.checkpoint.name}' with the sha256 "
            f"{subjects[0].bundle.checkpoint.digest[:12]}..., or leave out --checkpoint.",
        )
    config = made.checkpoint.config
    return load_checkpoint(path, heads=config.heads, rope_zero=config.rope_zero_fraction)


def _listed(bundles) -> str:
    names = labels_of([b.directory.resolve() for b in bundles])
    return f"{names[0]} was" if len(names) == 1 else f"any of {', '.join(names)} was"


# ------------------------------------------------------------------------------- the templates


def _templates():
    try:
        import jinja2
    except ImportError:
        raise MissingDependency("jinja2", "report", "The report's page") from None
    from .figures import _matplotlib

    _matplotlib()

    def environment(**options) -> Environment:
        made = jinja2.Environment(
            loader=jinja2.PackageLoader(__name__.rpartition(".")[0]),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            **options,
        )
        made.filters.update(FILTERS)
        return made

    # Names in a bundle come from anywhere: both templates escape everything they are given.
    html = environment(autoescape=True, finalize=html_text)
    markdown = environment(autoescape=False, finalize=markdown_cell)
    return html.get_template("report.html.j2"), markdown.get_template("report.md.j2")
