"""LiteRT's rules as named checks on a `.tflite` file, anybody's: what a delegate leaves to the slow kernels, and why.

A delegate is what runs a part of a model fast: XNNPACK on the CPU, others on a GPU or an NPU. Every operator that it
leaves out cuts the model in pieces. Whether a certain phone's driver takes what its delegate takes is known only there.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ..formats.tflite import TfliteModel, TfliteOperator, TfliteSubgraph, TfliteTensor, builtin_operators, read_tflite
from .finding import Finding
from .litert_operators import (
    CAMERA,
    METADATA,
    NAMES,
    NNAPI_MIGRATION,
    OPERATORS,
    QUANTIZATION,
    SCHEMA,
    SIGNATURES,
    SOURCES,
    SUBGRAPH,
    TENSOR_LEAVES,
    VERSIONS,
)

FLOATS = ("FLOAT32", "FLOAT16")
# Types of values that XNNPACK computes with; the rest of its inputs are constants.
XNNPACK_TYPES = (*FLOATS, "INT8", "UINT8")
# Types of values that others compute with; what is in `SCALED` has to have a scale.
NNAPI_TYPES = ("FLOAT32", "INT8", "UINT8", "INT32", "BOOL")
MEDIATEK_TYPES = (*FLOATS, "INT8", "UINT8", "INT16", "UINT16", "INT4", "INT32", "BOOL")
SCALED = ("INT8", "INT16", "UINT16", "INT4")
MAX_RANK = 4
MAX_SPLITS = 4
SHOWN_NODES = 3
SHARED_BYTES = 1024
# Operators that have weights, as input 1.
WEIGHTED = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")
SMALL_CODES = ("INT8", "INT4", "INT2")
KNOWN_METADATA = ("veca_edge", "TFLITE_METADATA")

# What was found at an operator, why it matters, where it is written down; and the rule's name.
Reason = tuple[str, str, str, str]


def lint_tflite(path: str | Path, delegate: str = "xnnpack") -> list[Finding]:
    """Checks a file for one delegate; an empty list means that no rule is broken.

    What is wrong at many places in the same way is one finding that names a few of them.

    Args:
        delegate: one of `options.DELEGATES`.

    Raises:
        EdgeError: it is no LiteRT file, or is damaged. MissingDependency: no LiteRT.
    """
    model = read_tflite(path)
    findings = [*_signatures(model), *_metadata(model), *_duplicates(model), *_deprecated(delegate)]
    for subgraph in model.subgraphs:
        findings += [*_image(subgraph), *_shapes(subgraph), *_weights(subgraph), *_operators(subgraph, delegate)]
    return together(findings)


def together(findings: Sequence[Finding]) -> list[Finding]:
    """One finding for those that differ in their place alone."""
    places: dict[Finding, list[str]] = defaultdict(list)
    for finding in findings:
        places[replace(finding, node="")].append(finding.node)
    made = []
    for finding, nodes in places.items():
        shown = ", ".join(nodes[:SHOWN_NODES]) + (", ..." if len(nodes) > SHOWN_NODES else "")
        message = finding.message + (f", at {len(nodes)} places" if len(nodes) > 1 else "")
        made.append(replace(finding, node=shown, message=message))
    return made


def _node(subgraph: TfliteSubgraph, tensor: int) -> str:
    return "/".join(part for part in (subgraph.name, subgraph.tensors[tensor].name) if part)


# ------------------------------------------------------------------------------------- the file


def _signatures(model: TfliteModel) -> Iterator[Finding]:
    if not model.signatures:
        yield Finding(
            "signature",
            "",
            f"{len(model.subgraphs)} subgraphs, and no signature",
            "An app can name neither the model's inputs and outputs nor, of several subgraphs, the one it wants.",
            SIGNATURES,
        )


def _metadata(model: TfliteModel) -> Iterator[Finding]:
    if not set(KNOWN_METADATA) & set(model.metadata):
        yield Finding(
            "metadata",
            "",
            f"no metadata {' or '.join(KNOWN_METADATA)}",
            "An app cannot learn from the file how frames are prepared, or what the outputs mean.",
            METADATA,
        )


def _duplicates(model: TfliteModel) -> Iterator[Finding]:
    lengths: dict[int, list[int]] = defaultdict(list)
    for i, (_, length) in enumerate(model.buffers):
        if length >= SHARED_BYTES:
            lengths[length].append(i)
    for length, alike in lengths.items():
        if len(alike) < 2:
            continue
        equal: dict[bytes, list[int]] = defaultdict(list)
        for i in alike:
            equal[hashlib.sha256(model.content(i)).digest()].append(i)
        for buffers in (b for b in equal.values() if len(b) > 1):
            yield Finding(
                "duplicated-buffer",
                ", ".join(f"buffer {i}" for i in buffers[:4]) + (", ..." if len(buffers) > 4 else ""),
                f"{len(buffers)} buffers hold the same {length:,} bytes",
                "Tensors of several subgraphs may share one buffer; these bytes are downloaded and mapped in vain.",
                SCHEMA,
            )


def _deprecated(delegate: str) -> Iterator[Finding]:
    if delegate == "nnapi":
        yield Finding(
            "deprecated",
            "",
            "the delegate nnapi",
            "NNAPI is deprecated since Android 15, and what takes a model there is the phone's driver. LiteRT's "
            "CompiledModel reaches a GPU, and through the makers' own compilers an NPU.",
            NNAPI_MIGRATION,
        )


# --------------------------------------------------------------------------------- the subgraphs


def _image(subgraph: TfliteSubgraph) -> Iterator[Finding]:
    for index in subgraph.inputs:
        tensor = subgraph.tensors[index]
        if tensor.dtype in FLOATS and len(tensor.shape) == 4 and 3 in (tensor.shape[-1], tensor.shape[1]):
            yield Finding(
                "image-input",
                _node(subgraph, index),
                f"an image of {tensor.dtype} {list(tensor.shape)}",
                "A camera's frames are bytes: the app would make four times as many of them for every frame.",
                CAMERA,
            )


def _shapes(subgraph: TfliteSubgraph) -> Iterator[Finding]:
    for index, tensor in enumerate(subgraph.tensors):
        if -1 in tensor.shape:
            yield Finding(
                "dynamic-shape",
                _node(subgraph, index),
                f"the shape {list(tensor.shape)}",
                "Most delegates take static shapes alone: the model is then left to the slow kernels, or prepared "
                "anew with every size.",
                SUBGRAPH,
            )


def _weights(subgraph: TfliteSubgraph) -> Iterator[Finding]:
    for operator in subgraph.operators:
        weight = _tensor(subgraph, operator.inputs, 1) if operator.type in WEIGHTED else None
        if weight is None or weight.dtype not in SMALL_CODES or weight.quantization is None or not weight.shape:
            continue
        rows = weight.shape[-1] if operator.type == "DEPTHWISE_CONV_2D" else weight.shape[0]
        if len(weight.quantization.scales) == 1 < rows:
            yield Finding(
                "per-tensor-weights",
                _node(subgraph, operator.inputs[1]),
                f"{weight.dtype} weights {list(weight.shape)} with one scale",
                "One scale for all output channels loses accuracy; a scale for each costs nothing.",
                QUANTIZATION,
            )
        if not weight.quantization.symmetric:
            yield Finding(
                "zero-point",
                _node(subgraph, operator.inputs[1]),
                f"{weight.dtype} weights with a zero point that is not 0",
                "The specification asks for 0, and XNNPACK refuses others.",
                QUANTIZATION,
            )


def _tensor(subgraph: TfliteSubgraph, indices: Sequence[int], position: int) -> TfliteTensor | None:
    index = indices[position] if position < len(indices) else -1
    return subgraph.tensors[index] if index >= 0 else None


# --------------------------------------------------------------------------------- the delegates


def _operators(subgraph: TfliteSubgraph, delegate: str) -> Iterator[Finding]:
    """What the delegate leaves out, and in how many pieces it takes the rest."""
    taken = []
    for operator in subgraph.operators:
        reason = _left_out(subgraph, operator, delegate)
        taken.append(reason is None)
        if reason is not None:
            rule, message, why, source = reason
            node = _node(subgraph, operator.outputs[0]) if operator.outputs else subgraph.name
            yield Finding(rule, node, message, why, source)
    pieces = partitions(subgraph, taken)
    if pieces > 1:
        yield Finding(
            "partitions",
            subgraph.name,
            f"the delegate takes it in {pieces} pieces, and leaves {taken.count(False)} operators out",
            "Between two pieces data goes back to the CPU's own kernels; on a GPU or NPU that can cost more than it "
            "saves.",
            SUBGRAPH,
        )


def _left_out(subgraph: TfliteSubgraph, operator: TfliteOperator, delegate: str) -> Reason | None:
    """Why a delegate does not take an operator, or takes it wrongly; None where it is fine."""
    source = SOURCES[delegate]
    first = _tensor(subgraph, operator.inputs, 0)
    if operator.type == "CAST" and first is not None and first.dtype in ("UINT8", "INT8") and delegate in CAST_WHY:
        return "image-cast", f"CAST makes floats of {first.dtype}", CAST_WHY[delegate], source
    if not _takes(delegate, operator.type):
        return "operator", f"the operator {operator.type}", f"{NAMES[delegate]} does not take it.", source
    most = VERSIONS.get(delegate, {}).get(operator.type)
    if most is not None and operator.version > most and not _is_folded(subgraph, operator):
        why = f"{NAMES[delegate]} takes versions up to {most}."
        if operator.type == "FULLY_CONNECTED":
            why += (
                " INT8 weights with a scale per channel, and activations that are quantized while it runs, are version "
                "12; float weights, or FP16 ones, need no higher."
            )
        return "operator-version", f"{operator.type} of version {operator.version}", why, source
    check = CHECKS.get(delegate)
    found = check(subgraph, operator) if check else None
    return found and (*found, source)


CAST_WHY = {
    "xnnpack": "XNNPACK has no CAST. A DEQUANTIZE of bytes that have a scale does the same inside.",
    "npu": "In the emulation of Qualcomm's compiler a CAST of bytes gives wrong numbers, without an error. A "
    "DEQUANTIZE of bytes that have a scale gives right ones.",
}


def _takes(delegate: str, operator: str) -> bool:
    if delegate == "tensor":
        return operator in builtin_operators() - TENSOR_LEAVES
    return operator in OPERATORS[delegate]


def _is_folded(subgraph: TfliteSubgraph, operator: TfliteOperator) -> bool:
    """Whether it makes floats of FP16 constants, which the NNAPI delegate does when it loads."""
    first = _tensor(subgraph, operator.inputs, 0)
    return operator.type == "DEQUANTIZE" and first is not None and first.dtype == "FLOAT16" and first.buffer is not None


def _values(subgraph: TfliteSubgraph, operator: TfliteOperator) -> list[TfliteTensor]:
    """An operator's inputs and outputs that are no constants."""
    tensors = [subgraph.tensors[i] for i in (*operator.inputs, *operator.outputs) if i >= 0]
    return [tensor for tensor in tensors if tensor.buffer is None]


