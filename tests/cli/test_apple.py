"""The target apple from the command line, on a machine that is not a Mac."""

from __future__ import annotations

import sys

import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.demo import demo_evaluation
from veca_edge.formats.mlpackage import read_mlpackage

APPLE = ["--target", "apple", "--precision", "fp16", "--cores", "8,16", "--image-size", "16", "--min-cosine", "0.9"]


@pytest.fixture(scope="module")
def apple_bundle(veca_edge, checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("apple") / "bundle"
    ended = veca_edge("export", checkpoint, *APPLE, "--coordinates", "fp32", "--output", path)
    assert ended.code == 0, ended.err
    assert "Profiling it takes a Mac" in ended.out or sys.platform == "darwin"
    return path


def test_coordinates_in_float32_are_what_the_package_computes(apple_bundle):
    package = read_mlpackage(apple_bundle / "apple" / "veca_fp16.mlpackage")
    for function in package.functions.values():
        kinds = {op.type: next(iter(op.outputs.values())).dtype for op in function.operations}
        assert kinds["tanh"] == "FLOAT32"
        assert kinds["softmax"] == "FLOAT16"


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac can profile")
def test_elsewhere_nobody_is_sent_to_profile_it(veca_edge, apple_bundle):
    verified = veca_edge("verify", apple_bundle)
    assert verified.code == 0, verified.err
    assert "Profiling it takes a Mac" in verified.out
    assert "Next:" not in verified.out
    looked = veca_edge("inspect", apple_bundle)
    assert looked.out.endswith(f"Next:\n  veca-edge verify {apple_bundle}\n")
    image = next((demo_evaluation() / "cat").iterdir())
    ran = veca_edge("run", apple_bundle, image, "--cores", 8)
    assert ran.code == 0, ran.err
    assert ran.out.endswith(f"Next:\n  veca-edge verify {apple_bundle}\n")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--target", "apple", "--coordinates", "fp64"], ["Unknown type of coordinates 'fp64'", "fp16, fp32"]),
        (["--target", "cpu", "--coordinates", "fp32"], ["--coordinates is an option of the target 'apple'"]),
    ],
)
def test_coordinates_are_checked(veca_edge, checkpoint, tmp_path, options, parts):
    ended = veca_edge("export", checkpoint, "--image-size", "16", "--output", tmp_path / "out", *options)
    assert ended.code == 2
    assert all(part in ended.err for part in parts), ended.err


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac can profile")
@pytest.mark.parametrize(
    "options", [[], ["--units", "ane,cpu"], ["--device", "iphone"], ["--device", "ipad:Studio", "--team", "ABCDE12345"]]
)
def test_profiling_elsewhere_says_what_it_needs(veca_edge, apple_bundle, options):
    ended = veca_edge("profile", apple_bundle, *options)
    assert ended.code == 2
    assert "needs macOS 15 or later" in ended.err
    assert "Copy the bundle to a Mac" in ended.err


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--device", "watch"], ["Unknown kind of device 'watch'", "iphone, ipad"]),
        (["--device", "iphone", "--units", "npu"], ["Unknown compute unit 'npu'"]),
        (["--device", "iphone", "--seconds", "2"], ["predictions are counted"]),
        (["--team", "ABCDE12345"], ["no --device was given"]),
        (["--layers"], ["--layers is for bundles of the target 'jetson'"]),
    ],
)
def test_profile_refuses(veca_edge, apple_bundle, options, parts):
    ended = veca_edge("profile", apple_bundle, *options)
    assert ended.code == 2
    assert all(part in ended.err for part in parts), ended.err


def test_a_connected_device_is_asked_for_by_name(veca_edge, apple_bundle, monkeypatch):
    from veca_edge.profiles import coreml

    asked = []

    def stop(bundle, device, options, artifacts, progress):
        asked.append((device, options, [a.core_count for a in artifacts]))
        raise EdgeError("stopped here", "")

    monkeypatch.setattr(coreml, "profile_on_device", stop)
    ended = veca_edge(
        "profile", apple_bundle, "--device", "iPhone:My Phone", "--team", "T", "--units", "ane", "--cores", "16"
    )
    assert ended.code == 2
    ((device, options, counts),) = asked
    assert coreml.device_and_name(device) == ("iphone", "My Phone")
    assert options.development_team == "T"
    assert (options.units, counts) == (("ane",), [16])
