"""Executes saved Core ML packages anywhere, operation by operation, in torch.

It reads the `.mlpackage` from disk, weights file included, and computes every operation in float32,
rounding each result to the type that the program gives it: after every FP16 operation the values are
FP16 values. That proves conversion, quantization and serialization: the file holds the right program
with the right numbers. It does not prove the Neural Engine's arithmetic, whose order of summation and
internal precision are Apple's own; that takes a device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..base.errors import EdgeError, GateError, unknown_name
from ..base.progress import Progress, silent
from ..base.spec import ImageSize
from ..bundle.types import Artifact
from ..formats.mlpackage import Constant, Feature, Function, Operation, TensorType, read_mlpackage
from ..model.plan import Variant

# A value while the program runs: float tensors are float32 that hold values of their MIL type.
Value = Tensor | str | list
DAMAGED_HINT = "The package is damaged, or was not written by veca-edge."
# No value of a model that is run here comes near: a gigabyte of float32.
MOST_ELEMENTS = 1 << 28
# Below this, nobody asks how many numbers a package unpacks to.
LEAST_ELEMENTS = 1 << 22
# What is computed with; integers and truth values are parameters, which a shape can depend on.
_DATA = (torch.float32, torch.int8)


def open_mlpackage(
    path: str | Path, function: str | None = None, artifact: Artifact | None = None, threads: int | None = None
) -> MilRunner:
    """Opens one function of a package for execution.

    Args:
        path: the `.mlpackage` directory.
        function: its name; by default the package's default function.
        artifact: where given, its outputs are all the runner returns.
        threads: torch threads during a call; by default torch's setting.

    Raises:
        EdgeError: no such function, a damaged package, or operators that are not known here (all are named).
    """
    package = read_mlpackage(path)
    name = function or package.default_function
    if name not in package.functions:
        raise unknown_name("function of the package", name, package.functions)
    return MilRunner(package.functions[name], Path(path), artifact, threads)


@dataclass(frozen=True)
class _Step:
    """An operation made ready: where each parameter's value comes from, and what is no longer needed after it."""

    operation: Operation
    run: Callable[..., Value | tuple[Tensor, ...]]
    arguments: Mapping[str, str | Value | list]
    spent: tuple[str, ...]