def _left_by_xnnpack(subgraph: TfliteSubgraph, operator: TfliteOperator) -> tuple[str, str, str] | None:
    for tensor in _values(subgraph, operator):
        if tensor.dtype not in XNNPACK_TYPES or (tensor.dtype in ("INT8", "UINT8") and tensor.quantization is None):
            why = "XNNPACK computes with floats, and with 8-bit tensors that have a scale."
            return "type", f"{operator.type} on {tensor.dtype}", why
    if operator.type == "FULLY_CONNECTED":
        given, made = (_tensor(subgraph, side, 0) for side in (operator.inputs, operator.outputs))
        if given and made and given.dtype != made.dtype:
            why = (
                "XNNPACK refuses mixed types: INT8 in means INT8 out. Float in and out with INT8 weights is its fast "
                "form, which quantizes activations itself."
            )
            return "mixed-types", f"FULLY_CONNECTED from {given.dtype} to {made.dtype}", why
    if operator.type == "SPLIT" and len(operator.outputs) > MAX_SPLITS:
        return "splits", f"SPLIT into {len(operator.outputs)}", f"XNNPACK splits into {MAX_SPLITS} at most."
    return None


def _left_by_gpu(subgraph: TfliteSubgraph, operator: TfliteOperator) -> tuple[str, str, str] | None:
    if operator.type == "BATCH_MATMUL" and (operator.options.get("adj_x") or operator.options.get("adj_y")):
        why = (
            "The OpenCL GPU delegate does not read this flag and multiplies the operand as it is: a wrong result, or "
            "none. A TRANSPOSE in front is safe."
        )
        return "transposed-operand", "BATCH_MATMUL that is to transpose an operand", why
    return _rank(subgraph, operator, "gpu")


