"""Context binaries for Snapdragons' NPUs: written from variants, compiled whole, and executed in emulation.

Nothing of this ran on a Snapdragon: it is Qualcomm's own compiler, and its own emulation of the processor, on x86-64
Linux.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ...base.errors import EdgeError, GateError, MissingDependency
from ...base.files import bytes_of, sha256_of
from ...base.json_files import parse_json
from ...base.progress import Progress, silent
from ...base.spec import ExportSpec, ImageSize, Precision
from ...bundle.types import Artifact
from ...devices.android.socs import SOCS, Soc
from ...devices.process import TooLong, TooSlow, run_bounded
from ...images.preprocessing import normalised
from ...model.folding import within_half
from ...model.plan import Variant
from ...proof.fidelity import likeness
from ...rules.qnn import lint_model
from ..onnx.files import save_models
from ..onnx.graph import onnx_from_veca
from .dialect import A8W8, A16W8, QnnDialect
from .options import A8W8 as A8W8_NAME
from .options import A16W8 as A16W8_NAME
from .options import FP16, SnapdragonOptions

PACKAGE = "onnxruntime-qnn"
EXTRA = "snapdragon"
FOLDER = "npu"
PROOF = f"{FOLDER}/emulation.json"
# Emulation takes from seconds to an hour a frame.
EMULATED_FRAMES = 2
_LONGEST_S = 3600.0
_DIALECTS = {FP16: QnnDialect, A16W8_NAME: A16W8, A8W8_NAME: A8W8}


def check_export(spec: ExportSpec, options: SnapdragonOptions) -> None:
    """Refuses what cannot be compiled here, before anything slow.

    Raises:
        EdgeError: another machine than x86-64 Linux with Python 3.11, or INT8 weights that the export does not make.
        MissingDependency: no compiler.
    """
    if not options.npu:
        return
    if (platform.system(), platform.machine()) != ("Linux", "x86_64") or sys.version_info < (3, 11):
        raise EdgeError(
            f"Qualcomm's compiler runs on Linux on x86-64 with Python 3.11 or later; this is {platform.system()} on "
            f"{platform.machine()} with Python {platform.python_version()}.",
            "Export there, or leave out --npu.",
        )
    if find_spec("onnxruntime_qnn") is None:
        raise MissingDependency(PACKAGE, EXTRA, "Compiling for a Snapdragon's NPU")
    quantized = [name for name in options.npu_precision if name != FP16]
    if quantized and Precision.INT8 not in spec.precisions:
        raise EdgeError(
            f"--npu-precision {','.join(quantized)} is written from INT8 weights, and this export makes none.",
            f"Give --precision {','.join((Precision.INT8, *spec.precisions))}, or --npu-precision fp16.",
        )


def context_path(variant: Variant, precision: str, soc: str) -> str:
    """Where a context binary is in a bundle."""
    spec = variant.spec
    return f"{FOLDER}/{soc}/cores{spec.core_count}_{precision}_{spec.image_size}.onnx"


def sources_of(variants: Sequence[Variant], options: SnapdragonOptions) -> list[tuple[Variant, str]]:
    """Which variant's weights each NPU precision is written from.

    INT8 codes are those of INT8. FP16 is the model as it was trained: the first float variant or, of an export that has
    none, the float weights that the codes approximate, which compute the same.
    """
    integer = {place_of(v): v for v in variants if v.precision == Precision.INT8}
    floating = {place_of(v): v for v in reversed(variants) if v.precision != Precision.INT8}
    return [
        (variant, precision)
        for precision in options.npu_precision
        for variant in ({**integer, **floating} if precision == FP16 else integer).values()
    ]


def place_of(one: Variant | Artifact) -> tuple[int, ImageSize]:
    """What one model is written for, in whatever precision: the core count and the image size."""
    return one.spec.core_count, one.spec.image_size


def compile_contexts(
    variants: Sequence[Variant],
    directory: Path,
    facts: Mapping[str, str],
    options: SnapdragonOptions,
    progress: Progress = silent,
) -> dict[str, list[dict[str, Any]]]:
    """Writes a context binary for every variant, NPU precision and SoC below `directory/npu`.

    Returns:
        By variant, the name of the one that it was written from: for every file `path`, `soc`, `precision`, `sha256`,
        `bytes`, `sdk`, `package`, `compile_s`, `compile_peak_bytes`, and `placement`, how many operators are on the
        `htp` and on the `cpu`.

    Raises:
        EdgeError: the compiler does not take the whole graph, and which operators it leaves.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    sources = sources_of(variants, options)
    total, done = len(sources) * len(options.npu), 0
    with tempfile.TemporaryDirectory(prefix="veca-edge-npu-") as folder:
        for variant, precision in sources:
            weights = within_half(variant.weights)
            model = onnx_from_veca(weights, variant.spec, _DIALECTS[precision], {**facts, "npu": precision})
            if findings := lint_model(model):
                raise EdgeError(f"The file for the NPU breaks a rule: {findings[0].message}", "Please report this.")
            save_models({"source.onnx": model}, Path(folder), "")
            count = sum(1 for _ in model.graph)
            for soc in (SOCS[name] for name in options.npu):
                path = context_path(variant, precision, soc.name)
                (directory / path).parent.mkdir(parents=True, exist_ok=True)
                cost = compile_one(Path(folder, "source.onnx"), directory / path, soc)
                found.setdefault(variant.name, []).append(
                    {
                        "path": path,
                        "soc": soc.name,
                        "precision": precision,
                        "sha256": sha256_of(directory / path),
                        "bytes": bytes_of(directory / path),
                        "sdk": f"QAIRT {sdk_version()}",
                        "package": f"{PACKAGE} {metadata.version(PACKAGE)}",
                        "compile_s": cost.seconds,
                        "compile_peak_bytes": cost.peak_memory_bytes,
                        "placement": {"htp": count, "cpu": 0},
                    }
                )
                done += 1
                progress("compiling for the NPU", done, total)
    return found


