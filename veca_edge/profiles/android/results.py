"""The agreement between `veca-edge profile --device adb` and the app that measures on a phone: this file is the whole
of it.

**What is started.** The app is debuggable (a release build can't be given files) and has an instrumented test. For
every round veca-edge runs, in a fresh process:

    am instrument -w -r -e class veca.camera.Benchmark -e signature cores_16 -e accelerator cpu -e threads 4 \\
        -e seconds 1.0 -e samples 20 -e most_seconds 20.0 -e warmup_seconds 0.3 <app>.test/<RUNNER>

**What it measures.** The file `files/veca_edge/model.tflite` of the app (`context.filesDir` is `files`), which
veca-edge puts there with `run-as`: its signature `signature`, with CompiledModel on `accelerator` (`cpu`, `gpu` or
`npu`) and `threads` CPU threads. It warms up for `warmup_seconds`, then calls until both `seconds` and `samples` are
reached, or `most_seconds` are over. The inputs are any images of the signature's shape; they are written to the input
buffers before the clock starts, and the clock stops when the outputs can be read.

**What it leaves.** `files/veca_edge/benchmark.json`, written whole (under another name, then renamed): the JSON of
`AppResult`. An accelerator that does not take the whole graph is an error, never a fallback: then `error` says so and
`samples_ns` is empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from ...base.errors import EdgeError
from ...base.json_files import parse_json, typed
from ...bundle.types import Digest

SCHEMA = 1
APP = "veca.camera"
RUNNER = "androidx.test.runner.AndroidJUnitRunner"
TEST_CLASS = "veca.camera.Benchmark"  # whatever the id of the app
FOLDER = "files/veca_edge"
MODEL = f"{FOLDER}/model.tflite"
RESULT = f"{FOLDER}/benchmark.json"
RESULT_BYTES = 16 << 20

Nanoseconds = Annotated[int, Meta(ge=1, le=7 * 24 * 3600 * 10**9)]
Text = Annotated[str, Meta(max_length=400)]


@dataclass(frozen=True)
class AppDevice:
    """As android.os.Build says it: MANUFACTURER, MODEL, SOC_MODEL (empty before Android 12), VERSION.RELEASE,
    VERSION.SDK_INT, SUPPORTED_ABIS[0]."""

    manufacturer: Text
    model: Text
    soc: Text
    android: Text
    api: int
    abi: Text


@dataclass(frozen=True)
class AppResult:
    """What one run of the app's benchmark found.

    Attributes:
        schema: `SCHEMA`.
        model_sha256: of the bytes that it loaded, in lower-case hexadecimal digits.
        runtime: LiteRT's version, as the app was built with it.
        signature, accelerator, threads: as they were asked for.
        samples_ns: wall time of every steady call, in order, after warm-up.
        load_ns: from the file to a model that can be called, in this fresh process; first_ns: the first call after it.
        memory_bytes: the rise of the process's resident memory (VmHWM after the calls above VmRSS before the file was
            opened), or null.
        error: why there are no samples; empty where there are.
    """

    schema: int
    model_sha256: Digest
    device: AppDevice
    runtime: Text
    signature: Text
    accelerator: Text
    threads: Annotated[int, Meta(ge=1, le=1024)]
    samples_ns: Annotated[tuple[Nanoseconds, ...], Meta(max_length=1_000_000)]
    load_ns: Nanoseconds | None
    first_ns: Nanoseconds | None
    memory_bytes: Annotated[int, Meta(ge=0, le=1 << 48)] | None = None
    error: Text = ""


def read_result(text: str, sha256: str, signature: str, accelerator: str, threads: int) -> AppResult:
    """What the app left, checked against what it was asked.

    Raises:
        EdgeError: it is not such a result, is of another schema or model, or of something else than was asked; the
            app itself says that it failed.
    """
    hint = "Build the app anew with this version of veca-edge, and install it again."
    try:
        found = parse_json(text)
    except ValueError as error:
        raise EdgeError(f"What the app on the phone measured is not JSON: {error}.", hint) from error
    if isinstance(found, dict) and found.get("schema") != SCHEMA:
        raise EdgeError(
            f"The app on the phone writes results of the schema {found.get('schema')!r:.40}, not {SCHEMA}.", hint
        )
    result = typed(found, AppResult, "What the app on the phone measured", hint)
    for what, got, asked in (
        ("the model", result.model_sha256, sha256),
        ("the signature", result.signature, signature),
        ("the accelerator", result.accelerator, accelerator),
        ("the threads", result.threads, threads),
    ):
        if got != asked:
            raise EdgeError(f"The app on the phone measured {what} {got}, not {asked}.", hint)
    if result.error:
        raise EdgeError(
            f"The app on the phone could not measure {signature} on the {accelerator}: {result.error}",
            "Measure on the others: --accelerators cpu" if accelerator != "cpu" else hint,
        )
    if not result.samples_ns or result.load_ns is None or result.first_ns is None:
        raise EdgeError("The app on the phone left no samples, and no error.", hint)
    return result
