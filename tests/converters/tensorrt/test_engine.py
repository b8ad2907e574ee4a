"""Engines built by a stand-in for a board, which builds with TensorRT-RTX; see tests/standin."""

import ast
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from standin.fixtures import write_model

from veca_edge.base.errors import EdgeError
from veca_edge.base.files import sha256_of
from veca_edge.converters.tensorrt import engine_builder
from veca_edge.converters.tensorrt.engine import (
    EngineOptions,
    build_arguments,
    build_engines,
    build_error,
    check_dialect,
    parse_failure,
)
from veca_edge.devices.connection import LocalConnection, connect, parse_device
from veca_edge.devices.jetson.engine_key import EngineKey, engine_key
from veca_edge.devices.jetson.probe import ConnectedBoard, probe
from veca_edge.devices.jetson.trtexec import profile_selection

pytest.importorskip("tensorrt_rtx")


@pytest.fixture
def orin(server):
    with connect(parse_device("orin")) as connection:
        yield connection


def board_at(connection, **changed):
    return ConnectedBoard(connection, replace(probe(connection), **changed), interval_s=0.05)


def build(connection, folder, artifacts, **options):
    return build_engines(board_at(connection), folder, artifacts, EngineOptions(**options))


def test_two_engines_over_ssh(orin, standin, tmp_path):
    bundle = tmp_path / "a bundle; $(touch owned) 'x'"
    models = [write_model(bundle, "cores16_fp16_32x32"), write_model(bundle, "cores8_int8_32x32")]
    stages, log = [], []
    engines = build_engines(
        board_at(orin), bundle, models, progress=lambda *args: stages.append(args), on_log=log.append
    )
    slug = "orin-nano-8gb-l4t36.4.3-trt10.3.0-maxn-super"
    assert [e.path for e in engines] == [f"engines/{slug}/{m.name}.engine" for m in models]
    for engine, model in zip(engines, models, strict=True):
        file = bundle / engine.path
        assert (engine.format, engine.target, engine.sha256) == ("engine", "jetson", sha256_of(file))
        assert engine.bytes == file.stat().st_size > 100_000
        assert (engine.core_count, engine.precision, engine.outputs) == (
            model.core_count,
            model.precision,
            model.outputs,
        )
        d = engine.details
        assert EngineKey.from_json(d["engine_key"]) == EngineKey(
            "Orin Nano 8GB", "8.7", "36.4.3", "10.3.0", "MAXN_SUPER"
        )
        assert (d["onnx"], d["onnx_sha256"], d["builder"]) == (model.path, model.sha256, "trtexec")
        assert d["build_seconds"] == 12.3456
        assert 64 <= d["used_workspace_mib"] <= 1024
        assert "--stronglyTyped" in d["build_arguments"]
        assert "--skipInference" in d["build_arguments"]
        assert "PASSED" in (bundle / d["log"]).read_text()
        assert json.loads((bundle / d["layers"]).read_text())["Layers"]
        json.dumps(dict(d))
    assert "&&&& PASSED" in "\n".join(log)
    assert {stage for stage, _, _ in stages} == {f"building {m.name} on ssh://orin" for m in models}
    assert stages[0][1:] == (0, 2)
    assert stages[-1][1:] == (2, 2)
    assert standin.jobs() == []
    assert (standin.files / "timing" / f"{slug}.cache").read_text().count("one more build") == 2
    assert not list(Path.cwd().glob("owned"))
    assert not list(bundle.rglob("*.part"))


def test_what_was_built_is_not_built_again(orin, standin, tmp_path):
    model = write_model(tmp_path)
    [first] = build(orin, tmp_path, [model])
    standin.tell(fault="killed")
    assert build(orin, tmp_path, [model]) == [first]
    with pytest.raises(EdgeError):
        build(orin, tmp_path, [model], level=1)
    with pytest.raises(EdgeError):
        build(orin, tmp_path, [replace(model, sha256="0" * 64)])
    (tmp_path / first.path).write_bytes(b"damaged")
    with pytest.raises(EdgeError):
        build(orin, tmp_path, [model])


def test_options_reach_the_builder(orin, tmp_path):
    [engine] = build(orin, tmp_path, [write_model(tmp_path)], workspace_mib=256, level=1)
    assert engine.details["used_workspace_mib"] == 256
    assert "--builderOptimizationLevel=1" in engine.details["build_arguments"]
    assert "workspace:256" in (tmp_path / engine.details["log"]).read_text()
    for wrong in ({"workspace_mib": 0}, {"level": 6}):
        with pytest.raises(EdgeError):
            EngineOptions(**wrong)


