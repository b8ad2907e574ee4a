"""Android phones, through LiteRT: files are written here and run by the same runtime here, and measured on this CPU."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.checks import Check, output_of, package
from ..base.spec import Precision
from ..converters.qnn.options import SnapdragonOptions
from ..profiles.android.options import AndroidProfileOptions
from ..rules.options import LitertLintOptions
from .base import Format, Linter, Log, Measuring, Next, Target, Words, Written

if TYPE_CHECKING:
    import numpy as np

    from ..base.progress import Progress
    from ..base.spec import ExportSpec, ImageSize
    from ..bundle.runner import Runner
    from ..bundle.types import Artifact, Bundle
    from ..model.plan import Variant
    from ..profiles.sweep import Profile
    from ..rules.finding import Finding
    from ..runtime.model import Run

NAME = "android"
PACKAGE = "ai-edge-litert"
MODULE = "ai_edge_litert"
DYNAMIC_ACTIVATIONS = (
    "INT8 on Android has the recipe's weights, but not its activation scales: LiteRT's fast kernels quantize the input "
    "of every layer token by token while it runs."
)
EMULATED = (
    "The files for the NPU were compiled whole by Qualcomm's compiler and executed in its emulation on this machine; "
    "none ran on a phone."
)


def open_tflite(directory: Path, artifact: Artifact, threads: int | None) -> Runner:
    from ..runtime.litert import open_tflite

    return open_tflite(directory, artifact, threads)


def open_together(directory: Path, artifacts: Mapping[int, Artifact], threads: int | None) -> Mapping[int, Run]:
    from ..runtime.litert import open_tflite_together

    return open_tflite_together(directory, artifacts, threads)


def loading(artifact: Artifact) -> str:
    outputs = ", ".join(artifact.outputs)
    write = "writeInt8" if artifact.input == "image" else "writeFloat"
    named = ", ".join(f'"{name}" to {name}' for name in artifact.outputs)
    created = "\n".join(f'val {n} = model.createOutputBuffer("{n}", "{artifact.function}")' for n in artifact.outputs)
    height, width = artifact.image_size
    image = (
        f"RGB bytes [{artifact.batch}, {height}, {width}, 3]"
        if artifact.input == "image"
        else f"floats [{artifact.batch}, 3, {height}, {width}], normalised"
    )
    return f"""A file holds a signature for every core count: `{artifact.function}` and so on. In an app:

```kotlin
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel

val options = CompiledModel.Options(Accelerator.CPU)
val model = CompiledModel.create(context.assets, "{Path(artifact.path).name}", options)
val image = model.createInputBuffer("image", "{artifact.function}")    // {image}
{created}
image.{write}(frame)
model.run(mapOf("image" to image), mapOf({named}), "{artifact.function}")
```

Here, from Python:

```python
from ai_edge_litert.interpreter import Interpreter

run = Interpreter("{artifact.path}").get_signature_runner("{artifact.function}")
found = run(image=image)          # {outputs}
```

