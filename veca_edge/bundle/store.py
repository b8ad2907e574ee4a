"""Bundles: what an export leaves on disk."""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from ..base.errors import EdgeError
from ..base.files import (
    bytes_of,
    check_name,
    disk_errors,
    exchange,
    files_below,
    held,
    sha256_of,
    sync,
    sync_tree,
    write_atomically,
)
from ..base.progress import Progress, silent
from ..base.spec import ExportSpec, GraphSpec, ImageSize
from ..model.config import ModelConfig

if TYPE_CHECKING:
    from ..model.plan import Variant

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
PROFILES = "profiles"


# ---------------------------------------------------------------------------------------- types


@dataclass(frozen=True)
class Artifact:
    """One variant in a bundle.

    Attributes:
        path: relative to the bundle, with forward slashes; a file, or a directory (`.mlpackage`).
        format: `onnx`, `engine` or `mlpackage`.
        function: the function inside a multifunction package, or None.
        sha256: of the file, or of the sorted (path, sha256) list of a directory.
        bytes: size on disk, external weight files included.
        details: what only this target knows (dialect, TensorRT versions, compile report, ...); JSON values.
    """

    path: str
    format: str
    target: str
    core_count: int
    precision: str
    image_size: ImageSize
    batch: int
    input: str
    outputs: tuple[str, ...]
    sha256: str
    bytes: int
    function: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"cores{self.core_count}_{self.precision}_{self.image_size}"

    @property
    def spec(self) -> GraphSpec:
        return GraphSpec(self.core_count, self.image_size, self.batch, self.input, self.outputs)

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "image_size": list(self.image_size),
            "outputs": list(self.outputs),
            "details": dict(self.details),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Artifact:
        return cls(**{**data, "image_size": ImageSize(*data["image_size"]), "outputs": tuple(data["outputs"])})


@dataclass(frozen=True)
class CheckpointFacts:
    """What a bundle says about the checkpoint it was made from; `digest` is the file's sha256."""

    name: str
    digest: str
    config: ModelConfig