@pytest.mark.parametrize("version", ["8.5.2", "8.6.2", "10.3.0", "10.13.3", "10.16.2", "11.1.0"])
def test_every_version_gets_options_that_it_knows(local_board, tmp_path, version):
    """The stand-in refuses what the trtexec of that version would refuse."""
    local_board.tell(tensorrt=version)
    weak = {
        "opset": 16,
        "strongly_typed": False,
        "build_flags": [
            "--int8",
            "--fp16",
            "--precisionConstraints=obey",
            "--layerPrecisions=a:fp32",
            "--layerOutputTypes=a:fp32",
            "--noTF32",
        ],
    }
    model = write_model(tmp_path, **(weak if version.startswith("8") else {}))
    [engine] = build(LocalConnection(), tmp_path, [model], level=2)
    assert engine.details["engine_key"]["tensorrt"] == version
    assert ("--buildOnly" in engine.details["build_arguments"]) == version.startswith("8.5")


def test_python_builds_where_only_python_is(orin, standin, tmp_path):
    standin.without("trtexec")
    standin.with_python()
    [engine] = build(orin, tmp_path, [write_model(tmp_path)])
    assert engine.details["builder"] == "tensorrt"
    assert engine.bytes > 100_000
    assert engine.details["engine_key"]["tensorrt"] == "10.3.0"
    assert "Engine built in" in (tmp_path / engine.details["log"]).read_text()
    assert standin.jobs() == []


def test_a_pip_package_of_another_version_does_not_build(orin, standin, tmp_path):
    standin.tool("bin/python3", 'case "$*" in *tensorrt*) echo 10.9.0.34 ;; *) exit 1 ;; esac')
    [engine] = build(orin, tmp_path, [write_model(tmp_path)])
    assert engine.details["builder"] == "trtexec"
    assert engine.details["engine_key"]["tensorrt"] == "10.3.0"


def test_on_this_machine(local_board, tmp_path):
    [engine] = build(LocalConnection(), tmp_path, [write_model(tmp_path)])
    assert (tmp_path / engine.path).stat().st_size == engine.bytes
    assert local_board.jobs() == []


def test_killing_the_connection_in_the_middle_and_running_again_finishes_the_build(server, standin, tmp_path):
    standin.tell(build_s=2.5)
    model = write_model(tmp_path)
    (tmp_path / "artifact.json").write_text(json.dumps(model.to_json()))
    code = """
import json, sys
from pathlib import Path
from veca_edge.base.json_files import typed
from veca_edge.bundle.types import Artifact
from veca_edge.converters.tensorrt.engine import build_engines
from veca_edge.devices.connection import connect, parse_device
from veca_edge.devices.jetson.probe import ConnectedBoard, probe
folder = Path(sys.argv[1])
artifact = typed(json.loads((folder / "artifact.json").read_text()), Artifact, "It")
with connect(parse_device("orin")) as orin:
    there = ConnectedBoard(orin, probe(orin), interval_s=0.05)
    build_engines(there, folder, [artifact], on_log=lambda line: print(line, flush=True))
"""
    client = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    for line in client.stdout:
        if "parsing network model" in line:
            break
    os.killpg(client.pid, signal.SIGKILL)
    client.wait()
    server.drop_connections()
    assert not (tmp_path / "engines").exists()
    [job] = standin.jobs()
    pid = (job / "pid").read_text()
    log = []
    with connect(parse_device("orin")) as again:
        started = time.monotonic()
        [engine] = build_engines(board_at(again), tmp_path, [model], on_log=log.append)
        assert time.monotonic() - started < 120
    assert (tmp_path / engine.path).exists()
    assert sum("Start parsing" in line for line in log) == 1, "one build, whose log is whole"
    assert pid
    assert standin.jobs() == []


@pytest.mark.parametrize(
    ("fault", "message", "hint"),
    [
        ("killed", "was killed on ssh://orin: the board ran out of memory", "--workspace 256"),
        ("memory", "not enough free memory", "--builder-level 1"),
        ("disk", "disk of ssh://orin is full", "Free some space"),
    ],
)
def test_failed_builds(orin, standin, tmp_path, fault, message, hint):
    standin.tell(fault=fault)
    with pytest.raises(EdgeError) as error:
        build(orin, tmp_path, [write_model(tmp_path)])
    assert message in error.value.message
    assert hint in error.value.hint
    assert standin.jobs() == []
    assert not (tmp_path / "engines").exists()


