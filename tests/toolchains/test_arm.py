"""The CPU target on ARM: a bundle that x86 exported, on an emulated Cortex-A53 (no dot product) and Cortex-A76."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from veca_edge.actions.verify import VERIFY_TOLERANCE
from veca_edge.proof.fidelity import cosine

from . import roots

CPUS = {"cortex-a53": "NEON without dot products", "cortex-a76": "NEON dot products: INT8 is fast"}
IMAGES = roots.PROJECT / "veca_edge/demo/images/calibration"
# A command takes about 10 s; emulation on a busy machine several times that.
SECONDS = 240


def veca_edge(*arguments: object) -> str:
    """Runs a command on this machine."""
    command = [sys.executable, "-m", "veca_edge", *map(str, arguments)]
    return subprocess.run(command, cwd=roots.PROJECT, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def work(arm_root, tmp_path_factory) -> Path:
    """What the emulated CPUs see as /work: a bundle of this machine, images, matrices, and this machine's outputs."""
    folder = tmp_path_factory.mktemp("arm")
    checkpoint = roots.PROJECT / "tests/data/square.pt"
    veca_edge(
        *("export", checkpoint, "--cores", "8", "--precision", "int8", "--image-size", "32", "--no-measure"),
        *("--calibration", IMAGES, "--calibration-count", "8", "--min-cosine", "0.9", "--output", folder / "bundle"),
    )
    for i, image in enumerate(sorted(IMAGES.rglob("*.jpg"))[:4]):
        (folder / f"image{i}.jpg").write_bytes(image.read_bytes())
    veca_edge("run", folder / "bundle", *sorted(folder.glob("*.jpg")), "--save", folder / "here.npz")
    return folder


class Emulated:
    """The aarch64 Python of the root on one CPU, with the source tree as it is and no package of it installed."""

    def __init__(self, root: Path, work: Path, cpu: str) -> None:
        self.root, self.work, self.cpu = root, work, cpu

    def __call__(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        # The emulator shows this machine's /proc/cpuinfo, in which ONNX Runtime and `doctor` look for instructions.
        seen = [(roots.PROJECT, "edge"), (roots.HERE / f"arm/cpuinfo.{self.cpu}", "proc/cpuinfo")]
        python = ["qemu-aarch64-static", "-cpu", self.cpu, "-E", "PYTHONPATH=/edge:/opt/site", "/usr/bin/python3", "-B"]
        command = roots.entering(self.root, self.work, seen, [*python, *map(str, arguments)])
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)


@pytest.fixture(scope="module", params=CPUS)
def emulated(request, arm_root, work) -> Emulated:
    return Emulated(arm_root, work, request.param)


def test_the_bundle_verifies(emulated):
    ended = emulated("-m", "veca_edge", "verify", "/work/bundle", "--json")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert json.loads(ended.stdout)


def test_outputs_are_those_of_x86(emulated, work):
    """Within the distance that `verify` allows between machines."""
    images = [f"/work/{path.name}" for path in sorted(work.glob("*.jpg"))]
    ended = emulated("-m", "veca_edge", "run", "/work/bundle", *images, "--save", "/work/emulated.npz")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    with np.load(work / "here.npz") as here, np.load(work / "emulated.npz") as there:
        assert set(here) == set(there) >= {"cls", "dense"}
        for name in ("cls", "dense"):
            assert cosine(there[name], here[name]).min() >= 1 - VERIFY_TOLERANCE, name
    (work / "emulated.npz").unlink()


def test_doctor_names_the_instructions(emulated):
    """The root has what runs a bundle, and not what exports one: that is what `doctor` has to say."""
    ended = emulated("-m", "veca_edge", "doctor", "--target", "cpu", "--json")
    assert ended.returncode == 2, ended.stdout + ended.stderr
    checks = {check["name"]: check for check in json.loads(ended.stdout)["checks"]}
    assert checks["INT8 products"]["found"] == CPUS[emulated.cpu]
    assert checks["onnxruntime"]["ok"]
    missing = {name for name, check in checks.items() if check["ok"] is False}
    assert "torch" in missing
    assert all(checks[name]["advice"] for name in missing)


def test_integer_products_are_exact(emulated, work):
    """Activations of all codes times weights of -127 and up: without the dot product, sums of two fit in 16 bits."""
    import onnx
    from onnx import TensorProto, helper

    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (33, 192), np.uint8)
    weights = rng.integers(-127, 128, (192, 96), np.int8)
    codes[:8], codes[8:16] = 0, 255
    weights[:, :8], weights[:, 8:16] = -127, 127
    node = helper.make_node("MatMulInteger", ["codes", "weights", "zero"], ["products"])
    graph = helper.make_graph(
        [node],
        "products",
        [helper.make_tensor_value_info("codes", TensorProto.UINT8, codes.shape)],
        [helper.make_tensor_value_info("products", TensorProto.INT32, (33, 96))],
        [onnx.numpy_helper.from_array(weights, "weights"), onnx.numpy_helper.from_array(np.uint8(128), "zero")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), work / "p.onnx")
    np.savez(work / "matrices.npz", codes=codes)
    ended = emulated("/edge/tests/toolchains/arm/products.py", "/work/p.onnx", "/work/matrices.npz", "/work/p.npz")
    assert ended.returncode == 0, ended.stderr
    with np.load(work / "p.npz") as made:
        expected = (codes.astype(np.int32) - 128) @ weights.astype(np.int32)
        np.testing.assert_array_equal(made["arr_0"], expected)


def test_no_weight_of_the_bundle_is_minus_128(work):
    """Where two products are summed in 16 bits, -128 wraps."""
    import onnx
    from onnx import TensorProto, numpy_helper

    found = 0
    for path in (work / "bundle").rglob("*.onnx"):
        for tensor in onnx.load(path).graph.initializer:
            if tensor.data_type == TensorProto.INT8 and tensor.dims:
                found += 1
                assert numpy_helper.to_array(tensor).min() >= -127, tensor.name
    assert found