class MilRunner:
    """One function of a package. Call it with a batch: uint8 `[1, H, W, 3]` where the input is an image, else
    float32 of the input's shape; it returns float32 arrays by output name (and `label`, `label_probs` of a
    classifier)."""

    def __init__(self, function: Function, path: Path, artifact: Artifact | None = None, threads: int | None = None):
        unknown = sorted({op.type for op in function.operations} - set(OPERATORS) - {"const"})
        if unknown:
            raise EdgeError(
                f"{path}: the function '{function.name}' uses operators that can't be executed here: "
                f"{', '.join(unknown)}.",
                f"Known: {', '.join(sorted(OPERATORS))}.",
            )
        if len(function.inputs) != 1:
            raise EdgeError(f"{path}: the function '{function.name}' has {len(function.inputs)} inputs, not one.")
        known = [f.name for f in function.outputs]
        self.outputs = artifact.outputs if artifact else tuple(known)
        for name in self.outputs:
            if name not in known:
                raise unknown_name(f"output of '{function.name}' in {path}", name, known)
        self.function, self.path, self.artifact, self.threads = function, path, artifact, threads
        self.input: Feature = function.inputs[0]
        self.steps = _steps(function)
        self._check_shapes()

    def __call__(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        with _threads(self.threads), torch.inference_mode():
            values: dict[str, Value] = {self.input.name: self._input(batch)}
            for step in self.steps:
                _run_step(step, values)
        return {name: _as_array(values[name]) for name in self.outputs}

    def close(self) -> None:
        """Lets go of the program's constants."""
        self.steps = ()

    def _check_shapes(self) -> None:
        """Goes through the program with shapes alone: whether every operation can run and makes what it says, and
        nothing of it is larger than any model's."""
        feature = self.input
        shape = (1, 3, *feature.shape) if feature.kind == "image" else feature.shape
        if not all(0 < size <= MOST_ELEMENTS for size in shape) or math.prod(shape) > MOST_ELEMENTS:
            raise EdgeError(f"{self.path}: the input '{feature.name}' is {list(shape)}.", DAMAGED_HINT)
        values: dict[str, Value] = {feature.name: torch.empty(shape, device="meta")}
        with torch.inference_mode():
            for step in self.steps:
                if step.operation.type == "classify":
                    values.update(dict.fromkeys(step.operation.outputs, ""))  # by their nature without a shape
                else:
                    _run_step(step, values, on="meta")
        for name in self.outputs:
            if name not in {self.input.name, *(made for step in self.steps for made in step.operation.outputs)}:
                raise EdgeError(f"{self.path}: nothing computes the output '{name}'.", DAMAGED_HINT)

    def _input(self, batch: np.ndarray) -> Tensor:
        feature = self.input
        if feature.kind == "image":
            expected, dtype = (1, *feature.shape, 3), np.dtype(np.uint8)
        else:
            expected, dtype = feature.shape, np.dtype(np.float32)
        if batch.shape != expected or batch.dtype != dtype:
            raise EdgeError(f"{self.path} takes {dtype} {list(expected)}, but got {batch.dtype} {list(batch.shape)}.")
        x = torch.from_numpy(batch.astype(np.float32))
        x = x.permute(0, 3, 1, 2) if feature.kind == "image" else x
        return rounded(x, "FLOAT16" if feature.dtype == "FLOAT16" else "FLOAT32")


def _steps(function: Function) -> tuple[_Step, ...]:
    """Binds constants, computes constant expressions once, and notes after which step a value is spent."""
    _check_growth(function)
    constants: dict[str, Value] = {name: _as_value(c) for name, c in function.constants.items()}
    steps: list[_Step] = []
    for op in function.operations:
        if op.type == "const":
            continue
        arguments = {parameter: _argument(bound, constants) for parameter, bound in op.inputs.items()}
        step = _Step(op, OPERATORS[op.type], arguments, ())
        if op.type.startswith("constexpr_"):
            with torch.inference_mode():
                _run_step(step, dict(constants), on="meta")
                _run_step(step, constants)
        else:
            steps.append(step)
    needed = {*function.results, *(f.name for f in function.outputs)}
    for i in reversed(range(len(steps))):
        used = {b for bound in steps[i].operation.inputs.values() for b in bound if isinstance(b, str)} - set(constants)
        steps[i] = _Step(steps[i].operation, steps[i].run, steps[i].arguments, tuple(used - needed))
        needed |= used
    return tuple(steps)


def _check_growth(function: Function) -> None:
    """A constant that is unpacked has as many numbers as are stored: some programs would unpack one many times."""
    stored: dict[int, int] = {}
    unpacked = 0
    for op in function.operations:
        for constant in (c for bound in op.inputs.values() for c in bound if isinstance(c, Constant)):
            if isinstance(constant.value, np.ndarray):
                place = id(constant) if constant.offset is None else -1 - constant.offset
                stored[place] = max(stored.get(place, 0), constant.value.size)
                unpacked += constant.value.size
        if op.type.startswith("constexpr_"):
            unpacked += sum(math.prod(kind.shape) for kind in op.outputs.values())
    if unpacked > 8 * sum(stored.values()) + LEAST_ELEMENTS:
        raise EdgeError(
            f"The constants of the function '{function.name}' would become {unpacked:,} numbers, of "
            f"{sum(stored.values()):,} that are stored.",
            DAMAGED_HINT,
        )


class _Name(str):
    """A reference to an earlier result, which is not a string constant."""


def _argument(bound: tuple[str | Constant, ...], constants: Mapping[str, Value]) -> str | Value | list:
    values = [_as_value(b) if isinstance(b, Constant) else constants.get(b, _Name(b)) for b in bound]
    return values[0] if len(values) == 1 else values


def _run_step(step: _Step, values: dict[str, Value], on: str = "cpu") -> None:
    """Runs an operation on `values` and adds what it makes.

    Args:
        on: `meta` to work on shapes alone.

    Raises:
        EdgeError: it can't be executed, or makes something else than the program says.
    """
    op = step.operation

    def resolved(argument: str | Value | list) -> Any:
        if isinstance(argument, list):
            return [resolved(a) for a in argument]
        value = values[argument] if isinstance(argument, _Name) else argument
        return value.to("meta") if on == "meta" and isinstance(value, Tensor) and value.dtype in _DATA else value

    try:
        made = step.run(**{name: resolved(argument) for name, argument in step.arguments.items()})
    except Exception as error:  # a program that makes no sense makes an operator fail in every way there is
        raise EdgeError(
            f"The operation '{op.name}' ({op.type}) can't be executed: {_first_line(error)}", DAMAGED_HINT
        ) from error
    made = made if isinstance(made, tuple) else (made,)
    if len(made) != len(op.outputs):
        raise EdgeError(
            f"The operation '{op.name}' ({op.type}) makes {len(made)} values, but the program names {len(op.outputs)}.",
            DAMAGED_HINT,
        )
    for (name, kind), value in zip(op.outputs.items(), made, strict=True):
        values[name] = _typed(name, kind, value)
    if on == "cpu":
        for name in step.spent:
            values.pop(name, None)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _typed(name: str, kind: TensorType, value: Value) -> Value:
    if not isinstance(value, Tensor):
        return value
    if tuple(value.shape) != kind.shape or value.numel() > MOST_ELEMENTS:
        raise EdgeError(
            f"The value '{name}' is {list(value.shape)}, but the program says {list(kind.shape)}.", DAMAGED_HINT
        )
    return rounded(value, kind.dtype)


def rounded(x: Tensor, dtype: str) -> Tensor:
    """float32 values rounded to what the MIL type can hold."""
    return x.half().float() if dtype == "FLOAT16" else x


def _as_value(constant: Constant) -> Value:
    if not isinstance(constant.value, np.ndarray):
        return constant.value
    array = constant.value
    wide = {"f": np.float32, "b": np.bool_}.get(array.dtype.kind, np.int64)
    if constant.dtype == "INT8":
        wide = np.int8
    return torch.from_numpy(array.astype(wide))


def _as_array(value: Value) -> np.ndarray:
    if isinstance(value, dict):
        return np.array(list(value.values()), np.float32)
    return value.numpy().copy() if isinstance(value, Tensor) else np.array(value)


class _threads:
    """Sets torch's threads for the duration of a call."""

    def __init__(self, count: int | None):
        self.count = count

    def __enter__(self) -> None:
        self.before = torch.get_num_threads()
        if self.count:
            torch.set_num_threads(self.count)

    def __exit__(self, *_: object) -> None:
        if self.count:
            torch.set_num_threads(self.before)


# ---------------------------------------------------------------------------------- the operators
# Parameters carry MIL's names (coremltools, MIL operator reference).


def _ints(x: Tensor) -> list[int]:
    return [int(n) for n in x.reshape(-1)]


def _cast(x: Tensor, dtype: str) -> Tensor:
    return x  # the type of the result rounds it


def _concat(values: list[Tensor], axis: Tensor, interleave: Tensor | None = None) -> Tensor:
    if interleave is not None and bool(interleave):
        raise RuntimeError("interleaved concat")
    return torch.cat(values if isinstance(values, list) else [values], int(axis))


def _conv(
    x: Tensor,
    weight: Tensor,
    strides: Tensor,
    pad_type: str = "valid",
    bias: Tensor | None = None,
    pad: Tensor | None = None,
    dilations: Tensor | None = None,
    groups: Tensor | None = None,
) -> Tensor:
    if (
        pad_type != "valid"
        or (groups is not None and int(groups) != 1)
        or (dilations is not None and set(_ints(dilations)) != {1})
    ):
        raise RuntimeError("padded, dilated or grouped convolution")
    return F.conv2d(x, weight, bias, _ints(strides))


def _slice_by_index(
    x: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None = None,
    begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None,
    squeeze_mask: Tensor | None = None,
) -> Tensor:
    def mask(value: Tensor | None) -> list[bool]:
        return [False] * x.dim() if value is None else [bool(v) for v in value]

    at: list[slice | int] = []
    steps = [1] * x.dim() if stride is None else _ints(stride)
    for b, e, s, open_begin, open_end, squeeze in zip(
        _ints(begin), _ints(end), steps, mask(begin_mask), mask(end_mask), mask(squeeze_mask), strict=True
    ):
        at.append(b if squeeze else slice(None if open_begin else b, None if open_end else e, s))
    return x[tuple(at)]


def _split(
    x: Tensor, axis: Tensor, num_splits: Tensor | None = None, split_sizes: Tensor | None = None
) -> tuple[Tensor, ...]:
    if split_sizes is not None:
        return x.split(_ints(split_sizes), int(axis))
    if num_splits is None:
        raise TypeError("a split without a number or sizes of its parts")
    return x.split(x.shape[int(axis)] // int(num_splits), int(axis))


def _layer_norm(
    x: Tensor, axes: Tensor, epsilon: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None
) -> Tensor:
    at = [a % x.dim() for a in _ints(axes)]
    variance, mean = torch.var_mean(x, at, correction=0, keepdim=True)
    y = (x - mean) * torch.rsqrt(variance + epsilon)
    along = [x.shape[i] if i in at else 1 for i in range(x.dim())]
    y = y if gamma is None else y * gamma.reshape(along)
    return y if beta is None else y + beta.reshape(along)


def _matmul(x: Tensor, y: Tensor, transpose_x: Tensor | None = None, transpose_y: Tensor | None = None) -> Tensor:
    x = x.transpose(-1, -2) if transpose_x is not None and bool(transpose_x) else x
    return x @ (y.transpose(-1, -2) if transpose_y is not None and bool(transpose_y) else y)


def _along(values: Tensor, x: Tensor, axis: Tensor | None) -> Tensor:
    """A per-channel scale `[n]` shaped to broadcast along an axis; a scalar as it is."""
    if values.dim() == 0 or axis is None:
        return values
    return values.reshape([-1 if i == int(axis) % x.dim() else 1 for i in range(x.dim())])


def _quantize(
    input: Tensor, scale: Tensor, output_dtype: str, zero_point: Tensor | None = None, axis: Tensor | None = None
) -> Tensor:
    if output_dtype != "int8":
        raise RuntimeError(f"quantize to {output_dtype}")
    q = torch.round(input / _along(scale, input, axis))
    q = q if zero_point is None else q + _along(zero_point, input, axis)
    return q.clamp(-128, 127)


def _dequantize(input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: Tensor | None = None) -> Tensor:
    x = input.float() if zero_point is None else input.float() - _along(zero_point, input, axis)
    return x * _along(scale, input, axis)


def _blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    def spread(t: Tensor) -> Tensor:
        for i, size in enumerate(data.shape):
            t = t.repeat_interleave(size // t.shape[i], i)
        return t

    x = data.float() if offset is None else data.float() - spread(offset)
    return x * (scale if scale.numel() == scale.shape[0] else spread(scale))


def _classify(probabilities: Tensor, classes: list[str]) -> tuple[str, dict[str, float]]:
    by_class = dict(zip(classes, probabilities.reshape(-1).tolist(), strict=True))
    return max(by_class, key=by_class.__getitem__), by_class


def _argmax(x: Tensor, axis: Any, keep_dims: Any, output_dtype: Any = "int32") -> Tensor:
    if str(output_dtype) != "int32":
        raise EdgeError(f"reduce_argmax to {output_dtype} is not known here.")
    return x.argmax(int(axis), keepdim=bool(keep_dims)).to(torch.int32)


OPERATORS: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "cast": _cast,
    "classify": _classify,
    "concat": _concat,
    "constexpr_blockwise_shift_scale": _blockwise_shift_scale,
    "conv": _conv,
    "cos": lambda x: torch.cos(x),
    "dequantize": _dequantize,
    "expand_dims": lambda x, axes: x.reshape(_expanded(x, _ints(axes))),
    "layer_norm": _layer_norm,
    "linear": lambda x, weight, bias=None: F.linear(x, weight, bias),
    "matmul": _matmul,
    "mul": lambda x, y: x * y,
    "quantize": _quantize,
    "real_div": lambda x, y: x / y,
    "reduce_argmax": _argmax,
    "reduce_mean": lambda x, axes, keep_dims: x.mean(_ints(axes), keepdim=bool(keep_dims)),
    "relu": lambda x: torch.relu(x),
    "reshape": lambda x, shape: x.reshape(_ints(shape)),
    "silu": lambda x: F.silu(x),
    "sin": lambda x: torch.sin(x),
    "slice_by_index": _slice_by_index,
    "softmax": lambda x, axis: torch.softmax(x, int(axis)),
    "split": _split,
    "squeeze": lambda x, axes=None: x.squeeze(_ints(axes) if axes is not None else None),
    "sub": lambda x, y: x - y,
    "tanh": lambda x: torch.tanh(x),
    "transpose": lambda x, perm: x.permute(_ints(perm)),
}


def _expanded(x: Tensor, axes: list[int]) -> list[int]:
    rank = x.dim() + len(axes)
    sizes, at = iter(x.shape), {a % rank for a in axes}
    return [1 if i in at else next(sizes) for i in range(rank)]


# -------------------------------------------------------------------------------- the W8A8 check


# 1 - cosine that FP16 arithmetic alone may cost a package: five times what it costs random weights at 256 px.
HALF_DISTANCE = 1e-5
# The same of label maps (1 - share of equal pixels: near a border two scores are alike) and of depth (its mean error).
HALF_MAP_DISTANCES = {"segmentation": 2e-3, "depth": 1e-3}


@dataclass(frozen=True)
class SimulationAgreement:
    """Likeness (mean cosine, or as `likeness` has it) per output: of the package with the quantized model in PyTorch,
    and of that model with the float one."""

    package: Mapping[str, float]
    simulation: Mapping[str, float]

    @property
    def ok(self) -> bool:
        """Whether every output of the package is at least as close to the quantized model as that is to the float one.

        Bits can't agree: a value that FP16 rounds across a quantization step changes everything behind it. Where so
        few layers are quantized that the two models hardly differ, FP16 has what it costs by itself.
        """
        return all(
            1 - self.package[name] <= max(1 - self.simulation[name], HALF_MAP_DISTANCES.get(name, HALF_DISTANCE))
            for name in self.package
        )


def check_simulation(
    directory: Path,
    artifacts: Sequence[Artifact],
    variants: Sequence[Variant],
    frames: Mapping[ImageSize, np.ndarray],
    progress: Progress = silent,
) -> dict[str, SimulationAgreement]:
    """Compares every INT8 package with the quantized model that it was written from, by artifact name.

    Args:
        variants: in the order of the artifacts.
        frames: uint8 `[n, H, W, 3]` for every image size; a few are enough.

    Raises:
        GateError: one is further from the quantized model than that is from the float one.
    """
    pairs = [(a, v) for a, v in zip(artifacts, variants, strict=True) if a.precision == "int8"]
    found = {}
    for i, (artifact, variant) in enumerate(pairs):
        runner = open_mlpackage(directory / artifact.path, artifact.function, artifact)
        agreement = agreement_with_simulation(runner, variant, frames[artifact.image_size])
        found[artifact.name] = agreement
        if not agreement.ok:
            raise GateError(
                f"{artifact.name} in {artifact.path} does not compute the quantized model that it was written from: "
                f"its distances (1 - cosine) from that model are {distances(agreement.package)}, where that model's "
                f"own from the float one are {distances(agreement.simulation)}.",
                "FP16 costs this model more than INT8: try --coordinates fp32, or export --precision fp16 and see "
                "how close that is. If it is close, please report this.",
            )
        progress("comparing with the quantized model", i + 1, len(pairs))
    return found


def distances(cosines: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {1 - value:.2g}" for name, value in cosines.items())


def agreement_with_simulation(runner: MilRunner, variant: Variant, frames: np.ndarray) -> SimulationAgreement:
    """Runs an INT8 package, the simulated INT8 model and the float model on the same frames.

    Args:
        variant: what the package was written from.
        frames: uint8 `[n, H, W, 3]`; repeated to fill whole batches.
    """
    from ..images.preprocessing import normalised
    from ..model.torch_graph import InferenceModel
    from ..proof.fidelity import likeness

    spec, weights = variant.spec, variant.weights
    plain = weights.with_linears({name: replace(layer, quantization=None) for name, layer in weights.linears.items()})
    frames = np.resize(frames, (-(-len(frames) // spec.batch) * spec.batch, *frames.shape[1:]))
    pixels = normalised(frames)
    wanted = replace(spec, input="tensor")
    with torch.inference_mode():
        simulated, original = (
            dict(
                zip(
                    spec.outputs,
                    (y.numpy() for y in InferenceModel(w, wanted).eval()(torch.from_numpy(pixels))),
                    strict=True,
                )
            )
            for w in (weights, plain)
        )
    given = frames if spec.input == "image" else pixels
    made = [runner(given[i : i + spec.batch]) for i in range(0, len(given), spec.batch)]
    package = {name: np.concatenate([m[name] for m in made]) for name in spec.outputs}
    return SimulationAgreement(
        {name: likeness(name, package[name], simulated[name]) for name in spec.outputs},
        {name: likeness(name, simulated[name], original[name]) for name in spec.outputs},
    )
