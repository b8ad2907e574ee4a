"""Core ML's rules as named checks on a saved package, anybody's.

Which operators the Neural Engine takes is not written down by Apple and differs by chip and system. The
checks say what is documented or reported; the compute plan on a Mac (`veca-edge profile`) has the last word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..formats.mlpackage import Constant, Function, MlPackage, Operation, TensorType, read_mlpackage
from .finding import Finding

# Operators of this kind of model that are reported to run on the Neural Engine, or that vanish at compile time.
ACCEPTED = frozenset(
    {
        "add",
        "cast",
        "classify",
        "concat",
        "const",
        "constexpr_blockwise_shift_scale",
        "conv",
        "cos",
        "dequantize",
        "expand_dims",
        "gelu",
        "identity",
        "layer_norm",
        "linear",
        "matmul",
        "mul",
        "quantize",
        "real_div",
        "relu",
        "reshape",
        "sigmoid",
        "silu",
        "sin",
        "slice_by_index",
        "slice_by_size",
        "softmax",
        "split",
        "squeeze",
        "sub",
        "tanh",
        "transpose",
    }
)
# What they make leaves the Neural Engine anyway, where it is an output.
AT_THE_END = frozenset({"reduce_argmax"})
REFUSED = {
    "gather": "gathers are reported to run on the CPU only",
    "gather_along_axis": "gathers are reported to run on the CPU only",
    "gather_nd": "gathers are reported to run on the CPU only",
    "scaled_dot_product_attention": "the fused operator is reported to fail to compile for the Neural Engine and to "
    "differ on iOS 26; matmul and softmax are safe",
    "constexpr_affine_dequantize": "with int8 it is reported to be wrong on GPU and Neural Engine; "
    "constexpr_blockwise_shift_scale (iOS 18) is not",
}
# The first specification version that has an operator or form.
FIRST_VERSION = {
    "quantize": 8,
    "dequantize": 8,
    "constexpr_blockwise_shift_scale": 9,
    "scaled_dot_product_attention": 9,
}
MULTIFUNCTION_VERSION = 9
IOS_OF_VERSION = {6: 15, 7: 16, 8: 17, 9: 18, 10: 26}
MAX_RANK = 4
SMALLEST_NORMAL = 2.0**-14
# Single tiny numbers among many are normal, and a short bias loses nothing that counts.
SUBNORMAL_SHARE = 0.05
SMALLEST_ARRAY = 32
SHARED_BYTES = 1024

ANE_ARTICLE = "https://machinelearning.apple.com/research/neural-engine-transformers"
GUIDE = "https://apple.github.io/coremltools/docs-guides/source"
ISSUES = "https://github.com/apple/coremltools"


def lint_mlpackage(path: str | Path) -> list[Finding]:
    """Checks a package; an empty list means that no rule is broken.

    Raises:
        EdgeError: it is not an ML Program, or is damaged.
    """
    package = read_mlpackage(path)
    findings = [*_deployment_target(package), *_shared_weights(package)]
    for function in package.functions.values():
        for check in (_operators, _types, _scales, _image_input):
            findings += check(function)
    return [*findings, *_numbers(package)]


def _deployment_target(package: MlPackage) -> Iterator[Finding]:
    version = package.specification_version
    ios = IOS_OF_VERSION.get(version, f"specification {version}")

    def finding(node: str, what: str, needed: int) -> Finding:
        return Finding(
            "deployment-target",
            node,
            f"{what} needs iOS {IOS_OF_VERSION[needed]}, but the package says iOS {ios}",
            "Core ML refuses the model, or the app crashes on the older system.",
            f"{GUIDE}/opt-whats-new.html",
        )

    if len(package.functions) > 1 and version < MULTIFUNCTION_VERSION:
        yield finding("", "a package with several functions", MULTIFUNCTION_VERSION)
    for function in package.functions.values():
        for op in function.operations:
            if version < FIRST_VERSION.get(op.type, 0):
                yield finding(_node(function, op), f"the operator {op.type}", FIRST_VERSION[op.type])


def _leaves(function: Function, op: Operation) -> bool:
    return op.type in AT_THE_END and set(op.outputs) <= set(function.results)


def _operators(function: Function) -> Iterator[Finding]:
    for op in function.operations:
        if op.type in REFUSED:
            source = f"{ISSUES}/pull/2677" if op.type.startswith("constexpr") else f"{ISSUES}/issues/1103"
            yield Finding("operator", _node(function, op), f"the operator {op.type}", f"{REFUSED[op.type]}.", source)
        elif _leaves(function, op):
            continue
        elif op.type not in ACCEPTED:
            yield Finding(
                "operator",
                _node(function, op),
                f"the operator {op.type}",
                "It is not among those reported to run on the Neural Engine; every such operator moves the "
                "data to another unit and back.",
                f"{ISSUES}/issues/1780",
            )


def _types(function: Function) -> Iterator[Finding]:
    wide = 0
    first = ""
    for op in function.operations:
        if op.type == "const" or op.type.startswith("constexpr_"):
            continue
        for name, kind in op.outputs.items():
            node = f"{function.name}: {name}"
            if len(kind.shape) > MAX_RANK:
                yield Finding(
                    "rank",
                    node,
                    f"rank {len(kind.shape)} {list(kind.shape)}",
                    "The Neural Engine works on 4 axes; more make it copy, or leave it.",
                    ANE_ARTICLE,
                )
            if any(size < 1 for size in kind.shape):
                yield Finding(
                    "static-shape",
                    node,
                    f"shape {list(kind.shape)}",
                    "An unknown size keeps the model from being compiled for the Neural Engine.",
                    f"{GUIDE}/flexible-inputs.html",
                )
            if kind.dtype in ("INT16", "INT32", "INT64", "UINT16", "UINT32", "BOOL") and not _leaves(function, op):
                yield Finding(
                    "integer-tensor",
                    node,
                    f"a computed tensor of type {kind.dtype}",
                    "Integer arithmetic runs on the CPU.",
                    f"{GUIDE}/typed-execution.html",
                )
        if _computes_wide(op):
            wide += 1
            first = first or op.name
    if wide:
        yield Finding(
            "float32",
            f"{function.name}: {first}",
            f"{wide} operations compute in FLOAT32",
            "The Neural Engine computes in FP16 only: each stretch in FLOAT32 moves the data to the CPU or "
            "GPU and back.",
            f"{GUIDE}/typed-execution.html",
        )


def _computes_wide(op: Operation) -> bool:
    """FLOAT32 outside the casts at both ends and the classifier's probabilities."""
    return op.type not in ("cast", "classify") and any(t == TensorType("FLOAT32", t.shape) for t in op.outputs.values())


