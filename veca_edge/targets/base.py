"""What a target is: one frozen row of facts and functions.

A function of a row imports what it needs when it is called, so that the table costs nothing to read. Everything
about a target that the rest of the package has to know stands in its row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import EdgeError
from ..base.options import from_mapping
from ..base.spec import Precision

if TYPE_CHECKING:
    import numpy as np

    from ..base.checks import Check
    from ..base.progress import Progress
    from ..base.spec import ExportSpec, ImageSize
    from ..bundle.runner import Runner
    from ..bundle.types import Artifact, Bundle
    from ..images.preprocessing import Preprocessing
    from ..model.plan import Variant
    from ..profiles.sweep import Profile
    from ..rules.finding import Finding
    from ..runtime.model import Run

Log = Callable[[str], None]


@dataclass(frozen=True)
class Format:
    """One kind of file that a target has.

    Attributes:
        name: as manifests call it.
        runner: what runs it on this machine, in words.
        package: the Python package that runs it; a process that measures memory loads it first.
        open: opens one artifact.
        open_together: opens the core counts of one model so that they share what they can; None opens each alone.
        loading: a section of the bundle's README: how to load such a file, for one artifact.
        obstacle: why this machine cannot run an artifact, or None where it can.
        is_portable: whether a file of this kind is tied to no board.
        runs_side_by_side: whether calls of one model from several threads run at the same time.
    """

    name: str
    runner: str
    package: str
    open: Callable[[Path, Artifact, int | None], Runner]
    loading: Callable[[Artifact], str]
    open_together: Callable[[Path, Mapping[int, Artifact], int | None], Mapping[int, Run]] | None = None
    obstacle: Callable[[Artifact], str | None] = lambda artifact: None
    is_portable: bool = True
    runs_side_by_side: bool = False

    def open_model(self, directory: Path, artifacts: Mapping[int, Artifact], threads: int | None) -> Mapping[int, Run]:
        """Opens the core counts of one model, ready to be switched between. Raises `EdgeError` as `open` does."""
        if self.open_together is not None:
            return self.open_together(directory, artifacts, threads)
        return {count: self.open(directory, artifact, threads) for count, artifact in artifacts.items()}


@dataclass(frozen=True)
class NoOptions:
    """For a target that has none."""


@dataclass(frozen=True)
class Written:
    """What an export of a target has just written, for what comes next.

    Attributes:
        directory: the bundle that is being made.
        variants: what was asked for; `artifacts` hold them, in any order.
        preprocessing: how a frame of any size becomes their input.
        metadata: what every file says of itself.
    """

    directory: Path
    spec: ExportSpec
    variants: Sequence[Variant]
    artifacts: Sequence[Artifact]
    preprocessing: Preprocessing
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Measuring:
    """What `profile` is asked to measure.

    Attributes:
        options: of the target's `profile_options`.
        device: where, or None for this machine.
        again: also what has been measured before.
        say: tells the user what to do for it.
        on_variant: gets a variant's name and its state in words, where many are watched at once.
    """

    bundle: Bundle
    artifacts: Sequence[Artifact]
    options: Any
    device: str | None
    again: bool
    say: Log = lambda line: None
    on_variant: Callable[[str, str], None] = lambda variant, state: None


@dataclass(frozen=True)
class Built:
    """Artifacts that were built on a board, and the bundle that now holds them.

    Attributes:
        place: the board's name.
        facts: what the board is, in words, by name.
        board: the same for a program; JSON values.
    """

    bundle: Bundle
    artifacts: tuple[Artifact, ...]
    place: str
    facts: Mapping[str, str]
    board: Mapping[str, Any]


@dataclass(frozen=True)
class Builder:
    """How a target builds on a board what an export leaves to the board.

    Attributes:
        options: the dataclass of its options.
        build: builds everything that a bundle leaves to be built, on a device, and adds it to the bundle.
        options_for: export options with what the board at a device says of itself filled in.
        answered: flags of export options that the board answers itself.
    """

    options: type
    build: Callable[[Bundle, str, Any, Progress, Log], Built]
    options_for: Callable[[Any, str], Any]
    answered: tuple[str, ...] = ()


@dataclass(frozen=True)
class Linter:
    """The rules of a target.

    Attributes:
        options: the dataclass of its options.
        lint: checks one file.
        files: what it takes, in words.
    """

    options: type
    lint: Callable[[Path, Any], Sequence[Finding]]
    files: str


@dataclass(frozen=True)
class Table:
    """Rows of text for a person. The first `names` columns are names, the others numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    names: int = 1


@dataclass(frozen=True)
class Next:
    """What is left to do after an export: a sentence, perhaps, and the words of a command."""

    command: tuple[str, ...]
    sentence: str = ""


@dataclass(frozen=True)
class Words:
    """How a report says what was measured on a target: what is timed, and what counts as memory."""

    calls: str
    memory: str


