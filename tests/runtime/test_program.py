"""The executor of saved packages: what it runs and refuses, and packages that are damaged or not ours."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from veca_edge.base.errors import EdgeError
from veca_edge.formats.mlpackage import read_mlpackage, specification_path
from veca_edge.runtime.program import MilRunner, open_mlpackage
from veca_edge.targets.table import open_artifact

from .mil_programs import run_program, save_program


def test_every_fp16_result_is_an_fp16_number(tmp_path):
    def write(mb, x):
        x = mb.cast(x=x, dtype="fp16")
        return mb.sub(x=mb.add(x=x, y=np.float16(2048)), y=np.float16(2048))

    value = run_program(tmp_path, write, np.float32([[0.3, 1.0, 3.0]]))
    np.testing.assert_array_equal(value, [[0.0, 0.0, 4.0]])  # 2048 + 1 and + 3 are ties to even


def test_operators_that_are_not_known_are_all_named(tmp_path):
    path = save_program(tmp_path / "p.mlpackage", lambda mb, x: mb.cumsum(x=mb.erf(x=x), axis=0), (2, 3))
    with pytest.raises(EdgeError, match="cumsum, erf"):
        open_mlpackage(path)


def test_two_inputs_are_refused(tmp_path):
    path = save_program(tmp_path / "p.mlpackage", lambda mb, x, y: mb.add(x=x, y=y), (2,), (2,))
    with pytest.raises(EdgeError, match="2 inputs"):
        open_mlpackage(path)


def test_open_runner_opens_functions(apple_packages):
    directory, artifacts, _ = apple_packages
    artifact = artifacts["w8"][1]
    runner = open_artifact(directory, artifact)
    assert isinstance(runner, MilRunner)
    assert runner.artifact == artifact
    outputs = runner(np.zeros((1, 32, 48, 3), np.uint8))
    assert {k: (v.dtype, v.shape) for k, v in outputs.items()} == {
        "cls": (np.float32, (1, 64)),
        "dense": (np.float32, (1, 24, 64)),
    }
    with pytest.raises(EdgeError, match=r"takes uint8 \[1, 32, 48, 3\], but got float32"):
        runner(np.zeros((1, 3, 32, 48), np.float32))


def test_threads_are_set_for_the_call_only(apple_packages):
    directory, artifacts, _ = apple_packages
    before = torch.get_num_threads()
    run = open_mlpackage(directory / artifacts["fp16"][0].path, threads=before + 1)
    run(np.zeros((1, 32, 48, 3), np.uint8))
    assert torch.get_num_threads() == before


def test_an_unknown_function_lists_the_known(apple_packages):
    directory, artifacts, _ = apple_packages
    with pytest.raises(EdgeError, match=r"cores_12(.|\n)*cores_8"):
        open_mlpackage(directory / artifacts["fp16"][0].path, "cores_12")


# -------------------------------------------------------------------------------------- bad packages


@pytest.fixture
def package(apple_packages, tmp_path):
    directory, artifacts, _ = apple_packages
    copy = tmp_path / "copy.mlpackage"
    shutil.copytree(directory / artifacts["int8"][0].path, copy)
    return copy


def weights_of(package):
    return package / "Data/com.apple.CoreML/weights/weight.bin"


def truncate(package):
    file = weights_of(package)
    file.write_bytes(file.read_bytes()[:-5000])


def break_record(package):
    data = bytearray(weights_of(package).read_bytes())
    data[64:68] = b"\0\0\0\0"
    weights_of(package).write_bytes(data)


def break_header(package):
    weights_of(package).write_bytes(b"not weights" * 20)


def point_elsewhere(package):
    from coremltools.proto import Model_pb2

    model = Model_pb2.Model.FromString(specification_path(package).read_bytes())
    for op in next(iter(model.mlProgram.functions.values())).block_specializations["CoreML8"].operations:
        if op.type == "const" and op.attributes["val"].WhichOneof("value") == "blobFileValue":
            op.attributes["val"].blobFileValue.offset += 64
            break
    specification_path(package).write_bytes(model.SerializeToString())


def neural_network(package):
    from coremltools.proto import Model_pb2

    model = Model_pb2.Model(specificationVersion=5)
    model.neuralNetwork.SetInParent()
    specification_path(package).write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "is cut off|outside of the file"),
        (break_record, "no valid record"),
        (break_header, "not a weights file"),
        (point_elsewhere, "no valid record|bytes, but"),
        (lambda p: weights_of(p).unlink(), "can't be read"),
        (lambda p: weights_of(p).write_bytes(b""), "can't be read"),
        (neural_network, "not an ML Program but a Core ML model of type 'neuralNetwork'"),
        (lambda p: specification_path(p).write_bytes(b"\xff\xff\xff"), "can't be read"),
        (lambda p: specification_path(p).unlink(), "can't be read"),
        (lambda p: (p / "Manifest.json").write_text("{"), "Manifest"),
        (
            lambda p: (p / "Manifest.json").write_text(json.dumps({"rootModelIdentifier": "x", "itemInfoEntries": {}})),
            "Manifest",
        ),
        (lambda p: (p / "Manifest.json").unlink(), "not a Core ML package"),
    ],
)
def test_damaged_packages_give_one_clear_message(package, damage, message):
    read_mlpackage(package)
    damage(package)
    with pytest.raises(EdgeError, match=message) as raised:
        read_mlpackage(package)
    assert raised.value.hint


@pytest.mark.parametrize("name", ["missing.mlpackage", "file.mlpackage"])
def test_what_is_no_directory(tmp_path, name):
    (tmp_path / "file.mlpackage").write_text("text")
    with pytest.raises(EdgeError, match=r"does not exist|is a file"):
        read_mlpackage(tmp_path / name)


def test_a_shape_that_does_not_fit_is_found_when_run(package):
    from coremltools.proto import Model_pb2

    model = Model_pb2.Model.FromString(specification_path(package).read_bytes())
    block = model.mlProgram.functions["cores_8"].block_specializations["CoreML8"]
    op = next(op for op in block.operations if op.type == "softmax")
    op.outputs[0].type.tensorType.dimensions[3].constant.size += 1
    specification_path(package).write_bytes(model.SerializeToString())
    with pytest.raises(EdgeError, match="but the program says"):
        open_mlpackage(package, "cores_8")(np.zeros((1, 32, 48, 3), np.uint8))
