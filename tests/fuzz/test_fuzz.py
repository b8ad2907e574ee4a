"""Damaged inputs of every kind: all that ever broke something, and a few seconds of new ones, the same every time."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")
# Looked for and not imported, which takes seconds in every worker.
if find_spec("coremltools") is None or find_spec("av") is None:
    pytest.skip("coremltools or av is not installed", allow_module_level=True)

from hypothesis import strategies as st

from tests.fuzz import run
from tests.fuzz.kinds import Kind, kinds
from tests.fuzz.run import CORPUS, Broken, Tally, fuzz_kind, judged
from veca_edge.base.errors import EdgeError

SECONDS = 2.0
INPUTS = 100


@pytest.mark.parametrize("name", sorted(kinds()))
def test_damaged_inputs(name: str, tmp_path: Path) -> None:
    kind = kinds()[name](tmp_path)
    for path in sorted((CORPUS / name).glob("*")):
        judged(kind, path.read_bytes(), Tally())
    tally = fuzz_kind(name, kind, SECONDS, INPUTS, first_seed=0)
    assert tally.broken == []
    assert tally.count


def test_the_corpus_is_of_known_kinds() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= set(kinds())


def refuse(_: bytes) -> None:
    raise EdgeError("This is not one.")


def test_what_is_accepted_and_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge itself: a bug, an endless run and too much memory are found, success and an `EdgeError` are not."""
    monkeypatch.setattr(run, "GROWTH_BYTES", 100 << 20)
    inputs = st.binary(max_size=4)
    tally = Tally()
    judged(Kind(inputs, len), b"", tally)
    judged(Kind(inputs, refuse), b"", tally)
    assert (tally.taken, tally.refused) == (1, 1)

    def endless(_: bytes) -> None:
        while True:
            pass

    def hungry(_: bytes) -> int:
        return len(b"x" * (200 << 20))

    for use, why in (({}.__getitem__, "KeyError"), (hungry, "GB")):
        with pytest.raises(Broken, match=why):
            judged(Kind(inputs, use), b"", tally)
    monkeypatch.setattr(run, "SECONDS", 0.1)
    with pytest.raises(Broken, match="no end"):
        judged(Kind(inputs, endless), b"", tally)


def test_what_broke_something_is_kept(tmp_path: Path) -> None:
    tally = fuzz_kind("a", Kind(st.just(b"input"), {}.__getitem__), 10, 1, first_seed=0, found=tmp_path)
    assert len(tally.broken) == 1
    assert [path.read_bytes() for path in (tmp_path / "a").iterdir()] == [b"input"]
