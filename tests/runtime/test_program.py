"""The executor of saved packages: its operators, and packages that are damaged or not ours."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from veca_edge.base.errors import EdgeError
from veca_edge.formats.coremltools_library import converting, coremltools_for
from veca_edge.formats.mlpackage import read_mlpackage, specification_path
from veca_edge.runtime.program import MilRunner, open_mlpackage
from veca_edge.targets.table import open_artifact


def save_program(path, write, *shapes):
    """A package of a small program on float32 inputs `x`, `y`, ...; final as written."""
    ct = coremltools_for("test")
    from coremltools.converters.mil import Builder as mb

    names = "xyz"[: len(shapes)]
    body = {1: lambda x: write(mb, x), 2: lambda x, y: write(mb, x, y)}[len(shapes)]
    program = mb.program(input_specs=[mb.TensorSpec(s) for s in shapes], opset_version=ct.target.iOS18)(body)
    assert list(program.functions["main"].inputs) == list(names)
    with converting(path.parent):
        model = ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS18,
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
        )
        model.save(str(path))
    return path


def run_program(path, write, x):
    runner = open_mlpackage(save_program(path / "p.mlpackage", write, x.shape))
    (value,) = runner(x).values()
    return value


X = np.random.default_rng(0).normal(size=(2, 3, 4, 6)).astype(np.float32)


@pytest.mark.parametrize(
    ("write", "wanted"),
    [
        (
            lambda mb, x: mb.slice_by_index(
                x=x,
                begin=[1, 0, 1, 1],
                end=[2, 0, 4, 6],
                stride=[1, 1, 2, 2],
                end_mask=[False, True, False, False],
                squeeze_mask=[True, False, False, False],
            ),
            X[1, :, 1:4:2, 1:6:2],
        ),
        (lambda mb, x: mb.slice_by_index(x=x, begin=[0, 0, -2, 0], end=[2, 3, -1, 6]), X[:, :, -2:-1]),
        (lambda mb, x: mb.split(x=x, split_sizes=[1, 2], axis=-3)[1], X[:, 1:]),
        (lambda mb, x: mb.concat(values=[x, x], axis=-2), np.concatenate([X, X], -2)),
        (
            lambda mb, x: mb.expand_dims(
                x=mb.slice_by_index(
                    x=x, begin=[0] * 4, end=[1] * 4, end_mask=[False] + [True] * 3, squeeze_mask=[True] + [False] * 3
                ),
                axes=[-1],
            ),
            X[0, ..., None],
        ),
        (lambda mb, x: mb.squeeze(x=mb.expand_dims(x=x, axes=[0]), axes=[0]), X),
        (
            lambda mb, x: mb.layer_norm(x=x, axes=[1], gamma=np.float32([1, 2, 3]), epsilon=np.float32(1e-5)),
            (X - X.mean(1, keepdims=True))
            / np.sqrt(X.var(1, keepdims=True) + 1e-5)
            * np.float32([1, 2, 3])[:, None, None],
        ),
        (
            lambda mb, x: mb.layer_norm(
                x=x,
                axes=[2, 3],
                gamma=np.full((4, 6), 2, np.float32),
                beta=np.ones((4, 6), np.float32),
                epsilon=np.float32(1e-3),
            ),
            (X - X.mean((2, 3), keepdims=True)) / np.sqrt(X.var((2, 3), keepdims=True) + 1e-3) * 2 + 1,
        ),
        (lambda mb, x: mb.matmul(x=x, y=x, transpose_x=True), X.swapaxes(2, 3) @ X),
        (lambda mb, x: mb.softmax(x=x, axis=1), torch.softmax(torch.from_numpy(X), 1).numpy()),
        (lambda mb, x: mb.sub(x=mb.cos(x=x), y=mb.sin(x=x)), np.cos(X) - np.sin(X)),
        (lambda mb, x: mb.cast(x=mb.cast(x=x, dtype="fp16"), dtype="fp32"), X.astype(np.float16).astype(np.float32)),
        (
            lambda mb, x: mb.dequantize(
                input=mb.quantize(input=x, scale=np.float32(0.01), output_dtype="int8"), scale=np.float32(0.01)
            ),
            np.clip(np.rint(X / np.float32(0.01)), -128, 127) * 0.01,
        ),
        (
            lambda mb, x: mb.dequantize(
                input=mb.quantize(
                    input=x,
                    scale=np.float32([0.1, 0.2, 0.3]),
                    zero_point=np.int8([0, 1, 2]),
                    axis=1,
                    output_dtype="int8",
                ),
                scale=np.float32([0.1, 0.2, 0.3]),
                zero_point=np.int8([0, 1, 2]),
                axis=1,
            ),
            np.rint(X / np.float32([0.1, 0.2, 0.3])[:, None, None]) * np.float32([0.1, 0.2, 0.3])[:, None, None],
        ),
        (
            lambda mb, x: mb.linear(
                x=x,
                weight=mb.constexpr_blockwise_shift_scale(
                    data=np.arange(12, dtype=np.int8).reshape(2, 6), scale=np.float32([[1, 2, 3], [4, 5, 6]])
                ),
            ),
            X @ (np.arange(12).reshape(2, 6) * np.repeat([[1, 2, 3], [4, 5, 6]], 2, 1)).T.astype(np.float32),
        ),
    ],
    ids=lambda v: None if isinstance(v, np.ndarray) else "op",
)
def test_operators_do_what_mil_says(tmp_path, write, wanted):
    np.testing.assert_allclose(run_program(tmp_path, write, X), wanted, rtol=1e-5, atol=1e-5)


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