def _left_by_nnapi(subgraph: TfliteSubgraph, operator: TfliteOperator) -> tuple[str, str, str] | None:
    for tensor in _values(subgraph, operator):
        if tensor.dtype not in NNAPI_TYPES:
            why = f"NNAPI computes with {', '.join(NNAPI_TYPES)}."
            return "type", f"{operator.type} on {tensor.dtype}", why
    if operator.type == "BATCH_MATMUL":
        first, second = (_tensor(subgraph, operator.inputs, i) for i in (0, 1))
        if first and second and first.dtype != second.dtype:
            why = "The NNAPI delegate takes products of two tensors of one type."
            return "mixed-types", f"BATCH_MATMUL of {first.dtype} and {second.dtype}", why
    return _rank(subgraph, operator, "nnapi")


def _left_by_mediatek(subgraph: TfliteSubgraph, operator: TfliteOperator) -> tuple[str, str, str] | None:
    for tensor in (subgraph.tensors[i] for i in (*operator.inputs, *operator.outputs) if i >= 0):
        # Constants of INT64 become INT32.
        known = tensor.dtype in MEDIATEK_TYPES or (tensor.dtype == "INT64" and tensor.buffer is not None)
        if not known or (tensor.dtype in SCALED and tensor.quantization is None):
            why = f"LiteRT's compiler for MediaTek's NPUs has no tensor for it; {', '.join(SCALED)} need a scale."
            return "type", f"{operator.type} on {tensor.dtype}", why
    return None


