"""Writes the report: collects the facts, draws, fills the two templates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..actions.candidate import Candidate, energy_mj
from ..base.errors import EdgeError, MissingDependency
from ..base.files import disk_errors, write_atomically
from ..base.progress import Progress, silent
from ..base.versions import own_version
from ..bundle.types import Bundle
from ..profiles.machine import Machine
from ..profiles.measurement import utc_now
from .evaluations import EvaluationSection, evaluation_sections
from .facts import (
    Range,
    ReportedBundle,
    VerdictSummary,
    image_sizes,
    labels_of,
    ranges,
    read_subjects,
    verdict_summaries,
)
from .left_out import LeftOut
from .methods import Method, methods
from .operator_section import Operators, operator_sections
from .options import ReportOptions
from .picture_section import Pictures, picture_sections
from .pictures import ramp_css
from .runs import RunSection, run_sections
from .sizes import SizeSection, size_section
from .text import FILTERS, html_text, markdown_cell

if TYPE_CHECKING:
    from jinja2 import Environment, Template

    from ..model.checkpoint import Checkpoint


@dataclass(frozen=True)
class ReportFiles:
    """What was written, and what was left out."""

    html: Path
    markdown: Path
    left_out: tuple[LeftOut, ...]


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
    # What is asked about comes first: a name that is taken says nothing of a bundle that is not there.
    subjects = read_subjects([Path(path) for path in bundles], options.machine)
    markdown = check_output(output, options.force)
    html_template, markdown_template = _templates()
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
    sizes = tuple(size_section(subjects, size) for size in image_sizes(subjects))
    operators = operator_sections(subjects, options, left_out, progress)
    pictures = picture_sections(subjects, checkpoint, options, left_out, progress)
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


def _listed(bundles: Iterable[Bundle]) -> str:
    names = labels_of([b.directory.resolve() for b in bundles])
    return f"{names[0]} was" if len(names) == 1 else f"any of {', '.join(names)} was"


def _templates() -> tuple[Template, Template]:
    """Of the HTML file and of the Markdown. Raises `MissingDependency`."""
    try:
        import jinja2
    except ImportError:
        raise MissingDependency("jinja2", "report", "The report's page") from None
    from .drawing import import_matplotlib

    import_matplotlib()

    def environment(**options: Any) -> Environment:
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
