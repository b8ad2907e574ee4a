"""Command lines that can't be: each ends with one message in the form of all others, for people and for programs."""

from __future__ import annotations

import pytest

WRONG = [
    ("exprot", "Unknown command 'exprot'.", "Known: export, fit"),
    ("--foo", "No such option: --foo.", "veca-edge --help"),
    ("export --corse 8", "No such option: --corse (Possible options: --cores", "veca-edge export --help"),
    ("export --batch", "Option '--batch' requires an argument.", "veca-edge export --help"),
    ("verify", "Missing argument 'BUNDLE'.", "veca-edge verify --help"),
    ("devices x", "unexpected extra argument(s) (x).", "veca-edge devices --help"),
    ("sensitivity --count 0", "--count is 0, but it has to be at least 1.", "How many images"),
    ("verify BUNDLE --threads 0", "--threads is 0, but it has to be 1 to 512.", "CPU threads."),
    ("export --batch 0", "--batch is 0, but it has to be 1 to 4096.", "Images per call."),
    ("export --batch 1.5", "--batch is '1.5', not a whole number.", "Images per call."),
    ("export --seed x", "--seed is 'x', not a whole number.", "Seed"),
    ("export --min-cosine nan", "--min-cosine is 'nan', not a number.", "mean cosine"),
    ("run BUNDLE --fps 0", "--fps is 0.0, but it has to be at least 0.001.", "frames a second"),
    ("serve BUNDLE --port 99999", "--port is 99999, but it has to be 0 to 65535.", "Port"),
    ("profile BUNDLE --rounds 0", "--rounds is 0, but it has to be at least 1.", "Processes"),
    ("export absent.pt", "There is no file absent.pt.", "Give the path"),
    ("recommend BUNDLE --min-cosine 2", "a cosine lies between -1 and 1.", "Give 0.99 or another."),
    ("inspect BUNDLE --heads 3", "--heads is about a checkpoint", "Leave it out."),
    ("compare BUNDLE --max-slowdown 5", "'5' is not a share.", "Give for example 5% or 0.05."),
    ("recommend BUNDLE --p95 20", "'20' is not a latency: it has no unit.", "for example 20ms"),
]


@pytest.mark.parametrize(("line", "message", "hint"), WRONG)
def test_it_is_one_message_and_one_hint(veca_edge, bundle, line, message, hint):
    words = [bundle if word == "BUNDLE" else word for word in line.split()]
    ended = veca_edge(*words)
    assert ended.code == 2
    assert ended.out == ""
    first, *rest = ended.err.splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert hint in " ".join(rest)
    as_json = veca_edge(words[0], "--json", *words[1:])
    assert as_json.code == 2
    assert as_json.json["error"] == {"message": first.removeprefix("error: "), "hint": " ".join(rest), "exit_code": 2}


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["export", "model.pt", "--calibration", ""], "--calibration"),
        (["export", "model.pt", "--calibration="], "--calibration"),
        (["run", "BUNDLE", "--json", "--source", ""], "--source"),
        (["verify", ""], "An argument"),
    ],
)
def test_an_empty_value_is_not_the_current_directory(veca_edge, words, what):
    """As a script has it whose variable is not set: it calibrated on whatever images lay there."""
    ended = veca_edge(*words)
    assert ended.code == 2
    assert f"error: {what} is empty.\nIs a variable of the shell not set?" in ended.err


def test_no_command_shows_the_help(veca_edge):
    ended = veca_edge()
    assert "Usage: veca-edge [OPTIONS] COMMAND" in ended.out + ended.err
    assert "error:" not in ended.err
