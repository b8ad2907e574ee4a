"""What an ONNX graph is recorded into, and how a runtime spells VECA's parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import onnx_ir as ir
from onnx_ir.tape import Tape

from ...base.spec import GraphSpec
from ...model.config import NORM_EPS
from ...model.folding import Block, InferenceWeights, Linear
from ...model.plan import BlockRows, GraphConstants

Dimension = int | str | None


class Graph:
    """Records nodes and constants. Calling it adds a node: `g("MatMul", a, b)`.

    Constants are shared by content within one graph, so the same table is stored once.
    """

    def __init__(self, opset: int):
        self.tape = Tape()
        self.opset = opset
        self.scope = ""
        self._counts: dict[str, int] = {}
        self._constants: dict[tuple, ir.Value] = {}

    def __call__(
        self,
        op: str,
        *inputs: ir.Value | None,
        domain: str = "",
        name: str = "",
        shape: Sequence[Dimension] | None = None,
        dtype: ir.DataType | None = None,
        **attributes,
    ) -> ir.Value:
        """Adds a node with one output. `shape` and `dtype` are only needed where ONNX cannot infer them."""
        node = self._name(name or op)
        value = self.tape.op(op, inputs, attributes, domain=domain, name=node)
        value.name = node
        if shape is not None:
            value.shape = ir.Shape(shape)
        if dtype is not None:
            value.type = ir.TensorType(dtype)
        return value

    def split(self, x: ir.Value, parts: int, axis: int, sizes: Sequence[int]) -> Sequence[ir.Value]:
        node = self._name("Split")
        values = self.tape.op_multi_out("Split", [x, self.ints(sizes)], {"axis": axis}, num_outputs=parts, name=node)
        for i, value in enumerate(values):
            value.name = f"{node}.{i}"
        return values

    def constant(self, name: str, array: np.ndarray, shared: bool = True) -> ir.Value:
        """An initializer. The same content under another name is not stored twice, unless it must not be `shared`."""
        array = np.ascontiguousarray(array)
        if not shared:
            return self.tape.initializer(ir.tensor(array, name=self._name(name)))
        key = (array.shape, array.dtype.str, array.tobytes())
        if key not in self._constants:
            tensor = ir.tensor(array, name=self._name(name))
            self._constants[key] = self.tape.initializer(tensor)
        return self._constants[key]

    def ints(self, values: Sequence[int]) -> ir.Value:
        return self.constant("ints." + "_".join(map(str, values)), np.array(values, np.int64))

    def rows(self, x: ir.Value, start: int, stop: int, axis: int = 1) -> ir.Value:
        return self("Slice", x, self.ints([start]), self.ints([stop]), self.ints([axis]))

    def mean(self, x: ir.Value, axis: int) -> ir.Value:
        """The mean along an axis, which is gone then."""
        if self.opset < 18:
            return self("ReduceMean", x, axes=[axis], keepdims=0)
        return self("ReduceMean", x, self.ints([axis]), keepdims=0)

    @contextmanager
    def within(self, scope: str) -> Iterator[None]:
        """Prefixes the names of nodes and constants."""
        outer, self.scope = self.scope, f"{self.scope}{scope}."
        try:
            yield
        finally:
            self.scope = outer

    def _name(self, name: str) -> str:
        full = name if name.startswith("ints.") else self.scope + name
        count = self._counts.get(full, 0)
        self._counts[full] = count + 1
        return f"{full}_{count}" if count else full


class Dialect:
    """How one runtime spells VECA's parts: standard ONNX, float32, no quantization.

    Attributes:
        opset: of the standard domain; `domains` are further ones with their versions.
        ir_version: of the file.
        states_inferable_types: whether the file says the types that ONNX's own operators imply.
    """

    opset = 20
    ir_version = 9
    domains: Mapping[str, int] = {}
    states_inferable_types = True

    def __init__(self, weights: InferenceWeights, spec: GraphSpec, constants: GraphConstants):
        self.weights, self.spec, self.constants = weights, spec, constants
        self.config = weights.config
        self.batch, self.cores = spec.batch, spec.core_count
        self.grid = weights.config.grid(*spec.image_size)
        self.patches = self.grid[0] * self.grid[1]
        self.g = Graph(self.opset)

    # Values and constants ----------------------------------------------------------------------

    def array(self, name: str, array: np.ndarray) -> ir.Value:
        """A floating-point constant in the dialect's type."""
        return self.g.constant(name, array.astype(np.float32))

    def per_batch(self, array: np.ndarray) -> np.ndarray:
        """`[S, ...]` repeated to `[B, S, ...]`."""
        return np.broadcast_to(array, (self.batch, *array.shape))

    # Parts a dialect may spell in its own way -----------------------------------------------------

    def floats(self, image: ir.Value) -> ir.Value:
        """The input as floats, in the layout that it has; only a camera frame is something else."""
        return self.g("Cast", image, to=ir.DataType.FLOAT) if self.spec.input == "image" else image

    def pixels(self, image: ir.Value) -> ir.Value:
        """The input as floats `[B, 3, H, W]`: that of a camera frame is `[B, H, W, 3]`, any other has this form."""
        x = self.floats(image)
        return self.g("Transpose", x, perm=[0, 3, 1, 2]) if self.spec.input == "image" else x

    def patch_embed(self, image: ir.Value) -> ir.Value:
        """Pixels to patches `[B, N, D]`."""
        g, size = self.g, self.config.patch_size
        x = g(
            "Conv",
            self.pixels(image),
            self.array("weight", self.constants.patch_weight),
            self.array("bias", self.constants.patch_bias),
            strides=[size, size],
            kernel_shape=[size, size],
        )
        return g("Transpose", g("Reshape", x, g.ints([self.batch, self.config.hidden, self.patches])), perm=[0, 2, 1])

    def layer_norm(self, x: ir.Value, gain: np.ndarray, shift: np.ndarray | None = None) -> ir.Value:
        shift = np.zeros_like(gain) if shift is None else shift
        return self.g(
            "LayerNormalization", x, self.array("gain", gain), self.array("shift", shift), axis=-1, epsilon=NORM_EPS
        )

    def linears(self, x: ir.Value, tokens: int, layers: Sequence[Linear]) -> list[ir.Value]:
        """Linear layers of the same input `[B, tokens, in]`, each to `[B, tokens, out]`."""
        return [self.float_linear(x, layer) for layer in layers]

    def float_linear(self, x: ir.Value, layer: Linear) -> ir.Value:
        with self.g.within(short(layer.name)):
            product = self.g("MatMul", x, self.array("weight", layer.weight.T))
            return self.g("Add", product, self.array("bias", layer.bias))

    def queries_or_keys(self, x: ir.Value, cos: ir.Value, sin: ir.Value) -> ir.Value:
        """Splits `[B, tokens, D]` into heads and rotates them by tables in the form of `rotary_tables`."""
        g, x = self.g, self.heads(x)
        a, b = g.split(x, 2, 3, [self.config.head_dim // 2] * 2)
        return g(
            "Concat", g("Sub", g("Mul", a, cos), g("Mul", b, sin)), g("Add", g("Mul", b, cos), g("Mul", a, sin)), axis=3
        )

    def values(self, x: ir.Value) -> ir.Value:
        """Splits `[B, S, D]` into heads."""
        return self.heads(x)

    token_axis = 2  # of queries, keys, values and rotary tables

    def heads(self, x: ir.Value) -> ir.Value:
        """`[B, S, D]` to `[B, h, S, d]`."""
        config = self.config
        x = self.g("Reshape", x, self.g.ints([0, 0, config.heads, config.head_dim]))
        return self.g("Transpose", x, perm=[0, 2, 1, 3])

    def constant_heads(self, name: str, array: np.ndarray) -> ir.Value:
        """`[S, D]` as queries, keys or values of every image of the batch."""
        array = array.reshape(len(array), self.config.heads, -1).swapaxes(0, 1)
        return self.array(name, self.per_batch(array))

    def mixed(self, block: Block, rows: BlockRows, q: ir.Value, k: ir.Value, v: ir.Value) -> ir.Value:
        """What attention gives the tokens that leave the block: cores look at every token, patches at the cores."""
        g, axis, asking, parts = self.g, self.token_axis, rows.core_queries, []
        if asking:
            asked = g.rows(q, 0, asking, axis) if rows.patch_queries else q
            parts.append(self.attention(asked, k, v))
        if rows.patch_queries:
            start = self.cores if rows.all_queries else asking
            asked = g.rows(q, start, start + self.patches, axis) if start else q
            if rows.patch_keys:
                k, v = g.rows(k, 0, self.cores, axis), g.rows(v, 0, self.cores, axis)
            parts.append(self.attention(asked, k, v))
        (mixed,) = self.linears(self.merge_heads(parts), self.leaving(rows), [block.out])
        return mixed

    def attention(self, q: ir.Value, k: ir.Value, v: ir.Value) -> ir.Value:
        """Softmax attention; the scale is folded into q."""
        g = self.g
        scores = g("MatMul", q, g("Transpose", k, perm=[0, 1, 3, 2]))
        return g("MatMul", g("Softmax", scores, axis=-1), v)

    def by_head(self, x: ir.Value) -> ir.Value:
        """Queries or keys as `[B, h, S, d]`."""
        return x

    def looks(self, q: ir.Value, k: ir.Value) -> ir.Value:
        """The attention of core tokens with queries `q` on the patches, the mean of cores and heads: `[B, N]`."""
        g = self.g
        scores = g("MatMul", self.by_head(q), g("Transpose", self.by_head(k), perm=[0, 1, 3, 2]))
        weights = g.rows(g("Softmax", scores, axis=-1), self.cores, self.cores + self.patches, 3)
        return g.mean(g.mean(weights, 1), 1)

    def merge_heads(self, parts: Sequence[ir.Value]) -> ir.Value:
        """The attention results of several groups of queries to `[B, S, D]`."""
        x = self.concat(parts, self.token_axis)
        x = self.g("Transpose", x, perm=[0, 2, 1, 3])
        return self.g("Reshape", x, self.g.ints([0, 0, self.config.hidden]))

    def feed_forward(self, y: ir.Value, tokens: int, block: Block) -> ir.Value:
        """SiLU-gated, `[B, tokens, D]` to the same."""
        gate, value = self.linears(y, tokens, gate_and_value(block, 0, self.config.mlp_hidden))
        (fed,) = self.linears(self.silu_gate(gate, value), tokens, [block.fc2])
        return fed

    def silu_gate(self, gate: ir.Value, value: ir.Value) -> ir.Value:
        return self.g("Mul", self.g("Mul", gate, self.g("Sigmoid", gate)), value)

    def move_cores(self, raw: ir.Value, cores: ir.Value, position: Linear) -> ir.Value:
        """Raw coordinates `[B, C, 2]` moved by the content of the core tokens `[B, C, D]`."""
        return self.g("Add", raw, self.float_linear(cores, position))

    def rotary_tables(self, raw: ir.Value) -> tuple[ir.Value, ir.Value]:
        """cos and sin of the core tokens at raw coordinates `[B, C, 2]`: `[B, 1, C, d / 2]`."""
        g = self.g
        at = g("Unsqueeze", g("Tanh", raw), g.ints([1]))
        angles = g("MatMul", at, g.constant("frequencies", self.frequency_matrix()))
        return g("Cos", angles), g("Sin", angles)

    def frequency_matrix(self) -> np.ndarray:
        """float32 `[2, d / 2]`: spreads x over the first half of the angles and y over the second."""
        frequencies = 2 * np.pi / self.weights.periods
        return np.kron(np.eye(2), frequencies).astype(np.float32)

    def constant_table(self, name: str, table: np.ndarray) -> ir.Value:
        """A rotary table `[S, d / 2]` as a constant in the form of `rotary_tables`."""
        return self.array(name, self.per_batch(table)[:, None])

    def entering(self, x: ir.Value) -> ir.Value:
        """The first touch on a float32 graph input other than the image."""
        return x

    def output(self, x: ir.Value) -> ir.Value:
        """The last touch on a graph output: float32."""
        return x

    def precise(self, x: ir.Value) -> ir.Value:
        """A value as float32, for sums and quotients that a narrower type would spoil."""
        return x

    def label_type(self, classes: int) -> ir.DataType:
        """The smallest type of a label map that the runtime gives out."""
        return ir.DataType.UINT8 if classes <= 256 else ir.DataType.INT32

    # Shared helpers --------------------------------------------------------------------------------

    def concat(self, parts: Sequence[ir.Value], axis: int) -> ir.Value:
        return parts[0] if len(parts) == 1 else self.g("Concat", *parts, axis=axis)

    def leaving(self, rows: BlockRows) -> int:
        """How many token rows leave a block."""
        return rows.core_queries + self.patches * rows.patch_queries

    def select(self, x: ir.Value, rows: BlockRows, axis: int = 1) -> ir.Value:
        """Of C + N token rows, those that ask in this block and leave it."""
        g, total = self.g, self.cores + self.patches
        if self.leaving(rows) == total:
            return x
        parts = []
        if rows.core_queries:
            parts.append(g.rows(x, 0, rows.core_queries, axis))
        if rows.patch_queries:
            parts.append(g.rows(x, self.cores, total, axis))
        return self.concat(parts, axis)


def short(name: str) -> str:
    """`blocks.3.fc1` is `fc1` within the scope `blocks.3`."""
    return name.split(".", 2)[2] if name.startswith("blocks.") else name


def gate_and_value(block: Block, start: int, stop: int) -> tuple[Linear, Linear]:
    """The two halves of fc1 for some of the hidden channels."""
    half, name = len(block.fc1.bias) // 2, block.fc1.name
    suffix = "" if stop - start == half else f".{start}"
    return (
        block.fc1.rows(start, stop, f"{name}.gate{suffix}"),
        block.fc1.rows(half + start, half + stop, f"{name}.value{suffix}"),
    )