@dataclass(frozen=True)
class Target:
    """A kind of device that models are exported for.

    Attributes:
        runtime: what loads the artifact on the device.
        summary: the device in half a sentence.
        extra: the pip extra that brings everything an export for it needs.
        precisions: every precision that can be asked for, the lowest first; the first is the default.
        formats: what its bundles hold, what runs on the device first.
        inputs: of `base.spec.INPUTS`, the forms that its files can take.
        options: the dataclass of what only its exports understand.
        profile_options: the dataclass of what only its measurements understand.
        words: for reports.
        write: variants to files below the bundle's directory, in seconds where it can.
        measure: see `Measuring`.
        doctor: what this machine needs for it.
        next_steps: what is left to do with a new bundle, for a person.
        check: refuses an export, before anything slow; gets its labels too.
        compile: of files that hold the gate, once, what takes long: the artifacts with what was compiled from them.
        prove: compares what was written with what it was written from, beyond fidelity; gets frames by image size.
        finish: writes what takes the artifacts the rest of their way; gets the golden cosine by artifact.
        notes: what the user should know of how the artifacts were executed here.
        builder: for a target whose board builds; else None.
        linter: for a target that has rules of its own; else None.
        estimates: what can be said of the speed without a device, or None.
        losses: which parts of the model lost time in the lower of two measurements, in words; None without layers.
        devices: what `--device` may name for a measurement, in words; empty where it is always this machine.
        layers_hint: how the time of every layer is measured, for a target that can.
        is_local: whether this machine is the device, so that an export can be timed right away.
        runs_in_browser: whether a browser runs the format that runs on the device.
        quantizes_tokens: whether its runtime finds the scales of INT8 activations itself, token by token.
        packages: those that have a say in what its exports write and how they are compared, beside PyTorch and NumPy.
    """

    name: str
    runtime: str
    summary: str
    extra: str
    precisions: tuple[Precision, ...]
    formats: tuple[Format, ...]
    options: type
    profile_options: type
    words: Words
    write: Callable[[ExportSpec, Sequence[Variant], Path, Mapping[str, str], Progress], list[Artifact]]
    measure: Callable[[Measuring, Progress, Log], Profile]
    doctor: Callable[[], Iterable[Check]]
    next_steps: Callable[[Bundle], Next]
    check: Callable[[ExportSpec, Sequence[str] | None], None] = lambda spec, labels: None
    compile: Callable[[Written, Progress], Sequence[Artifact]] = lambda written, progress: written.artifacts
    prove: Callable[[Written, Mapping[ImageSize, np.ndarray], Progress], None] = lambda written, frames, progress: None
    finish: Callable[[Written, Mapping[str, float]], None] = lambda written, golden_cosine: None
    notes: Callable[[Sequence[Artifact]], Sequence[str]] = lambda artifacts: ()
    inputs: tuple[str, ...] = ("image", "tensor")
    builder: Builder | None = None
    linter: Linter | None = None
    estimates: Callable[[Bundle], Table | None] = lambda bundle: None
    losses: Callable[[Any, Any], Sequence[str] | None] = lambda lower, higher: None
    devices: str = ""
    layers_hint: str = ""
    is_local: bool = False
    runs_in_browser: bool = False
    quantizes_tokens: bool = False
    packages: tuple[str, ...] = ()

    @property
    def default_precision(self) -> Precision:
        return self.precisions[0]

    @property
    def deployed(self) -> Format:
        """The format that runs on the device."""
        return self.formats[0]

    def format_named(self, name: str) -> Format:
        """Raises `EdgeError` that lists the target's formats."""
        for format in self.formats:
            if format.name == name:
                return format
        raise EdgeError(
            f"The target '{self.name}' has no files of the format '{name}'.",
            f"Known: {', '.join(f.name for f in self.formats)}.",
        )

    def check_precision(self, precision: str) -> None:
        """Raises `EdgeError` that lists the target's precisions."""
        if precision not in self.precisions:
            raise EdgeError(
                f"The target '{self.name}' has no precision '{precision}'.", f"Known: {', '.join(self.precisions)}."
            )

    def check_input(self, name: str) -> None:
        """Raises `EdgeError` that lists the target's input forms."""
        if name not in self.inputs:
            raise EdgeError(f"The target '{self.name}' has no input '{name}'.", f"Known: {', '.join(self.inputs)}.")

    def above(self, precision: str) -> Precision:
        """The next higher precision."""
        return self.precisions[self.precisions.index(Precision(precision)) + 1]

    def options_of(self, spec: ExportSpec) -> Any:
        """The typed options of a spec, which holds them as JSON values. Raises `EdgeError` for what they cannot be."""
        return from_mapping(self.options, spec.target_options, f"The target '{self.name}'")
