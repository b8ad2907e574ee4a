"""NVIDIA Jetson, through TensorRT: ONNX is written here, engines are built and measured on the board."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from ..base.checks import Check, installed, is_wheel, output_of, package
from ..base.errors import EdgeError
from ..base.spec import INPUTS, Precision
from ..converters.tensorrt.options import EngineOptions, TensorrtOptions
from ..profiles.jetson.options import BoardOptions
from ..rules.options import TensorrtLintOptions
from .base import Builder, Built, Format, Linter, Log, Measuring, Next, Table, Target, Words, Written

if TYPE_CHECKING:
    from ..base.progress import Progress
    from ..base.spec import ExportSpec
    from ..bundle.runner import Runner
    from ..bundle.types import Artifact, Bundle
    from ..model.plan import Variant
    from ..profiles.measurement import Measurement
    from ..profiles.sweep import Profile
    from ..rules.finding import Finding

NAME = "jetson"
BYTES_OF_A_WEIGHT = {"int8": 1, "fp16": 2, "fp32": 4}
ESTIMATED_MODULES = ("Orin Nano 8GB", "Orin NX 16GB", "AGX Orin 64GB")
# What says on a Jetson that it is one.
RELEASE = Path("/etc/nv_tegra_release")
TRTEXEC = ("/usr/src/tensorrt/bin/trtexec", "/usr/local/tensorrt/bin/trtexec")

# -------------------------------------------------------------------------------------- formats


def open_onnx(directory: Path, artifact: Artifact, threads: int | None) -> Runner:
    from ..bundle.details import TensorrtDetails, details_as
    from ..converters.tensorrt.half import computes_in_half, rounded_to_half
    from ..runtime.onnxruntime import open_onnx

    path, details = directory / artifact.path, details_as(artifact.details, TensorrtDetails, artifact.name)
    model = rounded_to_half(path, details) if computes_in_half(details, artifact.precision) else None
    return open_onnx(path, artifact, threads, model=model)


def onnx_obstacle(artifact: Artifact) -> str | None:
    from ..bundle.details import TensorrtDetails, details_as
    from ..converters.tensorrt.half import computes_in_half

    details = details_as(artifact.details, TensorrtDetails, artifact.name)
    if find_spec("onnx_ir") is None and computes_in_half(details, artifact.precision):
        return "rounding to FP16 as the board does needs onnx_ir: pip install 'veca-edge[export]'"
    return None


def onnx_loading(artifact: Artifact) -> str:
    from .cpu import loading

    return "The ONNX files are written for TensorRT; ONNX Runtime runs them too, to check them:\n\n" + loading(artifact)


def open_engine(directory: Path, artifact: Artifact, threads: int | None) -> Runner:
    from ..runtime.tensorrt import open_engine

    return open_engine(directory / artifact.path, artifact)


def engine_loading(artifact: Artifact) -> str:
    return f"""An engine runs only on the board and the TensorRT version that built it:

