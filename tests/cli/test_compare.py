"""`veca-edge compare` on bundles whose times a test knows."""

from __future__ import annotations

import json
import shutil

import pytest
from measured import MACHINE, OTHER_MACHINE, made_up_bundle, measure

from veca_edge.base.errors import EdgeError
from veca_edge.base.units import parse_points, parse_share
from veca_edge.bundle.store import open_bundle
from veca_edge.profiles.store import read_measurements, save_measurement


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """A release, the same with its INT8 variant of 8 cores 8% slower, and the first on another machine too."""
    from dataclasses import replace

    folder = tmp_path_factory.mktemp("releases")
    first = made_up_bundle(folder / "one")
    for m in read_measurements(first):
        # Rounds of which each has all of the spread.
        mixed = (*m.samples_ms[::2], *m.samples_ms[1::2])
        save_measurement(folder / "one", replace(m, samples_ms=mixed, round_sizes=(51, 50)))
    shutil.copytree(folder / "one", folder / "two")
    [slow] = [m for m in read_measurements(first) if (m.core_count, m.precision) == (8, "int8")]
    save_measurement(folder / "two", replace(slow, samples_ms=tuple(1.08 * ms for ms in slow.samples_ms)))
    measure(first, OTHER_MACHINE, 1.2)
    return folder / "one", folder / "two"


def test_a_slower_variant_fails_and_is_named(veca_edge, releases):
    ended = veca_edge("compare", *releases)
    assert ended.code == 1, ended.err
    assert "1 of 6 variants got slower by more than 5%." in ended.out
    assert "Invented CPU" in ended.out
    assert "Other CPU" not in ended.out
    [line] = [line for line in ended.out.splitlines() if "SLOWER" in line and "p50" in line]
    assert "8 cores, int8, 32x32, 2 threads" in line
    assert "+8.0%" in line
    told = json.loads(veca_edge("compare", *releases, "--json").out)
    assert told["regressions"] == ["8 cores, int8, 32x32, 2 threads"]
    [slower] = [v for v in told["machines"][0]["variants"] if v["regression"]]
    assert slower["p50"]["slowdown"] == pytest.approx(0.08)


def test_what_is_allowed_and_the_other_way_round(veca_edge, releases):
    one, two = releases
    assert veca_edge("compare", *releases, "--max-slowdown", "10%").code == 0
    assert veca_edge("compare", two, one).code == 0


def test_markdown_for_a_pull_request(veca_edge, releases):
    ended = veca_edge("compare", *releases, "--markdown")
    assert ended.code == 1
    assert ended.out.startswith("### Slower: ")
    assert "| variant |  | before ms | after ms | change |  | memory |" in ended.out
    assert "**SLOWER**" in ended.out
    assert "| cores8_int8_32x32 | cls cosine | 0.99900 | 0.99900 | +0.00000 |" in ended.out


def test_two_machines_of_one_bundle(veca_edge, releases):
    one, two = releases
    ended = veca_edge("compare", one, "--machine", MACHINE.machine_id, "--machine", "Other CPU", "--json")
    assert ended.code == 1
    assert len(ended.json["regressions"]) == 6
    assert ended.json["fidelity"] == []
    for words, message in (
        ((one,), "nothing to be compared with"),
        ((one, "--machine", "Toaster"), "Unknown machine of"),
        ((two, one, "--machine", "Other CPU"), "Unknown machine of"),
        ((one, two, "--max-slowdown", "five"), "'five' is not a share"),
    ):
        refused = veca_edge("compare", *words)
        assert refused.code == 2
        assert message in refused.err


def test_what_can_not_be_judged_is_no_pass(veca_edge, releases, tmp_path):
    empty = made_up_bundle(tmp_path / "empty", None)
    ended = veca_edge("compare", releases[0], empty.directory)
    assert (ended.code, "has no measurements" in ended.err) == (2, True)
    busy = made_up_bundle(tmp_path / "busy", details={"rounds": [{"other_load": 0.9}]})
    ended = veca_edge("compare", releases[0], busy.directory)
    assert ended.code == 2
    assert "Nothing can be said of any variant" in ended.err
    ended = veca_edge("compare", releases[0], releases[1], "--markdown", "--json")
    assert (ended.code, ended.json["error"]["message"]) == (2, "--markdown and --json exclude each other.")
    assert open_bundle(busy.directory)
    elsewhere = made_up_bundle(tmp_path / "elsewhere", OTHER_MACHINE)
    ended = veca_edge("compare", releases[1], elsewhere.directory)
    assert (ended.code, "different machines" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("text", "share"), [("5%", 0.05), ("0.05", 0.05), (" 2.5 %", 0.025), ("0%", 0.0), ("100%", 1.0)]
)
def test_shares(text, share):
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["1", "1.0", "5"])
def test_a_number_without_a_sign_is_not_taken_for_all_or_more(text):
    with pytest.raises(EdgeError, match="is not a share"):
        parse_share(text)


def test_points():
    assert parse_points("0.5pp") == parse_points("0.005") == 0.005
    for text in ("5%", "101pp", "1", "1.01", "-1pp", "inf", ""):
        with pytest.raises(EdgeError, match="is not a difference of shares"):
            parse_points(text)
