"""ONNX models on disk: alone in one file each, or several around one shared weights file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import onnx_ir as ir

# Smaller constants stay in the model file: a reference to them would not be smaller.
SHARE_FROM_BYTES = 1024
ALIGNMENT = 64


def save_models(models: Mapping[str, ir.Model], directory: Path, weights_name: str) -> None:
    """Writes models under their file names; more than one keep their weights in `weights_name` beside them.

    Equal constants are stored once, and so is one that another begins with: the constants of a small core
    count are prefixes of those of a large one. Every file is checked by `onnx.checker` (full check).
    """
    directory.mkdir(parents=True, exist_ok=True)
    if len(models) == 1:
        for name, model in models.items():
            ir.save(model, directory / name)
    else:
        with (directory / weights_name).open("wb") as file:
            store = _WeightsFile(file, weights_name)
            # The largest constants first, so that the smaller ones find what they are a prefix of.
            initializers = [v for model in models.values() for v in model.graph.initializers.values()]
            held = [(value, tensor) for value in initializers if (tensor := value.const_value) is not None]
            for value, tensor in sorted(held, key=lambda pair: -pair[1].nbytes):
                if tensor.nbytes >= SHARE_FROM_BYTES:
                    value.const_value = store.add(tensor, directory)
        for name, model in models.items():
            ir.save(model, directory / name)
    for name in models:
        onnx.checker.check_model(str(directory / name), full_check=True)


class _WeightsFile:
    """Appends tensors, each content once."""

    def __init__(self, file, name: str):
        self.file, self.name = file, name
        self.stored: dict[bytes, list[tuple[bytes, int]]] = {}

    def add(self, tensor: ir.TensorProtocol, directory: Path) -> ir.ExternalTensor:
        content = tensor.tobytes()
        same_start = self.stored.setdefault(content[:SHARE_FROM_BYTES], [])
        offset = next((at for known, at in same_start if known.startswith(content)), None)
        if offset is None:
            offset = self.file.seek(0, 2)
            self.file.write(content + b"\0" * (-len(content) % ALIGNMENT))
            same_start.append((content, offset))
        shape, name = ir.Shape(tensor.shape.numpy()), tensor.name or ""
        return ir.ExternalTensor(
            self.name, offset, len(content), tensor.dtype, shape=shape, name=name, base_dir=str(directory)
        )


def external_bytes(file: Path) -> int:
    """How many bytes of other files an ONNX file refers to; ranges that overlap count once."""
    import onnx

    graph = onnx.load(file, load_external_data=False).graph
    ranges = set()
    for tensor in graph.initializer:
        facts = {entry.key: entry.value for entry in tensor.external_data}
        if facts:
            start = int(facts.get("offset", 0))
            length = int(facts.get("length", 0)) or (file.parent / facts["location"]).stat().st_size - start
            ranges.add((facts["location"], start, start + length))
    total, location, reached = 0, None, 0
    for where, start, stop in sorted(ranges):
        reached = reached if where == location else 0
        total += max(0, stop - max(start, reached))
        location, reached = where, max(reached, stop)
    return total
