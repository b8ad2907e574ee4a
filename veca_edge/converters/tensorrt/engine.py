"""Engines: ONNX files built by the TensorRT of the very board that will run them.

The board may be this machine or one behind SSH; both go the same way: a detached job that runs trtexec, or
our builder in Python where only the `tensorrt` package is there. What a build leaves is fetched: the engine
(nothing is added to the file), its layers and the log. The timing cache stays on the board.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packaging.version import Version

from ...base.errors import EdgeError
from ...base.files import bytes_of, disk_errors, remove_abandoned, sha256_of, write_atomically
from ...base.progress import Progress, silent
from ...base.version_numbers import major_minor
from ...bundle.details import TensorrtDetails, details_as
from ...bundle.types import Artifact
from ...devices import jobs
from ...devices.answers import Reader
from ...devices.jetson.engine_key import EngineKey, engine_key
from ...devices.jetson.modules import JETPACKS
from ...devices.jetson.probe import Board, ConnectedBoard, no_tensorrt
from ...devices.jetson.trtexec import end_of, last_words, profile_arguments
from ...devices.jobs import Job, Log, ignore, run_job
from ...devices.outgoing import bundle_file
from ...devices.shell import BOARD_DIRECTORY
from .options import EngineOptions

FOLDER = "engines"
_BUILDER = Path(__file__).with_name("engine_builder.py")
_OLDEST = "8.5"


def build_engines(
    there: ConnectedBoard,
    directory: Path,
    artifacts: Sequence[Artifact],
    options: EngineOptions | None = None,
    progress: Progress = silent,
    on_log: Log = ignore,
    before_writing: Callable[[str], None] = lambda stem: None,
) -> list[Artifact]:
    """Builds an engine from every ONNX artifact, on the board, and fetches it into `directory/engines`.

    Run again after a lost connection it goes on where it was: engines that were fetched are not built
    again, and a build that is running or finished on the board is picked up.

    Args:
        directory: the bundle's.
        artifacts: ONNX, of the target `jetson`.
        on_log: gets the builder's lines.
        before_writing: is called with each engine's path without its suffix, relative to the bundle, when it has
            been built and its files are about to be written.

    Returns:
        One artifact of format `engine` per ONNX file, in order. Its details hold `engine_key`, `onnx` and
        `onnx_sha256` (what it was built from), `builder`, `build_arguments`, `build_seconds`, `log` and
        `layers` (paths); the same stand in a JSON file beside the engine.

    Raises:
        EdgeError: there is no TensorRT; a file is for another one; a build failed (out of memory, disk full,
            a node that does not parse); the connection was lost.
    """
    command = builder_command(there)
    for artifact in artifacts:
        check_dialect(artifact, there.board)
    site = _Site(there, directory, command, options or EngineOptions(), on_log, before_writing)
    engines = []
    for i, artifact in enumerate(artifacts):
        stage = f"building {artifact.name} on {there.name}"
        progress(stage, i, len(artifacts))
        engines.append(site.engine(artifact, lambda stage=stage, i=i: progress(stage, i, len(artifacts))))
        progress(stage, i + 1, len(artifacts))
    return engines


@dataclass(frozen=True)
class _Site:
    """A board that builds, and the bundle below whose `directory` the engines go."""

    there: ConnectedBoard
    directory: Path
    command: str
    options: EngineOptions
    on_log: Log
    before_writing: Callable[[str], None]

    def engine(self, artifact: Artifact, on_wait: Callable[[], None]) -> Artifact:
        """The engine of an ONNX artifact: the one that is there already, or one that is built now."""
        board = self.there.board
        key = engine_key(board)
        # Artifacts of an elastic file share it, and its engine.
        stem = f"{FOLDER}/{key.slug}/{Path(artifact.path).stem}"
        asked = {
            "onnx": artifact.path,
            "onnx_sha256": artifact.sha256,
            "engine_key": key.to_json(),
            "workspace_mib": self.options.workspace_mib,
            "level": self.options.level,
        }
        made = _made_before(self.directory, artifact, stem, asked)
        if made is not None:
            return made
        arguments = build_arguments(artifact.details, board.tensorrt or _OLDEST, self.options.level)
        job = Job(
            "build",
            build_job_script(self.command, arguments, key, self.options.workspace_mib),
            _inputs(self.directory, artifact, self.command),
            needed_bytes=2 * artifact.bytes + (64 << 20),
        )
        log, said = self.built(job, artifact, on_wait)
        builder = "tensorrt" if _uses_python(self.command) else "trtexec"
        self.fetch(job, artifact, stem, log, {**asked, "builder": builder, "build_arguments": arguments, **said})
        made = _made_before(self.directory, artifact, stem, asked)
        if made is None:
            raise RuntimeError(f"the record of {stem} does not agree with itself")
        return made

    def built(self, job: Job, artifact: Artifact, on_wait: Callable[[], None]) -> tuple[str, dict[str, Any]]:
        """Runs the job; returns its log, and what that says of a build that went well."""
        log: list[str] = []

        def keep(line: str) -> None:
            log.append(line)
            self.on_log(line)

        place, there = self.there.name, self.there
        code = run_job(there.connection, job, on_log=keep, on_wait=on_wait, interval_s=there.interval_s)
        text = "\n".join(log) + "\n"
        try:
            if code:
                raise build_error(artifact.name, place, text, code)
            return text, _said(text, place)
        except EdgeError:
            jobs.remove(there.connection, job)
            raise

    def fetch(self, job: Job, artifact: Artifact, stem: str, log: str, facts: Mapping[str, Any]) -> None:
        """Brings what a build left on the board into the bundle, with a record of `facts` and of the files."""
        place, engine = self.directory / stem, self.directory / f"{stem}.engine"
        connection = self.there.connection
        with disk_errors(place):
            place.parent.mkdir(parents=True, exist_ok=True)
        # The engine comes last: while it does, another client may take the files away.
        layers = jobs.read(connection, job, "layers.json")
        self.before_writing(stem)
        remove_abandoned(place.parent, place.name)
        jobs.fetch(connection, job, "model.engine", engine, most_bytes=_most_bytes(artifact))
        if layers is not None:
            write_atomically(self.directory / f"{stem}.layers.json", layers)
        write_atomically(self.directory / f"{stem}.log", log)
        record = {
            **facts,
            "log": f"{stem}.log",
            "layers": f"{stem}.layers.json" if layers is not None else None,
            "sha256": sha256_of(engine),
        }
        # The record comes last: where it stands, everything else does.
        write_atomically(self.directory / f"{stem}.json", json.dumps(record, indent=2) + "\n")
        jobs.remove(connection, job)


def _said(log: str, place: str) -> dict[str, Any]:
    """Seconds and workspace of a build that went well, as its log says them."""
    reader = Reader(f"The builder on {place}")
    seconds = re.findall(r"Engine built in (\S+) sec", log)
    workspace = re.search(r"^workspace: (\S+)", log, re.MULTILINE)
    return {
        "build_seconds": reader.decimal("the time of the build", seconds[-1]) if seconds else None,
        "used_workspace_mib": reader.whole("the workspace", workspace[1]) if workspace else None,
    }


def _most_bytes(artifact: Artifact) -> int:
    """The largest engine that is taken: of FP32 weights in an FP16 file, several times, and the code of the kernels."""
    return 8 * artifact.bytes + (512 << 20)


def _inputs(directory: Path, artifact: Artifact, command: str) -> dict[str, Path]:
    """What the board needs, by the name it has there: regular files of the bundle. Raises `EdgeError` for others."""
    inputs = {"model.onnx": bundle_file(directory, artifact.path)}
    external = details_as(artifact.details, TensorrtDetails, f"'{artifact.path}'").external_data
    folder = artifact.path.rpartition("/")[0]
    for name in external:
        if name in inputs or name == _BUILDER.name:
            raise EdgeError(f"'{artifact.path}' has external data called '{name}'.", "Export the bundle again.")
        inputs[name] = bundle_file(directory, f"{folder}/{name}" if folder else name)
    if _uses_python(command):
        inputs[_BUILDER.name] = _BUILDER
    return inputs


def _made_before(directory: Path, artifact: Artifact, stem: str, asked: Mapping[str, Any]) -> Artifact | None:
    """The artifact of an engine that is there, whole, and built from this very file as asked; else None."""
    engine, record = directory / f"{stem}.engine", directory / f"{stem}.json"
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        if any(found[name] != value for name, value in asked.items()) or found["sha256"] != sha256_of(engine):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    kept = {name: value for name, value in artifact.details.items() if name in _KEPT_DETAILS}
    return replace(
        artifact,
        path=f"{stem}.engine",
        format="engine",
        sha256=found.pop("sha256"),
        bytes=bytes_of(engine),
        details={**kept, **found},
    )


# Of the ONNX file's details, what is still true of the engine.
_KEPT_DETAILS = ("tensorrt", "dialect", "strongly_typed", "profiles", "profile", "constants")


# ------------------------------------------------------------------------------------- before a build


def builder_command(there: ConnectedBoard) -> str:
    """What builds there, as the beginning of a shell command: Python's TensorRT, else trtexec.

    Where the two disagree on the version the package is one that pip brought, which on a Jetson cannot
    use the GPU: JetPack's own trtexec then builds.
    """
    board = there.board
    if board.python and board.python_tensorrt == board.tensorrt:
        return f"{shlex.quote(board.python)} ./{_BUILDER.name}"
    if board.trtexec:
        return shlex.quote(board.trtexec)
    raise no_tensorrt(there)


def _uses_python(command: str) -> bool:
    return command.endswith(_BUILDER.name)


def oldest_tensorrt(details: Mapping[str, Any]) -> Version:
    """The oldest TensorRT that reads a file of this dialect."""
    facts = details_as(details, TensorrtDetails)
    if facts.strongly_typed:
        return Version("10.0")
    return Version("8.6") if facts.opset >= 17 else Version("8.5")


def check_dialect(artifact: Artifact, board: Board) -> None:
    """Refuses what this board's TensorRT cannot build. Raises `EdgeError`."""
    if artifact.target != "jetson" or artifact.format != "onnx":
        raise EdgeError(
            f"'{artifact.path}' is not an ONNX file for TensorRT, but {artifact.format} for {artifact.target}.",
            "Export with --target jetson.",
        )
    if board.tensorrt is None:
        return
    here, details = Version(board.tensorrt), artifact.details
    oldest = oldest_tensorrt(details)
    jetpack = f" (JetPack {board.jetpack})" if board.jetpack else ""
    again = (
        f"Export for it: --jetpack {board.jetpack}"
        if board.jetpack in JETPACKS
        else f"Export for it: --tensorrt {major_minor(board.tensorrt)}"
    )
    if here < oldest:
        raise EdgeError(
            f"'{artifact.path}' needs TensorRT {oldest} or later, and {board.name} has {board.tensorrt}{jetpack}.",
            again,
        )
    if here >= Version("11") and not details_as(details, TensorrtDetails).strongly_typed:
        raise EdgeError(
            f"'{artifact.path}' leaves its types to the builder, which TensorRT 11 no longer does; "
            f"{board.name} has {board.tensorrt}{jetpack}.",
            again,
        )


