"""Every command on real files: what it prints, what it returns, and what it says to bad input."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from labelled_data import write_labelled
from measured import MACHINE, made_up_bundle, measure
from PIL import Image
from safetensors.torch import load_file
from terminal import at_terminal

from veca_edge.base.tasks import Task
from veca_edge.cli import COMMANDS
from veca_edge.demo import demo_checkpoint, demo_evaluation
from veca_edge.profiles.store import read_measurements


def refused(ended, *parts: str) -> None:
    """Exit code 2, one message on stderr that holds every part, nothing on stdout but the first line."""
    assert ended.code == 2, ended.err
    for part in parts:
        assert part in ended.err
    assert "Traceback" not in ended.err
    assert "bug" not in ended.err


# --------------------------------------------------------------------------------------- export


def test_export_says_what_it_made(veca_edge, bundle, tmp_path):
    target = tmp_path / "out"
    ended = veca_edge("export", "--cores", "8", "--precision", "fp32", "--output", target, "--no-measure")
    assert ended.code == 0, ended.err
    assert ended.out.startswith("No checkpoint was given: this is the bundled demo model")
    assert "Agreement with the FP32 model at the same core count, 32x32, 70 images" in ended.out
    assert ended.out.rstrip().endswith(f"veca-edge profile {target}")
    assert (target / "manifest.json").is_file()
    again = veca_edge("export", "--cores", "8", "--precision", "fp32", "--output", target)
    refused(again, f"{target} exists already", "--force")


def test_export_in_json(veca_edge, checkpoint, tmp_path):
    ended = veca_edge(
        "export",
        checkpoint,
        "--cores",
        "all",
        "--precision",
        "fp32",
        "--image-size",
        "16x24,16",
        "--outputs",
        "cls",
        "--input",
        "tensor",
        "--output",
        tmp_path / "out",
        "--json",
    )
    assert ended.code == 0, ended.err
    manifest = ended.json["manifest"]
    assert manifest["spec"]["core_counts"] == [8, 16, 24]
    assert manifest["spec"]["image_sizes"] == [[16, 24], [16, 16]]
    assert manifest["spec"]["outputs"] == ["cls"]
    assert len(manifest["artifacts"]) == 6
    assert any("CIFAR-10" in note for note in ended.json["notes"])
    assert "note:" in ended.err


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--cores", "12"], ["12 cores", "8, 16, 24"]),
        (["--cores", "32"], ["bank holds 24", "8, 16, 24"]),
        (["--cores", "0"], ["0 cores"]),
        (["--cores", "x"], ["'x' is not a core count", "all"]),
        (["--cores", "8,"], ["empty name"]),
        (["--cores", "-8"], ["'-8' is not a core count"]),
        (["--cores", "9" * 5000], ["is not a core count"]),
        (["--cores", ""], ["--cores is empty"]),
        (["--target", "tpu"], ["Unknown target 'tpu'", "cpu, jetson, apple"]),
        (["--target", "cpu,cpu", "--precision", "fp32", "--cores", "12"], ["12 cores"]),
        (["--precision", "fp16"], ["'cpu' has no precision 'fp16'", "int8, fp32"]),
        (["--precision", "int4,fp32"], ["no precision 'int4'"]),
        (["--precision", "auto,fp32"], ["auto"]),
        (["--image-size", "100"], ["100x100", "patches of 8", "96x96"]),
        (["--image-size", "big"], ["'big' is not an image size", "256x384"]),
        (["--image-size", "16,,24"], ["empty name"]),
        (["--outputs", "logits"], ["needs a classifier head", "--head"]),
        (["--outputs", "class"], ["Unknown output 'class'", "cls, dense, logits"]),
        (["--input", "jpeg"], ["'cpu' has no input 'jpeg'", "image, tensor."]),
        (["--min-cosine", "2"], ["between -1 and 1"]),
        (["--resize", "fit"], ["Unknown resize 'fit'", "crop, short-side, letterbox, stretch"]),
        (["--crop-ratio", "1.2"], ["crop ratio of 1.2", "at most 1"]),
        (["--resize", "letterbox", "--crop-ratio", "0.9"], ["whole frame", "Leave out --crop-ratio"]),
        (["--batch", "0"], ["batch"]),
        (["--threads", "0"], ["threads"]),
        (["--precision", "int8"], ["INT8 needs images", "--calibration"]),
        (["--calibration", "/nowhere"], ["no directory /nowhere"]),
        (["--evaluation", "/nowhere"], ["no directory /nowhere"]),
        (["--head", "/nowhere"], ["no file /nowhere"]),
        (["--labels", "/nowhere"], ["no classifier or segmentation head"]),
        (["--heads", "5"], ["5 heads do not fit a width of 32"]),
        (["--rope-zero", "2"], ["zero rotary frequencies is 2"]),
        (["--ios", "18"], ["--ios is an option of the target 'apple'", "--target apple"]),
        (["--jetpack", "6.2"], ["--jetpack is an option of the target 'jetson'"]),
        (["--separate"], ["--separate is an option"]),
        (["--target", "jetson", "--jetpack", "9.9"], ["JetPack", "9.9", "6.2"]),
        (["--target", "jetson", "--jetpack", "6.2", "--tensorrt", "10.3"], ["Both"]),
        (["--target", "jetson", "--tensorrt", "seven"], ["seven"]),
        (["--output", "/dev/null/bundle"], ["/dev/null"]),
        (["--output", "/dev/null"], ["/dev/null"]),
        (["--corse", "8"], ["No such option", "--cores"]),
    ],
)
def test_export_refuses(veca_edge, checkpoint, tmp_path, options, parts):
    out = [] if "--output" in options else ["--output", tmp_path / "out"]
    sizes = [] if "--image-size" in options else ["--image-size", "16"]
    precision = [] if "--precision" in options or "--target" in options else ["--precision", "fp32"]
    refused(veca_edge("export", checkpoint, *sizes, *precision, *options, *out), *parts)
    assert not list(tmp_path.iterdir())


def test_export_refuses_what_is_no_checkpoint(veca_edge, tmp_path):
    file = tmp_path / "model [bold].pt"
    file.write_bytes(b"hello")
    refused(veca_edge("export", file, "--precision", "fp32"), "model [bold].pt is not a checkpoint")
    refused(veca_edge("export", tmp_path / "absent.pt", "--precision", "fp32"), "There is no file")
    assert [p.name for p in tmp_path.iterdir()] == [file.name]


def test_export_refuses_an_empty_calibration_folder(veca_edge, checkpoint, tmp_path):
    (tmp_path / "images").mkdir()
    refused(veca_edge("export", checkpoint, "--calibration", tmp_path / "images"), "no images in")


def test_export_below_the_gate_leaves_nothing(veca_edge, checkpoint, tmp_path, monkeypatch):
    """A gate that float32 rounding itself misses."""
    ended = veca_edge(
        "export",
        checkpoint,
        "--precision",
        "fp32",
        "--image-size",
        "16",
        "--cores",
        "8",
        "--min-cosine",
        "1.0",
        "--output",
        tmp_path / "out",
    )
    assert ended.code == 1
    assert "--min-cosine" in ended.err
    assert "Agreement with the FP32 model" in ended.out  # what fell short, and what did not
    assert not list(tmp_path.iterdir())


def test_hostile_names(veca_edge, checkpoint, tmp_path):
    """Names with blanks, quotes, control characters, markup, other scripts."""
    folder = tmp_path / "a b;'$(x)\x1b[31m [bold]日本"
    folder.mkdir()
    model = folder / "-m.pt"
    torch.save({"student": load_file(checkpoint), "config": {"num_heads": 2, "rope_p_zero_freqs": 0.0}}, model)
    out = folder / "bundle"
    ended = veca_edge("export", model, "--cores", "8", "--precision", "fp32", "--image-size", "16", "--output", out)
    assert ended.code == 0, ended.err
    assert "\x1b" not in ended.out
    assert r"\x1b[31m" in ended.out
    assert veca_edge("verify", out, "--json").json["ok"] is True
    assert veca_edge("inspect", model, "--json").code == 0


def test_names_that_are_no_text(veca_edge, bundle, checkpoint, tmp_path):
    """Bytes that are not UTF-8: nobody can map such a file, and nothing is lost by saying so."""
    for suffix in (".pt", ".safetensors"):
        model = tmp_path / os.fsdecode(b"m\xe9del" + suffix.encode())
        shutil.copy(checkpoint, model)
        refused(veca_edge("inspect", model), r"m\udce9del", "not valid UTF-8", "Rename")
    other = tmp_path / os.fsdecode(b"\xe9")
    refused(veca_edge("export", "--precision", "fp32", "--output", other), "not valid UTF-8")
    shutil.copytree(bundle, other)
    refused(veca_edge("verify", other), "not valid UTF-8")


def commands_of(ended) -> list[list[str]]:
    """The words of every command under `Next:`, without the name of the program."""
    lines = ended.out.partition("Next:\n")[2].splitlines()
    return [shlex.split(line.removeprefix("  veca-edge ")) for line in lines]


# --------------------------------------------------------------------------------------- fit


def test_what_fit_prints_next_exports_the_head(veca_edge, checkpoint, tmp_path):
    """At the sizes and on the frames that it was fitted on: the defaults are others."""
    data, head = write_labelled(tmp_path / "data", Task.SEGMENT), tmp_path / "a head.safetensors"
    shape = ["--cores", "8,24", "--image-size", "16x24", "--resize", "short-side", "--crop-ratio", "0.875"]
    words = ["fit", checkpoint, "--task", "segment", "--data", data, "--steps", "2", "--output", head]
    ended = veca_edge(*words, *shape)
    assert ended.code == 0, ended.err
    (said,) = commands_of(ended)
    assert said == ["export", str(checkpoint), "--calibration", "IMAGES", "--head", str(head), *shape]
    said[said.index("IMAGES")] = str(data / "images")
    made = veca_edge(*said, "--precision", "fp32", "--output", tmp_path / "out", "--json")
    assert made.code == 0, made.err
    assert made.json["manifest"]["spec"]["image_sizes"] == [[16, 24]]
    # Fitted for every core count, it is exported with the usual one of them.
    again = veca_edge(*words, "--image-size", "16", "--force")
    assert commands_of(again) == [[*said[:2], "--calibration", "IMAGES", "--head", str(head), "--image-size", "16x16"]]


def test_what_fit_prints_next_for_the_demo_model_needs_no_images(veca_edge, tmp_path):
    data, head = write_labelled(tmp_path / "data", Task.SEGMENT, count=8), tmp_path / "head.safetensors"
    ended = veca_edge("fit", "--task", "segment", "--data", data, "--steps", "2", "--cores", 8, "--output", head)
    assert commands_of(ended) == [["export", "--head", str(head), "--cores", "8"]]


# --------------------------------------------------------------------------------------- the bundle


def test_verify(veca_edge, bundle, tmp_path):
    ended = veca_edge("verify", bundle)
    assert ended.code == 0
    assert "All 2 variants are what was exported." in ended.out
    assert "'" in ended.out.splitlines()[-1], "a name with a blank is quoted"
    found = veca_edge("verify", bundle, "--json").json
    assert found["ok"] is True
    assert [v["name"] for v in found["variants"]] == ["cores8_fp32_32x32", "cores16_fp32_32x32"]
    broken = tmp_path / "broken"
    shutil.copytree(bundle, broken)
    with (broken / "README.md").open("a") as file:
        file.write("changed")
    refused(veca_edge("verify", broken), "changed: README.md")


def test_verify_tells_a_machine_that_computes_otherwise(veca_edge, bundle, monkeypatch):
    from veca_edge.actions import verify as action

    monkeypatch.setattr(action, "golden_cosine", lambda *_: 0.5)
    ended = veca_edge("verify", bundle)
    assert ended.code == 1
    assert "2 of 2 variants no longer compute" in ended.out
    assert veca_edge("verify", bundle, "--json").json["ok"] is False


@pytest.mark.parametrize("name", ["verify", "profile", "recommend", "run"])
def test_what_is_no_bundle(veca_edge, tmp_path, name):
    words = [tmp_path, "image.jpg"] if name == "run" else [tmp_path]
    refused(veca_edge(name, *words), "is not a bundle")
    words[0] = tmp_path / "absent"
    refused(veca_edge(name, *words), "no bundle at")


def test_run(veca_edge, bundle, tmp_path):
    images = sorted((demo_evaluation() / "cat").iterdir())[:2]
    ended = veca_edge("run", bundle, *images, "--cores", 8)
    assert ended.code == 0, ended.err
    assert "cores8_fp32_32x32" in ended.out
    assert "%" in ended.out
    saved = tmp_path / "outputs.npz"
    found = veca_edge("run", bundle, *images, "--cores", 16, "--save", saved, "--json").json
    assert [len(image["classes"]) for image in found["images"]] == [5, 5]
    with np.load(saved) as outputs:
        assert outputs["dense"].shape == (2, 64, 192)
        np.testing.assert_allclose(outputs["cls"][1], found["images"][1]["cls"], rtol=1e-6)


def test_run_refuses(veca_edge, bundle, tmp_path):
    image = tmp_path / "image.png"
    Image.new("RGB", (40, 40)).save(image)
    refused(veca_edge("run", bundle, image), "holds 2 variants", "cores8_fp32_32x32")
    refused(veca_edge("run", bundle, image, "--cores", 32), "32", "8, 16")
    refused(veca_edge("run", bundle, image, "--cores", 8, "--precision", "int8"), "int8", "fp32")
    refused(veca_edge("run", bundle, image, "--cores", 8, "--image-size", "64"), "64x64", "32x32")
    refused(veca_edge("run", bundle, image, "--cores", 8, "--save", "x.txt"), ".npz")
    refused(veca_edge("run", bundle, tmp_path / "absent.jpg", "--cores", 8), "absent.jpg")
    for name in ("seen.png", "seen.mp4"):
        overlay = ["--overlay", tmp_path / name]
        refused(veca_edge("run", bundle, image, "--cores", 8, *overlay), f"--overlay {tmp_path / 'seen'}, or another")
    shown = veca_edge("run", bundle, image, "--cores", 8, "--show", "pca")
    refused(shown, "--show says what is painted", "Give --overlay DIR with it.")
    kept, overlay = ["--save", tmp_path / "kept.npz"], ["--overlay", tmp_path / "seen"]
    for wrong, said in (
        ([image, "--save-outputs", "features"], "Unknown output 'features'"),
        ([image, *overlay, "--show", "depth"], "--show depth needs the output 'depth'"),
        ([image, image, *overlay], "Two images are called image"),
    ):
        ended = veca_edge("run", bundle, *wrong, *kept, "--cores", 8)
        refused(ended, said)
        assert (ended.out, (tmp_path / "kept.npz").exists()) == ("", False), "nothing was run for it"
    image.write_bytes(b"no image")
    refused(veca_edge("run", bundle, image, "--cores", 8), "image.png")


def test_profile_and_recommend(veca_edge, bundle):
    quick = ["--rounds", "1", "--seconds", "0.05", "--cores", "8"]
    ended = veca_edge("profile", bundle, *quick)
    assert ended.code == 0, ended.err
    assert "p50" in ended.out
    assert "veca-edge recommend" in ended.out
    inspected = veca_edge("inspect", bundle).out
    assert inspected.endswith(f"  veca-edge verify '{bundle}'\n  veca-edge recommend '{bundle}'\n"), "it was profiled"
    found = veca_edge("profile", bundle, *quick, "--json").json
    assert found["kept"], "what was measured is not measured again"
    assert found["measurements"][0]["statistics"]["p50_ms"] > 0
    best = veca_edge("recommend", bundle, "--p95", "100s")
    assert best.code == 0, best.err
    assert "Best by cosine: 8 cores, fp32, 32x32" in best.out
    nothing = veca_edge("recommend", bundle, "--p95", "1us", "--json")
    assert nothing.code == 1
    assert nothing.json["fallen"][0]["core_count"] == 8
    assert "p95" in nothing.json["error"]["message"]
    refused(veca_edge("recommend", bundle, "--p95", "20 parsecs"), "parsecs", "ms")
    refused(veca_edge("profile", bundle, "--cores", "32"), "no core count 32", "8, 16")
    refused(veca_edge("profile", bundle, "--precision", "int8"), "no precision int8", "fp32")
    refused(veca_edge("profile", bundle, "--sustained", "1x"), "'x'", "ms, s, m, h")


def test_what_profile_prints_next_recommends_something(veca_edge, tmp_path, monkeypatch):
    """The slowest p95, 59.5396 ms, is nearest to 59.5."""
    from veca_edge.actions import profile as action
    from veca_edge.profiles.sweep import Profile

    opened = made_up_bundle(tmp_path / "out", machine=None)
    measure(opened, scale=59.5396 / 33.6)
    profile = Profile(MACHINE, tuple(read_measurements(opened)))
    monkeypatch.setattr(action, "profile", lambda *_: action.Profiled(opened, profile))
    ended = veca_edge("profile", opened.directory)
    assert ended.code == 0, ended.err
    words = commands_of(ended)[0]
    assert words[-2:] == ["--p95", "59.6ms"]
    found = veca_edge(*words, "--by", "cosine")
    assert found.code == 0, found.err
    assert "Best by cosine: 32 cores, fp32" in found.out


def test_profile_refuses_a_damaged_model_as_run_does(veca_edge, bundle, tmp_path):
    damaged = shutil.copytree(bundle, tmp_path / "damaged", ignore=shutil.ignore_patterns("profiles"))
    model = damaged / "models" / "cores8_fp32_32x32.onnx"
    model.write_bytes(b"no model")
    refused(veca_edge("profile", damaged, "--rounds", "1", "--seconds", "0.05", "--cores", "8"), model.name)
    refused(veca_edge("run", damaged, next((demo_evaluation() / "cat").iterdir()), "--cores", "8"), model.name)


# --------------------------------------------------------------------------------------- inspect, doctor, ...


@pytest.mark.parametrize("words", [["build"], ["profile", "--device", "board"]], ids=["build", "profile"])
def test_the_manifest_is_read_once(veca_edge, bundle, monkeypatch, words):
    """Read twice, it could be another one the second time."""
    from veca_edge.bundle import store

    read, original = [], store.open_bundle
    monkeypatch.setattr(store, "open_bundle", lambda path: read.append(path) or original(path))
    ended = veca_edge(words[0], bundle, *words[1:])
    assert ended.code == 2
    assert "jetson" in ended.err
    assert read == [bundle]


def test_inspect_checkpoint(veca_edge, checkpoint):
    ended = veca_edge("inspect")
    assert ended.code == 0
    assert "2,694,863" in ended.out
    assert "airplane" in ended.out
    found = veca_edge("inspect", demo_checkpoint(), "--json").json
    assert found["core_counts"] == [8, 16, 24, 32, 40, 48, 56, 64]
    assert found["parameters"] == sum(found["parameters_by_part"].values()) == 2_694_863
    assert found["classes"] == 10
    ended = veca_edge("inspect", checkpoint)
    assert "8, 16, 24" in ended.out
    assert f"veca-edge export {checkpoint} --calibration IMAGES --cores 16" in ended.out


def test_inspect_bare_state_dict(veca_edge, checkpoint, tmp_path):
    path = tmp_path / "bare.pt"
    torch.save(load_file(checkpoint), path)
    refused(veca_edge("inspect", path), "number of attention heads", "--heads")
    found = veca_edge("inspect", path, "--heads", 2, "--rope-zero", 0, "--json").json
    assert found["config"]["heads"] == 2
    ended = veca_edge("inspect", path, "--heads", 2, "--rope-zero", 0)
    told = f"veca-edge export {path} --calibration IMAGES --heads 2 --rope-zero 0.0 --cores 16"
    assert told in ended.out, "without them the export would be refused"


def test_inspect_refuses(veca_edge, checkpoint, tmp_path):
    refused(veca_edge("inspect", tmp_path / "nothing"), f"There is nothing at {tmp_path}/nothing.", "bundle")
    refused(veca_edge("inspect", checkpoint, "--depth-range", "1,2", "--heads", 2), "--depth-range is for a depth head")


def test_inspect_bundle(veca_edge, bundle):
    ended = veca_edge("inspect", bundle)
    assert ended.code == 0
    assert "models/cores8_fp32_32x32.onnx" in ended.out
    assert veca_edge("inspect", bundle, "--json").json["manifest"]["spec"]["target"] == "cpu"


def test_doctor(veca_edge):
    ended = veca_edge("doctor")
    assert ended.code == 0
    assert "INT8 products" in ended.out
    assert "Target cpu: ready" in ended.out
    found = veca_edge("doctor", "--json").json
    assert found["ready"]["cpu"] is True
    refused(veca_edge("doctor", "--target", "tpu"), "cpu, jetson, apple")


def test_doctor_with_something_missing(veca_edge, monkeypatch):
    from veca_edge.actions import doctor

    monkeypatch.setattr(doctor, "examine", lambda: [doctor.Check("apple", "coremltools", False, "not installed", "do")])
    ended = veca_edge("doctor", "--target", "apple")
    assert ended.code == 2
    assert "Target apple: missing coremltools" in ended.out
    assert veca_edge("doctor", "--target", "cpu").code == 0
    assert veca_edge("doctor").code == 0


def test_devices(veca_edge):
    ended = veca_edge("devices")
    assert "Orin Nano 8GB" in ended.out
    assert "10.3" in ended.out
    assert len(veca_edge("devices", "--json").json["jetpacks"]) >= 7


def test_lint(veca_edge, bundle, tmp_path):
    model = next((bundle / "models").glob("*.onnx"))
    ended = veca_edge("lint", model, "--target", "jetson", "--tensorrt", "8.6")
    assert ended.code == 1, "what is written for ONNX Runtime breaks rules of TensorRT 8.6"
    assert "Why it matters:" in ended.out
    found = veca_edge("lint", model, "--target", "jetson", "--tensorrt", "8.6", "--json")
    assert found.code == 1
    assert {"rule", "node", "message", "why", "source"} == set(found.json["findings"][0])
    refused(veca_edge("lint", model, "--target", "cpu"), "jetson, apple")
    refused(veca_edge("lint", model, "--target", "apple", "--tensorrt", "10.3"), "--tensorrt")
    refused(veca_edge("lint", model, "--target", "jetson", "--tensorrt", "x"), "'x' is not a TensorRT version")
    (tmp_path / "model.onnx").write_text("no model")
    refused(veca_edge("lint", tmp_path / "model.onnx", "--target", "jetson"), "model.onnx")
    (tmp_path / "model.mlpackage").mkdir()
    refused(veca_edge("lint", tmp_path / "model.mlpackage", "--target", "jetson"), "is a directory, not an ONNX file")
    refused(veca_edge("lint", tmp_path / "absent.onnx", "--target", "jetson"), "There is no file")


def test_lint_takes_dynamic_inputs_where_they_are_meant(veca_edge, tmp_path):
    value, path = onnx.helper.make_tensor_value_info, tmp_path / "dynamic.onnx"
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"], name="relu")],
        "g",
        [value("x", onnx.TensorProto.FLOAT, ["n", 3])],
        [value("y", onnx.TensorProto.FLOAT, ["n", 3])],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9), path)
    ended = veca_edge("lint", path, "--target", "jetson")
    assert ended.code == 1
    assert "the input 'x' has shape" in ended.out
    assert ended.out.endswith("\n1 finding of 1 rule.\n")
    assert veca_edge("lint", path, "--target", "jetson", "--dynamic").code == 0
    refused(veca_edge("lint", path, "--target", "apple", "--dynamic"), "--dynamic")


def test_every_command_takes_json_and_debug(veca_edge):
    from veca_edge.cli import COMMANDS

    assert {"export", "verify", "profile", "run", "inspect", "doctor"} <= set(COMMANDS)
    listed = " ".join(veca_edge("--help").out.split())
    for name, summary in COMMANDS.items():
        assert f"{name} {summary}" in listed
        function = getattr(import_module(f"veca_edge.cli.{name}"), name)
        assert function.__doc__.splitlines()[0] == summary
        text = veca_edge(name, "--help").out
        assert "--json" in text
        assert "--debug" in text


def test_version(veca_edge):
    from veca_edge import __version__

    assert veca_edge("--version").out == f"veca-edge {__version__}\n"


# --------------------------------------------------------------------------------------- a real terminal


def test_tables_fit_a_terminal_of_80_columns(bundle):
    import re

    code, shown = at_terminal("inspect", bundle)
    assert code == 0
    assert "\x1b[1m" in shown
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "")
    table = plain[plain.index("Agreement with") : plain.index("How it was made")]
    assert "0.98834" in table, "numbers are not broken over lines"
    assert len(table.splitlines()) < 26
    assert max(map(len, table.splitlines())) <= 80
    assert "\x1b[3" not in at_terminal("inspect", bundle, NO_COLOR="1")[1]


# --------------------------------------------------------------------------------------- interruptions


@pytest.mark.parametrize(
    ("sent", "code", "said"), [(signal.SIGINT, 130, "Interrupted."), (signal.SIGTERM, 143, "Ended by SIGTERM.")]
)
def test_interrupted_export_leaves_nothing(tmp_path, sent, code, said):
    words = ["export", "--cores", "all", "--precision", "fp32", "--output", str(tmp_path / "out"), "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "veca_edge", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while not list(tmp_path.iterdir()) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(tmp_path.iterdir()), "it should be writing by now"
    process.send_signal(sent)
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    assert json.loads(out) == {"error": {"message": said, "hint": None, "exit_code": code}}
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_reader_that_goes_away(bundle):
    process = subprocess.Popen(
        [sys.executable, "-m", "veca_edge", "inspect", str(bundle)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.wait(300) == 141
    assert process.stderr.read() == b""


@pytest.mark.parametrize("words", [("inspect", "BUNDLE", "--json"), ("--help",), ("export", "--help"), ("--version",)])
def test_full_disk_is_one_message(bundle, words):
    """/dev/full is a file that is always full."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "veca_edge", *(str(bundle) if word == "BUNDLE" else word for word in words)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 2
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_current_directory_that_was_removed_is_one_message(tmp_path):
    """PyTorch ends the process there without a word of ours."""
    gone = tmp_path / "gone"
    gone.mkdir()
    script = "import os; from veca_edge.cli import main; os.rmdir(os.getcwd()); main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "inspect"], cwd=gone, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: The current directory is not there any more.\n")