```python
import veca_edge

model = veca_edge.load(".")          # {artifact.path}
```
"""


def engine_obstacle(artifact: Artifact) -> str | None:
    if find_spec("tensorrt") is None:
        return "TensorRT's Python package is not installed here"
    from ..devices.jetson.engine_key import check_engine_key
    from ..runtime.tensorrt import this_board

    try:
        check_engine_key(artifact.details, this_board(), artifact.name, "veca-edge build")
    except EdgeError as error:
        return error.message
    return None


ENGINE = Format(
    "engine", "TensorRT", "tensorrt", open_engine, engine_loading, obstacle=engine_obstacle, is_portable=False
)
ONNX = Format("onnx", "ONNX Runtime", "onnxruntime", open_onnx, onnx_loading, obstacle=onnx_obstacle)

# ------------------------------------------------------------------------------- export and build


def write(
    spec: ExportSpec, variants: Sequence[Variant], directory: Path, metadata: Mapping[str, str], progress: Progress
) -> list[Artifact]:
    from ..converters.tensorrt.dialects import tensorrt_models_from_variants

    return tensorrt_models_from_variants(variants, directory, metadata, JETSON.options_of(spec), progress)


def finish(written: Written, golden_cosine: Mapping[str, float]) -> None:
    from ..converters.tensorrt.build_script import write_build_script

    write_build_script(written.directory, written.artifacts)


def options_for(options: TensorrtOptions, device: str) -> TensorrtOptions:
    """The options with the TensorRT of the board at `device`. Raises `EdgeError` where there is none."""
    from ..devices.jetson.probe import board_tensorrt, open_board

    with open_board(device) as there:
        return replace(options, version=board_tensorrt(there))


_building: dict[str, Lock] = {}


def _alone_building(slug: str) -> Lock:
    """Held by the one thread that builds engines of a key: other boards of that key take what it made."""
    return _building.setdefault(slug, Lock())


def build(bundle: Bundle, device: str, options: EngineOptions | None, progress: Progress, on_log: Log) -> Built:
    from ..bundle.store import add_artifacts, withdraw_artifacts
    from ..converters.tensorrt.engine import build_engines
    from ..devices.jetson.engine_key import engine_key
    from ..devices.jetson.probe import check_power_mode, open_board

    files = [a for a in bundle.artifacts if a.format == ONNX.name]
    with open_board(device) as there, _alone_building(engine_key(there.board).slug):
        check_power_mode(there, options and options.power_mode)
        engines = build_engines(
            there, bundle.directory, files, options, progress, on_log, lambda stem: withdraw_artifacts(bundle, stem)
        )
    board = there.board
    facts = {
        "module": board.name,
        "L4T": board.l4t,
        "JetPack": board.jetpack,
        "TensorRT": board.tensorrt,
        "CUDA": board.cuda,
        "power mode": board.power_mode,
    }
    said = {name: value or "unknown" for name, value in facts.items()}
    return Built(add_artifacts(bundle, engines), tuple(engines), board.hostname, said, board.to_json())


def next_steps(bundle: Bundle) -> Next:
    if any(artifact.format == ENGINE.name for artifact in bundle.artifacts):
        if RELEASE.exists():
            return Next(("profile", str(bundle.directory)))
        return Next(
            ("profile", str(bundle.directory), "--device", "ssh://HOST"),
            "Its engines are measured on the board that built them.",
        )
    script = bundle.directory / "build.sh"
    there = f": from here, or there with: sh {script.name}" if script.is_file() else "."
    return Next(
        ("build", str(bundle.directory), "--device", "ssh://HOST"),
        f"The engines are still to be built, on the board{there}",
    )


def estimates(bundle: Bundle) -> Table | None:
    """For every file the roofline of one frame on some modules in their fastest power mode: engines are slower."""
    from ..bundle.details import TensorrtDetails, details_as
    from ..devices.jetson.modules import MODULES, estimate_frame
    from ..profiles.cost import cost_facts

    width, rows = bundle.checkpoint.config.hidden, []
    for artifact in (a for a in bundle.artifacts if a.format == ONNX.name):
        cost = cost_facts(bundle, artifact)
        attention_macs = 2 * width * cost["attention_interactions"]
        # Files that are not typed hold float32, of which an engine keeps what its precision takes.
        typed = details_as(artifact.details, TensorrtDetails).strongly_typed
        moved = artifact.bytes if typed else artifact.bytes * BYTES_OF_A_WEIGHT[artifact.precision] / 4
        found = [
            estimate_frame(module, artifact.precision, cost["macs"], attention_macs, moved, module.has_super)
            for module in (MODULES[name] for name in ESTIMATED_MODULES)
        ]
        rows.append(
            (
                str(artifact.core_count),
                artifact.precision,
                str(artifact.image_size),
                *(f"{e.milliseconds:.2f} {'c' if e.bound == 'compute' else 'b'}" for e in found),
            )
        )
    title = "ESTIMATED least ms a frame at full power, not measured (c: compute, b: bandwidth)"
    return Table(title, ("cores", "prec.", "size", *ESTIMATED_MODULES), tuple(rows), names=3)


# ----------------------------------------------------------------------------------- measurements


def measure(asked: Measuring, progress: Progress, on_log: Log) -> Profile:
    """Engines, on the board that they were built on; by default this machine."""
    from ..devices.jetson.probe import check_power_mode, open_board
    from ..profiles.jetson.measure import profile_on_board

    options = replace(asked.options, again=asked.again)
    with open_board(asked.device or "local") as there:
        check_power_mode(there, options.power_mode)
        return profile_on_board(there, asked.bundle, asked.artifacts, options, progress, on_log, asked.on_variant)


def losses(lower: Measurement, higher: Measurement) -> Sequence[str] | None:
    from ..profiles.jetson.layers import losing_layers

    found = losing_layers(lower, higher)
    if found is None:
        return None
    return [f"{loss.part}: {loss.lower_ms:.3f} against {loss.higher_ms:.3f} ms" for loss in found]


# -------------------------------------------------------------------------------- lint and doctor


def lint(path: Path, options: TensorrtLintOptions) -> Sequence[Finding]:
    from ..rules.tensorrt.lint import lint_onnx

    return lint_onnx(path, options.tensorrt, allow_dynamic=options.dynamic)


def doctor() -> Iterable[Check]:
    if platform.system() == "Linux" and platform.machine() == "x86_64":
        purpose = "compiles every file without a GPU, as a check"
        yield package(NAME, "tensorrt-rtx", "jetson", needed=False, purpose=purpose)
    if RELEASE.exists():
        yield Check(NAME, "this is a Jetson", True, (RELEASE.read_text(errors="replace").splitlines() or [""])[0])
    tensorrt = installed("tensorrt")
    advice = "" if tensorrt else "Builds engines on this machine; on a Jetson it comes with JetPack."
    yield Check(NAME, "tensorrt", True if tensorrt else None, tensorrt or "not installed", advice)
    if tensorrt and RELEASE.exists() and is_wheel("tensorrt"):
        yield Check(
            NAME,
            "tensorrt from pip",
            False,
            "pip's TensorRT does not support a Jetson's GPU",
            "Uninstall it, and make the environment with: python3 -m venv --system-site-packages",
        )
    trtexec = shutil.which("trtexec") or next((path for path in TRTEXEC if os.access(path, os.X_OK)), None)
    advice = "" if trtexec else "Builds and times engines here; on a Jetson it comes with JetPack."
    yield Check(NAME, "trtexec", True if trtexec else None, trtexec or "not found", advice)
    ssh = shutil.which("ssh")
    said = (output_of("ssh", "-V", errors=True).splitlines() or [""])[0]
    advice = "" if ssh else "Reaches a board with --device: install your system's OpenSSH client."
    yield Check(NAME, "ssh", True if ssh else None, said or ("installed" if ssh else "not found"), advice)


JETSON = Target(
    name=NAME,
    runtime="TensorRT",
    summary="NVIDIA Jetson, through TensorRT",
    extra="jetson",
    precisions=(Precision.INT8, Precision.FP16, Precision.FP32),
    formats=(ENGINE, ONNX),
    inputs=INPUTS,
    options=TensorrtOptions,
    profile_options=BoardOptions,
    words=Words(
        calls="GPU time of queries, one after the other, without copies between host and device",
        memory="what the board's memory in use rose by over the rest before (tegrastats)",
    ),
    write=write,
    measure=measure,
    doctor=doctor,
    next_steps=next_steps,
    finish=finish,
    builder=Builder(EngineOptions, build, options_for, answered=("--jetpack", "--tensorrt")),
    linter=Linter(TensorrtLintOptions, lint, "an .onnx file"),
    estimates=estimates,
    losses=losses,
    devices="local, or ssh://[user@]host[:port], where the engines were built",
    packages=("onnx", "onnx_ir", "onnxruntime", "tensorrt-rtx"),
    layers_hint="for engines: veca-edge profile BUNDLE --device ssh://HOST --layers",
)
