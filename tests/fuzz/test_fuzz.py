"""Damaged inputs of every kind: all that ever broke something, and a few seconds of new ones, the same every time."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("hypothesis")
pytest.importorskip("coremltools")

from tests.fuzz.kinds import kinds
from tests.fuzz.run import CORPUS, Tally, fuzz_kind, judged

SECONDS = 3.0
INPUTS = 100


@pytest.mark.parametrize("name", sorted(kinds()))
def test_damaged_inputs(name: str, tmp_path: Path) -> None:
    kind = kinds()[name](tmp_path)
    for path in sorted((CORPUS / name).glob("*")):
        judged(kind, path.read_bytes(), Tally())
    tally = fuzz_kind(name, kind, SECONDS, INPUTS, first_seed=0)
    assert tally.broken == []
    assert tally.count
