"""The text of a saved Core ML program, without what repeats itself.

Functions of a package share their weights but not their text, so for a small model the text decides what another
core count costs. Two things are said twice in what coremltools writes, and are said once here:

- the attribute `name` of an operation, which repeats the name of its result. MIL.proto calls attributes optional,
  coremltools reads programs without them, and the results' names are what a compute plan and Netron show;
- small constants, each an operation of its own. Where it takes less room, they stand where they are used, as MIL.proto
  allows (`Argument.Binding.value`) and as coremltools does for the classes of a classifier.

The program computes the same from the same numbers: weights stay operations of their own, with a shorter name where
coremltools made it up.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

# Names that coremltools gives to constants: the operation's, the parameter's, a number.
MADE_UP = re.compile(r".*_\d+|int8_workaround")


def shorten(program: Any) -> None:
    """Shortens every function of a `MILSpec.Program` message in place."""
    for function in program.functions.values():
        block = function.block_specializations[function.opset]
        for operation in block.operations:
            operation.attributes.pop("name", None)
        _rename_constants(block)
        _place_constants(block)


def _rename_constants(block: Any) -> None:
    made_up = [op.outputs[0] for op in block.operations if op.type == "const" and MADE_UP.fullmatch(op.outputs[0].name)]
    short = {output.name: f"c{i}" for i, output in enumerate(made_up)}
    for output in made_up:
        output.name = short[output.name]
    for binding in _bindings(block):
        if binding.name in short:
            binding.name = short[binding.name]


def _place_constants(block: Any) -> None:
    """Puts immediate tensors where they are used, unless one operation and references to it are shorter."""
    values = {
        op.outputs[0].name: op
        for op in block.operations
        if op.type == "const" and op.attributes["val"].immediateValue.WhichOneof("value") == "tensor"
    }
    uses = Counter(binding.name for binding in _bindings(block) if binding.name in values)
    placed = {
        name: op.attributes["val"]
        for name, op in values.items()
        if uses[name] * op.attributes["val"].ByteSize() <= op.ByteSize() + uses[name] * len(name)
    }
    for binding in _bindings(block):
        if binding.name in placed:
            binding.value.CopyFrom(placed[binding.name])
    kept = [op for op in block.operations if op.type != "const" or op.outputs[0].name not in placed]
    del block.operations[:]
    block.operations.extend(kept)


def _bindings(block: Any) -> Iterator[Any]:
    """Every argument of every operation; `name` is empty where it is a value."""
    for operation in block.operations:
        for argument in operation.inputs.values():
            yield from argument.arguments
