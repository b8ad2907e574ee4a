"""DeepStream's configurations and parsers of a Jetson app: their keys, what they say of the model, what they compute.

DeepStream itself runs on NVIDIA's GPUs alone. `deepstream/` beside this file has the keys that its sources know, what
the parsers use of its headers, and a program that calls them as Gst-nvinfer does.
"""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from toolchains.jetson_project import compiled_here

from veca_edge.apps import deepstream
from veca_edge.apps.base import App
from veca_edge.apps.jetson import check, readme, values_header, write_jetson
from veca_edge.base.errors import EdgeError
from veca_edge.base.tasks import Task, Tokens
from veca_edge.bundle.types import BundleDetails, HeadFacts, TermFacts

HERE = Path(__file__).parent / "deepstream"
LABELS = ('a "cat"', "d\u00f6g\n2", "bird")
WARNINGS = ("-Wall", "-Wextra", "-Werror")


@pytest.fixture
def app(square_bundle) -> App:
    """Planar models of two core counts with classes and masks; the bundle stretches its frames."""
    heads = tuple(
        HeadFacts(task, 3, (TermFacts(2, tokens),), labels=LABELS)
        for task, tokens in ((Task.CLASSIFY, Tokens.CLS), (Task.SEGMENT, Tokens.PATCHES))
    )
    details = BundleDetails(golden_cosine={a.name: 1.0 for a in square_bundle.artifacts})
    preprocessing = {**square_bundle.preprocessing, "resize": "stretch"}
    bundle = replace(square_bundle, labels=LABELS, heads=heads, details=details, preprocessing=preprocessing)
    facts = {"strongly_typed": True, "tensorrt": "10.3"}
    outputs = ("cls", "dense", "logits", "segmentation")
    artifacts = (replace(a, details=facts, target="jetson", input="planar", outputs=outputs) for a in bundle.artifacts)
    return App("Camera", bundle, tuple(artifacts))


def read(path: Path) -> configparser.ConfigParser:
    made = configparser.ConfigParser(delimiters=("=",))
    made.read_string(path.read_text())
    return made


def resized(app: App, how: str) -> App:
    return replace(app, bundle=replace(app.bundle, preprocessing={**app.bundle.preprocessing, "resize": how}))


def test_every_key_is_one_that_deepstream_knows(app, tmp_path):
    write_jetson(app, tmp_path)
    known = json.loads((HERE / "keys.json").read_text())
    files = sorted((tmp_path / deepstream.FOLDER).glob("*.txt"))
    assert len(files) == 1 + 2 * (len(app.variants) + 1)
    for file in files:
        if file.name == "CMakeLists.txt":
            continue
        kind = known["nvinfer" if file.name.startswith("nvinfer") else "deepstream-app"]
        config = read(file)
        assert config.sections()
        for section in config.sections():
            assert set(config[section]) <= set(kind[section.rstrip("0123456789")]), file


def test_nvinfer_gives_the_model_what_it_takes(app, tmp_path):
    write_jetson(app, tmp_path)
    folder = tmp_path / deepstream.FOLDER
    for variant in app.variants:
        config = read(folder / f"nvinfer_segment_cores{variant.core_count}.txt")["property"]
        pixels = {key: config[key] for key in ("net-scale-factor", "model-color-format", "maintain-aspect-ratio")}
        assert pixels == {"net-scale-factor": "1", "model-color-format": "0", "maintain-aspect-ratio": "0"}
        assert "offsets" not in config
        # An engine that is missing must not be built in other types than the script builds it in.
        assert "onnx-file" not in config
        engine = config["model-engine-file"]
        assert f"build {Path(engine).stem} " in (tmp_path / "build.sh").read_text()
        assert (folder / engine).resolve().parent == (tmp_path / "engines").resolve()
        assert (config["network-type"], config["num-detected-classes"]) == ("2", "3")
        assert (folder / "parsers.cpp").read_text().count(f" {config['parse-segmentation-func-name']}(") == 1
    classes = read(folder / f"nvinfer_classify_cores{app.variants[0].core_count}.txt")["property"]
    assert (classes["network-type"], classes["classifier-threshold"]) == ("1", "0")
    assert (folder / "parsers.cpp").read_text().count(f" {classes['parse-classifier-func-name']}(") == 1
    shown = read(folder / "deepstream_app_segment.txt")
    assert shown["primary-gie"]["config-file"] == f"nvinfer_segment_cores{app.variants[-1].core_count}.txt"
    assert (folder / shown["primary-gie"]["config-file"]).is_file()
    assert shown["segvisual"]["enable"] == "1"
    assert "add_library(veca_parsers SHARED" in (folder / "CMakeLists.txt").read_text()
    assert classes["custom-lib-path"] == "build/libveca_parsers.so"


def test_bars_are_black_and_the_readme_says_so(app):
    boxed = resized(app, "letterbox")
    config = deepstream.nvinfer(boxed, Task.CLASSIFY, boxed.variants[0])["property"]
    assert (config["maintain-aspect-ratio"], config["symmetric-padding"]) == (1, 1)
    assert "black, where the model was calibrated with the colour (124, 116, 104)" in readme(boxed)
    assert "black" not in readme(app)


def test_what_deepstream_cannot_do_is_refused(app):
    check(app)
    with pytest.raises(EdgeError, match="was made for '--resize crop'"):
        check(resized(app, "crop"))
    depth = replace(app, variants=tuple(replace(a, outputs=("cls", "depth")) for a in app.variants))
    with pytest.raises(EdgeError, match="give cls, depth"):
        check(depth)


def test_camera_frames_need_none_of_it(app, tmp_path):
    bytes_in = replace(app, variants=tuple(replace(a, input="image") for a in app.variants))
    check(resized(bytes_in, "crop"))
    write_jetson(bytes_in, tmp_path)
    assert not (tmp_path / deepstream.FOLDER).exists()
    assert "--input planar --resize stretch" in (tmp_path / "README.md").read_text()
    assert "app.planar = false;" in values_header(bytes_in)
    assert "app.planar = true;" in values_header(app)


def test_the_parsers(app, tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("g++ is missing")
    write_jetson(app, tmp_path)
    sources = [tmp_path / "deepstream/parsers.cpp", HERE / "call_parsers.cpp"]
    sources += [tmp_path / f"src/{name}.cpp" for name in ("picture", "painting")]
    checks = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    command = ["g++", "-std=c++17", *WARNINGS, *checks, "-isystem", HERE, *sources]
    compiled_here(command, [*sources, tmp_path / "src", HERE], tmp_path / "call")
    ended = subprocess.run([tmp_path / "call"], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    said = dict(re.split(r": (?=[01])", line, maxsplit=1) for line in re.split(r"\n(?=[a-z]+: )", ended.stdout.strip()))
    assert said["best"] == "1 0 1 0.6652 [d\u00f6g\n2] <d\u00f6g\n2>"
    assert said["unsure"] == "1 <>"
    assert said["unnamed"] == "1 0 3 0.9996 [class 3] <class 3>"
    # Labels of 2 x 2 cells on 8 rows of 4 pixels; a label that no class has is none.
    rows = ["0 0 1 1"] * 4 + ["2 2 -1 -1"] * 4
    assert said["labels"] == f"1 1 {' '.join(rows)}"
    assert [said[name][0] for name in ("half", "none", "odd", "floats")] == ["0"] * 4
    assert "another type" in ended.stderr
    assert "built from another model" in ended.stderr
    assert "1 x 3 labels" in ended.stderr