def compile_one(source: Path, context: Path, soc: Soc) -> CompilerCost:
    """Compiles one ONNX file. Raises `EdgeError` where some of it stays on the CPU."""
    request = {"source": str(source), "context": str(context), "soc_model": soc.soc_model, "htp_arch": soc.htp_arch}
    try:
        cost = asked({"do": "compile", **request})
    except EdgeError as error:
        context.unlink(missing_ok=True)
        left = left_operators(request, context)
        raise EdgeError(
            f"Qualcomm's compiler does not take the whole graph for {soc.name}"
            + (f": it leaves {left} to the CPU." if left else f": {error.message}"),
            "Leave out the outputs that need them (--outputs), or the --npu.",
        ) from error
    if rest := operators_beside_contexts(context):
        raise EdgeError(f"The compiled file for {soc.name} holds {rest} beside the context.", "Please report this.")
    return cost


def left_operators(request: Mapping[str, Any], context: Path) -> str:
    """The operators that the compiler leaves when it may, in words; empty where it fails in another way."""
    try:
        asked({"do": "compile in parts", **request})
        return operators_beside_contexts(context) if context.is_file() else "everything"
    except EdgeError:
        return ""
    finally:
        context.unlink(missing_ok=True)


def operators_beside_contexts(path: Path) -> str:
    """What a compiled file holds beside its context binaries, in words."""
    import onnx

    nodes = onnx.load(path, load_external_data=False).graph.node
    counts = Counter(node.op_type for node in nodes if node.op_type != "EPContext")
    return ", ".join(f"{count} {name}" for name, count in counts.most_common(8))


@dataclass(frozen=True)
class CompilerCost:
    """What the process of the compiler took: wall time, and resident memory with everything in it."""

    seconds: float
    peak_memory_bytes: int