def _scales(function: Function) -> Iterator[Finding]:
    constants = function.constants
    for op in function.operations:
        if op.type == "constexpr_blockwise_shift_scale":
            scale, data = (_array(op, name, constants) for name in ("scale", "data"))
            if scale is not None and data is not None and any(n > 1 for n in scale.shape[1:]):
                yield Finding(
                    "per-channel-scale",
                    _node(function, op),
                    f"scales {list(scale.shape)} for weights {list(data.shape)}",
                    "Per-block scales are meant for the GPU; the Neural Engine wants one per output channel.",
                    f"{GUIDE}/opt-overview.html",
                )
        if op.type in ("quantize", "dequantize"):
            zero = _array(op, "zero_point", constants)
            if zero is not None and np.any(zero != 0):
                yield Finding(
                    "zero-point",
                    _node(function, op),
                    f"zero point {int(np.ravel(zero)[0])}",
                    "A zero point other than 0 adds a correction to every product.",
                    f"{GUIDE}/opt-quantization-algos.html",
                )


def _image_input(function: Function) -> Iterator[Finding]:
    if not any(feature.kind == "image" for feature in function.inputs):
        names = ", ".join(f.name for f in function.inputs)
        yield Finding(
            "image-input",
            f"{function.name}: {names}",
            "no input is an image",
            "The app has to convert and normalise every camera frame itself, on the CPU.",
            f"{GUIDE}/image-inputs.html",
        )


def _by_number(name: str) -> tuple[int, str]:
    """`cores_8` before `cores_16`."""
    return len(name), name