def build_arguments(details: Mapping[str, Any], version: str, level: int | None = None) -> list[str]:
    """trtexec's options for a file of this dialect, for a TensorRT version; without names of files and workspace."""
    has_levels, facts = Version(version) >= Version("8.6"), details_as(details, TensorrtDetails)
    return [
        *facts.build_flags,
        *([f"--builderOptimizationLevel={level}"] if level is not None and has_levels else []),
        "--profilingVerbosity=detailed",
        *profile_arguments(facts.profiles),
        "--skipInference" if has_levels else "--buildOnly",
    ]


# Half of what is free, as a share of memory that the system needs too. Reckoned on the board when a build begins:
# a build that runs already must be found again, whatever is free by then.
WORKSPACE = """
workspace=$(awk '/^MemAvailable:/ { print int($2 / 2048) }' /proc/meminfo)
[ "$workspace" -le 1024 ] || workspace=1024
[ "$workspace" -ge 64 ] || workspace=64
"""


def build_job_script(command: str, arguments: Sequence[str], key: EngineKey, workspace_mib: int | None) -> str:
    """The job: builds `model.onnx` to `model.engine`, which is there only when it is whole."""
    return (
        (WORKSPACE if workspace_mib is None else f"workspace={workspace_mib}\n") + 'echo "workspace: $workspace MiB"\n'
        f"timing={BOARD_DIRECTORY}/timing\n"
        'mkdir -p "$timing"\n'
        f"{command} --onnx=model.onnx --saveEngine=part.engine --exportLayerInfo=layers.json \\\n"
        f'    --timingCacheFile="$timing/{key.slug}.cache" --memPoolSize=workspace:"$workspace" \\\n'
        f"    {shlex.join(arguments)}\n"
        "code=$?\n"
        '[ "$code" -eq 0 ] && mv part.engine model.engine\n'
        'exit "$code"\n'
    )