def test_json_is_one_line_of_truth(bundle):
    """From a process of its own: libraries that print at import can't spoil the document."""
    done = subprocess.run(
        [sys.executable, "-m", "veca_edge", "verify", str(bundle), "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert json.loads(done.stdout)["ok"] is True


# --------------------------------------------------------------------------------------- report


def test_report(veca_edge, bundle, tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    veca_edge("profile", bundle, "--rounds", "1", "--seconds", "0.05", "--cores", "8")
    page = tmp_path / "r.html"
    ended = veca_edge("report", bundle, "--output", page, "--no-pictures", "--title", "A <b>title</b>")
    assert ended.code == 0, ended.err
    assert "A &lt;b&gt;title" in page.read_text()
    assert page.with_suffix(".md").is_file()
    refused(veca_edge("report", bundle, "--output", page), "exists already", "--force")
    assert veca_edge("report", bundle, "--output", page, "--no-pictures", "--force", "--json").json["html"] == str(page)
    refused(veca_edge("report", bundle, "--output", tmp_path / "r.pdf"), ".html")
    refused(veca_edge("report", bundle, "--output", tmp_path / "s.html", "--layers", "1,x"), "'x' is not a layer")
    refused(veca_edge("report", tmp_path), "is not a bundle")
    refused(veca_edge("report", tmp_path / "nothing", "--output", page), "no bundle at")


@pytest.mark.parametrize("name", [*COMMANDS])
def test_every_help_says_its_types_and_defaults_in_words(veca_edge, name):
    told = veca_edge(name, "--help").out
    assert not re.search(r"[{]|default: \(|<(int|float|str|path|list)", told), told
    assert f"Usage: veca-edge {name} [OPTIONS]" in told


def test_the_help_of_app_lists_every_platform(veca_edge):
    from veca_edge.apps.table import PLATFORMS

    assert f"{', '.join(PLATFORMS)}." in " ".join(veca_edge("app", "--help").out.split())