def _shared_weights(package: MlPackage) -> Iterator[Finding]:
    """Equal arrays stored twice, and layers of one name whose weights differ between functions."""
    places: dict[tuple[str, tuple[int, ...], str], dict[int, str]] = {}
    layers: dict[str, dict[int, str]] = {}
    digests: dict[tuple[int, str, tuple[int, ...]], str] = {}
    for function in package.functions.values():
        for name, constant in _written(function):
            if constant.offset is None or constant.value.nbytes < SHARED_BYTES:
                continue
            place = (constant.offset, constant.dtype, constant.value.shape)
            digest = digests[place] = digests.get(place) or hashlib.sha256(constant.value.tobytes()).hexdigest()
            places.setdefault((constant.dtype, constant.value.shape, digest), {})[constant.offset] = name
        for name, constant in _layer_weights(function):
            layers.setdefault(name, {}).setdefault(constant.offset or 0, function.name)
    source = f"{GUIDE}/multifunction-models.html"
    for (dtype, shape, _), found in places.items():
        if len(found) > 1:
            yield Finding(
                "shared-weights",
                next(iter(found.values())),
                f"{dtype} {list(shape)} is stored {len(found)} times",
                "The package is larger than it has to be, on disk and in memory.",
                source,
            )
    for name, found in layers.items():
        if len(found) > 1:
            functions = ", ".join(sorted(found.values(), key=_by_number))
            yield Finding(
                "shared-weights",
                name,
                f"the weights differ between {functions}",
                "Functions that share nothing take as much room as separate packages.",
                source,
            )


def _numbers(package: MlPackage) -> Iterator[Finding]:
    """FP16 constants that are not finite, or lose their precision below the smallest normal number."""
    seen: set[int] = set()
    for function in package.functions.values():
        constants = function.constants
        scales = {id(_constant(op, "scale", constants)) for op in function.operations if "scale" in op.inputs}
        for name, constant in _written(function):
            if constant.dtype != "FLOAT16" or constant.offset in seen:
                continue
            if constant.offset is not None:
                seen.add(constant.offset)
            values = np.abs(np.asarray(constant.value, np.float32))
            node = f"{function.name}: {name}"
            if not np.isfinite(values).all():
                yield Finding(
                    "finite-weights", node, "Inf or NaN", "The output is Inf or NaN.", f"{GUIDE}/typed-execution.html"
                )
            small = (values > 0) & (values < SMALLEST_NORMAL)
            scale = id(constant) in scales
            if small.any() and (scale or (values.size >= SMALLEST_ARRAY and small.mean() > SUBNORMAL_SHARE)):
                yield Finding(
                    "subnormal",
                    node,
                    f"{small.mean():.0%} of {values.size} numbers are subnormal in FP16",
                    "They keep few of their bits, and some units flush them to zero.",
                    "IEEE 754-2019, 3.4 (binary16)",
                )


def _written(function: Function) -> Iterator[tuple[str, Constant]]:
    """Every constant of a function, with a name for it; `offset` is None for those outside of the weights file."""
    for op in function.operations:
        for parameter, bound in op.inputs.items():
            for constant in bound:
                if isinstance(constant, Constant):
                    name = next(iter(op.outputs), op.name)
                    yield (name if op.type == "const" else f"{name}.{parameter}"), constant


def _layer_weights(function: Function) -> Iterator[tuple[str, Constant]]:
    constants = function.constants
    made_by = {name: op for op in function.operations for name in op.outputs}
    for op in function.operations:
        weight = op.inputs.get("weight", (None,))[0]
        if op.type in ("linear", "conv") and isinstance(weight, str):
            source = made_by.get(weight)
            parameter = "data" if source is not None and source.type.startswith("constexpr_") else "val"
            constant = source and _constant(source, parameter, constants)
            if constant and constant.offset is not None:
                yield op.name, constant


def _constant(op: Operation, parameter: str, constants: dict[str, Constant]) -> Constant | None:
    bound = op.inputs.get(parameter, (None,))[0]
    return constants.get(bound) if isinstance(bound, str) else bound


def _array(op: Operation, parameter: str, constants: dict[str, Constant]) -> np.ndarray | None:
    constant = _constant(op, parameter, constants)
    return constant.value if constant is not None and isinstance(constant.value, np.ndarray) else None


def _node(function: Function, op: Operation) -> str:
    return f"{function.name}: {op.name}"
