"""ONNX for TensorRT, in the dialect that each release runs fastest and rightly.

| TensorRT | operator set | types | INT8 weights | LayerNorm | built with |
|---|---|---|---|---|---|
| 8.5 (JetPack 5) | 16 | float32 | constant, Q, DQ | written out | `--fp16 --int8` |
| 8.6 (JetPack 6.0) | 17 | float32 | constant, Q, DQ | one operator | `--fp16 --int8` |
| 10 and later | 20 | float16, as written | int8 constant, DQ | one operator | `--stronglyTyped` |

INT8 is on the linear layers and nowhere else: one Q/DQ pair on each distinct input, which q, k and v
share. The coordinates of the core tokens, from the position layer to the sines, are a float32 island.
Before TensorRT 10 a builder chooses types itself; the names of the island's nodes, and of the
LayerNorms that are written out, are then given to it as constraints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ...base.errors import EdgeError
from ...base.progress import Progress, silent
from ...base.spec import GraphSpec
from ...bundle.store import artifact_for
from ...bundle.types import Artifact
from ...model.config import NORM_EPS
from ...model.folding import HALF_MAX, InferenceWeights, Linear, LinearQuantization, within_half
from ...model.plan import Variant
from ...rules.finding import Finding
from ...rules.tensorrt.lint import lint_onnx
from ...rules.tensorrt.releases import Version, tensorrt_version
from ..onnx.dialect import Dialect, short
from ..onnx.elastic import COORDINATES, TOKENS, elastic_from_veca, scales_for_all
from ..onnx.files import external_bytes, save_models
from ..onnx.graph import onnx_from_veca
from .options import TensorrtOptions
from .rtx import compile_with_rtx, rtx_is_installed

FP16_SMALLEST = float(np.finfo(np.float16).smallest_normal)
FP32_SCOPES = ("coordinates", "layer_norm", "metres")
FP32_OPERATORS = ("Add", "Cos", "Div", "MatMul", "Mul", "ReduceMean", "Sin", "Sqrt", "Sub", "Tanh")


# ---------------------------------------------------------------------------------------- dialects


class TensorrtDialect(Dialect):
    """What all releases share: Q/DQ around the linear layers, coordinates in float32. Types are float32.

    Nodes within the scopes `FP32_SCOPES` have to compute in float32 in any precision.
    """

    name = ""  # of the dialect, for the manifest

    def label_type(self, classes: int) -> ir.DataType:
        return ir.DataType.INT32  # TensorRT makes bytes of floats only

    def linears(self, x: ir.Value, tokens: int, layers: Sequence[Linear]) -> list[ir.Value]:
        first = next((layer for layer in layers if layer.quantization), None)
        if first is None or first.quantization is None:
            return super().linears(x, tokens, layers)
        g, zero = self.g, self.g.constant("zero_point", np.array(0, np.int8))
        with g.within(short(first.name)):
            scale = self.scale("input_scale", first.quantization.activation_scale)
            codes = g("QuantizeLinear", x, scale, zero, name="quantize")
            rounded = g("DequantizeLinear", codes, scale, zero, name="dequantize")
        return [
            self.quantized_linear(rounded, layer, q) if (q := layer.quantization) else self.float_linear(x, layer)
            for layer in layers
        ]

    def quantized_linear(self, x: ir.Value, layer: Linear, q: LinearQuantization) -> ir.Value:
        with self.g.within(short(layer.name)):
            product = self.g("MatMul", x, self.quantized_weight(q))
            return self.g("Add", product, self.array("bias", layer.bias))

    def scale(self, name: str, value: float | np.ndarray) -> ir.Value:
        return self.array(name, np.asarray(value))

    def quantized_weight(self, q: LinearQuantization) -> ir.Value:
        """The dequantized weight `[in, out]`."""
        raise NotImplementedError

    def move_cores(self, raw: ir.Value, cores: ir.Value, position: Linear) -> ir.Value:
        with self.g.within("coordinates"):
            return super().move_cores(raw, cores, position)

    def rotary_tables(self, raw: ir.Value) -> tuple[ir.Value, ir.Value]:
        # No matrix product: on GPUs those may run in TF32, with ten bits for the angle.
        g = self.g
        frequencies = (2 * np.pi / self.weights.periods).astype(np.float32)
        with g.within("coordinates"):
            at = g("Unsqueeze", g("Tanh", raw), g.ints([1, 4]))
            angles = g("Mul", at, g.constant("frequencies", frequencies))
            angles = g("Reshape", angles, g.ints([self.batch, 1, -1, self.config.head_dim // 2]))
            return g("Cos", angles), g("Sin", angles)


class Tensorrt86(TensorrtDialect):
    """TensorRT 8.6: everything float32; weights are quantized from float32 constants."""

    name = "float32, weakly typed"
    opset = 17
    ir_version = 8

    def quantized_weight(self, q: LinearQuantization) -> ir.Value:
        # Codes times scales quantize back to the very codes. Layout and axis are those of NVIDIA's own toolkit.
        g, scale = self.g, self.scale("weight_scale", q.weight_scale)
        zero = g.constant("weight_zero_point", np.zeros(len(q.weight_scale), np.int8))
        weight = self.array("weight", q.codes * q.weight_scale[:, None])
        codes = g("QuantizeLinear", weight, scale, zero, axis=0, name="weight_quantize")
        return g("Transpose", g("DequantizeLinear", codes, scale, zero, axis=0, name="weight_dequantize"), perm=[1, 0])


class Tensorrt85(Tensorrt86):
    """TensorRT 8.5: like 8.6, but without the LayerNormalization operator."""

    opset = 16

    def layer_norm(self, x: ir.Value, gain: np.ndarray, shift: np.ndarray | None = None) -> ir.Value:
        g = self.g
        with g.within("layer_norm"):
            centred = g("Sub", x, g("ReduceMean", x, axes=[-1], keepdims=1))
            variance = g("ReduceMean", g("Mul", centred, centred), axes=[-1], keepdims=1)
            x = g("Div", centred, g("Sqrt", g("Add", variance, self.array("epsilon", np.array(NORM_EPS)))))
            x = x if np.all(gain == 1) else g("Mul", x, self.array("gain", gain))
            return x if shift is None else g("Add", x, self.array("shift", shift))


class Tensorrt10(TensorrtDialect):
    """TensorRT 10 and later, float32 as written; int8 weights are stored as such."""

    name = "float32, strongly typed"
    opset = 20
    ir_version = 9

    def quantized_weight(self, q: LinearQuantization) -> ir.Value:
        g = self.g
        return g(
            "DequantizeLinear",
            g.constant("codes", q.codes.T),
            self.scale("weight_scale", q.weight_scale),
            axis=1,
            name="weight_dequantize",
        )


class Tensorrt10Half(Tensorrt10):
    """TensorRT 10 and later, float16 as written, but for the coordinates; inputs and outputs as everywhere."""

    name = "float16, strongly typed"

    def array(self, name: str, array: np.ndarray) -> ir.Value:
        largest = float(np.abs(array).max(initial=0.0))
        if not largest <= HALF_MAX:
            raise EdgeError(
                f"'{self.g.scope}{name}' reaches {largest:.4g}, and FP16 ends at {HALF_MAX:.0f}.",
                "Export this model with --precision fp32.",
            )
        return self.g.constant(name, array.astype(np.float16))

    def floats(self, image: ir.Value) -> ir.Value:
        # TensorRT reads camera bytes only through a Cast, before anything moves them.
        return self.g("Cast", image, to=ir.DataType.FLOAT16)

    def scale(self, name: str, value: float | np.ndarray) -> ir.Value:
        return self.array(name, np.maximum(value, FP16_SMALLEST))

    def quantized_weight(self, q: LinearQuantization) -> ir.Value:
        # A channel of tiny weights takes the smallest normal scale, and fewer of its codes.
        scale = np.maximum(q.weight_scale, FP16_SMALLEST)
        codes = np.rint(q.codes * (q.weight_scale / scale)[:, None]).astype(np.int8)
        return super().quantized_weight(LinearQuantization(codes, scale, q.activation_scale))

    def move_cores(self, raw: ir.Value, cores: ir.Value, position: Linear) -> ir.Value:
        g = self.g
        with g.within("coordinates"), g.within(short(position.name)):
            cores = g("Cast", cores, to=ir.DataType.FLOAT)
            product = g("MatMul", cores, g.constant("weight", position.weight.T))
            return g("Add", raw, g("Add", product, g.constant("bias", position.bias)))

    def rotary_tables(self, raw: ir.Value) -> tuple[ir.Value, ir.Value]:
        cos, sin = super().rotary_tables(raw)
        return self.g("Cast", cos, to=ir.DataType.FLOAT16), self.g("Cast", sin, to=ir.DataType.FLOAT16)

    def entering(self, x: ir.Value) -> ir.Value:
        return self.g("Cast", x, to=ir.DataType.FLOAT16)

    def output(self, x: ir.Value) -> ir.Value:
        return self.g("Cast", x, to=ir.DataType.FLOAT)

    def precise(self, x: ir.Value) -> ir.Value:
        return self.g("Cast", x, to=ir.DataType.FLOAT)


def dialect_for(version: Version, precision: str) -> type[TensorrtDialect]:
    """The newest that a TensorRT reads, for a precision."""
    if version >= (10, 0):
        return Tensorrt10 if precision == "fp32" else Tensorrt10Half
    return Tensorrt86 if version >= (8, 6) else Tensorrt85


# ------------------------------------------------------------------------------------------- files


def tensorrt_models_from_variants(
    variants: Sequence[Variant],
    directory: Path,
    metadata: Mapping[str, str],
    options: TensorrtOptions | None = None,
    progress: Progress = silent,
) -> list[Artifact]:
    """Writes ONNX files under `directory/models`, checked against TensorRT's rules: one per variant, or elastic ones.

    An artifact's details say the dialect, how trtexec has to build the file (`build_flags`), and what
    TensorRT-RTX made of it (`compile`), or why it was not asked (`compile_skipped`). Those of an elastic file
    name its optimization profiles (`profiles`), which of them is the artifact's (`profile`), and the file in
    the bundle that holds the further inputs (`constants`).

    Raises:
        EdgeError: a variant is impossible for the model or for FP16, breaks a rule, or is refused by TensorRT-RTX.
    """
    options = options or TensorrtOptions()
    version = tensorrt_version(options.tensorrt)
    if options.elastic and not is_strongly_typed(version):
        raise EdgeError(
            f"One engine for several core counts needs TensorRT 10; this export is for {options.tensorrt}.",
            "Leave out --elastic, or export for JetPack 6.1 or later.",
        )
    files = files_for(variants, options.elastic)
    details = {}
    for i, (name, group) in enumerate(files.items()):
        details[name] = write_file(name, group, directory, metadata, options)
        progress("writing models", i + 1, len(files))
    for i, name in enumerate(files):
        details[name] |= compiled(directory / "models" / f"{name}.onnx", version, options, details[name])
        progress("compiling with TensorRT-RTX", i + 1, len(files))
    artifacts = {}
    for name, group in files.items():
        for i, variant in enumerate(group):
            own = {"profile": i, "constants": write_core_inputs(variant, directory)} if options.elastic else {}
            path = f"models/{name}.onnx"
            artifacts[variant.name] = artifact_for(
                directory,
                path,
                "onnx",
                "jetson",
                variant,
                details={**details[name], **own},
                external_bytes=external_bytes(directory / path),
            )
    return [artifacts[variant.name] for variant in variants]


def files_for(variants: Sequence[Variant], elastic: bool) -> dict[str, list[Variant]]:
    """File stems and the variants in each: one, or all core counts of a precision and image size."""
    files: dict[str, list[Variant]] = {}
    for variant in variants:
        name = f"elastic_{variant.precision}_{variant.spec.image_size}" if elastic else variant.name
        files.setdefault(name, []).append(variant)
    return files


def write_file(
    name: str, variants: Sequence[Variant], directory: Path, metadata: Mapping[str, str], options: TensorrtOptions
) -> dict[str, Any]:
    """Writes one file that breaks no rule; returns its artifacts' details."""
    if variants[0].precision != "fp32":
        variants = [replace(variant, weights=within_half(variant.weights)) for variant in variants]
    first = variants[0]
    dialect = dialect_for(tensorrt_version(options.tensorrt), first.precision)
    facts = {**metadata, "precision": first.precision, "tensorrt": options.tensorrt}
    folder, about = directory / "models", {}
    if options.elastic:
        weights = scales_for_all([variant.weights for variant in variants])
        model = elastic_from_veca(weights, first.spec, dialect, facts)
        about = {"profiles": [point_profile(weights, variant.spec) for variant in variants]}
    else:
        model = onnx_from_veca(first.weights, first.spec, dialect, {**facts, "core_count": str(first.spec.core_count)})
    refuse_findings(name, lint_onnx(model, options.tensorrt, allow_dynamic=options.elastic))
    save_models({f"{name}.onnx": model}, folder, "")
    return described(model, dialect, first.precision, options) | about


