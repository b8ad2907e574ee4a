"""Profiling Core ML packages, without a Mac: coremltools' own classes, whose signatures check every call, with
invented answers in place of Apple's framework."""

from __future__ import annotations

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from inspect import signature
from types import SimpleNamespace
from unittest.mock import AsyncMock, create_autospec

import numpy as np
import pytest
from bundles import bundle_around

from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ImageSize
from veca_edge.bundle.new_bundle import new_bundle
from veca_edge.bundle.store import open_bundle, write_manifest
from veca_edge.bundle.types import CheckpointFacts
from veca_edge.formats.coremltools_library import coremltools_for
from veca_edge.profiles import coreml, sampling, sweep
from veca_edge.profiles.measurement import measurement_from
from veca_edge.profiles.options import CoremlProfileOptions
from veca_edge.profiles.store import read_measurements
from veca_edge.proof.golden import write_golden
from veca_edge.runtime import coreml as runtime
from veca_edge.targets.table import open_artifact

SIZE = ImageSize(32, 48)


@pytest.fixture(scope="module")
def bundle(apple_packages, square, tmp_path_factory):
    """A bundle of the int8 package, with golden frames."""
    import shutil

    directory, artifacts, _ = apple_packages
    output = tmp_path_factory.mktemp("bundle") / "apple"
    with new_bundle(output) as work:
        shutil.copytree(directory / artifacts["int8"][0].path, work / artifacts["int8"][0].path)
        for artifact in artifacts["int8"]:
            write_golden(
                work,
                artifact.core_count,
                SIZE,
                np.zeros((2, 32, 48, 3), np.uint8),
                {"cls": np.zeros((2, 64), np.float32), "dense": np.zeros((2, 24, 64), np.float32)},
            )
        facts = CheckpointFacts("square", square.digest, square.config)
        write_manifest(bundle_around(work, artifacts["int8"], facts))
    return open_bundle(output)


def autospec_instance(kind, **methods):
    """An object of a class that can't be made here, whose methods check their arguments against the class."""
    made = create_autospec(kind, instance=True)
    for name, answer in methods.items():
        getattr(made, name).side_effect = answer
    return made


@pytest.fixture
def mac(monkeypatch):
    """A stand-in for Core ML behind coremltools' real classes. Returns what was asked of it."""
    ct = coremltools_for("test")
    from coremltools.models import compute_device, compute_plan

    asked = SimpleNamespace(compiled=[], loaded=[], predicted=[])
    compile_model = create_autospec(ct.models.utils.compile_model)
    compile_model.side_effect = lambda model, destination_path=None: asked.compiled.append((model, destination_path))
    monkeypatch.setattr(ct.models.utils, "compile_model", compile_model)

    compiled = create_autospec(ct.models.CompiledMLModel)

    def load(*args, **kwargs):
        asked.loaded.append(signature(ct.models.CompiledMLModel).bind(*args, **kwargs).arguments)
        return autospec_instance(compiled_class, predict=predict)

    def predict(data, state=None):
        asked.predicted.append(data)
        return {"cls": np.ones((1, 64), np.float16), "dense": np.ones((1, 24, 64), np.float16)}

    compiled_class = ct.models.CompiledMLModel
    compiled.side_effect = load
    monkeypatch.setattr(ct.models, "CompiledMLModel", compiled)

    def operation(kind, name):
        out = compute_plan.MLModelStructureProgramNamedValueType(name, compute_plan.MLModelStructureProgramValueType())
        made = object.__new__(compute_plan.MLModelStructureProgramOperation)
        made.__dict__.update(inputs={}, operator_name=kind, outputs=[out], blocks=[])
        return made

    devices = {unit: object.__new__(getattr(compute_device, kind)) for unit, kind in coreml.DEVICES.items()}
    plan_of = {"b0_qkv": ("ane", 0.7), "b1_cos": ("cpu", 0.1), "b1_9": ("ane", 0.2), "cls": None}
    operations = [operation("ios18.const", "w"), *(operation("ios18.linear", name) for name in plan_of)]
    functions = {
        f"cores_{count}": compute_plan.MLModelStructureProgramFunction(
            [], compute_plan.MLModelStructureProgramBlock([], operations, [])
        )
        for count in (8, 16, 32)
    }
    structure = compute_plan.MLModelStructure(None, compute_plan.MLModelStructureProgram(functions), None)

    def usage(operation):
        found = plan_of[operation.outputs[0].name]
        return found and compute_plan.MLComputePlanDeviceUsage(devices[found[0]], list(devices.values()))

    def cost(operation):
        found = plan_of[operation.outputs[0].name]
        return found and compute_plan.MLComputePlanCost(found[1])

    plan = autospec_instance(
        compute_plan.MLComputePlan,
        get_compute_device_usage_for_mlprogram_operation=usage,
        get_estimated_cost_for_mlprogram_operation=cost,
    )
    plan.model_structure = structure
    load_plan = create_autospec(compute_plan.MLComputePlan.load_from_path, return_value=plan)
    monkeypatch.setattr(compute_plan.MLComputePlan, "load_from_path", load_plan)
    monkeypatch.setattr(sys, "platform", "darwin")
    return asked


