"""Executes saved Core ML packages anywhere, operation by operation, in torch.

It reads the `.mlpackage` from disk, weights file included, and computes every operation in float32,
rounding each result to the type that the program gives it: after every FP16 operation the values are
FP16 values. That proves conversion, quantization and serialization: the file holds the right program
with the right numbers. It does not prove the Neural Engine's arithmetic, whose order of summation and
internal precision are Apple's own; that takes a device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..base.errors import EdgeError, unknown_name
from ..base.text import first_line
from ..bundle.types import Artifact
from ..formats.mlpackage import Constant, Feature, Function, Operation, TensorType, read_mlpackage
from .mil_operators import OPERATORS

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
            raise EdgeError(
                f"{path}: the function '{function.name}' has {len(function.inputs)} inputs, not one.",
                "Give a package that export wrote.",
            )
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
            raise EdgeError(
                f"{self.path} takes {dtype} {list(expected)}, but got {batch.dtype} {list(batch.shape)}.",
                "Prepare frames as the README of its bundle says.",
            )
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
            f"The operation '{op.name}' ({op.type}) can't be executed: {first_line(error)}.", DAMAGED_HINT
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
