"""Building and profiling engines from the command line, on a stand-in for a board; see tests/standin."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial

import pytest
from PIL import Image
from standin.fixtures import write_bundle, write_model

from veca_edge.bundle.store import open_bundle, write_manifest
from veca_edge.profiles.jetson import measure as jetson


@pytest.fixture
def jetson_bundle(tmp_path):
    folder = tmp_path / "a bundle"
    folder.mkdir()
    write_bundle(folder, [write_model(folder, "cores16_fp16_32x32")])
    return folder


@pytest.fixture
def impatient(monkeypatch, quick_looks):
    """The double needs no rest before it is timed."""
    options = partial(jetson.BoardOptions, warmup_s=0.5, idle_s=0.2)
    monkeypatch.setattr(jetson, "BoardOptions", options)


def test_build_and_profile_over_ssh(veca_edge, server, standin, jetson_bundle, impatient):
    pytest.importorskip("tensorrt_rtx")
    ended = veca_edge("build", jetson_bundle, "--device", "orin")
    assert ended.code == 0, ended.err
    assert "Orin Nano 8GB" in ended.out
    assert f"veca-edge profile '{jetson_bundle}' --device orin" in ended.out
    again = veca_edge("build", jetson_bundle, "--device", "orin", "--json")
    assert again.json["engines"][0]["format"] == "engine"
    assert again.json["board"]["tensorrt"].startswith("10.3")
    profiled = veca_edge("profile", jetson_bundle, "--device", "orin", "--seconds", "1")
    assert profiled.code == 0, profiled.err
    assert "MAXN_SUPER" in profiled.out
    assert "mJ" in profiled.out
    assert "clocks were not locked" in profiled.err
    standin.write("proc/device-tree/compatible", "nvidia,p3767-0000\0nvidia,tegra234\0")
    other = veca_edge("profile", jetson_bundle, "--device", "orin", "--seconds", "1", "--again")
    assert other.code == 2
    assert "built for another board" in other.err
    assert f"veca-edge build '{jetson_bundle}' --device ssh://orin" in other.err


def test_a_board_that_is_not_there(veca_edge, jetson_bundle):
    for device, part in (
        ("ssh://nowhere.invalid", "nowhere.invalid"),
        ("ssh://a b", "is not a device"),
        ("adb:1234", "is a phone, and a board is needed"),
        ("ssh://-oProxyCommand=x", "is not a device"),
        ("ftp://x", "no scheme 'ftp'"),
    ):
        ended = veca_edge("build", jetson_bundle, "--device", device)
        assert ended.code == 2, ended.err
        assert part in ended.err


def test_options_of_other_targets(veca_edge, bundle, jetson_bundle):
    for where, words in (
        (bundle, ["--layers"]),
        (bundle, ["--lock-clocks"]),
        (bundle, ["--units", "ane"]),
        (jetson_bundle, ["--units", "ane"]),
        (bundle, ["--team", "T"]),
        (jetson_bundle, ["--sustained", "5m"]),
        (jetson_bundle, ["--threads", "2"]),
        (jetson_bundle, ["--rounds", "2"]),
    ):
        ended = veca_edge("profile", where, *words)
        assert ended.code == 2
        assert f"{words[0]} is for bundles of the target" in ended.err
    ended = veca_edge("profile", bundle, "--device", "local")
    assert ended.code == 2
    assert "Unknown device 'local'" in ended.err
    assert "web" in ended.err


def test_profile_before_build(veca_edge, jetson_bundle, bundle):
    ended = veca_edge("profile", jetson_bundle)
    assert ended.code == 2
    assert "--device ssh://" in ended.err
    ended = veca_edge("build", bundle)
    assert ended.code == 2
    assert "--target jetson" in ended.err


def test_what_comes_next_is_to_profile_the_engines_where_they_are(veca_edge, jetson_bundle, tmp_path, monkeypatch):
    quoted = f"'{jetson_bundle}'"
    bare = veca_edge("inspect", jetson_bundle).out
    assert bare.endswith(f"Next:\n  veca-edge verify {quoted}\n  veca-edge build {quoted} --device ssh://HOST\n")
    opened = open_bundle(jetson_bundle)
    engine = replace(opened.artifacts[0], path="engines/a.engine", format="engine")
    write_manifest(replace(opened, artifacts=(*opened.artifacts, engine)))
    assert veca_edge("inspect", jetson_bundle).out.endswith(f"  veca-edge profile {quoted} --device ssh://HOST\n")
    monkeypatch.setattr("veca_edge.targets.jetson.RELEASE", jetson_bundle)
    assert veca_edge("inspect", jetson_bundle).out.endswith(f"  veca-edge profile {quoted}\n")


def test_build_where_there_is_no_tensorrt(veca_edge, local_board, jetson_bundle):
    local_board.without("trtexec")
    shutil.rmtree(jetson_bundle / "engines", ignore_errors=True)
    ended = veca_edge("build", jetson_bundle)
    assert ended.code == 2
    assert "TensorRT" in ended.err


JETSON = ["--target", "jetson", "--precision", "fp16", "--cores", "8", "--image-size", "16", "--min-cosine", "0.9"]


def test_export_for_a_board(veca_edge, server, standin, checkpoint, tmp_path, quick_looks):
    pytest.importorskip("tensorrt_rtx")
    out = tmp_path / "out"
    ended = veca_edge("export", checkpoint, *JETSON, "--output", out, "--device", "orin", "--json")
    assert ended.code == 0, ended.err
    assert [a["format"] for a in ended.json["manifest"]["artifacts"]] == ["onnx", "engine"]


def test_export_without_a_board_estimates(veca_edge, checkpoint, tmp_path):
    ended = veca_edge("export", checkpoint, *JETSON, "--output", tmp_path / "out")
    assert ended.code == 0, ended.err
    assert "ESTIMATED" in ended.out
    assert "Orin Nano 8GB" in ended.out
    assert "The engines are still to be built" in ended.out
    (tmp_path / "images").mkdir()
    image = tmp_path / "images" / "image.png"
    Image.new("RGB", (40, 40)).save(image)
    onnx = ["--format", "onnx"]
    for name, *words in (["verify"], ["run", image, *onnx], ["run", "--source", image.parent, *onnx]):
        done = veca_edge(name, tmp_path / "out", *words)
        assert done.code == 0, done.err
        assert done.out.endswith(f"Next:\n  veca-edge build {tmp_path / 'out'} --device ssh://HOST\n")


def test_a_board_and_a_version_contradict(veca_edge):
    ended = veca_edge("export", "--target", "jetson", "--device", "orin", "--jetpack", "6.2")
    assert ended.code == 2
    assert "The board knows its own" in ended.err