# ------------------------------------------------------------------------------------ what went wrong


def build_error(name: str, place: str, log: str, code: int) -> EdgeError:
    """What the log of a failed build says, in one sentence, and what to do about it."""
    smaller = (
        "Ask the builder for less: --workspace 256, then --builder-level 1; stop other programs, and the "
        "desktop (sudo systemctl isolate multi-user.target). Swap does not help: the GPU cannot use it."
    )

    def found(*patterns: str) -> bool:
        return any(re.search(pattern, log, re.IGNORECASE) for pattern in patterns)

    log = end_of(log)
    parse = parse_failure(log)
    if parse:
        return EdgeError(
            f"TensorRT on {place} does not parse '{name}': {parse}.",
            "Is the file for this TensorRT? `veca-edge lint FILE --target jetson --tensorrt X.Y` names "
            "what breaks a rule.",
        )
    if found("No space left on device", "Saving engine to file failed", "Cannot write to FileStreamWriter"):
        return EdgeError(
            f"The disk of {place} is full: the engine of '{name}' could not be saved.",
            "Free some space below ~/.cache there, and run the same command again.",
        )
    if code in (137, 9) or found(r"^Killed", "bad_alloc"):
        return EdgeError(f"The build of '{name}' was killed on {place}: the board ran out of memory.", smaller)
    if found("out of memory", "OutOfMemory", "insufficient to use tactic", "insufficient memory", "NvMapMemAlloc"):
        return EdgeError(f"{place} has not enough free memory to build '{name}'.", smaller)
    if found("Target GPU SM", "no kernel image is available"):
        return EdgeError(
            f"The TensorRT that was found on {place} is not made for its GPU.",
            "A Jetson needs JetPack's own: remove what pip installed (pip uninstall tensorrt).",
        )
    unknown = re.search(r"Unknown option: (\S+)", log)
    if unknown:
        return EdgeError(
            f"trtexec on {place} does not know the option {unknown[1]}: it is older than it says.",
            "Please report this with the board's TensorRT version.",
        )
    return EdgeError(
        f"The build of '{name}' failed on {place} (exit code {code}): {last_words(log)}",
        "The rest is in the log: run again with --debug to see it.",
    )


def parse_failure(log: str) -> str | None:
    """Node and reason of a failed parse, from trtexec's log or our builder's; None where parsing went well."""
    at = re.search(r"While parsing node number (\d+) \[(\S+)(?: -> \"([^\"]*)\")?\]", log)
    if at is None:
        return "the parser gave no node" if re.search("Failed to parse onnx file", log, re.IGNORECASE) else None
    behind = log[at.end() :]
    node = re.search(r'^(?:Node name: |name: ")([^"\n]*)', behind, re.MULTILINE)
    reason = re.search(r"ERROR: .*?:\s*\n\s*(?:\[\d+\]\s*)?(.+)", behind) or re.search(r"ERROR: (.+)", behind)
    name = node[1] if node else at[3]
    where = f"node '{name}' ({at[2]})" if name else f"node {at[1]} ({at[2]})"
    return where + (f": {reason[1].strip().rstrip('.')}" if reason else "")