The file's metadata `veca_edge` says as JSON how frames are prepared, what the signatures are, and the classes.
"""


def check(spec: ExportSpec, labels: Sequence[str] | None) -> None:
    from ..converters.litert.files import check_export
    from ..converters.qnn.contexts import check_export as check_npu

    check_export(spec)
    check_npu(spec, ANDROID.options_of(spec))


def write(
    spec: ExportSpec, variants: Sequence[Variant], directory: Path, metadata: Mapping[str, str], progress: Progress
) -> list[Artifact]:
    from ..converters.litert.files import tflite_files_from_variants

    return tflite_files_from_variants(variants, directory, metadata, progress)


def compile_for_npu(written: Written, progress: Progress) -> Sequence[Artifact]:
    """Context binaries of NPUs where some are asked for, which the artifacts tell of."""
    from ..converters.qnn.contexts import FOLDER, compile_contexts

    options = ANDROID.options_of(written.spec)
    if not options.npu:
        return written.artifacts
    contexts = compile_contexts(written.variants, written.directory, written.metadata, options, progress)
    return [
        replace(a, details={**a.details, FOLDER: contexts[a.name]}) if a.name in contexts else a
        for a in written.artifacts
    ]


def prove(written: Written, frames: Mapping[ImageSize, np.ndarray], progress: Progress) -> None:
    """XNNPACK takes every signature in one piece; context binaries of NPUs compute what the model does."""
    from ..converters.qnn.contexts import check_emulation
    from ..runtime.litert import check_partitions

    check_partitions(written.directory, written.artifacts, progress)
    least = written.spec.min_cosine
    check_emulation(written.directory, written.artifacts, written.variants, frames, least, progress)


def measure(asked: Measuring, progress: Progress, on_log: Log) -> Profile:
    """LiteRT on this machine's CPU or, with a device, on the phone there."""
    options = replace(asked.options, again=asked.again)
    if asked.device is not None:
        from ..profiles.android.measure import profile_on_phone

        return profile_on_phone(asked.bundle, asked.device, options, asked.artifacts, progress, on_log)
    from ..profiles.sweep import LITERT, profile_bundle

    return profile_bundle(asked.bundle, options.here, asked.artifacts, progress, LITERT)


def next_steps(bundle: Bundle) -> Next:
    return Next(
        ("profile", str(bundle.directory), "--device", "adb"),
        "Measured on this machine, LiteRT's speed would be no phone's.",
    )


def notes(artifacts: Sequence[Artifact]) -> Sequence[str]:
    found = [DYNAMIC_ACTIVATIONS] if any(a.precision == Precision.INT8 for a in artifacts) else []
    if any(a.details.get("npu") for a in artifacts):
        found.append(EMULATED)
    return found


def lint(path: Path, options: LitertLintOptions) -> Sequence[Finding]:
    if path.suffix == ".onnx" and options.delegate == "npu":
        from ..rules.qnn import lint_onnx

        return lint_onnx(path)
    from ..rules.litert import lint_tflite

    return lint_tflite(path, options.delegate)


def doctor() -> Iterable[Check]:
    yield package(NAME, PACKAGE, NAME, module=f"{MODULE}.compiled_model")
    yield package(NAME, "flatbuffers", NAME)
    if platform.system() == "Linux" and platform.machine() == "x86_64":
        purpose = "compiles for a Snapdragon's NPU; needs Python 3.11"
        yield package(NAME, "onnxruntime-qnn", "snapdragon", needed=False, purpose=purpose)
    adb = shutil.which("adb")
    advice = "" if adb else "Measures on a phone: install the Android SDK Platform-Tools (Debian: apt install adb)."
    said = (output_of("adb", "version").splitlines() or [""])[0]
    yield Check(NAME, "adb", True if adb else None, said or ("installed" if adb else "not found"), advice)


TFLITE = Format("tflite", "LiteRT", MODULE, open_tflite, loading, open_together)

ANDROID = Target(
    name=NAME,
    runtime="LiteRT",
    summary="Android phones, through LiteRT",
    extra=NAME,
    precisions=(Precision.INT8, Precision.FP16, Precision.FP32),
    formats=(TFLITE,),
    options=SnapdragonOptions,
    profile_options=AndroidProfileOptions,
    words=Words(
        calls="on this machine, wall time of calls to LiteRT in a process of its own for every round, no phone's; on a "
        "phone, wall time of calls in the app, or averages of runs of benchmark_model where the setting names it",
        memory="peak resident memory of the measuring process above the same process with the runtime loaded but no "
        "model opened; on a phone, what the process's memory rose by",
    ),
    write=write,
    measure=measure,
    doctor=doctor,
    next_steps=next_steps,
    check=check,
    compile=compile_for_npu,
    prove=prove,
    notes=notes,
    devices="adb[:SERIAL], a phone",
    linter=Linter(
        LitertLintOptions, lint, "a .tflite file, or with --delegate npu an .onnx file for Qualcomm's compiler"
    ),
    quantizes_tokens=True,
    packages=(PACKAGE, "onnxruntime-qnn"),
)
