"""Measures Core ML packages on a Mac: latency per compute unit, load times, memory, and who runs what.

Not yet run on hardware: it is written against coremltools 9, and a test checks every call against the
installed signatures.

Every variant and unit is loaded in processes of its own. The first of them meets a package that the
system has never seen (compiled afresh, into a folder of its own); the others find the Neural Engine's
program in the system's cache, as an app does from its second start on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from ..base.errors import EdgeError, unknown_name
from ..base.progress import Progress, silent
from ..bundle.store import Artifact, Bundle
from ..formats.mlpackage import coremltools_for
from ..proof.golden import read_golden
from ..runtime.coreml import COMPUTE_UNITS, check_mac, compile_package
from .machine import Machine, this_machine
from .measurement import Measurement, measurement_of, utc_now
from .store import save_measurement

WORKER_TIMEOUT = 1800.0
CONNECTED_DEVICES = ("iphone", "ipad")
DEVICES = {"cpu": "MLCPUComputeDevice", "gpu": "MLGPUComputeDevice", "ane": "MLNeuralEngineComputeDevice"}


@dataclass(frozen=True)
class CoremlProfileOptions:
    """How to measure.

    Attributes:
        units: what Core ML may use besides the CPU: `cpu`, `gpu`, `ane`, `all`.
        rounds: processes per variant and unit, interleaved; the first one's load is the cold one.
        seconds, samples: of each round; both are reached.
        warmup_seconds: calls before those that count.
    """

    units: tuple[str, ...] = ("all",)
    rounds: int = 3
    seconds: float = 1.0
    samples: int = 50
    warmup_seconds: float = 0.5

    def __post_init__(self) -> None:
        check_units(self.units)
        if self.rounds < 2:
            raise EdgeError(f"{self.rounds} rounds can't tell a cold load from a cached one.", "Give 2 or more.")


def check_units(units: Sequence[str]) -> None:
    """Raises `EdgeError` for a compute unit that there isn't."""
    for unit in units:
        if unit not in COMPUTE_UNITS:
            raise unknown_name("compute unit", unit, COMPUTE_UNITS)


@dataclass(frozen=True)
class Placement:
    """Where Core ML plans to run one operation. `unit` is `cpu`, `gpu`, `ane`, or `unknown`; `cost` is its estimated
    share of the whole prediction, None where Core ML gives none."""

    operation: str
    name: str
    unit: str
    supported: tuple[str, ...]
    cost: float | None


@dataclass(frozen=True)
class Request:
    """What a worker process is to measure."""

    directory: str
    artifact: dict[str, Any]
    compiled: str
    unit: str
    warmup_seconds: float
    seconds: float
    samples: int
    parent: int


def profile_packages(
    bundle: Bundle,
    options: CoremlProfileOptions | None = None,
    artifacts: Sequence[Artifact] | None = None,
    progress: Progress = silent,
) -> list[Measurement]:
    """Measures every function of a bundle's packages on this Mac, for every unit, and stores the measurements.

    A measurement's `setting` is the unit; its `details` hold `compile_ms`, `first_load_ms`, `cached_load_ms`, the
    `placement` of every operation, and `cost_share` and `operations` per unit.

    Raises:
        EdgeError: not a Mac, or Core ML refuses a package.
    """
    check_mac("Profiling a Core ML package")
    options = options or CoremlProfileOptions()
    artifacts = [a for a in (bundle.artifacts if artifacts is None else artifacts) if a.format == "mlpackage"]
    machine, measured = this_machine(("coremltools",)), []
    with tempfile.TemporaryDirectory(prefix="veca-edge-profile-") as folder:
        compiled = {}
        for i, path in enumerate(dict.fromkeys(a.path for a in artifacts)):
            compiled[path] = compile_package(bundle.directory / path, Path(folder))
            progress("compiling", i + 1, len({a.path for a in artifacts}))
        pairs = [(artifact, unit) for artifact in artifacts for unit in options.units]
        answers: dict[tuple[str, str], list[dict[str, Any]]] = {(a.name, unit): [] for a, unit in pairs}
        started = utc_now()
        for turn in range(options.rounds):
            for i, (artifact, unit) in enumerate(pairs if turn % 2 == 0 else pairs[::-1]):
                request = Request(
                    str(bundle.directory),
                    artifact.to_json(),
                    compiled[artifact.path][0],
                    unit,
                    options.warmup_seconds,
                    options.seconds,
                    options.samples,
                    os.getpid(),
                )
                answers[artifact.name, unit].append(ask_worker(request))
                progress("measuring", turn * len(pairs) + i + 1, options.rounds * len(pairs))
        for artifact, unit in pairs:
            path, compile_ms = compiled[artifact.path]
            plan = placements(path, artifact.function or "main", unit)
            measurement = summarised(artifact, machine, unit, answers[artifact.name, unit], plan, started)
            details = {"compile_ms": compile_ms, **measurement.details}
            measured.append(replace(measurement, details=details))
            save_measurement(bundle.directory, measured[-1])
    return measured