def asked(request: Mapping[str, Any], longest_s: float = _LONGEST_S) -> CompilerCost:
    """Has the compiler's process do something. Raises `EdgeError` for its errors, and where it ends without one."""
    command = [sys.executable, "-m", f"{__package__}.worker"]
    try:
        done = run_bounded(command, seconds=longest_s, most_bytes=1 << 20, stdin=json.dumps(request).encode())
    except TooSlow as error:
        raise EdgeError(f"Qualcomm's compiler took longer than {longest_s / 60:.0f} minutes.") from error
    except TooLong as error:
        raise EdgeError("Qualcomm's compiler wrote too much.") from error
    lines = done.text.strip().splitlines()
    try:
        answer = parse_json(lines[-1]) if lines else {}
    except ValueError:
        answer = {}
    if "seconds" in answer:
        return CompilerCost(answer["seconds"], answer["peak_memory_bytes"])
    said = answer.get("error") or (done.error_text.splitlines() or ["it said nothing"])[-1]
    raise EdgeError(f"it ended with: {' '.join(str(said).split())[:300]}")


def sdk_version() -> str:
    """That of Qualcomm's SDK which compiles here."""
    from onnxruntime_qnn import build_and_package_info

    return str(build_and_package_info.qnn_version)


# ----------------------------------------------------------------------------------------- emulation


def check_emulation(
    directory: Path,
    artifacts: Sequence[Artifact],
    variants: Sequence[Variant],
    frames: Mapping[Any, np.ndarray],
    least: float,
    progress: Progress = silent,
) -> None:
    """Executes every context binary in the compiler's emulation of the processor, and compares with the float32 model.

    What it finds goes into `npu/emulation.json`: of every file the likeness of each output, on how many frames, and
    what the emulation took.

    Raises:
        GateError: an output is less like the reference's than `least`.
    """
    files = [(a, one) for a in artifacts for one in a.details.get(FOLDER, ())]
    if not files:
        return
    # The float weights of all of them compute the same, also those that INT8 approximates.
    by_place = {place_of(variant): variant for variant in variants}
    found = []
    for i, (artifact, one) in enumerate(files):
        variant = by_place[place_of(artifact)]
        chosen = frames[artifact.image_size][: max(EMULATED_FRAMES, artifact.batch)]
        alike, cost = emulated(directory / one["path"], SOCS[one["soc"]], variant, chosen)
        found.append({"path": one["path"], "frames": len(chosen), "likeness": alike, **asdict(cost)})
        below = [f"'{name}' with a likeness of {value:.4f}" for name, value in alike.items() if not value >= least]
        if below:
            raise GateError(
                f"{one['path']}, executed in Qualcomm's emulation, gives {' and '.join(below)} to the reference, "
                f"below {least:g}.",
                "Try --npu-precision fp16 or a16w8, or allow it with --min-cosine.",
            )
        progress("emulating the NPU", i + 1, len(files))
    (directory / PROOF).write_text(json.dumps(found, indent=1) + "\n")


def emulated(path: Path, soc: Soc, variant: Variant, frames: np.ndarray) -> tuple[dict[str, float], CompilerCost]:
    """Executes a context binary in emulation.

    Returns:
        How alike its outputs are to those of the float32 model, by name (`proof.fidelity.likeness`); what it took.
    """
    import torch

    from ...model.torch_graph import FloatLinear, InferenceModel

    spec = variant.spec
    batches = np.stack(
        [
            np.resize(frames[i : i + spec.batch], (spec.batch, *frames.shape[1:]))
            for i in range(0, len(frames), spec.batch)
        ]
    )
    if spec.input != "image":
        batches = np.stack([normalised(batch) for batch in batches])
    model = InferenceModel(variant.weights, spec, make_linear=FloatLinear).eval()
    with torch.inference_mode():
        made = [model(torch.from_numpy(batch)) for batch in batches]
    expected = {name: torch.cat([m[i] for m in made]).numpy() for i, name in enumerate(spec.outputs)}
    with tempfile.TemporaryDirectory(prefix="veca-edge-npu-") as folder:
        given, left = Path(folder, "frames.npy"), Path(folder, "outputs.npz")
        np.save(given, batches)
        request = {"context": str(path), "soc_model": soc.soc_model, "htp_arch": soc.htp_arch}
        asking = {"do": "emulate", **request, "frames": str(given), "outputs": str(left)}
        cost = asked(asking, _LONGEST_S * len(batches))
        with np.load(left) as outputs:
            return {name: likeness(name, outputs[name], expected[name]) for name in spec.outputs}, cost
