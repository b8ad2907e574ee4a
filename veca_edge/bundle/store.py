"""Bundles on disk: read and verified, and their manifests written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from ..base.errors import EdgeError
from ..base.files import (
    bytes_of,
    check_name,
    disk_errors,
    files_below,
    inside,
    is_aside,
    remove_abandoned,
    sha256_of,
    sync,
    sync_tree,
    write_atomically,
)
from ..base.json_files import read_json, typed, unknown_field
from ..base.progress import Progress, silent
from ..base.spec import ImageSize
from .siblings import REPLACED, alone_beside, leftovers
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
        kept = [old for old in leftovers(directory, REPLACED) if has_its_files(old)]
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
    return _verify(bundle, {**bundle.files, **{a.path: a.sha256 for a in bundle.artifacts}}, progress)


def verify_artifacts(bundle: Bundle, artifacts: Iterable[Artifact]) -> None:
    """Compares what some artifacts are opened from with its digests: their files, and shared weights beside them.

    A runtime takes a damaged file that still reads well for what it never was.

    Raises:
        EdgeError: files are missing or were changed; it names them.
    """
    chosen = {a.path: a.sha256 for a in artifacts}
    _verify(bundle, {**files_beside(bundle, chosen), **chosen}, silent)


def verify_file(bundle: Bundle, relative: str) -> Path:
    """A file beside the models, as it was written. Raises `EdgeError` where it is missing or was changed."""
    _verify(bundle, {relative: bundle.files.get(relative, "")}, silent)
    return inside(bundle.directory, relative)


def files_beside(bundle: Bundle, paths: Iterable[str]) -> dict[str, str]:
    """Digests, by path, of a bundle's other files in the folders that artifacts have of their own: shared weights."""
    folders = {path.rpartition("/")[0] for path in paths} - {""}
    return {path: digest for path, digest in bundle.files.items() if path.rpartition("/")[0] in folders}


def _verify(bundle: Bundle, expected: Mapping[str, str], progress: Progress) -> int:
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
    with disk_errors(bundle.directory), alone_beside(bundle.directory.resolve()):
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


def has_its_files(directory: Path) -> bool:
    """Whether nothing of a bundle is missing: earlier versions deleted bundles under the name of whole ones."""
    try:
        bundle = open_bundle(directory)
        return all(inside(directory, name).exists() for name in (*bundle.files, *(a.path for a in bundle.artifacts)))
    except EdgeError:
        return False
