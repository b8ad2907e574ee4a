"""Core ML packages that are damaged, or made to read what is not theirs: one error each."""

import json
import os
import shutil

import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.formats.mlpackage import read_mlpackage, read_specification, specification_path
from veca_edge.rules.coreml import lint_mlpackage
from veca_edge.runtime.program import open_mlpackage

WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


@pytest.fixture
def package(apple_packages, tmp_path):
    """A copy of an INT8 package with three functions."""
    directory, artifacts, _ = apple_packages
    shutil.copytree(directory / artifacts["int8"][0].path, tmp_path / "a.mlpackage")
    return tmp_path / "a.mlpackage"


def refused(package, match, run=False):
    """By everything that reads a package; `run` only where lint has nothing to say about it."""
    for read in (open_mlpackage,) if run else (read_mlpackage, lint_mlpackage, open_mlpackage):
        with pytest.raises(EdgeError, match=match):
            read(package)


def with_item(package, path):
    manifest = json.loads((package / "Manifest.json").read_text())
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = path
    (package / "Manifest.json").write_text(json.dumps(manifest))


def test_a_manifest_that_names_what_is_not_inside(package, tmp_path):
    shutil.copy(specification_path(package), tmp_path / "outside.mlmodel")
    (package / "Data" / "link").symlink_to(tmp_path / "outside.mlmodel")
    outside = str(tmp_path / "outside.mlmodel")
    for path in (outside, "../../outside.mlmodel", "link", "/dev/zero", "a\0b", "a\\b", "", 5, None, ["a"]):
        with_item(package, path)
        refused(package, "outside of it")
    os.mkfifo(package / "Data" / "pipe")
    with_item(package, "pipe")
    refused(package, "named pipe")


def test_a_manifest_that_says_nothing(package):
    for text in ("[" * 100_000, "[]", "5", "{}", '{"rootModelIdentifier": []}', '{"itemInfoEntries": 5}', "\0", ""):
        (package / "Manifest.json").write_text(text)
        refused(package, r"Manifest\.json")
    (package / "Manifest.json").unlink()
    os.mkfifo(package / "Manifest.json")
    refused(package, "named pipe")
    (package / "Manifest.json").unlink()
    (package / "Manifest.json").symlink_to("/dev/zero")
    refused(package, "outside of it")


def changed(package, change):
    model = read_specification(package)
    change(model)
    specification_path(package).write_bytes(model.SerializeToString())


def operations(model):
    function = model.mlProgram.functions[model.description.defaultFunctionName]
    return function.block_specializations[function.opset].operations


def first(model, kind):
    return next(op for op in operations(model) if op.type == kind)


def blob(model):
    return next(
        op.attributes["val"].blobFileValue
        for op in operations(model)
        if op.type == "const" and op.attributes["val"].WhichOneof("value") == "blobFileValue"
    )


@pytest.mark.parametrize("name", ["../../../outside.bin", "@model_path/../../../outside.bin", "/dev/zero", "link.bin"])
def test_weights_outside_are_not_read(package, tmp_path, name):
    shutil.copy(package / WEIGHTS, tmp_path / "outside.bin")
    (package / "Data" / "com.apple.CoreML" / "link.bin").symlink_to(tmp_path / "outside.bin")
    changed(package, lambda model: setattr(blob(model), "fileName", name))
    refused(package, "outside of it")


def test_weights_that_are_no_regular_file(package):
    (package / WEIGHTS).unlink()
    refused(package, "weights file .* can't be read")
    os.mkfifo(package / WEIGHTS)
    refused(package, "named pipe")


def remove(kind):
    def change(model):
        operations(model).remove(first(model, kind))

    return change


def value(model):
    """An integer constant written in the program."""
    return next(
        op.attributes["val"]
        for op in operations(model)
        if op.type == "const" and op.attributes["val"].immediateValue.tensor.WhichOneof("value") == "ints"
    )


DAMAGE = {
    "no type of an output": lambda m: first(m, "matmul").outputs[0].ClearField("type"),
    "no type of a constant": lambda m: value(m).ClearField("type"),
    "no value": lambda m: value(m).ClearField("immediateValue"),
    "no val": lambda m: first(m, "const").attributes.pop("val"),
    "an unknown type": lambda m: setattr(value(m).type.tensorType, "dataType", 9999),
    "fewer values": lambda m: value(m).immediateValue.tensor.ints.values.append(3),
    "a huge shape": lambda m: setattr(value(m).type.tensorType.dimensions.add().constant, "size", 2**62),
    "other values": lambda m: value(m).immediateValue.tensor.bytes.MergeFromString(b"\n\3abc"),
    "an operation removed": remove("matmul"),
    "a constant removed": remove("const"),
    "an operation twice": lambda m: operations(m).append(first(m, "matmul")),
    "nothing as an input": lambda m: first(m, "matmul").inputs["x"].ClearField("arguments"),
    "another input": lambda m: setattr(m.description.functions[0].input[0], "name", "other"),
    "another output": lambda m: setattr(m.description.functions[0].output[0], "name", "other"),
    "an input without a type": lambda m: m.description.functions[0].input[0].ClearField("type"),
    "a huge blob": lambda m: setattr(blob(m), "offset", 2**60),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_programs(package, name):
    changed(package, DAMAGE[name])
    refused(package, r"a\.mlpackage|weight\.bin")


RUNS_NOT = {
    "another shape": lambda m: setattr(first(m, "matmul").outputs[0].type.tensorType.dimensions[0].constant, "size", 7),
    "an argument removed": lambda m: first(m, "matmul").inputs.pop("x"),
    "an argument too many": lambda m: first(m, "matmul").inputs["z"].CopyFrom(first(m, "matmul").inputs["x"]),
    "an output too many": lambda m: first(m, "softmax").outputs.add().CopyFrom(first(m, "const").outputs[0]),
}


@pytest.mark.parametrize("name", RUNS_NOT)
def test_programs_that_make_no_sense(package, name):
    def change(model):
        RUNS_NOT[name](model)
        if name == "an output too many":
            first(model, "softmax").outputs[-1].name = "one_more"

    changed(package, change)
    refused(package, "damaged", run=True)


def test_a_program_that_would_fill_the_memory_is_not_run(package):
    """x [1, n, 1] + x [1, 1, n] and the like: the shapes are followed before anything is computed."""

    def change(model):
        op = first(model, "add")
        source = op.outputs[0].name
        at = list(operations(model)).index(op)
        made = []
        for i, shape in enumerate([(2**15, 1), (1, 2**15)]):
            const = type(op)()
            const.CopyFrom(first(model, "const"))
            const.outputs[0].name = f"{source}_{i}"
            tensor = const.attributes["val"].type.tensorType
            tensor.dataType, tensor.rank = 11, 2  # FLOAT32
            del tensor.dimensions[:]
            for size in shape:
                tensor.dimensions.add().constant.size = size
            const.attributes["val"].ClearField("blobFileValue")
            const.attributes["val"].immediateValue.tensor.floats.values.extend([1.0] * 2**15)
            const.outputs[0].type.CopyFrom(const.attributes["val"].type)
            made.append(const)
        for parameter, const in zip("xy", made, strict=True):
            op.inputs[parameter].arguments[0].name = const.outputs[0].name
        kept = list(operations(model))
        del operations(model)[:]
        operations(model).extend([*kept[:at], *made, *kept[at:]])

    changed(package, change)
    refused(package, r"\[32768, 32768\], but the program says", run=True)
