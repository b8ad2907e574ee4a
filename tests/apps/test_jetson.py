"""The Jetson app's project: its one file of values, what lies beside it, and what it refuses."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from veca_edge.apps.base import TEMPLATES, App
from veca_edge.apps.jetson import VALUES, check, readme, values_header, write_jetson
from veca_edge.base.errors import EdgeError
from veca_edge.base.tasks import Task, Tokens
from veca_edge.bundle.types import BundleDetails, HeadFacts, TermFacts

LABELS = ('a "cat"', "two\nlines", "\U0001f436 \\dog")


@pytest.fixture
def app(square_bundle) -> App:
    head = HeadFacts(Task.SEGMENT, 3, (TermFacts(2, Tokens.PATCHES),), labels=LABELS, palette=("#ff8000",) * 3)
    details = BundleDetails(golden_cosine={a.name: 1.0 for a in square_bundle.artifacts})
    bundle = replace(square_bundle, labels=LABELS, heads=(head,), details=details)
    artifacts = (
        replace(a, details={"strongly_typed": True, "tensorrt": "10.3"}, target="jetson") for a in bundle.artifacts
    )
    return App('My "cam" \U0001f4f7', bundle, tuple(artifacts))


def test_values_are_literals_whatever_they_hold(app):
    header = values_header(app)
    assert header.isascii()
    assert r'app.name = "My \042cam\042 \360\237\223\267";' in header
    assert r'"two\012lines",' in header
    assert header.count("{255, 128, 0},") == 3
    costs = [float(cost) for cost in re.findall(r'\{\d+, "[^"]+", ([0-9.]+)\}', header)]
    assert len(costs) == len(app.variants)
    assert costs == sorted(costs)


def test_only_the_header_differs(app, tmp_path):
    write_jetson(app, tmp_path)
    for template in (TEMPLATES / "jetson").rglob("*"):
        if template.is_file() and template.name != "gitignore":
            assert (tmp_path / template.relative_to(TEMPLATES / "jetson")).read_bytes() == template.read_bytes()
    assert not (TEMPLATES / "jetson" / VALUES).exists()
    for variant in app.variants:
        assert (tmp_path / variant.path).read_bytes() == (app.bundle.directory / variant.path).read_bytes()
        assert f"measure {variant.name}" in (tmp_path / "build.sh").read_text()
    assert (tmp_path / "tests/golden_vectors/vectors.json").is_file()


def test_the_readme_shows_any_name(app):
    title = readme(replace(app, name="`a` <b> [c](d)\n# e \U0001f4f7")).splitlines()[0]
    assert title == "# &#96;a&#96; &#60;b&#62; &#91;c&#93;&#40;d&#41; &#35; e \U0001f4f7"


def test_refuses_engines_that_take_core_tokens(app):
    check(app)
    elastic = replace(app.variants[0], details={"constants": "models/constants.npz"})
    with pytest.raises(EdgeError, match="without --elastic"):
        check(replace(app, variants=(elastic,)))
