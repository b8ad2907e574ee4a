"""iPhone, iPad and Mac, through Core ML: packages are written and executed anywhere, measured on Apple's systems."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.checks import Check, installed, package
from ..base.errors import EdgeError
from ..base.spec import Precision
from ..converters.coreml.options import CoremlOptions
from ..profiles.options import CoremlProfileOptions
from .base import Format, Linter, Log, Measuring, Next, NoOptions, Target, Words, Written

if TYPE_CHECKING:
    import numpy as np

    from ..base.progress import Progress
    from ..base.spec import ExportSpec, ImageSize
    from ..bundle.runner import Runner
    from ..bundle.types import Artifact, Bundle
    from ..model.plan import Variant
    from ..profiles.sweep import Profile
    from ..rules.finding import Finding

NAME = "apple"


def on_a_mac() -> bool:
    return sys.platform == "darwin"


def open_mlpackage(directory: Path, artifact: Artifact, threads: int | None) -> Runner:
    """With Core ML on a Mac; elsewhere with our executor of the saved program."""
    path = directory / artifact.path
    if on_a_mac():
        from ..runtime.coreml import open_mlpackage
    else:
        from ..runtime.program import open_mlpackage
    return open_mlpackage(path, artifact.function, artifact, threads)


def loading(artifact: Artifact) -> str:
    function = f', function_name="{artifact.function}"' if artifact.function else ""
    return f"""On a Mac, from Python (in an app, drag the package into Xcode):

```python
import coremltools

model = coremltools.models.MLModel("{artifact.path}"{function})
```
"""


def check(spec: ExportSpec, labels: Sequence[str] | None) -> None:
    from ..converters.coreml.packages import check_export

    check_export(spec, APPLE.options_of(spec), labels)


def write(
    spec: ExportSpec, variants: Sequence[Variant], directory: Path, metadata: Mapping[str, str], progress: Progress
) -> list[Artifact]:
    from ..converters.coreml.packages import mlpackages_from_variants

    return mlpackages_from_variants(variants, directory, metadata, APPLE.options_of(spec), progress)


def prove(written: Written, frames: Mapping[ImageSize, np.ndarray], progress: Progress) -> None:
    """INT8 packages compute what the quantized model in PyTorch does."""
    from ..runtime.simulation_check import check_simulation

    check_simulation(written.directory, written.artifacts, written.variants, frames, progress)


def finish(written: Written, golden_cosine: Mapping[str, float]) -> None:
    """A Swift package around packages that take camera frames; tensors are for apps of their own."""
    from ..apps.swift import write_swift_package

    if written.spec.input == "image":
        write_swift_package(written.directory, written.artifacts, golden_cosine, written.preprocessing)


def measure(asked: Measuring, progress: Progress, on_log: Log) -> Profile:
    """Packages, on this Mac, or on a connected iPhone or iPad."""
    from ..profiles.coreml import profile_on_device, profile_packages

    options = replace(asked.options, again=asked.again)
    if asked.device is None:
        if options.development_team:
            raise EdgeError(
                "--team signs the runner app on a connected device, but no --device was given.",
                "Add --device iphone, or leave it out.",
            )
        return profile_packages(asked.bundle, options, asked.artifacts, progress)
    return profile_on_device(asked.bundle, asked.device, options, asked.artifacts, progress)


def next_steps(bundle: Bundle) -> Next:
    if on_a_mac():
        return Next(("profile", str(bundle.directory)))
    return Next(
        ("verify", str(bundle.directory)), "Profiling it takes a Mac; what it computes can be checked anywhere."
    )


def lint(path: Path, options: NoOptions) -> Sequence[Finding]:
    from ..rules.coreml import lint_mlpackage

    return lint_mlpackage(path)


def doctor() -> Iterable[Check]:
    from packaging.version import Version

    coremltools = package(NAME, "coremltools", "apple")
    if not coremltools.ok and (platform.system(), platform.machine()) == ("Linux", "aarch64"):
        advice = "Export Core ML packages on x86-64 Linux or on a Mac."
        coremltools = Check(NAME, "coremltools", False, "has no wheels for ARM Linux", advice)
    yield coremltools
    torch = installed("torch")
    if coremltools.ok:
        found = Version(coremltools.found)
        if found.major < 9:
            yield Check(NAME, "coremltools >= 9", False, coremltools.found, "pip install 'veca-edge[apple]'")
        if torch and Version(torch).release[:2] > (2, 7) and found.release[:2] <= (9, 0):
            yield Check(
                NAME,
                "coremltools with torch",
                None,
                f"coremltools {coremltools.found} was released for torch 2.7, this is {torch}",
                "The packages that veca-edge writes are executed and compared in any case.",
            )
    mac = platform.system() == "Darwin"
    advice = "" if mac else "Exports and proves here; profiling and the Neural Engine need a Mac."
    yield Check(NAME, "macOS", True if mac else None, platform.mac_ver()[0] if mac else "no", advice)


MLPACKAGE = Format(
    "mlpackage",
    "Core ML" if on_a_mac() else "an interpreter of the saved program",
    "coremltools",
    open_mlpackage,
    loading,
)

APPLE = Target(
    name=NAME,
    runtime="Core ML",
    summary="iPhone, iPad and Mac, through Core ML",
    extra="apple",
    precisions=(Precision.INT8, Precision.W8, Precision.FP16),
    formats=(MLPACKAGE,),
    options=CoremlOptions,
    profile_options=CoremlProfileOptions,
    words=Words(
        calls="wall time of Core ML predictions",
        memory="peak resident memory of the process above what it had before the model was loaded",
    ),
    write=write,
    measure=measure,
    doctor=doctor,
    next_steps=next_steps,
    check=check,
    prove=prove,
    finish=finish,
    devices="iphone or ipad[:NAME], connected to this Mac",
    linter=Linter(NoOptions, lint, "an .mlpackage"),
    packages=("coremltools",),
)