def test_elsewhere_it_says_what_is_needed(bundle):
    with pytest.raises(EdgeError, match="needs macOS 15") as raised:
        coreml.profile_packages(bundle)
    assert "Copy the bundle to a Mac" in raised.value.hint
    with pytest.raises(EdgeError, match="needs macOS 15"):
        coreml.profile_on_device(bundle, "iphone", CoremlProfileOptions())
    with pytest.raises(EdgeError, match="needs macOS 15"):
        runtime.open_mlpackage(bundle.directory / bundle.artifacts[0].path)


@pytest.mark.parametrize("options", [{"units": ("ane", "npu")}, {"rounds": 1}])
def test_options_that_make_no_sense(options):
    with pytest.raises(EdgeError):
        CoremlProfileOptions(**options)


@pytest.fixture
def in_this_process(monkeypatch):
    """Measures where the test's stand-in is, instead of in a process of its own. Returns what was asked for."""
    requests = []

    def answer(request, timeout, note):
        requests.append(request)
        return json.loads(json.dumps(asdict(sampling.measure(request, lambda line: None))))

    monkeypatch.setattr(sweep, "answer_of_worker", answer)
    monkeypatch.setattr(sampling, "end_with", lambda parent: None)
    return requests


QUICK = CoremlProfileOptions(units=("ane", "cpu"), rounds=2, seconds=0.01, samples=5, warmup_seconds=0.0)


def test_a_profile_per_function_and_unit(bundle, mac, in_this_process):
    profile = coreml.profile_packages(bundle, QUICK, bundle.artifacts[:2])
    measured = profile.measurements
    assert [(m.core_count, m.setting) for m in measured] == [(8, "ane"), (8, "cpu"), (16, "ane"), (16, "cpu")]
    assert len(mac.compiled) == 1
    assert [(r.arguments["unit"], r.artifact.function) for r in in_this_process] == [
        ("ane", "cores_8"),
        ("cpu", "cores_8"),
        ("ane", "cores_16"),
        ("cpu", "cores_16"),
        ("cpu", "cores_16"),
        ("ane", "cores_16"),
        ("cpu", "cores_8"),
        ("ane", "cores_8"),
    ]
    ct = coremltools_for("test")
    assert mac.loaded[0]["compute_units"] == ct.ComputeUnit.CPU_AND_NE
    assert mac.loaded[0]["function_name"] == "cores_8"
    assert mac.predicted[0]["image"].size == (48, 32)
    first = measured[0]
    assert len(first.round_sizes) == 2
    assert min(first.round_sizes) >= 5
    assert len(first.details["cached_load_ms"]) == 1
    assert first.details["cost_share"] == pytest.approx({"ane": 0.9, "cpu": 0.1, "unknown": 0.0})
    assert first.details["operations"] == {"ane": 2, "cpu": 1, "unknown": 1}
    assert first.details["placement"][1]["name"] == "b1_cos"
    stored = read_measurements(bundle)
    assert len(stored) == 4
    assert measurement_from(json.loads(json.dumps(first.to_json())), "It") == first
    # What was measured is kept; --again measures it once more.
    assert len(coreml.profile_packages(bundle, QUICK, bundle.artifacts[:2]).kept) == 4
    assert len(in_this_process) == 8
    assert coreml.profile_packages(bundle, replace(QUICK, again=True), bundle.artifacts[:1]).kept == ()
    assert len(in_this_process) == 12


def test_one_that_fails_does_not_end_the_others(bundle, mac, in_this_process, monkeypatch):
    answer = sweep.answer_of_worker

    def fails(request, timeout, note):
        if request.artifact.core_count == 16 and request.arguments["unit"] == "ane":
            raise EdgeError("The Neural Engine is busy.", "Try again.")
        return answer(request, timeout, note)

    monkeypatch.setattr(sweep, "answer_of_worker", fails)
    profile = coreml.profile_packages(bundle, replace(QUICK, again=True), bundle.artifacts[:2])
    assert [(m.core_count, m.setting) for m in profile.measurements] == [(8, "ane"), (8, "cpu"), (16, "cpu")]
    assert [(f.artifact.core_count, f.message) for f in profile.failures] == [(16, "The Neural Engine is busy.")]


