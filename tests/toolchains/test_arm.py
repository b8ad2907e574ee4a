"""The CPU target on ARM: a bundle that x86 exported, on an emulated Cortex-A53 (no dot product) and Cortex-A76."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from once import made_once

from veca_edge.actions.verify import VERIFY_TOLERANCE
from veca_edge.proof.fidelity import cosine

from . import roots
from .arm.commands import Ended, ended

CPUS = {"cortex-a53": "NEON without dot products", "cortex-a76": "NEON dot products: INT8 is fast"}
IMAGES = roots.PROJECT / "veca_edge/demo/images/calibration"
# All of one CPU takes about 20 s; emulation on a busy machine several times that.
SECONDS = 600
HERE = "here.npz"


@pytest.fixture(scope="module")
def work(arm_root, tmp_path_factory) -> Path:
    """What the emulated CPUs see as /work: a bundle of this machine, images, matrices, and this machine's outputs."""
    return made_once(tmp_path_factory, "arm", prepared)


def prepared(folder: Path) -> Path:
    checkpoint = roots.PROJECT / "tests/data/square.pt"
    export = ("export", checkpoint, "--cores", "8", "--precision", "int8", "--image-size", "32", "--no-measure")
    chosen = ("--calibration", IMAGES, "--calibration-count", "8", "--min-cosine", "0.9", "--output")
    images = []
    for i, image in enumerate(sorted(IMAGES.rglob("*.jpg"))[:4]):
        images.append(folder / f"image{i}.jpg")
        images[-1].write_bytes(image.read_bytes())
    for words in ((*export, *chosen, folder / "bundle"), ("run", folder / "bundle", *images, "--save", folder / HERE)):
        done = ended(words)
        assert done["code"] == 0, done["out"] + done["err"]
    products_of_all_codes(folder)
    return folder


def products_of_all_codes(folder: Path) -> None:
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
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "p.onnx")
    np.savez(folder / "matrices.npz", codes=codes)
    np.save(folder / "products.npy", (codes.astype(np.int32) - 128) @ weights.astype(np.int32))


@dataclass(frozen=True)
class Emulated:
    """What the aarch64 Python of the root did on one CPU, with the source tree as it is and no package of it installed.

    Attributes:
        folder: the outputs that it left.
        commands: how each command ended.
    """

    cpu: str
    folder: Path
    commands: dict[str, Ended]


def emulate(root: Path, work: Path, cpu: str) -> Emulated:
    folder = work / cpu
    folder.mkdir()
    images = [f"/work/{path.name}" for path in sorted(work.glob("*.jpg"))]
    commands = {
        "verify": ["verify", "/work/bundle", "--json"],
        "run": ["run", "/work/bundle", *images, "--save", f"/work/{cpu}/emulated.npz"],
        "doctor": ["doctor", "--target", "cpu", "--json"],
    }
    (folder / "commands.json").write_text(json.dumps(list(commands.values())))
    # The emulator shows this machine's /proc/cpuinfo, in which ONNX Runtime and `doctor` look for instructions.
    seen = [(roots.PROJECT, "edge"), (roots.HERE / f"arm/cpuinfo.{cpu}", "proc/cpuinfo")]
    python = ["qemu-aarch64-static", "-cpu", cpu, "-E", "PYTHONPATH=/edge:/opt/site", "/usr/bin/python3", "-B"]
    script = ["/edge/tests/toolchains/arm/commands.py", f"/work/{cpu}/commands.json", f"/work/{cpu}/ended.json"]
    files = ["/work/p.onnx", "/work/matrices.npz", f"/work/{cpu}/products.npz"]
    command = roots.entering(root, work, seen, [*python, *script, *files])
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return Emulated(cpu, folder, dict(zip(commands, json.loads((folder / "ended.json").read_text()), strict=True)))


@pytest.fixture(scope="module", params=CPUS)
def emulated(request, arm_root, work, tmp_path_factory) -> Emulated:
    cpu = request.param
    return made_once(tmp_path_factory, f"arm-{cpu}", lambda _: emulate(arm_root, work, cpu))


def test_the_bundle_verifies(emulated):
    done = emulated.commands["verify"]
    assert done["code"] == 0, done["out"] + done["err"]
    assert json.loads(done["out"])


def test_outputs_are_those_of_x86(emulated, work):
    """Within the distance that `verify` allows between machines."""
    done = emulated.commands["run"]
    assert done["code"] == 0, done["out"] + done["err"]
    with np.load(work / HERE) as here, np.load(emulated.folder / "emulated.npz") as there:
        assert set(here) == set(there) >= {"cls", "dense"}
        for name in ("cls", "dense"):
            assert cosine(there[name], here[name]).min() >= 1 - VERIFY_TOLERANCE, name


def test_doctor_names_the_instructions(emulated):
    """The root has what runs a bundle, and not what exports one: that is what `doctor` has to say."""
    done = emulated.commands["doctor"]
    assert done["code"] == 2, done["out"] + done["err"]
    checks = {check["name"]: check for check in json.loads(done["out"])["checks"]}
    assert checks["INT8 products"]["found"] == CPUS[emulated.cpu]
    assert checks["onnxruntime"]["ok"]
    missing = {name for name, check in checks.items() if check["ok"] is False}
    assert "torch" in missing
    assert all(checks[name]["advice"] for name in missing)


def test_integer_products_are_exact(emulated, work):
    with np.load(emulated.folder / "products.npz") as made:
        np.testing.assert_array_equal(made["arr_0"], np.load(work / "products.npy"))


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
