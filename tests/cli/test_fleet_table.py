"""The live table of devices by variants, as a terminal of 24 lines shows it while they work and when they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from terminal import opened_terminal, pieces_of

from veca_edge.cli.fleet import lines_of

# Three devices that do nothing but say what they are at; one of them fails.
PROGRAM = """
import time, typer
from veca_edge.actions.fleet import on_members
from veca_edge.base.errors import EdgeError
from veca_edge.cli.console import command
from veca_edge.cli.fleet import show_failures, watched
from veca_edge.cli.signals import ended_cleanly_by_signals
from veca_edge.devices.fleet import FleetMember

members = [FleetMember(name, "ssh://" + name) for name in ("door-1", "door-2", "gate")]

def main():
    with command() as terminal:
        with watched(terminal, members) as (watch, tick):
            def work(member, progress):
                for variant in ("cores8_int8", "cores16_int8"):
                    watch(member.name, variant, "measuring")
                    time.sleep(SECONDS)
                    watch(member.name, variant, "1.25 ms")
                if member.name == "gate":
                    raise EdgeError("It sleeps.", "Wake it.")
            outcomes = on_members(members, work, lambda done: None, watch, tick)
        show_failures(terminal, outcomes)

with ended_cleanly_by_signals():
    typer.run(main)
"""


def run_program(seconds: float, interrupt: bool = False):
    """Its exit code, every different screen as lines, and the last screen."""
    pyte = pytest.importorskip("pyte", reason="pyte is not installed: pip install 'veca-edge[dev]'")
    ours, theirs, environment = opened_terminal(80)
    words = [sys.executable, "-c", PROGRAM.replace("SECONDS", str(seconds))]
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    screen, screens = pyte.Screen(80, 24), []
    stream = pyte.ByteStream(screen)
    for piece in pieces_of(ours):
        stream.feed(piece)
        shown = [line.rstrip() for line in screen.display]
        screens.append(shown)
        if interrupt and any("measuring" in line for line in shown):
            interrupt = False
            process.send_signal(signal.SIGINT)
    return process.wait(300), screens, screen


LAST = "The same command goes on where these stopped."


def rows_of(shown: list[str]) -> list[str]:
    return [line for line in shown if line.startswith(("door-1", "door-2", "gate"))]


def test_a_line_for_each_device_and_nothing_of_the_table_is_left():
    code, screens, screen = run_program(0.8)
    header = [" ".join(line.split()) for shown in screens for line in shown if line.strip().startswith("cores8")]
    assert "cores8_int8 cores16_int8" in header
    full = [rows_of(shown) for shown in screens if len(rows_of(shown)) == 3]
    assert any(all("measuring" in line for line in rows) for rows in full)
    assert any("1.25 ms" in line and "measuring" in line for rows in full for line in rows)
    assert all(len(rows_of(shown)) <= 3 for shown in screens)
    last = [line for line in screens[-1] if line]
    assert last == ["error: gate (tried twice): It sleeps.", "Wake it.", "2 of 3 devices are done.", LAST]
    assert not screen.cursor.hidden
    assert code == 0


def test_an_interruption_ends_the_table_and_says_so():
    code, screens, screen = run_program(30.0, interrupt=True)
    assert [line for line in screens[-1] if line] == ["error: Interrupted."]
    assert not screen.cursor.hidden
    assert code == 130


def test_a_narrow_terminal_shows_the_latest_variant():
    cells = {"door-1": {f"cores{c}_int8_256x256": "12.50 ms" for c in (8, 16, 32)}, "gate": {}}
    cells["door-1"]["cores64_int8_256x256"] = "measuring"
    assert lines_of(cells, 60) == {"door-1": "4 of 4, cores64_int8_256x256: measuring", "gate": "waiting"}
    wide = lines_of(cells, 200)
    assert wide["gate"].split() == ["-", "-", "-", "-", "waiting"]
    assert wide[""].split() == [f"cores{c}_int8_256x256" for c in (8, 16, 32, 64)]
    cells["gate"][""] = f"failed: {'no answer ' * 30}"
    assert max(len(device) + 2 + len(line) for device, line in lines_of(cells, 60).items()) <= 60