@dataclass(frozen=True)
class Bundle:
    """An export on disk, as its manifest describes it.

    Attributes:
        directory: where it is; everything else is in the manifest.
        preprocessing: `Preprocessing.to_json()`: how an image file becomes the model's input.
        versions: of the tools that made it.
        labels: class names in the order of `logits`, or None.
        recipe: the quantization recipe's file, relative, or None.
        fidelity: one `Fidelity.to_json()` per variant.
        details: what only this target knows (the Jetson it is meant for, ...); JSON values.
        created_at: UTC, ISO 8601.
        files: sha256 of every other file but measurements, by relative path; `write_manifest` fills it in.
    """

    directory: Path
    spec: ExportSpec
    checkpoint: CheckpointFacts
    preprocessing: Mapping[str, Any]
    versions: Mapping[str, str]
    artifacts: tuple[Artifact, ...]
    labels: tuple[str, ...] | None = None
    recipe: str | None = None
    fidelity: tuple[Mapping[str, Any], ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    created_at: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def core_counts(self) -> tuple[int, ...]:
        return tuple(sorted({a.core_count for a in self.artifacts}))

    @property
    def precisions(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(a.precision for a in self.artifacts))

    @property
    def image_sizes(self) -> tuple[ImageSize, ...]:
        return tuple(dict.fromkeys(a.image_size for a in self.artifacts))

    def to_json(self) -> dict[str, Any]:
        """The manifest."""
        spec = asdict(self.spec)
        options = self.spec.target_options
        spec["target_options"] = asdict(options) if is_dataclass(options) else options
        return {
            "schema_version": SCHEMA_VERSION,
            "created_at": self.created_at,
            "spec": spec,
            "checkpoint": {
                "name": self.checkpoint.name,
                "sha256": self.checkpoint.digest,
                "config": asdict(self.checkpoint.config),
            },
            "preprocessing": dict(self.preprocessing),
            "labels": None if self.labels is None else list(self.labels),
            "recipe": self.recipe,
            "fidelity": [dict(f) for f in self.fidelity],
            "versions": dict(self.versions),
            "artifacts": [a.to_json() for a in self.artifacts],
            "files": dict(self.files),
            "details": dict(self.details),
        }

    @classmethod
    def from_json(cls, directory: Path, data: Mapping[str, Any]) -> Bundle:
        spec = data["spec"]
        return cls(
            directory=directory,
            spec=ExportSpec(
                **{
                    **spec,
                    "core_counts": tuple(spec["core_counts"]),
                    "precisions": tuple(spec["precisions"]),
                    "outputs": tuple(spec["outputs"]),
                    "image_sizes": tuple(ImageSize(*s) for s in spec["image_sizes"]),
                }
            ),
            checkpoint=CheckpointFacts(
                data["checkpoint"]["name"], data["checkpoint"]["sha256"], ModelConfig(**data["checkpoint"]["config"])
            ),
            preprocessing=data["preprocessing"],
            versions=data["versions"],
            artifacts=tuple(Artifact.from_json(a) for a in data["artifacts"]),
            labels=None if data["labels"] is None else tuple(data["labels"]),
            recipe=data["recipe"],
            fidelity=tuple(data["fidelity"]),
            details=data["details"],
            created_at=data["created_at"],
            files=data["files"],
        )


def artifact_for(
    directory: Path,
    path: str,
    format: str,
    target: str,
    variant: Variant,
    function: str | None = None,
    details: Mapping[str, Any] | None = None,
    external_bytes: int = 0,
) -> Artifact:
    """Describes a variant that was just written to `path`, relative to the bundle at `directory`.

    Args:
        external_bytes: what it takes of other files, which counts in `bytes`.
    """
    file, spec = directory / path, variant.spec
    return Artifact(
        path=path,
        format=format,
        target=target,
        core_count=spec.core_count,
        precision=variant.precision,
        image_size=spec.image_size,
        batch=spec.batch,
        input=spec.input,
        outputs=spec.outputs,
        sha256=sha256_of(file),
        bytes=bytes_of(file) + external_bytes,
        function=function,
        details=dict(details or {}),
    )


def find_artifact(
    bundle: Bundle,
    core_count: int | None = None,
    precision: str | None = None,
    image_size: ImageSize | None = None,
    format: str | None = None,
) -> Artifact:
    """The one artifact that fits what is given; None fits everything.

    Raises:
        EdgeError: none fits (it lists what there is), or several do (it lists those).
    """
    wanted = {"core_count": core_count, "precision": precision, "image_size": image_size, "format": format}
    for name, value in wanted.items():
        known = list(dict.fromkeys(getattr(a, name) for a in bundle.artifacts))
        if value is not None and value not in known:
            raise EdgeError(
                f"The bundle {bundle.directory} holds nothing with {name.replace('_', ' ')} {value}.",
                f"It has: {', '.join(map(str, known))}.",
            )
    fitting = [
        a for a in bundle.artifacts if all(value is None or getattr(a, name) == value for name, value in wanted.items())
    ]
    if len(fitting) == 1:
        return fitting[0]
    asked = " and ".join(f"{name.replace('_', ' ')} {value}" for name, value in wanted.items() if value is not None)
    listed = ", ".join(f"{a.name} ({a.format})" for a in fitting or bundle.artifacts)
    if fitting:
        raise EdgeError(
            f"The bundle {bundle.directory} holds {len(fitting)} variants"
            f"{' with ' + asked if asked else ''}: {listed}.",
            "Say which one: core count, precision, image size.",
        )
    raise EdgeError(f"The bundle {bundle.directory} holds no variant with {asked}.", f"It has: {listed}.")


# -------------------------------------------------------------------------------------- reading


def read_bundle(path: str | Path) -> Bundle:
    """Reads the manifest of a bundle. Raises `EdgeError` for what is not a bundle, is damaged, or is too new.

    A device needs no more than this; `open_bundle` also checks the manifest against its schema.
    """
    directory = Path(path)
    data = _manifest(directory)
    try:
        return Bundle.from_json(directory, data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EdgeError(
            f"{directory / MANIFEST} is not what this version writes: {type(error).__name__}: {error}.",
            "It was changed by hand or by another tool; export the bundle again.",
        ) from error


def open_bundle(path: str | Path) -> Bundle:
    """Reads a bundle whose manifest agrees with the JSON Schema. Raises `EdgeError` that says what does not."""
    import jsonschema

    directory = Path(path)
    data = _manifest(directory)
    validator = jsonschema.Draft202012Validator(manifest_schema())
    error = jsonschema.exceptions.best_match(validator.iter_errors(data))
    if error is not None:
        where = "/".join(map(str, error.absolute_path)) or "the top level"
        raise EdgeError(
            f"{directory / MANIFEST} does not follow the manifest's schema at {where}: {error.message}.",
            "It was changed by hand or by another tool; export the bundle again.",
        )
    return read_bundle(directory)


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema of `manifest.json`."""
    return json.loads((Path(__file__).with_name("manifest.schema.json")).read_text())


def _manifest(directory: Path) -> dict[str, Any]:
    check_name(directory.absolute())
    file = directory / MANIFEST
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise EdgeError(*_no_bundle(directory)) from None
    except (OSError, ValueError) as error:
        raise EdgeError(f"{file} can't be read: {error}.", "The bundle is damaged; export it again.") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if not isinstance(version, int):
        raise EdgeError(f"{file} is not the manifest of a veca-edge bundle.", "Give the directory that export wrote.")
    if version != SCHEMA_VERSION:
        raise EdgeError(
            f"{file} has schema version {version}, but this veca-edge reads version {SCHEMA_VERSION}.",
            "Update veca-edge." if version > SCHEMA_VERSION else "Export the bundle again.",
        )
    return data


def _no_bundle(directory: Path) -> tuple[str, str]:
    if not directory.exists():
        kept = [old for old in _leftovers(directory, _REPLACED) if _has_its_files(old)]
        if kept:
            return (
                f"There is no bundle at {directory}: replacing it was interrupted.",
                f"The previous one is intact: mv -- {quote(str(kept[0]))} {quote(str(directory))}",
            )
        return f"There is no bundle at {directory}.", "Make one with: veca-edge export"
    return f"{directory} is not a bundle: it has no {MANIFEST}.", "Give the directory that export wrote."


def verify_files(bundle: Bundle, progress: Progress = silent) -> int:
    """Compares every file with its digest and returns how many there were.

    Raises:
        EdgeError: files are missing or were changed; it names them.
    """
    expected = {**bundle.files, **{a.path: a.sha256 for a in bundle.artifacts}}
    missing, changed = [], []
    for i, (relative, digest) in enumerate(expected.items()):
        file = _inside(bundle.directory, relative)
        if not file.exists():
            missing.append(relative)
        elif sha256_of(file) != digest:
            changed.append(relative)
        progress("checking digests", i + 1, len(expected))
    if missing or changed:
        said = [f"{what}: {', '.join(names)}" for what, names in (("missing", missing), ("changed", changed)) if names]
        raise EdgeError(
            f"The bundle {bundle.directory} is not what was exported; {'; '.join(said)}.",
            "Copy it again, or export it again.",
        )
    return len(expected)


def _inside(directory: Path, relative: str) -> Path:
    if relative.startswith("/") or ".." in relative.split("/") or "\\" in relative:
        raise EdgeError(f"The manifest of {directory} names a file outside of it: {relative}.", "Export it again.")
    return directory / relative


# -------------------------------------------------------------------------------------- writing


def write_manifest(bundle: Bundle) -> Bundle:
    """Writes `manifest.json`, with the digests of everything else that is there. The last step of an export."""
    bundle = replace(bundle, files=_digests(bundle.directory, bundle.artifacts, known={}))
    _write(bundle)
    return bundle


def add_artifacts(bundle: Bundle, artifacts: Iterable[Artifact]) -> Bundle:
    """Adds artifacts made later (an engine fetched from a board), and files beside them, to the manifest.

    An artifact with the same path and function as an old one takes its place. What was there keeps its
    digest, so that a change to it does not go unnoticed.
    """
    new = tuple(artifacts)
    replaced = {(a.path, a.function) for a in new}
    every = tuple(a for a in bundle.artifacts if (a.path, a.function) not in replaced) + new
    bundle = replace(bundle, artifacts=every, files=_digests(bundle.directory, every, known=bundle.files))
    _write(bundle)
    return bundle


def _write(bundle: Bundle) -> None:
    text = json.dumps(bundle.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(bundle.directory / MANIFEST, text + "\n")


def _digests(directory: Path, artifacts: Sequence[Artifact], known: Mapping[str, str]) -> dict[str, str]:
    paths = {a.path for a in artifacts}

    def counted(relative: str) -> bool:
        part_of_artifact = relative in paths or any(relative.startswith(f"{p}/") for p in paths)
        return not (relative == MANIFEST or relative.startswith(f"{PROFILES}/") or part_of_artifact)

    found = {file.relative_to(directory).as_posix(): file for file in files_below(directory)}
    every = {**found, **dict.fromkeys(known)}
    return {
        relative: known.get(relative) or sha256_of(found[relative]) for relative in sorted(every) if counted(relative)
    }


# Hidden siblings of a bundle. A run that was killed leaves them; their names say what they are:
# being written, and after an exchange the old bundle for a moment: never restored.
_INCOMPLETE = "veca-edge-incomplete"
# The old bundle, whole, between two renames where names cannot be exchanged: restored when there is no new one.
_REPLACED = "veca-edge-replaced"
# Being deleted: never restored.
_TRASH = "veca-edge-trash"

# Seconds to wait for another export beside this one that cleans up or replaces its bundle.
_PATIENCE_S = 60.0


def check_output(output: Path, force: bool) -> None:
    """Checks early that a bundle can be written at `output`. Raises `EdgeError`; writes nothing."""
    check_name(output.absolute())
    if output.exists() or output.is_symlink():
        if not force:
            raise EdgeError(f"{output} exists already.", "Give another --output, or --force to replace it.")
        if not (output.is_dir() and ((output / MANIFEST).is_file() or not any(output.iterdir()))):
            raise EdgeError(f"{output} is not a bundle, and --force replaces nothing else.", "Give another --output.")
    ancestor = output.absolute().parent
    while not ancestor.exists():
        ancestor = ancestor.parent
    if not ancestor.is_dir():
        raise EdgeError(f"{output} can't be written: {ancestor} is not a directory.", "Give another --output.")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise EdgeError(f"{output} can't be written: no permission to write in {ancestor}.", "Give another --output.")


@contextmanager
def new_bundle(output: Path, force: bool = False) -> Iterator[Path]:
    """A directory to build a bundle in, which becomes `output` when the block ends well.

    The block writes everything, `write_manifest` last. Until then it lies in a hidden sibling; when the
    block raises, that is removed and `output` is as it was. With `force` the new bundle takes the old one's name
    in one step where the system can do that, and only when it is complete and on disk; the old one is deleted
    after that. What a killed run left is removed by the next.

    Raises:
        EdgeError: as `check_output`; or the disk is full or can't be written; or another export took the place.
    """
    check_output(output, force)
    output = output.resolve() if output.is_symlink() else output.absolute()
    with ExitStack() as stack:
        stack.enter_context(disk_errors(output))
        made: list[Path] = []
        work = _sibling(output, _INCOMPLETE)
        try:
            stack.enter_context(_working_directory(output, work, made))
            yield work
            if not (work / MANIFEST).is_file():
                raise RuntimeError("a bundle was left without its manifest")
            sync_tree(work)
            with _alone_beside(output):
                trash = _swap_in(work, output, force)
            if trash is not None:
                shutil.rmtree(trash, ignore_errors=True)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            for parent in made:
                with suppress(OSError):
                    parent.rmdir()
            raise


@contextmanager
def _alone_beside(output: Path) -> Iterator[None]:
    """Holds back every other export that has this one's parent directory, for as long as names are changed there.

    Raises:
        EdgeError: another has held the directory for `_PATIENCE_S` seconds.
        FileNotFoundError: there is no such directory.
    """
    with held(output.parent, _PATIENCE_S) as free:
        if free is False:
            raise EdgeError(f"Another process keeps {output.parent} locked.", "Wait for it to end, then try again.")
        yield


def _working_directory(output: Path, work: Path, made: list[Path]) -> ExitStack:
    """Cleans up beside `output` and creates `work`; what is returned holds its lock, from its first moment on.

    Args:
        made: is given the parents that were missing, the deepest first.
    """
    # An export beside this one that fails removes the parents that it had made: then they are made again.
    for _ in range(100):
        with suppress(FileNotFoundError), ExitStack() as stack:
            made[:] = _make_parents(output.parent) or made
            with _alone_beside(output):
                _clean_up(output)
                work.mkdir()
                stack.enter_context(held(work))
            return stack.pop_all()
    raise EdgeError(f"{output} can't be written: other processes keep removing {output.parent}.", "Try again.")


def _swap_in(work: Path, output: Path, force: bool) -> Path | None:
    """Gives the new bundle its name and returns where the old one is, which is not needed any more."""
    taken = EdgeError(f"{output} appeared while the bundle was made.", "Give another --output, or --force.")
    if not output.exists():
        try:
            work.rename(output)
        except OSError as error:
            raise taken if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR) else error from None
        sync(output.parent)
        return None
    if not force:
        raise taken
    if exchange(work, output):
        old = work
    else:
        old = _sibling(output, _REPLACED)
        output.rename(old)
        try:
            work.rename(output)
        except BaseException:
            old.rename(output)
            raise
    sync(output.parent)
    trash = _sibling(output, _TRASH)
    old.rename(trash)
    return trash


def _sibling(output: Path, kind: str) -> Path:
    return output.with_name(f".{output.name}.{kind}-{uuid.uuid4().hex[:8]}")


def _leftovers(output: Path, kind: str) -> list[Path]:
    prefix = f".{output.name}.{kind}-"
    with suppress(OSError):
        return sorted(p for p in output.absolute().parent.iterdir() if p.name.startswith(prefix))
    return []


def _clean_up(output: Path) -> None:
    """Removes what killed runs left beside `output`; a whole bundle they had moved away comes back.

    The caller holds `_alone_beside`: nothing here is in the middle of being swapped by a run that is alive.
    """
    for old in _leftovers(output, _REPLACED):
        if not output.exists() and _has_its_files(old):
            old.rename(output)
        else:
            old.rename(_sibling(output, _TRASH))
    for work in _leftovers(output, _INCOMPLETE):
        with suppress(FileNotFoundError), held(work) as free:
            if free:
                work.rename(_sibling(output, _TRASH))
    for trash in _leftovers(output, _TRASH):
        shutil.rmtree(trash, ignore_errors=True)


def _has_its_files(directory: Path) -> bool:
    """Whether nothing of a bundle is missing: earlier versions deleted bundles under the name of whole ones."""
    try:
        bundle = read_bundle(directory)
        return all(_inside(directory, name).exists() for name in (*bundle.files, *(a.path for a in bundle.artifacts)))
    except EdgeError:
        return False


def _make_parents(directory: Path) -> list[Path]:
    """Creates a directory with its parents and returns those that were missing, the deepest first."""
    missing = []
    while not directory.exists():
        missing.append(directory)
        directory = directory.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
    return missing
