"""`veca-edge app`: what every platform has in common."""

from __future__ import annotations

import ast
from dataclasses import replace

import pytest

from veca_edge.actions import app as action
from veca_edge.actions.app import write_app
from veca_edge.apps import table
from veca_edge.apps.base import TEMPLATES, App, Platform, checked_name
from veca_edge.apps.literals import cpp_string, swift_string
from veca_edge.base.errors import EdgeError
from veca_edge.bundle.store import open_bundle

AWKWARD = 'My "app" \U0001f4f7 ${x} \\(y) </script>'


def written(app: App, folder) -> None:
    (folder / "values.txt").write_text(f"{app.name} {[a.core_count for a in app.variants]}")


@pytest.fixture
def platform(monkeypatch) -> Platform:
    made = Platform("toaster", "a project for toasters", "cpu", "onnx", written, open_with=("make toast",))
    monkeypatch.setitem(table.PLATFORMS, "toaster", made)
    return made


def test_writes_a_whole_project(platform, square_bundle, tmp_path):
    made = write_app(square_bundle, "toaster", tmp_path / "new" / "app", AWKWARD)
    assert (made.directory / "values.txt").read_text() == f"{AWKWARD} [8, 16, 32]"
    assert made.files == 1
    assert made.app.slug == "my-app-x-y-script"
    assert replace(made.app, name="\U0001f4f7").slug == "veca"
    assert replace(made.app, name="3 \u00c9t\u00e9s").slug == "veca-3-etes"


def test_nothing_is_left_of_one_that_failed(platform, square_bundle, tmp_path, monkeypatch):
    def fails(app, folder):
        (folder / "half").write_text("half")
        raise EdgeError("No.")

    monkeypatch.setitem(table.PLATFORMS, "toaster", replace(platform, write=fails))
    with pytest.raises(EdgeError, match="No"):
        write_app(square_bundle, "toaster", tmp_path / "app")
    assert [p.name for p in tmp_path.iterdir()] == ["square"]


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_refuses_an_output_that_exists(platform, square_bundle, tmp_path, kind):
    output = tmp_path / "app"
    {"folder": output.mkdir, "file": output.touch, "link": lambda: output.symlink_to(tmp_path / "nowhere")}[kind]()
    with pytest.raises(EdgeError, match="exists already"):
        write_app(square_bundle, "toaster", output)


def test_refuses_an_output_in_the_bundle(platform, square_bundle):
    with pytest.raises(EdgeError, match="in the bundle"):
        write_app(square_bundle, "toaster", square_bundle.directory / "app")


def test_an_output_that_appears_meanwhile_is_kept(platform, square_bundle, tmp_path, monkeypatch):
    monkeypatch.setitem(
        table.PLATFORMS, "toaster", replace(platform, write=lambda app, folder: (tmp_path / "app").mkdir())
    )
    with pytest.raises(EdgeError, match="exists already"):
        write_app(square_bundle, "toaster", tmp_path / "app")
    assert list((tmp_path / "app").iterdir()) == []


@pytest.mark.parametrize("name", ["", "  ", "two\nlines", "tab\there", "\u2028", "x" * 51, "\ud800", "nul\0"])
def test_refuses_names_that_no_title_shows(name):
    with pytest.raises(EdgeError):
        checked_name(name)


def test_a_name_keeps_its_characters():
    assert checked_name(f" {AWKWARD} ") == AWKWARD


def test_what_does_not_fit_names_the_export(platform, square_bundle, tmp_path, monkeypatch):
    def refusal(**changes) -> str:
        monkeypatch.setitem(table.PLATFORMS, "toaster", replace(platform, **changes))
        with pytest.raises(EdgeError) as raised:
            write_app(square_bundle, "toaster", tmp_path / "app")
        return str(raised.value)

    assert "veca-edge export CHECKPOINT --target apple --ios 18" in refusal(target="apple", export_options="--ios 18")
    assert "holds no tflite" in refusal(format="tflite")
    assert "--input tensor" in refusal(inputs=("tensor",))
    damaged = next(square_bundle.directory.glob("**/*.onnx"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert damaged.name in refusal()


def test_the_command(platform, square_bundle, tmp_path):
    from cli.conftest import run_command

    ended = run_command("app", square_bundle.directory, "--platform", "toaster", "--output", tmp_path / "a", "--json")
    assert ended.json["variants"] == [a.name for a in open_bundle(square_bundle.directory).artifacts]
    assert ended.json["name"] == "VECA square"
    shown = run_command("app", square_bundle.directory, "--platform", "toaster", "--output", tmp_path / "b")
    assert "make toast" in shown.out
    unknown = run_command("app", square_bundle.directory, "--platform", "kettle", "--output", tmp_path / "c")
    assert unknown.code == 2
    assert "toaster" in unknown.err


def test_templates_fit_a_screen():
    for path in TEMPLATES.rglob("*"):
        if path.is_file() and path.suffix not in (".pbxproj", ".xcscheme", ".json"):
            assert max(map(len, path.read_text().splitlines())) <= 120, path


def test_literals_stay_text():
    for text in (AWKWARD, "two\nlines\u2028\x7f", "\u00e9\U0001f4f7"):
        # What Python reads of a C++ literal are its bytes: octal escapes are the same in both.
        assert ast.literal_eval(cpp_string(text)).encode("latin-1").decode() == text
        assert "\n" not in swift_string(text)
        assert "\u2028" not in swift_string(text)
    assert swift_string('a"\\(b)\n') == '"a\\"\\\\(b)\\u{a}"'
    assert action.platform_named is table.platform_named
