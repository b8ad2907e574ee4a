"""Small LiteRT files for tests, right or wrong as they are asked to be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from veca_edge.converters.litert.flatbuffer import TfliteBuilder
from veca_edge.converters.litert.operators import Subgraph

# Writes operators behind the input, and returns the output.
Write = Callable[[Subgraph, int], int]


def subgraph_of(file: TfliteBuilder, name: str, write: Write, shape=(1, 4, 6, 3), dtype=np.uint8) -> Subgraph:
    """Adds a subgraph and its signature; a byte input has a scale."""
    g = Subgraph(file, name)
    quantization = file.quantization(np.array([1 / 128]), 128) if dtype is np.uint8 else None
    image = g.tensor(shape, dtype, "image", quantization=quantization)
    made = write(g, image)
    g.table.inputs, g.table.outputs = [image], [made]
    file.add_signature(name, g.index, {"image": image}, {"out": made})
    return g


def tflite(path: Path, write: Write, change: Callable[[TfliteBuilder], object] = lambda file: None, **kind) -> Path:
    """A file with one subgraph; `change` has the last word."""
    file = TfliteBuilder()
    subgraph_of(file, "main", write, **kind)
    file.add_metadata("veca_edge", b"{}")
    change(file)
    path.write_bytes(file.to_bytes())
    return path


def relu(g: Subgraph, image: int) -> int:
    return g.unary("RELU", g.dequantize(image))


def weights(rows=8, columns=3, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
