"""Bundles on disk: read, verified, and written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, replace
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
    inside,
    is_aside,
    nearest_parent,
    remove_abandoned,
    sha256_of,
    sync,
    sync_tree,
    write_atomically,
)
from ..base.json_files import read_json, typed, unknown_field
from ..base.progress import Progress, silent
from ..base.spec import ImageSize
from .types import ADDED_FIELDS, SCHEMA_VERSION, Artifact, Bundle

if TYPE_CHECKING:
    from ..model.plan import Variant

MANIFEST = "manifest.json"
PROFILES = "profiles"
RUN_FILE = "run.toml"
EVALUATIONS = "evaluations"


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
        map_stride=spec.map_stride,
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
            "Say which one: its core count (--cores), --precision or --image-size.",
        )
    raise EdgeError(f"The bundle {bundle.directory} holds no variant with {asked}.", f"It has: {listed}.")


# -------------------------------------------------------------------------------------- reading


_EXPORT_AGAIN = "It was damaged, or changed by hand or by another tool; export the bundle again."


def opened(bundle: str | Path | Bundle) -> Bundle:
    """A bundle as it was opened, or opens it."""
    return bundle if isinstance(bundle, Bundle) else open_bundle(bundle)


def open_bundle(path: str | Path) -> Bundle:
    """Reads a bundle's manifest.

    Raises:
        EdgeError: there is no bundle, or the manifest is damaged, is of another version, or holds what it must not;
            it says where.
    """
    directory = Path(path)
    check_name(directory.absolute())
    file, whose = directory / MANIFEST, f"The manifest {directory / MANIFEST}"
    with suppress(PermissionError, ValueError):
        try:
            file.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise EdgeError(*_no_bundle(directory)) from None
    data = read_json(file, "The bundle is damaged; export it again.")
    version = data.pop("schema_version", None) if isinstance(data, dict) else None
    if type(version) is not int:
        raise EdgeError(f"{file} is not the manifest of a veca-edge bundle.", "Give the directory that export wrote.")
    if version != SCHEMA_VERSION:
        raise EdgeError(
            f"{file} has schema version {version}, but this veca-edge reads version {SCHEMA_VERSION}.",
            "Update veca-edge." if version > SCHEMA_VERSION else "Export the bundle again.",
        )
    spec = data.get("spec")
    if isinstance(spec, dict) and "target_options" in spec and spec["target_options"] is None:
        # As veca-edge 0.1 wrote it for targets without options.
        spec["target_options"] = {}
    known = {f.name for f in fields(Bundle)} - {"directory", *ADDED_FIELDS}
    if missing := known - data.keys():
        raise EdgeError(f"{whose} is not what veca-edge writes: it has no {sorted(missing)[0]}.", _EXPORT_AGAIN)
    if "directory" in data:
        raise EdgeError(f"{whose} has a field that veca-edge does not write: $.directory.", _EXPORT_AGAIN)
    bundle = typed({**data, "directory": directory}, Bundle, whose, _EXPORT_AGAIN)
    if (unknown := unknown_field(data, bundle.to_json())) is not None:
        raise EdgeError(f"{whose} has a field that veca-edge does not write: {unknown:.200}.", _EXPORT_AGAIN)
    return bundle


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


def checked_run_file(bundle: str | Path | Bundle) -> Path:
    """The run file of an export, as it was written. Raises `EdgeError` where there is none, or it was changed."""
    found = opened(bundle)
    if RUN_FILE not in found.files:
        raise EdgeError(
            f"The bundle {found.directory} has no {RUN_FILE}: an earlier veca-edge made it.",
            "Export it again; every bundle has one now.",
        )
    path = inside(found.directory, RUN_FILE, _EXPORT_AGAIN)
    if not path.is_file() or sha256_of(path) != found.files[RUN_FILE]:
        raise EdgeError(
            f"{path} is not what was exported: it was changed or removed.",
            "A run file of your own is given with: veca-edge export --config FILE",
        )
    return path


def verify_files(bundle: Bundle, progress: Progress = silent) -> int:
    """Compares every file with its digest and returns how many there were.

    Raises:
        EdgeError: files are missing or were changed; it names them.
    """
    expected = {**bundle.files, **{a.path: a.sha256 for a in bundle.artifacts}}
    missing, changed = [], []
    for i, (relative, digest) in enumerate(expected.items()):
        file = inside(bundle.directory, relative, _EXPORT_AGAIN)
        if not file.exists():
            missing.append(relative)
            continue
        for part in files_below(file) if file.is_dir() else ():
            inside(bundle.directory, part.relative_to(bundle.directory).as_posix(), _EXPORT_AGAIN)
        if sha256_of(file) != digest:
            changed.append(relative)
        progress("checking digests", i + 1, len(expected))
    if missing or changed:
        said = [f"{what}: {', '.join(names)}" for what, names in (("missing", missing), ("changed", changed)) if names]
        raise EdgeError(
            f"The bundle {bundle.directory} is not what was exported; {'; '.join(said)}.",
            "Copy it again, or export it again.",
        )
    return len(expected)


# -------------------------------------------------------------------------------------- writing


def write_manifest(bundle: Bundle) -> Bundle:
    """Writes `manifest.json`, with the digests of everything else that is there. The last step of an export."""
    bundle = replace(bundle, files=_digests(bundle.directory, bundle.artifacts, known={}))
    _write(bundle)
    return bundle


def add_artifacts(bundle: Bundle, artifacts: Iterable[Artifact]) -> Bundle:
    """Adds artifacts made later (an engine fetched from a board), and files beside them, to the manifest.

    An artifact with the same path and function as an old one takes its place. What was there keeps its
    digest, so that a change to it does not go unnoticed. What others added since `bundle` was read stays.

    Raises:
        EdgeError: another bundle took this one's place.
    """
    new = tuple(artifacts)
    with _alone_in(bundle) as current:
        replaced = {(a.path, a.function) for a in new}
        every = tuple(a for a in current.artifacts if (a.path, a.function) not in replaced) + new
        # Digests are of what is on disk: after the power fails too.
        for artifact in new:
            _sync_all(bundle.directory / artifact.path)
        files = _digests(bundle.directory, every, known=current.files)
        for relative in files.keys() - current.files.keys():
            sync(bundle.directory / relative)
        current = replace(current, artifacts=every, files=files)
        _write(current)
    return current


def withdraw_artifacts(bundle: Bundle, stem: str) -> None:
    """Takes the artifacts `STEM.*` and the files beside them out of the manifest, before they are written anew.

    Killed while they are, a bundle is whole without them. `add_artifacts` brings them back.

    Args:
        stem: a path relative to the bundle, without its suffix.

    Raises:
        EdgeError: another bundle took this one's place.
    """
    with _alone_in(bundle) as current:
        artifacts = tuple(a for a in current.artifacts if not a.path.startswith(f"{stem}."))
        files = {path: digest for path, digest in current.files.items() if not path.startswith(f"{stem}.")}
        if (len(artifacts), len(files)) != (len(current.artifacts), len(current.files)):
            _write(replace(current, artifacts=artifacts, files=files))


@contextmanager
def _alone_in(bundle: Bundle) -> Iterator[Bundle]:
    """The bundle as it is now, while no other process changes its manifest or puts another in its place."""
    with disk_errors(bundle.directory), _alone_beside(bundle.directory.resolve()):
        current = open_bundle(bundle.directory)
        if (current.created_at, current.checkpoint) != (bundle.created_at, bundle.checkpoint):
            raise EdgeError(
                f"{bundle.directory} was replaced by another bundle meanwhile.", "Run the same command again."
            )
        remove_abandoned(bundle.directory, MANIFEST)
        yield current


def _sync_all(path: Path) -> None:
    if path.is_dir():
        sync_tree(path)
    elif path.exists():
        sync(path)


def _write(bundle: Bundle) -> None:
    text = json.dumps(bundle.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(bundle.directory / MANIFEST, text + "\n")


def _digests(directory: Path, artifacts: Sequence[Artifact], known: Mapping[str, str]) -> dict[str, str]:
    paths = {a.path for a in artifacts}

    def counted(relative: str) -> bool:
        part_of_artifact = relative in paths or any(relative.startswith(f"{p}/") for p in paths)
        added = relative.startswith((f"{PROFILES}/", f"{EVALUATIONS}/"))
        return not (relative == MANIFEST or added or part_of_artifact)

    found = {file.relative_to(directory).as_posix(): file for file in files_below(directory) if not is_aside(file)}
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
    ancestor = nearest_parent(output)
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
        bundle = open_bundle(directory)
        return all(inside(directory, name).exists() for name in (*bundle.files, *(a.path for a in bundle.artifacts)))
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