def _rank(subgraph: TfliteSubgraph, operator: TfliteOperator, delegate: str) -> tuple[str, str, str] | None:
    most = max((len(tensor.shape) for tensor in _values(subgraph, operator)), default=0)
    if most > MAX_RANK:
        return "rank", f"{operator.type} of {most} dimensions", f"{NAMES[delegate]} takes up to {MAX_RANK} dimensions."
    return None


CHECKS = {"xnnpack": _left_by_xnnpack, "gpu": _left_by_gpu, "mediatek": _left_by_mediatek, "nnapi": _left_by_nnapi}


def partitions(subgraph: TfliteSubgraph, taken: Sequence[bool]) -> int:
    """In how many pieces a delegate runs a subgraph of which it takes some operators.

    As LiteRT cuts (`graph_info.cc`): as much of one kind as its inputs allow, then of the other, in turns.
    """
    waiting, users = [], defaultdict(list)
    makers = {o: i for i, operator in enumerate(subgraph.operators) for o in operator.outputs}
    ready: dict[bool, deque[int]] = {True: deque(), False: deque()}
    for i, operator in enumerate(subgraph.operators):
        needs = {makers[t] for t in operator.inputs if t in makers}
        waiting.append(len(needs))
        for maker in needs:
            users[maker].append(i)
        if not needs:
            ready[taken[i]].append(i)
    pieces, kind = 0, bool(taken and taken[0])
    while ready[True] or ready[False]:
        if not ready[kind]:
            kind = not kind
        pieces += kind
        queue = ready[kind]
        while queue:
            for user in users[queue.popleft()]:
                waiting[user] -= 1
                if not waiting[user]:
                    ready[taken[user]].append(user)
    return pieces
