"""The only printer: results, tables, progress and errors, for a person, a pipe or a program.

A person at a terminal gets colours and moving bars; a pipe gets plain lines of any length; `--json`
gives one JSON document on stdout and nothing else there. Progress, remarks and errors go to stderr.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import PurePath
from typing import Any, TextIO

import typer
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..base.errors import EdgeError, MissingDependency
from ..base.progress import Progress
from ..base.text import printable
from .process import BUG, INTERRUPTED, discard, leave_quietly
from .signals import EndedBySignal, whole

# What brings a package that may be missing.
EXTRAS = {
    "torch": "export",
    "safetensors": "export",
    "onnx": "export",
    "onnx_ir": "export",
    "nncf": "nncf",
    "tensorrt_rtx": "jetson",
    "coremltools": "apple",
    "matplotlib": "report",
    "jinja2": "report",
    "av": "camera",
    "cv2": "camera",
    "webdataset": "webdataset",
    "distributed": "cluster",
    "starlette": "web",
    "uvicorn": "web",
    "segno": "web",
    "trustme": "web",
}
ISSUES = "the project's issue tracker"


def json_value(value: Any) -> Any:
    """What `json` can write: dataclasses as objects, paths as strings, numbers that are not finite as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return json_value(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [json_value(item) for item in value]
    tolist = getattr(value, "tolist", None)  # of numpy
    if tolist is not None:
        return json_value(tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@dataclass(frozen=True)
class Column:
    """A table's column; numbers are right-aligned."""

    name: str
    number: bool = True


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Terminal:
    """Where one command talks to. `json`: one document on stdout. `debug`: tracebacks."""

    def __init__(self, json: bool = False, debug: bool = False):
        self.json, self.debug = json, debug
        self._stdout = sys.stdout
        self.out, self.err = _console(sys.stdout), _console(sys.stderr)
        self._unicode = (self.out.encoding or "").lower().startswith("utf")
        # What a program is told beside an error that ends the command from now on.
        self.known: dict[str, object] = {}

    # ------------------------------------------------------------------------------ results

    def say(self, text: str | Text = "", style: str = "") -> None:
        """One line for a person."""
        if not self.json:
            _write(self.out, text, style)

    def facts(self, title: str, facts: Mapping[str, object]) -> None:
        """Names and values, one a line."""
        self.say(title, "bold")
        width = max(map(len, facts))
        for name, value in facts.items():
            self.say(f"  {name:<{width}}  {value}")
        self.say()

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
        """A table for a person; cells are plain text, and a `Text` keeps its colours."""
        if self.json:
            return
        if title:
            self.say(title, "bold")
        cells = [[cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row] for row in rows]
        if self.out.is_interactive:
            self.out.print(_boxed(columns, cells))
        else:
            for line in _aligned(columns, cells):
                _write(self.out, line, "")
        self.say()

    def mark(self, ok: bool | None) -> Text:
        """A coloured mark: done, failed, or neither."""
        text, colour = {
            True: ("✓" if self._unicode else "+", "green"),
            False: ("✗" if self._unicode else "x", "red"),
            None: ("-", "yellow"),
        }[ok]
        return Text(text, style=colour)

    def bar(self, share: float, width: int = 20) -> str:
        """A bar of at most `width` characters for a share in 0..1."""
        return ("█" if self._unicode else "#") * round(share * width)

    def result(self, value: Any) -> None:
        """The whole result for a program; does nothing without `--json`."""
        if self.json:
            self._stdout.write(json.dumps(json_value(value), indent=2, allow_nan=False) + "\n")

    def flush(self) -> None:
        """What was said can be read, though the command goes on."""
        self._stdout.flush()

    def next(self, *commands: str) -> None:
        """The next useful commands; each a command line."""
        self.say("Next:", "bold")
        for command in commands:
            self.say(f"  {command}")

    # ------------------------------------------------------------------------------ remarks

    def note(self, text: str) -> None:
        """A remark that the user should read."""
        _write(self.err, f"note: {text}", "yellow")

    def failure(self, message: str, hint: str | None = None) -> None:
        """Something that went wrong, and what to do about it."""
        _write(self.err, f"error: {message}", "bold red")
        if hint:
            _write(self.err, hint, "red")

    def error(self, message: str, hint: str | None, exit_code: int) -> None:
        """What ends the command; with `--json` together with what is `known`."""
        with suppress(OSError):  # a terminal that hung up
            self.failure(message, hint)
        try:
            self.result({"error": {"message": message, "hint": hint, "exit_code": exit_code}, **self.known})
            self._stdout.flush()
        except OSError:  # perhaps the very error that is shown here
            discard(self._stdout)

    def log(self, line: str) -> None:
        """A line of another program's output; shown with `--debug`."""
        if self.debug:
            _write(self.err, line, "dim")

    # ------------------------------------------------------------------------------ progress

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Reports progress while the block runs: bars at a terminal, else a line per stage that takes a second."""
        if not self.err.is_interactive:
            yield _PlainProgress(self.err)
            return
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Bars(*columns, console=self.err, transient=True) as bars:
            tasks: dict[str, Any] = {}

            def report(stage: str, done: int, total: int) -> None:
                if stage not in tasks:
                    tasks[stage] = bars.add_task(printable(stage), total=total)
                bars.update(tasks[stage], completed=done, total=total)

            yield report

    @contextmanager
    def live(self) -> Iterator[LiveView]:
        """Facts that change while the block runs: redrawn in place at a terminal, else a line every two seconds."""
        if not self.err.is_interactive:
            yield LiveView(self.err, 2.0)
            return
        from rich.live import Live

        # Drawn between two frames by whoever runs them: a thread of its own would disturb what is measured.
        with Live(console=self.err, auto_refresh=False, transient=True) as area:

            @whole  # or an interruption leaves half a picture, which nothing can clear
            def draw(facts: Mapping[str, str]) -> None:
                area.update(_grid(facts), refresh=True)

            yield LiveView(self.err, 0.1, draw)


class LiveView:
    """Shows facts, no more often than every `interval` seconds, and events as they happen."""

    def __init__(self, console: Console, interval: float, draw: Callable[[Mapping[str, str]], None] | None = None):
        self._console, self._interval, self._draw = console, interval, draw
        self._shown = float("-inf")

    def show(self, facts: Callable[[], Mapping[str, str]]) -> None:
        """`facts` is called only when they are due to be shown."""
        now = time.monotonic()
        if now - self._shown < self._interval:
            return
        self._shown = now
        if self._draw is not None:
            self._draw(facts())
        else:
            _write(self._console, ", ".join(f"{name} {value}" for name, value in facts().items()), "")

    def event(self, text: str) -> None:
        """A line that stays, above the facts."""
        _write(self._console, text, "cyan")


def _grid(facts: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        table.add_row(Text(name, style="dim"), Text(printable(value)))
    return table


class _PlainProgress:
    """A line when a stage ends, and every ten seconds of a long one; none for what takes under a second."""

    def __init__(self, console: Console):
        self.console, self.stage, self.spoken = console, "", time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.spoken >= (1 if done >= total else 10):
            _write(self.console, f"{stage}: {done} of {total}", "")
            self.spoken = now
        elif stage != self.stage:
            self.spoken = now
        self.stage = stage


def _boxed(columns: Sequence[Column], rows: Sequence[Sequence[Text]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(Text(column.name), justify="right" if column.number else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _aligned(columns: Sequence[Column], rows: Sequence[Sequence[Text]]) -> Iterator[str]:
    """The same for a pipe: lines of any length, so that no cell is broken."""
    lines = [[column.name for column in columns], *([cell.plain for cell in row] for row in rows)]
    widths = [max(map(cell_len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        padded = (
            " " * (width - cell_len(cell)) + cell if column.number else cell + " " * (width - cell_len(cell))
            for column, cell, width in zip(columns, line, widths, strict=True)
        )
        yield "  ".join(padded).rstrip()


def _console(stream: TextIO) -> Console:
    return _Console(file=stream, highlight=False, markup=False, emoji=False)


def _write(console: Console, text: str | Text, style: str) -> None:
    # Long lines are left to the terminal, so that paths and commands can be copied whole.
    console.print(text if isinstance(text, Text) else Text(printable(text), style=style), soft_wrap=True)


# ----------------------------------------------------------------------------------- one command


@contextmanager
def command(json: bool = False, debug: bool = False) -> Iterator[Terminal]:
    """Runs one command: its errors become one message and an exit code."""
    terminal = Terminal(json, debug)
    try:
        # Whatever a library prints must not get into the JSON document.
        with redirect_stdout(sys.stderr) if json else nullcontext(), _library_noise(debug):
            yield terminal
        terminal._stdout.flush()
        return
    except (typer.Exit, typer.Abort):
        raise
    except BrokenPipeError:
        leave_quietly()
    except KeyboardInterrupt:
        code, message, hint = INTERRUPTED, "Interrupted.", None
        _show_traceback(terminal)
    except EndedBySignal as ended:
        code, message, hint = ended.exit_code, f"Ended by {ended.signal.name}.", None
    except EdgeError as error:
        code, message, hint = error.exit_code, error.message, error.hint
        _show_traceback(terminal)
    except Exception as error:
        code, message, hint = _unexpected(error)
        _show_traceback(terminal)
    terminal.error(message, hint, code)
    raise typer.Exit(code)


def _unexpected(error: Exception) -> tuple[int, str, str]:
    """Exit code, message and hint for what is not an `EdgeError`: the machine's limits, or a bug of ours."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return 2, f"Writing failed: {error.strerror} ({error.filename or 'no file named'}).", "Free some space."
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return 2, "There is not enough memory for this.", "Export fewer variants, or a smaller image size or batch."
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if package in EXTRAS:
        missing = MissingDependency(package, EXTRAS[package], "This command")
        return 2, missing.message, missing.hint or ""
    if package and package != __name__.partition(".")[0]:
        return 2, f"The Python package '{package}' is not installed.", "Install veca-edge again, which brings it."
    text = str(error).strip().splitlines()
    return (
        BUG,
        f"This is a bug of veca-edge: {type(error).__name__}{f': {text[0]}' if text else ''}",
        f"Please report it to {ISSUES}, with the output of 'veca-edge doctor' and of this command with --debug.",
    )


def _show_traceback(terminal: Terminal) -> None:
    if terminal.debug:
        import traceback

        _write(terminal.err, traceback.format_exc().rstrip(), "dim")


@contextmanager
def _library_noise(shown: bool) -> Iterator[None]:
    """Libraries' warnings are for their callers, which we are; `--debug` shows them."""
    if shown:
        yield
        return
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