def write_core_inputs(variant: Variant, directory: Path) -> str:
    """The inputs that make an elastic file one core count's, in a file beside it; returns its path in the bundle."""
    spec, weights = variant.spec, variant.weights
    path = f"models/{variant.name}.npz"
    inputs: dict[str, Any] = {
        name: np.repeat(array[None, : spec.core_count], spec.batch, axis=0)
        for name, array in ((TOKENS, weights.cores), (COORDINATES, weights.core_coordinates))
    }
    np.savez(directory / path, **inputs)
    return path


def point_profile(weights: InferenceWeights, spec: GraphSpec) -> dict[str, list[list[int]]]:
    """Smallest, likely and largest shape of the dynamic inputs, all the same."""
    widths = {TOKENS: weights.config.hidden, COORDINATES: 2}
    return {name: [[spec.batch, spec.core_count, width]] * 3 for name, width in widths.items()}


def refuse_findings(name: str, findings: Sequence[Finding]) -> None:
    """A file that breaks a rule is not written: that is a fault of the dialect or of the weights."""
    if findings:
        listed = "\n".join(f"  {f.rule}, {f.node or 'the whole file'}: {f.message}" for f in findings[:10])
        raise EdgeError(
            f"The TensorRT file of '{name}' would break {len(findings)} of TensorRT's rules:\n{listed}",
            "Try another --precision, and please report this with the checkpoint.",
        )