@pytest.mark.parametrize(
    "external", [["secret"], ["outside/secret"], ["../../secret"], ["/etc/passwd"], ["fifo"], ["missing"], ["job.sh"],
                 ["model.onnx"], ["a b"], "secret", 5, [5], {"secret": 1}]
)  # fmt: skip
def test_external_data_that_is_not_the_bundles_is_not_copied(orin, standin, tmp_path, external):
    bundle = tmp_path / "bundle"
    (tmp_path / "secret").write_text("secret")
    model = write_model(bundle, external_data=external)
    for name in ("job.sh", "a b"):
        (bundle / "models" / name).write_text("x")
    (bundle / "models" / "secret").symlink_to(tmp_path / "secret")
    (bundle / "models" / "outside").symlink_to(tmp_path)
    os.mkfifo(bundle / "models" / "fifo")
    with pytest.raises(EdgeError) as error:
        build(orin, bundle, [model])
    assert error.value.hint
    assert standin.jobs() == []


def test_two_clients_that_build_the_same(server, standin, tmp_path):
    standin.tell(build_s=1.0)
    folders = [tmp_path / name for name in ("a", "b")]
    models = [write_model(folder) for folder in folders]
    together = threading.Barrier(2)

    def client(folder, model):
        with connect(parse_device("orin")) as connection:
            there = board_at(connection)
            together.wait()
            [engine] = build_engines(there, folder, [model])
        return engine

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(client, folders, models)
    assert first.sha256 == second.sha256
    assert first.details["layers"]
    assert second.details["layers"]
    assert standin.jobs() == []


@pytest.mark.parametrize("line", ["Engine built in 1.2.3 sec", "Engine built in " + "9" * 500 + " sec"])
def test_a_builder_that_says_odd_numbers(orin, standin, tmp_path, line):
    standin.tool("usr/src/tensorrt/bin/trtexec", f'echo "TensorRT v100300"; echo "{line}"; echo x >part.engine')
    with pytest.raises(EdgeError, match="The builder on ssh://orin said something that cannot be read") as error:
        build(orin, tmp_path, [write_model(tmp_path)])
    assert error.value.hint
    assert standin.jobs() == []
    assert not (tmp_path / "engines").exists()


@pytest.mark.parametrize("builder", ["trtexec", "python"])
def test_a_file_that_does_not_parse(orin, standin, tmp_path, builder):
    if builder == "python":
        standin.without("trtexec")
        standin.with_python()
    with pytest.raises(EdgeError) as error:
        build(orin, tmp_path, [write_model(tmp_path, operator="NoSuchOperator")])
    assert "does not parse" in error.value.message
    assert "node 'blocks.0.fc1' (NoSuchOperator)" in error.value.message
    assert "Plugin not found" in error.value.message
    assert standin.jobs() == []


def test_no_tensorrt(orin, standin, tmp_path):
    standin.without("trtexec")
    with pytest.raises(EdgeError, match="has no TensorRT") as error:
        build(orin, tmp_path, [write_model(tmp_path)])
    assert "nvidia-jetpack" in error.value.hint


def test_a_jetpack_that_does_not_fit(local_board, tmp_path):
    board = probe(LocalConnection())
    strong = write_model(tmp_path)
    weak = replace(strong, details={"strongly_typed": False, "opset": 17})
    check_dialect(strong, board)
    check_dialect(weak, board)
    check_dialect(replace(strong, details={"strongly_typed": False, "opset": 16}), replace(board, tensorrt="8.5.2"))
    with pytest.raises(EdgeError, match=r"needs TensorRT 10.0 or later.*8.6.2 \(JetPack 6.0\)") as error:
        check_dialect(strong, replace(board, tensorrt="8.6.2", l4t="36.3.0"))
    assert "--jetpack 6.0" in error.value.hint
    with pytest.raises(EdgeError, match=r"needs TensorRT 8.6"):
        check_dialect(weak, replace(board, tensorrt="8.5.2", l4t="35.4.1"))
    with pytest.raises(EdgeError, match="no longer does") as error:
        check_dialect(weak, replace(board, tensorrt="11.1.0", l4t=None))
    assert "--tensorrt 11.1" in error.value.hint
    with pytest.raises(EdgeError, match="not an ONNX file for TensorRT"):
        check_dialect(replace(strong, target="cpu"), board)
    assert engine_key(board).module == "Orin Nano 8GB"


def test_profiles_become_options():
    shapes = {"cores": ((1, 8, 64), (1, 8, 64), (1, 8, 64)), "coordinates": ((1, 8, 2),) * 3}
    one = build_arguments({"profiles": [shapes]}, "10.3.0")
    assert "--optShapes=cores:1x8x64,coordinates:1x8x2" in one
    assert "--profile=0" not in one
    two = build_arguments({"profiles": [shapes, shapes]}, "10.3.0")
    assert [a for a in two if a.startswith("--profile=")] == ["--profile=0", "--profile=1"]
    options, profiles = engine_builder.parse([*two, "--onnx=m"])
    assert len(profiles) == 2
    assert profiles[1]["opt"] == {"cores": "1x8x64", "coordinates": "1x8x2"}
    assert options["--onnx"] == "m"


