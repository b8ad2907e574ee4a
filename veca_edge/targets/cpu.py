"""Any x86-64 or Arm CPU, through ONNX Runtime: the one target that is this machine itself."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.checks import Check, installed, package
from ..base.cpu_features import cpu_flags, int8_instructions
from ..base.spec import INPUT_FORMS, Precision
from ..profiles.options import ProfileOptions
from .base import Format, Log, Measuring, Next, NoOptions, Target, Words

if TYPE_CHECKING:
    from ..base.progress import Progress
    from ..base.spec import ExportSpec
    from ..bundle.runner import Runner
    from ..bundle.types import Artifact, Bundle
    from ..model.plan import Variant
    from ..profiles.sweep import Profile
    from ..runtime.model import Run

NAME = "cpu"
PACKAGE = "onnxruntime"


def open_onnx(directory: Path, artifact: Artifact, threads: int | None) -> Runner:
    from ..runtime.onnxruntime import open_exact_onnx

    return open_exact_onnx(directory, artifact, threads)


def open_together(directory: Path, artifacts: Mapping[int, Artifact], threads: int | None) -> Mapping[int, Run]:
    from ..runtime.bound import open_bound_onnx

    return open_bound_onnx(directory, artifacts, threads)


_OPENING = """import numpy as np
import onnxruntime

options = onnxruntime.SessionOptions()"""
_ASKING = f"""from pathlib import Path

{_OPENING}
cpu = Path("/proc/cpuinfo")
if not (cpu.exists() and "vnni" in cpu.read_text()):
    # Without VNNI, INT8 on x86 saturates unless exact products are asked for; with it they are, and this is slow.
    options.add_session_config_entry("session.x64quantprecision", "1")"""


def loading(artifact: Artifact) -> str:
    from ..runtime.onnxruntime import may_saturate

    height, width = artifact.image_size
    frame = (
        f"np.zeros(({artifact.batch}, {height}, {width}, 3), np.uint8)  # your RGB frame"
        if artifact.input == "image"
        else f"np.zeros(({artifact.batch}, 3, {height}, {width}), np.float32)  # {INPUT_FORMS[artifact.input]}"
    )
    outputs = list(artifact.outputs)
    return f"""```python
{_ASKING if may_saturate(artifact) else _OPENING}
session = onnxruntime.InferenceSession("{artifact.path}", options, providers=["CPUExecutionProvider"])
image = {frame}
{", ".join(outputs)}{"," if len(outputs) == 1 else ""} = session.run({outputs}, {{"image": image}})
```

On Linux, a call of the C library's `malloc_trim(0)` after loading returns what loading has freed, which may be a
quarter of the memory; `veca_edge.load` makes it.
"""


def write(
    spec: ExportSpec, variants: Sequence[Variant], directory: Path, metadata: Mapping[str, str], progress: Progress
) -> list[Artifact]:
    from ..converters.cpu import onnx_models_from_variants

    return onnx_models_from_variants(variants, directory, metadata, progress)


def measure(asked: Measuring, progress: Progress, on_log: Log) -> Profile:
    if asked.device is not None:
        from ..profiles.web.measure import profile_in_browser

        options = replace(asked.options, again=asked.again)
        return profile_in_browser(asked.bundle, asked.device, options, asked.artifacts, progress, asked.say)
    from ..profiles.sweep import profile_bundle

    return profile_bundle(asked.bundle, replace(asked.options, again=asked.again), asked.artifacts, progress)


def next_steps(bundle: Bundle) -> Next:
    return Next(("profile", str(bundle.directory)))


# -------------------------------------------------------------------------------------- doctor


def doctor() -> Iterable[Check]:
    yield package(NAME, PACKAGE, "")
    for rival in ("onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino"):
        if installed(rival) and installed(PACKAGE):
            yield Check(
                NAME,
                "one onnxruntime",
                False,
                f"onnxruntime and {rival} overwrite each other's files",
                f"pip uninstall onnxruntime {rival}, then pip install onnxruntime",
            )
    yield int8_products(int8_instructions(platform.machine(), cpu_flags()))


def int8_products(instructions: str) -> Check:
    """How this CPU multiplies INT8, which decides whether INT8 is fast here."""
    if not instructions:
        return Check(NAME, "INT8 products", None, "unknown: this system does not list the features of its CPU", "")
    if "without VNNI" in instructions:
        return Check(
            NAME,
            "INT8 products",
            None,
            instructions,
            "INT8 gains less here. Files of other tools may saturate: set session.x64quantprecision to 1 for them.",
        )
    if instructions in ("no AVX2", "NEON without dot products"):
        advice = "INT8 will hardly be faster than fp32 here: profile it beside fp32."
        return Check(NAME, "INT8 products", None, instructions, advice)
    return Check(NAME, "INT8 products", True, f"{instructions}: INT8 is fast", "")


ONNX = Format("onnx", "ONNX Runtime", PACKAGE, open_onnx, loading, open_together, runs_side_by_side=True)

CPU = Target(
    name=NAME,
    runtime="ONNX Runtime",
    summary="any x86-64 or Arm CPU, through ONNX Runtime",
    extra="export",
    precisions=(Precision.INT8, Precision.FP32),
    formats=(ONNX,),
    options=NoOptions,
    profile_options=ProfileOptions,
    words=Words(
        calls="wall time of calls to ONNX Runtime, in a process of its own for every round",
        memory="peak resident memory of the measuring process above the same process with the runtime loaded but no "
        "model opened",
    ),
    write=write,
    measure=measure,
    doctor=doctor,
    next_steps=next_steps,
    devices="web for a browser on this machine, web:lan for one in its network",
    is_local=True,
    runs_in_browser=True,
    packages=("onnx", "onnx_ir", PACKAGE),
)
