import os
import platform
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ImageSize
from veca_edge.bundle.types import Artifact
from veca_edge.runtime import onnxruntime as onnxruntime_runner
from veca_edge.targets.table import open_artifact

SIZE = ImageSize(8, 16)


def write_model(path, shape=(1, 8, 16, 3), core_count="8", outputs=("cls",)):
    """A mean over pixels, in place of a model."""
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, shape)
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (shape[0], 3)) for name in outputs]
    axes = numpy_helper.from_array(np.array([1, 2]), "axes")
    ones = numpy_helper.from_array(np.ones(shape, np.float32), "ones")
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "ones"], ["x"]),
    ]
    nodes += [helper.make_node("ReduceMean", ["x", "axes"], [name], keepdims=0) for name in outputs]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [image], made, [axes, ones]),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    model.metadata_props.add(key="core_count", value=core_count)
    onnx.save(model, path)


@pytest.fixture
def artifact(tmp_path):
    write_model(tmp_path / "m.onnx")
    return Artifact("m.onnx", "onnx", "cpu", 8, "int8", SIZE, 1, "image", ("cls",), "0" * 64, 1)


def test_runs_a_frame(artifact, tmp_path):
    runner = open_artifact(tmp_path, artifact, threads=1)
    frame = np.random.default_rng(0).integers(0, 256, (1, 8, 16, 3), np.uint8)
    outputs = runner(frame)
    assert list(outputs) == ["cls"]
    np.testing.assert_allclose(outputs["cls"], frame.mean((1, 2)), rtol=1e-5)
    assert runner.session.get_session_options().intra_op_num_threads == 1


@pytest.mark.parametrize(("flags", "asked"), [({"avx2"}, True), ({"avx2", "avx_vnni"}, False)])
def test_exact_products_are_asked_for_only_where_the_default_saturates(flags, asked, monkeypatch):
    monkeypatch.setattr(onnxruntime_runner.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(onnxruntime_runner, "cpu_flags", lambda: frozenset(flags))
    key, value = onnxruntime_runner.EXACT_INT8
    options = onnxruntime_runner.session_options(1, exact_int8=True)
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    if asked:
        assert options.get_session_config_entry(key) == value
    else:
        with pytest.raises(RuntimeError, match="does not have"):
            options.get_session_config_entry(key)


@pytest.mark.parametrize("repacked", ["0", "1"])
@pytest.mark.parametrize(("inputs", "outputs"), [(192, 33), (130, 384), (7, 16)])
def test_sums_of_neighbours_within_128_are_exact_on_every_cpu(inputs, outputs, repacked):
    """ONNX Runtime's default products of codes that just hold to `LinearQuantization.sums_fit_16_bits`."""
    rng = np.random.default_rng(0)
    sign = np.repeat(rng.choice([-1, 1], (-(-inputs // 2), outputs)), 2, axis=0)[:inputs]
    codes = np.where(np.arange(inputs)[:, None] % 2, 1, 127) * sign
    names = ["activations", "codes", "scale", "weight_scale", "zero", "weight_zero"]
    constants = [codes.astype(np.int8), np.float32(1), np.ones(outputs, np.float32), np.uint8(128), np.int8(0)]
    graph = helper.make_graph(
        [helper.make_node("MatMulIntegerToFloat", names, ["y"], domain="com.microsoft")],
        "product",
        [helper.make_tensor_value_info(names[0], TensorProto.UINT8, ["rows", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", outputs])],
        [numpy_helper.from_array(np.asarray(c), name) for name, c in zip(names[1:], constants, strict=True)],
    )
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9)
    options = onnxruntime_runner.session_options(1)
    options.add_session_config_entry("session.disable_prepacking", repacked)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for rows in (1, 8, 257):
        for activations in (np.full((rows, inputs), 255), rng.choice([0, 255], (rows, inputs))):
            (made,) = session.run(None, {names[0]: activations.astype(np.uint8)})
            np.testing.assert_array_equal(made, ((activations - 128) @ codes).astype(np.float32))


@pytest.mark.parametrize(
    "batch", [np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 16, 3), np.float32), np.zeros((8, 16, 3), np.uint8)]
)
def test_says_what_it_takes(artifact, tmp_path, batch):
    with pytest.raises(EdgeError, match=r"takes uint8 \[1, 8, 16, 3\], but was given"):
        open_artifact(tmp_path, artifact)(batch)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"core_count": 16}, "made for 8 cores, not 16"),
        ({"image_size": ImageSize(8, 8)}, r"takes 'image' uint8 \[1, 8, 16, 3\], not"),
        ({"input": "tensor"}, "takes 'image' uint8"),
        ({"outputs": ("cls", "dense")}, "gives cls, not cls, dense"),
        ({"path": "other.onnx"}, "is missing"),
        ({"format": "tflite"}, "no files of the format"),
    ],
)
def test_refuses_a_file_that_is_something_else(artifact, tmp_path, change, said):
    with pytest.raises(EdgeError, match=said):
        open_artifact(tmp_path, replace(artifact, **change))


@pytest.mark.parametrize("content", [b"", b"not a model", "truncated"])
def test_a_broken_file_is_one_clear_error(artifact, tmp_path, content):
    whole = (tmp_path / "m.onnx").read_bytes()
    (tmp_path / "m.onnx").write_bytes(whole[: len(whole) // 2] if content == "truncated" else content)
    with pytest.raises(EdgeError, match=r"cannot load|cannot be read|not what the manifest says"):
        open_artifact(tmp_path, artifact)


def test_missing_weights_are_one_clear_error(artifact, tmp_path):
    model = onnx.load(tmp_path / "m.onnx")
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=100)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(EdgeError, match=r"weights.bin"):
        open_artifact(tmp_path, artifact)


def test_no_thread_is_refused(artifact, tmp_path):
    with pytest.raises(EdgeError, match="0 threads"):
        open_artifact(tmp_path, artifact, threads=0)


def test_needs_no_torch(artifact, tmp_path):
    code = (
        "import sys; from veca_edge.targets.table import open_artifact; import veca_edge.runtime.onnxruntime; "
        "assert not {'torch', 'onnx', 'PIL', 'psutil'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="glibc keeps freed memory")
def test_freed_memory_goes_back_to_the_system():
    """In a process of its own: what is free in this one is not known."""
    code = """
import psutil
from veca_edge.runtime.onnxruntime import give_back_freed_memory
held = [bytes(1000) for _ in range(100_000)]
pinned = held[-1]  # at the end of the heap
del held
before = psutil.Process().memory_info().rss
give_back_freed_memory()
print(before - psutil.Process().memory_info().rss)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(ended.stdout) > 50e6


def test_nothing_is_reported_to_anybody(tmp_path):
    """ONNX Runtime keeps no telemetry of its own in the home directory, where it keeps it."""
    code = "from veca_edge.runtime.onnxruntime import session_options; session_options(1)"
    environment = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    environment |= {"HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []
