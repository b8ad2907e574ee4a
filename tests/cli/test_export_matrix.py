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


def test_a_list_in_a_run_file(checkpoint, few_images, tmp_path, veca_edge):
    run = tmp_path / "run.toml"
    run.write_text(
        f'checkpoint = "{checkpoint}"\ntarget = ["cpu", "jetson"]\ncores = [8]\nprecision = ["fp16", "fp32"]\n'
        f'tensorrt = "10.3"\nimage-size = 16\nevaluation = "{few_images}"\nmeasure = false\noutput = "all"\n'
    )
    ended = veca_edge("export", "--config", run, "--json")
    assert ended.code == 0, ended.err
    assert [e["bundle"] for e in ended.json["exports"]] == [str(tmp_path / "all" / name) for name in ("cpu", "jetson")]
    assert open_bundle(tmp_path / "all" / "cpu").precisions == ("fp32",)
    assert "The target 'cpu' has no fp16." in ended.err
    assert "Instead of what the run file says" not in ended.err
    # What is typed wins here too, and each bundle repeats itself.
    one = veca_edge("export", "--config", run, "--target", "cpu", "--precision", "fp32", "--output", tmp_path / "one")
    assert one.code == 0, one.err
    again = veca_edge("export", "--like", tmp_path / "all" / "cpu", "--output", tmp_path / "again")
    assert again.code == 0, again.err


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