def test_the_runner_hands_frames_to_core_ml(bundle, mac):
    runner = open_artifact(bundle.directory, bundle.artifacts[1])
    outputs = runner(np.zeros((1, 32, 48, 3), np.uint8))
    assert {k: (v.dtype, v.shape) for k, v in outputs.items()} == {
        "cls": (np.float32, (1, 64)),
        "dense": (np.float32, (1, 24, 64)),
    }
    with pytest.raises(EdgeError, match="takes uint8"):
        runner(np.zeros((1, 48, 32, 3), np.uint8))
    with pytest.raises(EdgeError, match="compute unit"):
        runtime.open_mlpackage(runner.path, "cores_8", units="tpu")


def test_what_core_ml_refuses_is_an_error_of_the_users(bundle, mac, monkeypatch):
    ct = coremltools_for("test")
    ct.models.CompiledMLModel.side_effect = RuntimeError("Error in declaring network")
    with pytest.raises(EdgeError, match=r"can't load 'cores_8'(.|\n)*declaring network"):
        open_artifact(bundle.directory, bundle.artifacts[0])
    monkeypatch.setattr(runtime, "_compiled", {})
    ct.models.utils.compile_model.side_effect = Exception("no Xcode")
    with pytest.raises(EdgeError, match=r"can't compile(.|\n)*no Xcode"):
        open_artifact(bundle.directory, bundle.artifacts[0])


# --------------------------------------------------------------------------------- connected devices


def phone(name="Phone"):
    from coremltools.models.ml_program.experimental.remote_device import Device, DeviceState, DeviceType

    return Device(
        name=name,
        type=DeviceType.IPHONE,
        identifier="id",
        udid="udid",
        os_version="18.5",
        os_build_number="22F",
        developer_mode_state="enabled",
        state=DeviceState.CONNECTED,
        session=None,
    )


def test_a_connected_phone(bundle, monkeypatch):
    from coremltools.models.ml_program.experimental import perf_utils, remote_device

    device = phone()
    listed = create_autospec(remote_device.Device.get_connected_devices, return_value=[device])
    monkeypatch.setattr(remote_device.Device, "get_connected_devices", staticmethod(listed))
    prepare = create_autospec(remote_device.Device.prepare_for_model_debugging)
    prepare.side_effect = AsyncMock(return_value=device)
    monkeypatch.setattr(remote_device.Device, "prepare_for_model_debugging", prepare)
    measurement = perf_utils.MLModelBenchmarker.Measurement.from_samples
    for method, samples in (("benchmark_load", [80.0, 5.0]), ("benchmark_predict", [1.0, 1.1, 1.2])):
        fake = create_autospec(getattr(perf_utils.MLModelBenchmarker, method))
        fake.side_effect = AsyncMock(return_value=measurement(samples))
        monkeypatch.setattr(perf_utils.MLModelBenchmarker, method, fake)
    options = CoremlProfileOptions(development_team="TEAM", units=("ane",))
    remote = coreml.Remote(bundle, "iphone", None, options, lambda *_: None)
    # MLModel itself is the real class: it reads the package, and loads nothing.
    with ThreadPoolExecutor(1) as another:  # this thread's loop may be that of the page's tests
        profiles = [another.submit(asyncio.run, remote.profile(bundle.artifacts[:1])).result() for _ in range(2)]
    (measured,) = profiles[0].measurements
    assert len(profiles[1].kept) == 1
    assert measured.samples_ms == (1.0, 1.1, 1.2)
    assert (measured.setting, measured.load_ms) == ("iphone-ane", 80.0)
    assert measured.machine.name == "Phone"
    assert prepare.call_args.kwargs["credentials"].development_team == "TEAM"
    inputs = perf_utils.MLModelBenchmarker.benchmark_predict.call_args.kwargs["inputs"]
    assert inputs["image"].size == (48, 32)


@pytest.mark.parametrize(
    ("devices", "name", "message"),
    [([], None, "0 connected devices"), (["A", "B"], None, "2 connected devices"), (["A"], "B", "named 'B'")],
)
def test_devices_that_cannot_be_told(monkeypatch, devices, name, message):
    from coremltools.models.ml_program.experimental import remote_device

    monkeypatch.setattr(
        remote_device.Device, "get_connected_devices", staticmethod(lambda kind: [phone(name) for name in devices])
    )
    with pytest.raises(EdgeError, match=message):
        coreml.connected_device("iphone", name)


def test_an_unknown_kind_of_device(bundle):
    with pytest.raises(EdgeError, match="Unknown kind"):
        coreml.profile_on_device(bundle, "watch", CoremlProfileOptions())


def test_without_xcode_it_says_so():
    with pytest.raises(EdgeError, match=r"can't be listed(.|\n)*xcode-select"):
        coreml.connected_device("iphone", None)
