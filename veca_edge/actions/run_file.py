"""Run files: what an export is asked, as TOML. Every bundle holds the one that repeats it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base import lists
from ..base.errors import KNOWN, EdgeError
from ..base.options import Option, options_of
from ..base.spec import ImageSize
from ..base.tasks import HeadFile, Task
from ..base.toml_options import key_of, read_toml, toml_text, typed_of
from ..targets.table import TARGETS, target_named

# Where a bundle goes, and the board that is asked, are not what makes it; the last three are written apart.
_NOT_RECORDED = ("force", "device", "head", "labels", "depth_range")
_PLACES = (
    Option("path", "--checkpoint", Path, "The trained checkpoint, .pt or .safetensors."),
    Option("output", "--output", Path, "The bundle to write."),
)


@dataclass(frozen=True)
class SaidRun:
    """A run file, with what was typed beside it.

    Attributes:
        typed: all of it by flag; what was typed wins.
        checkpoint, output: of the file; of one for several targets, the output is a place of this one's own below it.
        overridden: what was typed instead of what the file says, a text each.
    """

    typed: Mapping[str, Any]
    checkpoint: Path | None
    output: Path | None
    overridden: tuple[str, ...]


def read_run(path: str | Path, given: Mapping[str, Any], kinds: Iterable[type], default_target: str) -> SaidRun:
    """Reads a run file.

    Args:
        given: what was typed, by flag. Of a file for several targets, its `--target` says which of them is asked for.
        kinds: dataclasses whose options it may name, beside those of its target.

    Raises:
        EdgeError: it can't be read, has an unknown key (the nearest known one is named), or a wrong value; it is for
            several targets, and none was typed.
    """
    values, folder, whose = read_toml(path), Path(path).absolute().parent, str(path)
    targets = _targets_of(values, whose)
    chosen = given.get("--target")
    if chosen is None and len(targets) > 1:
        raise EdgeError(
            f"{whose} is for several targets: {', '.join(targets)}.",
            f"A request is for one: say which with typed={{'--target': '{targets[0]}'}}.",
        )
    target = target_named(chosen or next(iter(targets), default_target))
    is_part = len(targets) > 1 and target.name in targets
    if is_part:
        values = _part_of(values, target.name, targets)
    elif targets:
        values["target"] = ",".join(targets)
    known = (*_PLACES, *(o for kind in (*kinds, target.options) for o in options_of(kind)))
    _refuse_foreign(values, known, target.name, whose)
    said = {flag: _below(folder, flag, value) for flag, value in typed_of(values, known, whose).items()}
    output = said.get("--output")
    if output is not None and is_part:
        output = output / target.name
    left_out: list[str] = []
    if target.builder is not None and {"--device", *target.builder.answered} & given.keys():
        # What the file says of the board, its place takes what was typed of it, or what the board says itself.
        left_out = [flag for flag in target.builder.answered if flag in said and flag not in given]
    overridden = [
        f"{flag} {_shown(value)} ({_shown(said[flag])} in the run file)"
        for flag, value in given.items()
        if flag in said and _shown(value) != _shown(said[flag])
    ]
    overridden += [f"without {flag} {_shown(said[flag])}, which the run file has" for flag in left_out]
    merged = {flag: value for flag, value in said.items() if flag not in left_out}
    return SaidRun({**merged, **given}, said.get("--checkpoint"), output, tuple(overridden))


def targets_of(path: str | Path) -> tuple[str, ...]:
    """The targets that a run file names, none twice. Raises `EdgeError` where they can't be read."""
    return _targets_of(read_toml(path), str(path))


def _targets_of(values: Mapping[str, Any], whose: str) -> tuple[str, ...]:
    said = values.get("target", "")
    listed = said if isinstance(said, list) else [said]
    if not all(isinstance(name, str) for name in listed):
        raise EdgeError(f"{whose}: 'target' is neither text nor a list of texts.", f"{KNOWN} {', '.join(TARGETS)}.")
    names = lists.names(",".join(listed), f"{whose}: 'target'")
    return tuple(dict.fromkeys(target_named(name).name for name in names))


def _part_of(values: Mapping[str, Any], target: str, targets: Iterable[str]) -> dict[str, Any]:
    """What a run file for several targets says of one of them: without the options that only others of them have."""
    keys = {name: {key_of(o) for o in options_of(target_named(name).options)} for name in targets}
    others = set().union(*keys.values()) - keys[target]
    return {key: value for key, value in values.items() if key not in others} | {"target": target}


def run_text(
    checkpoint: Path | None,
    parts: Iterable[object],
    heads: Iterable[HeadFile],
    labels: Mapping[Task | None, Path],
    depth_range: tuple[float, float] | None,
) -> str:
    """A run file, its paths absolute.

    Args:
        parts: dataclasses whose options it says.
        heads, labels, depth_range: of the checkpoint.
    """
    values: dict[str, Any] = {"checkpoint": checkpoint and str(checkpoint.absolute())}
    for part in parts:
        for o in options_of(type(part)):
            if o.name not in _NOT_RECORDED:
                values[key_of(o)] = _plain(getattr(part, o.name))
    ranges = [depth_range, *(head.depth_range for head in heads)]
    values["head"] = [
        f"{f'{head.task}=' if head.task else ''}{head.path.absolute()}{f'#{head.name}' if head.name else ''}"
        for head in heads
    ]
    values["labels"] = [f"{f'{task}=' if task else ''}{file.absolute()}" for task, file in labels.items()]
    values["depth-range"] = _plain(next((r for r in ranges if r is not None), None))
    if values.get("cores") == []:
        values["cores"] = "all"
    return toml_text({key: value for key, value in values.items() if value not in (None, [], "")})


def _refuse_foreign(values: Mapping[str, Any], known: Iterable[Option], target: str, whose: str) -> None:
    """Raises `EdgeError` for a key that only other targets have."""
    own = {key_of(o) for o in known}
    for key in values:
        owners = [t.name for t in TARGETS.values() if key in {key_of(o) for o in options_of(t.options)}]
        if key not in own and owners:
            raise EdgeError(
                f"{whose}: '{key}' is an option of the target '{owners[0]}', not of '{target}'.",
                f'Leave it out, or say target = "{owners[0]}".',
            )


def _below(folder: Path, flag: str, value: Any) -> Any:
    """A value of a run file, its paths relative to the file's folder."""
    if isinstance(value, Path):
        return folder / value
    if flag not in ("--head", "--labels"):
        return value
    tasks = tuple(f"{task}=" for task in Task)
    split = [next(((t, item[len(t) :]) for t in tasks if item.startswith(t)), ("", item)) for item in value]
    return [f"{task}{folder / file}" for task, file in split]


def _plain(value: Any) -> Any:
    """A field's value as TOML has it, from which its option makes the same value."""
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, str | ImageSize):
        return str(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
