"""Command line options made from the fields of dataclasses, so that the library and the command line share them.

A command declares whose fields it takes; what was typed reaches it as one mapping by flag, from which
`base.options.made_of` makes the dataclasses.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from ..base.errors import EdgeError
from ..base.options import Option, options_of
from ..targets.base import Target
from ..targets.table import TARGETS
from .console import command as told

# What was typed, by flag; None where nothing was.
Typed = Mapping[str, Any]
PARAMETER = "typed"
COMMON_LAST = ("json", "debug")
# What stands in the help for numbers, which are read here: typer says less of one that is wrong.
NUMBERS = {int: "INT", float: "NUMBER"}


@dataclass(frozen=True)
class Group:
    """Options of one dataclass.

    Attributes:
        owner: the target that they are of, or empty for options of every target.
    """

    kind: type
    owner: str = ""

    @property
    def options(self) -> tuple[Option, ...]:
        return options_of(self.kind)


def of_targets(kind: Callable[[Target], type | None]) -> list[Group]:
    """The options of every target that has some, as `kind` finds them in its row."""
    return [Group(k, name) for name, target in TARGETS.items() if (k := kind(target)) is not None]


def owners_of(groups: Iterable[Group]) -> dict[str, tuple[Option, tuple[str, ...]]]:
    """Every option by flag, with the targets that have it; none for an option of all."""
    found: dict[str, list[tuple[Option, str]]] = {}
    for group in groups:
        for o in group.options:
            found.setdefault(o.flag, []).append((o, group.owner))
    return {flag: (_shared(stated), tuple(owner for _, owner in stated if owner)) for flag, stated in found.items()}


def _shared(stated: Sequence[tuple[Option, str]]) -> Option:
    """One option of what several targets say of it: the first, with the defaults of those that have another."""
    first = stated[0][0]
    others = [f"{owner}: {o.shown}" for o, owner in stated[1:] if o.shown != first.shown]
    return replace(first, shown="; ".join([first.shown or "", *others])) if others else first


def with_fields(*groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the options of some dataclasses; its parameter `typed` gets what was typed."""
    options = owners_of(groups)

    def decorated(function: Callable[..., None]) -> Callable[..., None]:
        by_parameter = {parameter_name(flag): flag for flag in options}
        numbers = [flag for flag, (o, _) in options.items() if o.kind in NUMBERS]

        def command(**given: Any) -> None:
            typed = {flag: given.pop(name) for name, flag in by_parameter.items()}
            try:
                typed |= {
                    flag: options[flag][0].number(typed[flag], flag) for flag in numbers if typed[flag] is not None
                }
            except EdgeError:
                with told(given["json"], given["debug"]):
                    raise
            function(**given, **{PARAMETER: typed})

        own = inspect.signature(function, eval_str=True).parameters.values()
        made = [parameter_of(o, owners) for o, owners in options.values()]
        first = [p for p in own if p.name not in (PARAMETER, *COMMON_LAST)]
        last = [p for p in own if p.name in COMMON_LAST]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*first, *made, *last)]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        command.__name__, command.__doc__ = function.__name__, function.__doc__
        return command

    return decorated


def words_of(typed: Typed, *kinds: type) -> list[str]:
    """The options of some dataclasses as they were typed, to be repeated in another command."""
    return [
        str(word)
        for kind in kinds
        for flag in (o.flag for o in options_of(kind))
        if (value := typed.get(flag)) is not None
        for one in (value if isinstance(value, list) else [value])
        for word in (flag, one)
    ]


def parameter_name(flag: str) -> str:
    return "typed_" + flag.removeprefix("--").replace("-", "_")


def parameter_of(o: Option, owners: tuple[str, ...]) -> inspect.Parameter:
    declared = f"{o.flag}/--no-{o.flag.removeprefix('--')}" if o.shown and o.kind is bool else o.flag
    default = "; ".join(said for said in (o.shown, o.bounds) if said) if o.shown else False
    stated = typer.Option(
        declared,
        help=o.help if o.shown or not o.bounds else f"{o.help}  [{o.bounds}]",
        metavar=o.metavar or NUMBERS.get(o.kind),
        show_default=default,
        rich_help_panel=panel_of(owners),
    )
    typed = str if o.kind in NUMBERS else o.kind
    kind: Any = list[typed] if o.many else typed
    annotation = Annotated[kind | None, stated]
    return inspect.Parameter(
        parameter_name(o.flag), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def panel_of(owners: tuple[str, ...]) -> str | None:
    if not owners:
        return None
    return f"Target{'s' if len(owners) > 1 else ''} {', '.join(owners)}"


def refuse_foreign(typed: Typed, groups: Iterable[Group], target: str, subject: str = "") -> None:
    """An option of another target is a mistake, not something to ignore.

    Args:
        subject: what the options are about, where the target is not chosen with `--target`.

    Raises:
        EdgeError: it names the option and whose it is.
    """
    for flag, (_, owners) in owners_of(groups).items():
        if owners and target not in owners and typed.get(flag) is not None:
            whose = " or ".join(f"'{owner}'" for owner in owners)
            if subject:
                message = f"{flag} is for {subject} of the target {whose}; this one is for '{target}'."
                raise EdgeError(message, "Leave it out.")
            raise EdgeError(
                f"{flag} is an option of the target {whose}, not of '{target}'.",
                f"Leave it out, or give --target {owners[0]}.",
            )


class GroupedCommand(TyperCommand):
    """A command whose help lists the options of each target under a heading of their own, in words."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.replace("{", "").replace("}", "") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                kind = "Arguments" if param.param_type_name == "argument" else "Options"
                sections.setdefault(getattr(param, "rich_help_panel", None) or kind, []).append(in_words(*record))
        order = sorted(sections, key=lambda name: (name != "Arguments", name != "Options"))
        for name in order:
            with formatter.section(name):
                formatter.write_dl(sections[name])


def in_words(names: str, text: str) -> tuple[str, str]:
    """A line of the help without the marks that typer puts around types and around defaults that are said in words."""
    names = re.sub(r"<(int|float)\b.*>", lambda found: {"int": "INT", "float": "NUMBER"}[found[1]], names)
    names = re.sub(r" <.*>", "", names)
    return names, re.sub(r"\[default: \((.+?)\)(?=\]$|; [^;]*\]$)", r"[default: \1", text)