def test_the_builder_is_for_python_38():
    ast.parse(Path(engine_builder.__file__).read_text(), feature_version=(3, 8))


@pytest.fixture
def written(square, tmp_path):
    """Real files: two core counts of a small random model, as the exporter writes them."""
    from veca_edge.base.spec import GraphSpec, ImageSize
    from veca_edge.converters.tensorrt.dialects import tensorrt_models_from_variants
    from veca_edge.converters.tensorrt.options import TensorrtOptions
    from veca_edge.model.folding import inference_weights
    from veca_edge.model.plan import Variant

    weights = inference_weights(square)
    variants = [Variant(GraphSpec(count, ImageSize(32, 32)), "fp16", weights) for count in (8, 16)]
    return lambda version, elastic=False: tensorrt_models_from_variants(
        variants, tmp_path, {}, TensorrtOptions(version, compile=False, elastic=elastic)
    )


@pytest.mark.parametrize(("jetpack", "tensorrt"), [("5.1", "8.5.2"), ("6.2", "10.3.0")])
def test_what_the_exporter_writes(local_board, tmp_path, written, jetpack, tensorrt):
    from veca_edge.devices.jetson.modules import jetpack_tensorrt

    local_board.tell(tensorrt=tensorrt)
    engines = build(LocalConnection(), tmp_path, written(jetpack_tensorrt(jetpack)))
    assert [Path(e.path).name for e in engines] == ["cores8_fp16_32x32.engine", "cores16_fp16_32x32.engine"]


@pytest.mark.parametrize("builder", ["trtexec", "python"])
def test_an_elastic_file_is_built_once(local_board, tmp_path, written, builder):
    if builder == "python":
        local_board.without("trtexec")
        local_board.with_python()
    models = written("10.3", elastic=True)
    stages = []
    there = board_at(LocalConnection(), python=str(local_board.root / "bin/python3") if builder == "python" else None)
    engines = build_engines(there, tmp_path, models, progress=lambda *args: stages.append(args))
    assert len({e.path for e in engines}) == 1
    assert [(e.core_count, e.details["profile"]) for e in engines] == [(8, 0), (16, 1)]
    assert [e.details["constants"] for e in engines] == [m.details["constants"] for m in models]
    assert len(list((tmp_path / "engines").rglob("*.engine"))) == 1
    if builder == "trtexec":
        assert "2 optimization profiles" in (tmp_path / engines[0].details["log"]).read_text()
        assert profile_selection(engines[1].details) == [
            "--useProfile=1",
            "--shapes=core_tokens:1x16x64,core_coordinates:1x16x2",
        ]


PARSE_LOG_10 = """\
[06/13/2025-19:41:36] [E] [TRT] parsers/onnx/ModelImporter.cpp:961: While parsing node number 267 [Conv -> "/l/Conv_0"]:
[06/13/2025-19:41:36] [E] [TRT] parsers/onnx/ModelImporter.cpp:964: --- Begin node ---
input: "a"
output: "/l/Conv_0"
name: "/l/Conv"
op_type: "Conv"
[06/13/2025-19:41:36] [E] [TRT] parsers/onnx/ModelImporter.cpp:965: --- End node ---
[06/13/2025-19:41:36] [E] [TRT] parsers/onnx/ModelImporter.cpp:967: ERROR: onnxOpImporters.cpp:512 In function conv:
[8] Assertion failed: kernel is a weight.
[06/13/2025-19:41:36] [E] Failed to parse onnx file
"""


def test_logs_of_failures():
    assert parse_failure(PARSE_LOG_10) == "node '/l/Conv' (Conv): Assertion failed: kernel is a weight"
    assert (
        parse_failure(
            "While parsing node number 0 [Conv]:\nERROR: ModelImporter.cpp:296 In function importModel:\n"
            "[5] Assertion failed: x"
        )
        == "node 0 (Conv): Assertion failed: x"
    )
    assert parse_failure("[I] all well") is None
    assert "no node" in parse_failure("[E] Failed to parse onnx file")
    assert "Swap" in build_error("m", "orin", "Killed\n", 137).hint
    assert "not made for its GPU" in build_error("m", "orin", "[E] Target GPU SM 87 is not supported", 1).message
    other = build_error("m", "orin", "[I] fine\n[01/01] [E] [TRT] Something odd\n[01/01] [E] Engine set up failed\n", 1)
    assert "Something odd; Engine set up failed" in other.message
    assert "it said nothing" in build_error("m", "orin", "", 1).message
