"""Measures Core ML packages on a Mac: latency per compute unit, load times, memory, and who runs what.

Not yet run on hardware: it is written against coremltools 9, and a test checks every call against the
installed signatures.

Every variant and unit is loaded in processes of its own. The first of them meets a package that the
system has never seen (compiled afresh, into a folder of its own); the others find the Neural Engine's
program in the system's cache, as an app does from its second start on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..base.errors import EdgeError, unknown_name
from ..base.progress import Progress, silent
from ..bundle.types import Artifact, Bundle
from ..formats.coremltools_library import coremltools_for
from ..proof.golden import read_golden
from ..runtime.coreml import COMPUTE_UNITS, Compiled, CoremlRunner, check_mac, compile_package
from .machine import Machine, this_machine
from .measurement import Measurement, measurement_of, utc_now
from .options import CoremlProfileOptions, ProfileOptions
from .sampling import Answer
from .store import load_measurement, measurement_stem, measurements_folder, save_measurement
from .sweep import Failure, Item, Opening, Profile, Sweep, sweep_items

CORE_ML = Opening("veca_edge.profiles.coreml:open_compiled", "coremltools")
DEFAULT_ROUNDS, DEFAULT_SECONDS, MOST_SECONDS = 3, 1.0, 60.0
CONNECTED_DEVICES = ("iphone", "ipad")
DEVICES = {"cpu": "MLCPUComputeDevice", "gpu": "MLGPUComputeDevice", "ane": "MLNeuralEngineComputeDevice"}


@dataclass(frozen=True)
class Placement:
    """Where Core ML plans to run one operation. `unit` is `cpu`, `gpu`, `ane`, or `unknown`; `cost` is its estimated
    share of the whole prediction, None where Core ML gives none."""

    operation: str
    name: str
    unit: str
    supported: tuple[str, ...]
    cost: float | None


def profile_packages(
    bundle: Bundle,
    options: CoremlProfileOptions | None = None,
    artifacts: Sequence[Artifact] | None = None,
    progress: Progress = silent,
) -> Profile:
    """Measures every function of a bundle's packages on this Mac, for every unit, and stores the measurements.

    A measurement's `setting` is the unit; its `details` hold `compile_ms`, `first_load_ms`, `cached_load_ms`, the
    `placement` of every operation, and `cost_share` and `operations` per unit. What fails is among the failures and
    does not end the rest; what was measured before is kept.

    Raises:
        EdgeError: not a Mac, or Core ML refuses a package.
    """
    check_mac("Profiling a Core ML package")
    options = options or CoremlProfileOptions()
    artifacts = bundle.artifacts if artifacts is None else artifacts
    pace = ProfileOptions(
        rounds=options.rounds or DEFAULT_ROUNDS,
        seconds=options.seconds or DEFAULT_SECONDS,
        samples=options.samples,
        most_seconds=MOST_SECONDS,
        warmup_seconds=options.warmup_seconds,
        again=options.again,
    )
    with tempfile.TemporaryDirectory(prefix="veca-edge-profile-") as folder:
        compiled: dict[str, Compiled] = {}
        paths = list(dict.fromkeys(a.path for a in artifacts))
        for i, path in enumerate(paths):
            compiled[path] = compile_package(bundle.directory / path, Path(folder))
            progress("compiling", i + 1, len(paths))

        def describe(item: Item, measured: Measurement, rounds: Sequence[Answer]) -> Measurement:
            package = compiled[item.artifact.path]
            plan = placements(package.path, item.artifact.function or "main", item.setting)
            return described(measured, rounds, plan, package.ms)

        items = [
            Item(artifact, unit, {"compiled": compiled[artifact.path].path, "unit": unit})
            for artifact in artifacts
            for unit in options.units
        ]
        machine = this_machine((CORE_ML.package,))
        return sweep_items(Sweep(bundle, pace, CORE_ML, machine, progress, describe), items)


def open_compiled(directory: Path, artifact: Artifact, threads: int | None, compiled: str, unit: str) -> CoremlRunner:
    """Opens one function of a package that was compiled before, for one unit; Core ML chooses its own threads."""
    return CoremlRunner(directory / artifact.path, artifact.function, artifact, unit, compiled)


def described(
    measured: Measurement, rounds: Sequence[Answer], plan: Sequence[Placement], compile_ms: float
) -> Measurement:
    """A measurement with what Core ML alone knows. The first process's load is the cold one."""
    loads = [r.load_ms for r in rounds]
    details = {
        **measured.details,
        "compile_ms": compile_ms,
        "first_load_ms": loads[0],
        "cached_load_ms": loads[1:],
        "cost_share": cost_share(plan),
        "operations": operation_counts(plan),
        "placement": [{**asdict(p), "supported": list(p.supported)} for p in plan],
    }
    return replace(measured, load_ms=loads[0], details=details)


def placements(compiled: str, function: str, unit: str) -> list[Placement]:
    """Core ML's plan for every operation of a function that is computed at run time."""
    ct = coremltools_for("A compute plan")
    from coremltools.models.compute_plan import MLComputePlan

    plan = MLComputePlan.load_from_path(compiled, compute_units=getattr(ct.ComputeUnit, COMPUTE_UNITS[unit]))
    program = plan.model_structure.program
    if program is None or function not in program.functions:
        raise EdgeError(
            f"Core ML's compute plan of {compiled} has no function '{function}'.", "Export the bundle again."
        )
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


# ------------------------------------------------------------------------------- connected devices


def device_and_name(text: str) -> tuple[str, str | None]:
    """`iphone`, or `iphone:My Phone`, as the kind of device and its name."""
    kind, _, name = text.partition(":")
    return kind.strip().lower(), name.strip() or None


