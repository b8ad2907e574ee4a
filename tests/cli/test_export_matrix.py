"""`veca-edge export --target cpu,jetson`: a bundle of each, with the options and precisions that each has."""

from __future__ import annotations

from veca_edge.bundle.store import open_bundle


def test_a_list_of_targets(checkpoint, tmp_path, veca_edge):
    words = ("export", checkpoint, "--target", "cpu,jetson", "--cores", 8, "--precision", "fp16,fp32", "--no-measure")
    ended = veca_edge(*words, "--image-size", 32, "--output", tmp_path / "all", "--json")
    assert ended.code == 0, ended.err
    assert [e["manifest"]["spec"]["target"] for e in ended.json["exports"]] == ["cpu", "jetson"]
    assert open_bundle(tmp_path / "all" / "cpu").precisions == ("fp32",)
    assert "fp16" in open_bundle(tmp_path / "all" / "jetson").precisions
    assert "The target 'cpu' has no fp16." in ended.err


def test_a_list_with_an_unknown_target(checkpoint, tmp_path, veca_edge):
    ended = veca_edge("export", checkpoint, "--target", "cpu,toaster", "--output", tmp_path / "all")
    assert ended.code == 2
    assert "Unknown target 'toaster'" in ended.err
    assert not (tmp_path / "all").exists()


def test_a_cluster_that_is_none(checkpoint, tmp_path, veca_edge):
    words = ("export", checkpoint, "--precision", "fp32", "--output", tmp_path / "one", "--cluster", "nowhere")
    for targets in ("cpu", "cpu,jetson"):
        ended = veca_edge(*words, "--target", targets)
        assert ended.code == 2
        assert "'nowhere' is no cluster" in ended.err or "needs the Python package 'distributed'" in ended.err
    assert not (tmp_path / "one").exists()
