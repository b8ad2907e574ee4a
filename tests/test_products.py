"""What is kept of compilers: by content, never of a step that failed, and never by halves."""

from __future__ import annotations

import os

import pytest
from products import KEPT_SECONDS, digest_of, made_or_kept


@pytest.fixture
def step(tmp_path):
    """A function that copies a source in capitals, and the list of what it made."""
    source, output, made = tmp_path / "in" / "source", tmp_path / "work" / "output", []
    source.parent.mkdir()

    def run(text: str, option: str = "") -> str:
        def make() -> None:
            assert "error" not in text
            output.parent.mkdir(exist_ok=True)
            output.write_text(text.upper())
            made.append(text)

        source.write_text(text)
        output.unlink(missing_ok=True)
        made_or_kept(tmp_path / "root", "step", [option, source.parent], [output], make)
        return output.read_text()

    return run, made


def test_the_same_is_made_once(step):
    run, made = step
    assert [run("a"), run("a"), run("b"), run("a"), run("a", "-O2")] == ["A", "A", "B", "A", "A"]
    assert made == ["a", "b", "a"]


def test_a_step_that_fails_fails_again(step, tmp_path):
    run, made = step
    for _ in range(2):
        with pytest.raises(AssertionError):
            run("error")
    assert made == []
    assert not (tmp_path / "root").exists()


def test_what_nobody_used_for_long_is_removed(step, tmp_path):
    run, made = step
    run("a")
    (kept,) = (tmp_path / "root/products").iterdir()
    os.utime(kept, (0, kept.stat().st_mtime - KEPT_SECONDS - 60))
    run("b")
    run("a")
    assert made == ["a", "b", "a"]


def test_a_digest_is_of_names_and_contents(tmp_path):
    def folder(name: str, **files: str):
        for file, text in files.items():
            path = tmp_path / name / "sources" / file.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / name / "sources"

    same = digest_of([folder("here", a="1", b__c="2")])
    assert same == digest_of([folder("there", a="1", b__c="2")])
    others = [folder("x", a="1", b="2"), folder("y", a="1"), folder("z", a="12", b__c=""), folder("w", a="2", b__c="1")]
    assert len({same, *(digest_of([other]) for other in others), digest_of(["a", "b"]), digest_of(["ab"])}) == 7