def profile_on_device(
    bundle: Bundle,
    device: str,
    options: CoremlProfileOptions,
    artifacts: Sequence[Artifact] | None = None,
    progress: Progress = silent,
) -> Profile:
    """Measures packages on a connected iPhone or iPad, through coremltools' runner app.

    Args:
        device: `iphone` or `ipad`, with `:NAME` where several are connected.

    Raises:
        EdgeError: not a Mac, no Xcode, no such device, or the app can't be built or started.
    """
    import asyncio

    kind, name = device_and_name(device)
    if kind not in CONNECTED_DEVICES:
        raise unknown_name("kind of device", kind, CONNECTED_DEVICES)
    if options.seconds is not None or options.rounds is not None:
        raise EdgeError(
            "On a connected device predictions are counted, not timed: --seconds and --rounds say nothing.",
            "Leave them out.",
        )
    check_mac("Profiling on a connected iPhone or iPad, through Xcode,")
    remote = Remote(bundle, kind, name, options, progress)
    return asyncio.run(remote.profile(bundle.artifacts if artifacts is None else artifacts))


@dataclass(frozen=True)
class Remote:
    """One profile on a connected device."""

    bundle: Bundle
    kind: str
    name: str | None
    options: CoremlProfileOptions
    progress: Progress

    async def profile(self, artifacts: Sequence[Artifact]) -> Profile:
        device = await self.prepared_device()
        machine = device_machine(this_machine((CORE_ML.package,)), device)
        pairs = [(a, unit) for a in artifacts for unit in self.options.units]
        measured, failures, kept = [], [], []
        for i, (artifact, unit) in enumerate(pairs):
            setting = f"{self.kind}-{unit}"
            before = None if self.options.again else self.measured_before(artifact, machine, setting)
            if before is not None:
                measured.append(before)
                kept.append(artifact.name)
            else:
                try:
                    new = await self.measurement(artifact, unit, device, machine, setting)
                    save_measurement(self.bundle.directory, new)
                    measured.append(new)
                except EdgeError as error:
                    failures.append(Failure(artifact, error.message, error.hint))
            self.progress("measuring on the device", i + 1, len(pairs))
        return Profile(machine, tuple(measured), tuple(failures), tuple(kept))

    def key(self, artifact: Artifact, machine: Machine) -> dict[str, Any]:
        """The conditions: of the same file, in the same way, with the same versions."""
        how = {"iterations": self.options.iterations, "loads": self.options.loads}
        return {"sha256": artifact.sha256, "how": how, "versions": dict(machine.versions), "system": machine.system}

    def measured_before(self, artifact: Artifact, machine: Machine, setting: str) -> Measurement | None:
        folder = measurements_folder(self.bundle.directory, machine.machine_id)
        path = folder / f"{measurement_stem(artifact.name, artifact.format, None, setting)}.json"
        if not path.is_file():
            return None
        old = load_measurement(path)
        return old if old.details.get("key") == self.key(artifact, machine) else None

    async def prepared_device(self) -> Any:
        from coremltools.models.ml_program.experimental.remote_device import AppSigningCredentials

        device = connected_device(self.kind, self.name)
        credentials = AppSigningCredentials(development_team=self.options.development_team)
        try:
            return await device.prepare_for_model_debugging(credentials=credentials)
        except Exception as error:
            raise EdgeError(
                f"The runner app can't be built or started on {device.name}: {error}",
                "Give the team of your Apple developer account with --team, and turn on the device's Developer Mode.",
            ) from error

    async def measurement(
        self, artifact: Artifact, unit: str, device: Any, machine: Machine, setting: str
    ) -> Measurement:
        ct = coremltools_for("Profiling on a connected device")
        from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker

        started = utc_now()
        model = ct.models.MLModel(
            str(self.bundle.directory / artifact.path),
            skip_model_load=True,
            function_name=artifact.function,
            compute_units=getattr(ct.ComputeUnit, COMPUTE_UNITS[unit]),
        )
        benchmarker = MLModelBenchmarker(model, device=device)
        try:
            loads = await benchmarker.benchmark_load(iterations=self.options.loads)
            # Inputs are always given: made up ones fail for images, and are empty for packages with functions.
            predictions = await benchmarker.benchmark_predict(
                inputs=remote_inputs(self.bundle, artifact), iterations=self.options.iterations, warmup=True
            )
        except Exception as error:
            raise EdgeError(
                f"Measuring {artifact.name} on {device.name} failed: {error}", "Unlock the device and keep it awake."
            ) from error
        return replace(
            measurement_of(artifact, machine, predictions.samples, started),
            setting=setting,
            load_ms=loads.samples[0],
            details={
                "key": self.key(artifact, machine),
                "first_load_ms": loads.samples[0],
                "cached_load_ms": loads.samples[1:],
                "device": {"name": device.name, "system": device.os_version},
            },
        )


def connected_device(kind: str, name: str | None) -> Any:
    """The one connected device of the kind, or the named one."""
    from coremltools.models.ml_program.experimental.remote_device import Device, DeviceType

    try:
        found = Device.get_connected_devices(DeviceType(kind))
    except Exception as error:
        raise EdgeError(
            f"Connected devices can't be listed: {error}",
            "Install Xcode and its command line tools (xcode-select --install).",
        ) from error
    fitting = [d for d in found if name in (None, d.name)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(d.name for d in found) or "none"
    asked = f" named '{name}'" if name else ""
    raise EdgeError(
        f"{len(fitting)} connected devices of the kind {kind}{asked} were found.",
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