def summarised(
    artifact: Artifact,
    machine: Machine,
    unit: str,
    answers: Sequence[dict[str, Any]],
    plan: Sequence[Placement],
    started_at: str,
) -> Measurement:
    """The answers of one variant's processes as one measurement."""
    loads = [a["load_ms"] for a in answers]
    measurement = measurement_of(artifact, machine, [s for a in answers for s in a["samples_ms"]], started_at)
    return replace(
        measurement,
        setting=unit,
        load_ms=loads[0],
        first_ms=median(a["first_ms"] for a in answers),
        peak_memory_bytes=max(a["peak_memory_bytes"] for a in answers),
        round_sizes=tuple(len(a["samples_ms"]) for a in answers),
        details={
            "first_load_ms": loads[0],
            "cached_load_ms": loads[1:],
            "cost_share": cost_share(plan),
            "operations": operation_counts(plan),
            "placement": [{**asdict(p), "supported": list(p.supported)} for p in plan],
        },
    )


def placements(compiled: str, function: str, unit: str) -> list[Placement]:
    """Core ML's plan for every operation of a function that is computed at run time."""
    ct = coremltools_for("A compute plan")
    from coremltools.models.compute_plan import MLComputePlan

    plan = MLComputePlan.load_from_path(compiled, compute_units=getattr(ct.ComputeUnit, COMPUTE_UNITS[unit]))
    program = plan.model_structure.program
    if program is None or function not in program.functions:
        raise EdgeError(f"Core ML's compute plan of {compiled} has no function '{function}'.")
    found = []
    for operation in program.functions[function].block.operations:
        if operation.operator_name.rsplit(".", 1)[-1] == "const":
            continue
        usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
        cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
        found.append(
            Placement(
                operation.operator_name,
                operation.outputs[0].name if operation.outputs else "",
                unit_of(usage.preferred_compute_device) if usage else "unknown",
                tuple(unit_of(device) for device in usage.supported_compute_devices) if usage else (),
                cost.weight if cost else None,
            )
        )
    return found


def unit_of(device: object) -> str:
    """Our name of a coremltools compute device."""
    return next((unit for unit, kind in DEVICES.items() if type(device).__name__ == kind), "unknown")


def cost_share(plan: Sequence[Placement]) -> dict[str, float]:
    """Share of the estimated cost per unit."""
    total = sum(p.cost or 0.0 for p in plan) or 1.0
    return {unit: sum(p.cost or 0.0 for p in plan if p.unit == unit) / total for unit in sorted({p.unit for p in plan})}


def operation_counts(plan: Sequence[Placement]) -> dict[str, int]:
    """Operations per unit."""
    return {unit: sum(p.unit == unit for p in plan) for unit in sorted({p.unit for p in plan})}


# ------------------------------------------------------------------------------- the worker process


