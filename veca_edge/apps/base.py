"""What an app is made of, and what a platform is: one row each in `table.py`."""

from __future__ import annotations

import re
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..base.errors import EdgeError
from ..base.tasks import Task
from ..bundle.types import Artifact, Bundle
from ..images.palette import palette
from ..images.preprocessing import Preprocessing

TEMPLATES = Path(__file__).with_name("templates")
LONGEST_NAME = 50
# Outputs of which an app can draw something.
DRAWN = ("logits", "segmentation", "depth", "dense")


@dataclass(frozen=True)
class App:
    """One app to be written.

    Attributes:
        name: what its user reads; any characters but control characters, see `checked_name`.
        bundle: what the app is made around.
        variants: the models that go into it, ascending by core count: of one precision and one image size.
    """

    name: str
    bundle: Bundle
    variants: tuple[Artifact, ...]

    @property
    def slug(self) -> str:
        """The name where only a few characters are allowed: lower-case ASCII letters, digits and hyphens."""
        plain = unicodedata.normalize("NFKD", self.name).encode("ascii", "ignore").decode().lower()
        words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
        return words if words[:1].isalpha() else f"veca-{words}".rstrip("-")

    @property
    def preprocessing(self) -> Preprocessing:
        """How a frame becomes the input. Raises `EdgeError` where this version does not know it."""
        return Preprocessing.from_json(self.bundle.preprocessing)

    @property
    def mask_labels(self) -> tuple[str, ...]:
        """Class names of the masks; empty without names, or without masks."""
        segment = self.bundle.head_for(Task.SEGMENT)
        return tuple((segment and segment.labels) or ())

    @property
    def mask_colours(self) -> tuple[str, ...]:
        """`#rrggbb` of every class of the masks; empty without masks."""
        segment = self.bundle.head_for(Task.SEGMENT)
        return tuple(segment.palette or palette(segment.classes)) if segment is not None else ()


@dataclass(frozen=True)
class Platform:
    """A kind of device that apps are made for.

    Attributes:
        name: what `--platform` takes.
        summary: what is written, in a few words.
        target: the target whose bundles it takes.
        format: of the artifacts that go into the app, as the target calls it.
        write: writes the whole project into a folder that is there and empty.
        export_options: what an export needs beside `--target`, for the hint of a bundle that does not fit.
        inputs: the forms of the input that its models may take; the first is named where another was found.
        check: what else it needs of a bundle: raises `EdgeError` that names the export.
        open_with: the first things to do in the new folder, for the command's last lines.
    """

    name: str
    summary: str
    target: str
    format: str
    write: Callable[[App, Path], None]
    export_options: str = ""
    inputs: tuple[str, ...] = ("image",)
    check: Callable[[App], None] | None = None
    open_with: tuple[str, ...] = ()

    @property
    def export(self) -> str:
        """The export that brings what it needs."""
        return f"veca-edge export CHECKPOINT --target {self.target} {self.export_options}".rstrip()


def copy_template(platform: str, folder: Path) -> None:
    """Copies a platform's template. Wheels leave out names that begin with a dot: `gitignore` gets its dot here."""
    shutil.copytree(TEMPLATES / platform, folder, dirs_exist_ok=True)
    (folder / "gitignore").rename(folder / ".gitignore")


def checked_name(name: str) -> str:
    """An app's name as it is shown, without space around it.

    Raises:
        EdgeError: it is empty, too long, or has a line break or another control character.
    """
    shown = name.strip()
    if not shown:
        raise EdgeError("An app without a name can't be shown.", "Give --name a text.")
    for character in shown:
        # Cc are controls and line breaks, Cs halves of characters, Zl and Zp separators of lines and paragraphs.
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
            raise EdgeError(
                f"The name {shown!r:.80} has a character that no title shows: {character!r}.",
                "Give a --name of one line.",
            )
    if len(shown) > LONGEST_NAME:
        raise EdgeError(
            f"The name '{shown:.20}...' has {len(shown)} characters; at most {LONGEST_NAME} are taken.",
            "Give a shorter --name.",
        )
    return shown


def app_around(bundle: Bundle, platform: Platform, name: str) -> App:
    """The app of a bundle: where the bundle holds several precisions or sizes, those that it was exported with first.

    Raises:
        EdgeError: the bundle or the name does not fit; it says which export brings what is needed.
    """
    shown = checked_name(name)
    if bundle.spec.target != platform.target:
        raise EdgeError(
            f"The bundle {bundle.directory} is for the target '{bundle.spec.target}'; an app for {platform.name} is "
            f"made from one for '{platform.target}'.",
            f"Export one: {platform.export}",
        )
    precision, size = bundle.spec.precisions[0], bundle.spec.image_sizes[0]
    there = [
        a for a in bundle.artifacts if a.format == platform.format and a.precision == precision and a.image_size == size
    ]
    if not there:
        raise EdgeError(
            f"The bundle {bundle.directory} holds no {platform.format} of {precision} at {size}.",
            f"Export one: {platform.export}",
        )
    first = there[0]
    if first.input not in platform.inputs:
        raise EdgeError(
            f"The models of {bundle.directory} take '{first.input}'; an app for {platform.name} gives them "
            f"'{platform.inputs[0]}'.",
            f"Export again: {platform.export} --input {platform.inputs[0]}",
        )
    if first.batch != 1:
        raise EdgeError(
            f"The models of {bundle.directory} take {first.batch} images at once; a camera gives one at a time.",
            f"Export again: {platform.export} --batch 1",
        )
    if not set(first.outputs) & set(DRAWN):
        raise EdgeError(
            f"The models of {bundle.directory} give {', '.join(first.outputs)}, of which nothing can be drawn.",
            f"Export again: {platform.export} --outputs with one of {', '.join(DRAWN)}",
        )
    app = App(shown, bundle, tuple(sorted(there, key=lambda a: a.core_count)))
    app.preprocessing  # noqa: B018  # refused here, before anything is written
    if platform.check is not None:
        platform.check(app)
    return app
