"""The printer: one JSON document or readable text, whatever the names, the terminal and the pipe are like."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import typer
from rich.text import Text

from veca_edge.base.errors import EdgeError, GateError
from veca_edge.base.text import printable, quoted
from veca_edge.cli.console import Column, Terminal, _aligned, _PlainProgress, command, json_value


@dataclass(frozen=True)
class Fact:
    path: Path
    values: tuple[float, ...]


def script(source: str, *arguments: str | bytes, **environment: str) -> subprocess.CompletedProcess:
    """Runs Python code that uses the console, in a process of its own, and returns bytes."""
    prelude = (
        "from veca_edge.cli.console import *; from veca_edge.base.errors import *\n"
        "from veca_edge.cli.process import prepare_streams; prepare_streams()\n"
    )
    return subprocess.run(
        [sys.executable, "-c", prelude + textwrap.dedent(source), *arguments],
        capture_output=True,
        env={**os.environ, **environment},
        timeout=300,
        check=False,
    )


def test_printable_escapes_what_a_terminal_would_obey():
    assert printable("a\x1b[31mb\x07\r\tc") == r"a\x1b[31mb\x07\r\tc"
    assert printable("\u202egpj.exe") == r"\u202egpj.exe"
    assert printable("caf\udce9") == r"caf\udce9"
    assert printable("héé ✓ 日本\nnext") == "héé ✓ 日本\nnext"
    assert printable(Path("a b")) == "a b"


def test_json_values():
    value = {"fact": Fact(Path("a"), (1.0, float("nan"), float("inf"))), 3: np.float32(2), "array": np.arange(2)}
    assert json_value(value) == {"fact": {"path": "a", "values": [1.0, None, None]}, "3": 2.0, "array": [0, 1]}


def test_quoted_commands_can_be_pasted():
    assert quoted("veca-edge", "profile", Path("my bundle; rm")) == "veca-edge profile 'my bundle; rm'"


def test_plain_tables_align_and_end_with_their_text():
    rows = [[Text("日本"), Text("1")], [Text("a"), Text("1000")]]
    assert list(_aligned([Column("name", False), Column("n")], rows)) == ["name     n", "日本     1", "a     1000"]


def test_plain_progress_speaks_seldom(monkeypatch):
    from veca_edge.cli import console as module

    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    report = _PlainProgress(module._console(stream))
    for done in range(1, 31):
        clock[0] += 1.0
        report("calibrating", done, 30)
    report("hashing", 1, 1)
    clock[0] += 0.5
    report("quick", 1, 1)
    clock[0] += 2.0
    report("slow", 1, 1)
    lines = stream.getvalue().splitlines()
    assert lines[-2:] == ["calibrating: 30 of 30", "slow: 1 of 1"]
    assert len(lines) <= 5


def test_bars_at_a_terminal_leave_nothing(monkeypatch):
    stream = io.StringIO()
    terminal = Terminal()
    from rich.console import Console

    terminal.err = Console(file=stream, force_terminal=True, force_interactive=True, width=80)
    with terminal.progress() as progress:
        progress("reading [b] images", 1, 2)
        progress("reading [b] images", 2, 2)
        progress("next", 0, 1)
    assert "reading [b] images" in stream.getvalue()


# ------------------------------------------------------------------------------ errors and exit codes


def ends(error: BaseException, capsys, **options) -> tuple[int, str, str]:
    with pytest.raises(typer.Exit) as caught, command(**options):
        raise error
    out, err = capsys.readouterr()
    return caught.value.exit_code, out, err


def test_expected_errors(capsys):
    assert ends(EdgeError("No [bold]file[/bold].", "Give one."), capsys) == (
        2,
        "",
        "error: No [bold]file[/bold].\nGive one.\n",
    )
    assert ends(GateError("Too low."), capsys) == (1, "", "error: Too low.\n")


def test_errors_in_json(capsys):
    code, out, err = ends(EdgeError("No file.", "Give one."), capsys, json=True)
    assert code == 2
    assert json.loads(out) == {"error": {"message": "No file.", "hint": "Give one.", "exit_code": 2}}
    assert err == "error: No file.\nGive one.\n"


def test_a_bug_says_that_it_is_one(capsys):
    code, _, err = ends(KeyError("weight"), capsys)
    assert code == 3
    assert "This is a bug of veca-edge: KeyError: 'weight'" in err
    assert "veca-edge doctor" in err
    assert "Traceback" not in err


def test_debug_shows_the_traceback(capsys):
    assert "Traceback" in ends(KeyError("weight"), capsys, debug=True)[2]
    assert "Traceback" in ends(EdgeError("No file."), capsys, debug=True)[2]


def test_limits_of_the_machine_are_no_bugs(capsys):
    for error in (
        OSError(28, "No space left on device", "out"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ):
        code, _, err = ends(error, capsys)
        assert code == 2
        assert "bug" not in err


def test_a_package_that_is_missing_is_no_bug(capsys):
    code, _, err = ends(ModuleNotFoundError("No module named 'nncf.torch'", name="nncf.torch"), capsys)
    assert code == 2
    assert "pip install 'veca-edge[nncf]'" in err
    assert ends(ModuleNotFoundError("No module named 'tomli'", name="tomli"), capsys)[0] == 2
    assert ends(ModuleNotFoundError("No module named 'veca_edge.x'", name="veca_edge.x"), capsys)[0] == 3


def test_interrupted(capsys):
    assert ends(KeyboardInterrupt(), capsys)[::2] == (130, "error: Interrupted.\n")


def test_exit_codes_of_commands_pass_through():
    with pytest.raises(typer.Exit) as caught, command():
        raise typer.Exit(1)
    assert caught.value.exit_code == 1


def test_libraries_print_beside_the_document(capsys):
    with command(json=True) as terminal:
        print("a library says hello")
        terminal.say("for people")
        terminal.table([Column("n")], [[1]])
        terminal.note("a remark")
        terminal.result({"n": 1})
    out, err = capsys.readouterr()
    assert json.loads(out) == {"n": 1}
    assert err == "a library says hello\nnote: a remark\n"


def test_libraries_warn_only_with_debug(capsys):
    import logging
    import warnings

    for debug in (False, True):
        with command(debug=debug), warnings.catch_warnings(record=True) as seen:
            if debug:
                warnings.simplefilter("always")
            warnings.warn("deprecated", stacklevel=1)
            logging.getLogger("some.library").warning("noise %s", debug)
        assert len(seen) == int(debug)
    assert logging.root.manager.disable == 0


# ------------------------------------------------------------------------------ terminals and pipes


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_any_text_in_any_encoding(encoding):
    done = script(
        r"""
        with command() as terminal:
            terminal.say("日本 \udce9 ✓")
            terminal.table([Column("", False), Column("name", False)], [[terminal.mark(True), "é"]])
            terminal.say(terminal.bar(0.5))
            raise EdgeError("no file é\x1b")
    """,
        PYTHONIOENCODING=encoding,
        PYTHONUTF8="0",
        LC_ALL="C.UTF-8",  # in which Python reads this text from its command line
    )
    assert done.returncode == 1, done.stderr  # typer.Exit without typer's main around it
    assert b"no file" in done.stderr
    assert b"\x1b" not in done.stdout + done.stderr.split(b"Traceback")[0]
    assert ("日本" in done.stdout.decode("utf-8", "replace")) == (encoding == "utf-8")
    assert (b"####" in done.stdout) == (encoding != "utf-8")


def test_colours_only_at_a_terminal():
    code = """
        with command() as terminal:
            terminal.say("fine", "green")
    """
    assert script(code).stdout == b"fine\n"
    assert b"\x1b[32m" in script(code, FORCE_COLOR="1", TERM="xterm").stdout
    assert b"\x1b[32m" not in script(code, FORCE_COLOR="1", TERM="xterm", NO_COLOR="1").stdout


def test_narrow_terminals_keep_paths_whole():
    path = "/very/long" * 20
    code = f"""
        with command() as terminal:
            terminal.say("{path}")
            terminal.table([Column("name", False), Column("n")], [["{path}", 1]])
    """
    assert script(code, COLUMNS="40").stdout.decode().count(path) == 2


def test_closed_pipe_ends_quietly():
    code = "from veca_edge.cli.console import *\nwith command() as t:\n    [t.say('x' * 80) for _ in range(9999)]"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(300) == 141
    assert process.stderr.read() == b""


def test_closed_streams():
    """`>&-`: there is no stdout at all."""
    prelude = "from veca_edge.cli.console import *; from veca_edge.cli.process import *; prepare_streams()"
    code = f"{prelude}\nwith command() as t:\n    t.say('x')"
    done = subprocess.run(["sh", "-c", '"$0" -c "$1" >&- 2>&-', sys.executable, code], timeout=300, check=False)
    assert done.returncode == 0