def ask_worker(request: Request) -> dict[str, Any]:
    """Measures in a process of its own. Raises `EdgeError` when that fails."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "veca_edge.profiles.coreml"],
            input=json.dumps(asdict(request)),
            capture_output=True,
            text=True,
            timeout=WORKER_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EdgeError(f"Measuring {request.artifact['path']} took longer than {WORKER_TIMEOUT:.0f} s.") from error
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise EdgeError(
            f"Measuring {request.artifact['path']} for {request.unit} failed: {last}",
            "Try fewer --units, or look at the package with: veca-edge lint PACKAGE --target apple",
        )
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(request: Request) -> dict[str, Any]:
    """Loads one function and times predictions on the golden frames. Inputs are made before the clock starts."""
    from ..runtime.coreml import CoremlRunner
    from .sampling import input_batches, memory, reset_peak_memory, sample, timed

    artifact, directory = Artifact.from_json(request.artifact), Path(request.directory)
    batches = input_batches(artifact, read_golden(directory, artifact.core_count, artifact.image_size))
    coremltools_for("Profiling a Core ML package")
    idle, _ = reset_peak_memory()
    runner = CoremlRunner(directory / artifact.path, artifact.function, artifact, request.unit, request.compiled)
    features = [runner.features(batch) for batch in batches]
    first_ms = timed(runner.model.predict, features[0])
    seconds = request.warmup_seconds
    sample(runner.model.predict, features, seconds, 1, seconds, request.parent)
    samples = sample(runner.model.predict, features, request.seconds, request.samples, 60.0, request.parent)
    _, peak = memory()
    return {
        "load_ms": runner.load_ms,
        "first_ms": first_ms,
        "samples_ms": samples,
        "peak_memory_bytes": max(0, peak - idle),
    }


# ------------------------------------------------------------------------------- connected devices


@dataclass(frozen=True)
class RemoteOptions:
    """How to measure on a connected device.

    Attributes:
        device: `iphone` or `ipad`.
        name: which one, where several are connected.
        development_team: the ID of the Apple developer team that signs coremltools' runner app; empty where Xcode's
            own choice will do.
        iterations: predictions per variant and unit; loads: how often each is loaded.
    """

    device: str = "iphone"
    name: str | None = None
    development_team: str = ""
    units: tuple[str, ...] = ("all",)
    iterations: int = 100
    loads: int = 3

    def __post_init__(self) -> None:
        check_units(self.units)
        if self.device not in CONNECTED_DEVICES:
            raise unknown_name("kind of device", self.device, CONNECTED_DEVICES)


def device_and_name(text: str) -> tuple[str, str | None]:
    """`iphone`, or `iphone:My Phone`, as the kind of device and its name."""
    kind, _, name = text.partition(":")
    return kind.strip().lower(), name.strip() or None


def profile_on_device(
    bundle: Bundle, options: RemoteOptions, artifacts: Sequence[Artifact] | None = None, progress: Progress = silent
) -> list[Measurement]:
    """Measures packages on a connected iPhone or iPad, through coremltools' runner app.

    Raises:
        EdgeError: not a Mac, no Xcode, no such device, or the app can't be built or started.
    """
    import asyncio

    check_mac("Profiling on a connected iPhone or iPad, through Xcode,")
    artifacts = [a for a in (bundle.artifacts if artifacts is None else artifacts) if a.format == "mlpackage"]
    return asyncio.run(_profile_on_device(bundle, options, artifacts, progress))


async def _profile_on_device(
    bundle: Bundle, options: RemoteOptions, artifacts: Sequence[Artifact], progress: Progress
) -> list[Measurement]:
    ct = coremltools_for("Profiling on a connected device")
    from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker
    from coremltools.models.ml_program.experimental.remote_device import AppSigningCredentials

    device = connected_device(options)
    try:
        device = await device.prepare_for_model_debugging(
            credentials=AppSigningCredentials(development_team=options.development_team)
        )
    except Exception as error:
        raise EdgeError(
            f"The runner app can't be built or started on {device.name}: {error}",
            "Give the team of your Apple developer account with --team, and turn on the device's Developer Mode.",
        ) from error
    machine = device_machine(this_machine(("coremltools",)), device)
    measured = []
    for i, (artifact, unit) in enumerate((a, u) for a in artifacts for u in options.units):
        started = utc_now()
        model = ct.models.MLModel(
            str(bundle.directory / artifact.path),
            skip_model_load=True,
            function_name=artifact.function,
            compute_units=getattr(ct.ComputeUnit, COMPUTE_UNITS[unit]),
        )
        benchmarker = MLModelBenchmarker(model, device=device)
        try:
            loads = await benchmarker.benchmark_load(iterations=options.loads)
            # Inputs are always given: made up ones fail for images, and are empty for packages with functions.
            predictions = await benchmarker.benchmark_predict(
                inputs=remote_inputs(bundle, artifact), iterations=options.iterations, warmup=True
            )
        except Exception as error:
            raise EdgeError(
                f"Measuring {artifact.name} on {device.name} failed: {error}", "Unlock the device and keep it awake."
            ) from error
        measurement = measurement_of(artifact, machine, predictions.samples, started)
        measured.append(
            replace(
                measurement,
                setting=f"{options.device}-{unit}",
                load_ms=loads.samples[0],
                details={
                    "first_load_ms": loads.samples[0],
                    "cached_load_ms": loads.samples[1:],
                    "device": {"name": device.name, "system": device.os_version},
                },
            )
        )
        save_measurement(bundle.directory, measured[-1])
        progress("measuring on the device", i + 1, len(artifacts) * len(options.units))
    return measured


def connected_device(options: RemoteOptions) -> Any:
    """The one connected device of the kind, or the named one."""
    from coremltools.models.ml_program.experimental.remote_device import Device, DeviceType

    try:
        found = Device.get_connected_devices(DeviceType(options.device))
    except Exception as error:
        raise EdgeError(
            f"Connected devices can't be listed: {error}",
            "Install Xcode and its command line tools (xcode-select --install).",
        ) from error
    fitting = [d for d in found if options.name in (None, d.name)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(d.name for d in found) or "none"
    asked = f" named '{options.name}'" if options.name else ""
    raise EdgeError(
        f"{len(fitting)} connected devices of the kind {options.device}{asked} were found.",
        f"Connect one by cable, unlock it and trust this Mac. Connected: {names}.",
    )


def device_machine(host: Machine, device: Any) -> Machine:
    """The device as the machine that the measurements are of. It does not tell its cores and memory: they are 0."""
    return Machine(
        device.name,
        "arm64",
        0,
        0,
        0,
        f"{device.type.value} {device.os_version} {device.os_build_number}",
        host.versions,
        device.identifier,
    )


def remote_inputs(bundle: Bundle, artifact: Artifact) -> dict[str, Any]:
    """The first golden frame as coremltools' runner takes it."""
    from .sampling import input_batches

    batch = input_batches(artifact, read_golden(bundle.directory, artifact.core_count, artifact.image_size))[0]
    if artifact.input != "image":
        return {"image": batch}
    from PIL import Image

    return {"image": Image.fromarray(batch[0])}


if __name__ == "__main__":
    print(json.dumps(measure(Request(**json.load(sys.stdin)))))