def described(
    model: ir.Model, dialect: type[TensorrtDialect], precision: str, options: TensorrtOptions
) -> dict[str, Any]:
    """What an artifact's details say of a file as it was written."""
    counts = Counter(node.op_type for node in model.graph)
    version = tensorrt_version(options.tensorrt)
    return {
        "tensorrt": options.tensorrt,
        "dialect": dialect.name,
        "opset": dialect.opset,
        "ir_version": dialect.ir_version,
        "nodes": sum(counts.values()),
        "casts": counts["Cast"],
        "strongly_typed": is_strongly_typed(version),
        "build_flags": build_flags(model, version, precision),
    }


def is_strongly_typed(version: Version) -> bool:
    """Whether this TensorRT takes the types of a file as they are, and is given files that say all of them."""
    return version >= (10, 0)


def build_flags(model: ir.Model, version: Version, precision: str) -> list[str]:
    """What trtexec needs to build a file in the types it is meant for. FP32 means FP32, not TF32."""
    if is_strongly_typed(version):
        return ["--stronglyTyped", "--noTF32"]
    flags = {"int8": ["--int8", "--fp16"], "fp16": ["--fp16"], "fp32": []}[precision]
    if flags:
        names = [
            node.name
            for node in model.graph
            if node.op_type in FP32_OPERATORS and not set(FP32_SCOPES).isdisjoint((node.name or "").split("."))
        ]
        types = ",".join(f"{name}:fp32" for name in names)
        flags += ["--precisionConstraints=obey", f"--layerPrecisions={types}", f"--layerOutputTypes={types}"]
    return [*flags, "--noTF32"]


def compiled(path: Path, version: Version, options: TensorrtOptions, details: Mapping[str, Any]) -> dict[str, Any]:
    """The compile report as JSON, or why there is none."""
    if not options.compile:
        return {"compile_skipped": "not asked for"}
    if not is_strongly_typed(version):
        return {"compile_skipped": "TensorRT-RTX takes strongly typed files only"}
    if not rtx_is_installed():
        return {"compile_skipped": "tensorrt-rtx is not installed"}
    report = compile_with_rtx(path, details.get("profiles"))
    return {"compile": {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(report).items()}}
