"""ONNX Runtime on CPUs: its fused operators, and INT8 as it runs it fast.

Per-channel Q/DQ, the form other tools write, is not fused by ONNX Runtime's CPU provider and runs
slower than float32. Here every distinct input of linear layers is quantized once, and each layer is
one `MatMulIntegerToFloat`, which multiplies, scales and adds the bias in one kernel. All targets run
the same integers: symmetric signed activations are stored as uint8 with zero point 128, because
ONNX Runtime's kernels want u8 x s8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ..base.progress import Progress, silent
from ..bundle.store import artifact_for
from ..bundle.types import Artifact
from ..model.folding import Block, Linear, LinearQuantization, pixel_layer
from ..model.plan import BlockRows, Variant
from .onnx.dialect import Dialect, gate_and_value, short
from .onnx.files import external_bytes, save_models
from .onnx.graph import onnx_from_veca

MICROSOFT = "com.microsoft"
# Larger activations leave the cache between one operator and the next; smaller ones cost more calls than they save.
GROUP_BYTES = 3 << 20


class CpuDialect(Dialect):
    """ONNX Runtime's operators; tensors between them stay `[B, S, D]`, without transposes."""

    opset = 23  # the first with Attention; ONNX Runtime 1.23 and later
    ir_version = 10
    domains: Mapping[str, int] = {MICROSOFT: 1}
    states_inferable_types = False  # every session would hold them: half a megabyte
    token_axis = 1

    def patch_embed(self, image: ir.Value) -> ir.Value:
        """Patches as rows of pixels and one matrix product: no transpose of the result."""
        g, size, (rows, columns) = self.g, self.config.patch_size, self.grid
        weight = self.constants.patch_weight
        patches = g.ints([self.batch, self.patches, 3 * size * size])
        if self.spec.input == "image":
            # Moves bytes, not floats: [B, Hp, P, Wp, P * 3] to [B, Hp, Wp, P, P * 3].
            x = g("Reshape", image, g.ints([self.batch, rows, size, columns, size * 3]))
            x = g("Transpose", x, perm=[0, 1, 3, 2, 4])
            if self.weights.patch_quantization is not None:
                # With the zero point 128 the codes of `pixel - 128` are the pixels.
                return self.integer_linear(g("Reshape", x, patches), self.patches, pixel_layer(self.weights))
            weight = weight.transpose(0, 2, 3, 1)
            x = g("Cast", x, to=ir.DataType.FLOAT)
        else:
            x = g("Reshape", image, g.ints([self.batch, 3, rows, size, columns, size]))
            x = g("Transpose", x, perm=[0, 2, 4, 1, 3, 5])
        x = g("Reshape", x, patches)
        product = g("MatMul", x, self.array("weight", weight.reshape(len(weight), -1).T))
        return g("Add", product, self.array("bias", self.constants.patch_bias))

    def linears(self, x: ir.Value, tokens: int, layers: Sequence[Linear]) -> list[ir.Value]:
        quantized = [layer.quantization for layer in layers if layer.quantization is not None]
        if not quantized:
            return super().linears(x, tokens, layers)
        codes = self.codes(x, [self.batch, tokens, layers[0].weight.shape[1]], quantized[0])
        return [
            self.integer_linear(codes, tokens, layer) if layer.quantization else self.float_linear(x, layer)
            for layer in layers
        ]

    def codes(self, x: ir.Value, shape: Sequence[int], quantization: LinearQuantization) -> ir.Value:
        # ONNX Runtime 1.23 lacks the standard operator of this opset.
        return self.g(
            "QuantizeLinear", x, *self.activation(quantization), domain=MICROSOFT, dtype=ir.DataType.UINT8, shape=shape
        )

    def activation(self, quantization: LinearQuantization) -> tuple[ir.Value, ir.Value]:
        """Scale and zero point."""
        return (
            self.array("scale", np.array(quantization.activation_scale)),
            self.g.constant("zero_point", np.array(128, np.uint8)),
        )

    def integer_linear(self, codes: ir.Value, tokens: int, layer: Linear) -> ir.Value:
        g, q = self.g, layer.quantization
        assert q is not None
        scale, zero = self.activation(q)
        with g.within(short(layer.name)):
            constants = (
                g.constant("codes", q.codes.T),
                scale,
                self.array("weight_scale", q.weight_scale),
                zero,
                # Where ONNX Runtime rewrites the weights as uint8 it cannot rewrite a zero point twice.
                g.constant("weight_zero_point", np.array(0, np.int8), shared=False),
                self.array("bias", layer.bias),
            )
        return g(
            "MatMulIntegerToFloat",
            codes,
            *constants,
            domain=MICROSOFT,
            name=short(layer.name),
            dtype=ir.DataType.FLOAT,
            shape=[self.batch, tokens, len(layer.bias)],
        )

    def queries_or_keys(self, x: ir.Value, cos: ir.Value, sin: ir.Value) -> ir.Value:
        return self.g("RotaryEmbedding", x, cos, sin, num_heads=self.config.heads, interleaved=0)

    def values(self, x: ir.Value) -> ir.Value:
        return x

    def move_cores(self, raw: ir.Value, cores: ir.Value, position: Linear) -> ir.Value:
        # In this order: product and bias side by side would become one operator for matrices, amid two reshapes.
        biased = self.g("Add", raw, self.array("bias", position.bias))
        return self.g("Add", self.g("MatMul", cores, self.array("weight", position.weight.T)), biased)

    def constant_heads(self, name: str, array: np.ndarray) -> ir.Value:
        return self.array(name, self.per_batch(array))

    def constant_table(self, name: str, table: np.ndarray) -> ir.Value:
        return self.array(name, self.per_batch(table))

    def rotary_tables(self, raw: ir.Value) -> tuple[ir.Value, ir.Value]:
        """cos and sin of the core tokens: `[B, C, d / 2]`."""
        g = self.g
        angles = g("MatMul", g("Tanh", raw), g.constant("frequencies", self.frequency_matrix()))
        return g("Cos", angles), g("Sin", angles)

    def mixed(self, block: Block, rows: BlockRows, q: ir.Value, k: ir.Value, v: ir.Value) -> ir.Value:
        """In INT8, where all tokens ask: every row looks at the cores, then the codes of the cores' own rows take their
        place, which ONNX Runtime does without a copy. To cut the queries and join the results copies both."""
        quantization, cores, tokens = block.out.quantization, self.cores, self.cores + self.patches
        all_ask = rows.all_queries and rows.core_queries == cores
        if quantization is None or not all_ask or cores < 0:  # counted from the end: as many as an app gives
            return super().mixed(block, rows, q, k, v)
        g, batch, width = self.g, self.batch, self.config.hidden
        to_cores = self.attention(q, g.rows(k, 0, cores), g.rows(v, 0, cores))
        to_all = self.attention(g.rows(q, 0, cores), k, v)
        where = np.stack(np.meshgrid(np.arange(batch), np.arange(cores), indexing="ij"), -1)
        codes = g(
            "ScatterND",
            self.codes(to_cores, [batch, tokens, width], quantization),
            g.constant("core_rows", where),
            self.codes(to_all, [batch, cores, width], quantization),
        )
        return self.integer_linear(codes, tokens, block.out)

    def attention(self, q: ir.Value, k: ir.Value, v: ir.Value) -> ir.Value:
        # ONNX's own operator: ONNX Runtime runs it up to 1.4 times as fast as com.microsoft's MultiHeadAttention.
        return self.g("Attention", q, k, v, q_num_heads=self.config.heads, kv_num_heads=self.config.heads, scale=1.0)

    def by_head(self, x: ir.Value) -> ir.Value:
        return self.heads(x)

    def merge_heads(self, parts: Sequence[ir.Value]) -> ir.Value:
        return self.concat(parts, 1)

    def feed_forward(self, y: ir.Value, tokens: int, block: Block) -> ir.Value:
        """In groups of hidden channels whose activations stay in the cache; their codes are joined again."""
        if block.fc1.quantization is None or block.fc2.quantization is None:
            return super().feed_forward(y, tokens, block)
        groups, quantization = channel_groups(self.config.mlp_hidden, self.batch * self.patches), block.fc2.quantization
        halves = self.linears(y, tokens, [half for group in groups for half in gate_and_value(block, *group)])
        codes = [
            self.codes(self.silu_gate(gate, value), [self.batch, tokens, stop - start], quantization)
            for gate, value, (start, stop) in zip(halves[::2], halves[1::2], groups, strict=True)
        ]
        return self.integer_linear(self.concat(codes, 2), tokens, block.fc2)

    def silu_gate(self, gate: ir.Value, value: ir.Value) -> ir.Value:
        silu = self.g(
            "QuickGelu", gate, domain=MICROSOFT, alpha=1.0, dtype=ir.DataType.FLOAT, shape=[self.batch, None, None]
        )
        return self.g("Mul", silu, value)


def channel_groups(channels: int, patches: int) -> list[tuple[int, int]]:
    """Ranges of channels (multiples of 64, but the last) whose float32 activations take about `GROUP_BYTES` at most.

    It looks at patches alone so that all core counts are cut alike, and share their weights.
    """
    count = 1
    while channels * patches * 4 > GROUP_BYTES * count:
        count *= 2
    size = -(-channels // (64 * count)) * 64
    return [(start, min(start + size, channels)) for start in range(0, channels, size)]


def onnx_models_from_variants(
    variants: Sequence[Variant], directory: Path, metadata: Mapping[str, str], progress: Progress = silent
) -> list[Artifact]:
    """Writes one ONNX file per variant under `directory/models`.

    Several variants share one weights file beside them, in which equal constants are stored once: the core
    counts differ in little but their activation scales.

    Raises:
        EdgeError: a variant is impossible for the model.
    """
    models = {}
    for i, variant in enumerate(variants):
        facts = {**metadata, "core_count": str(variant.spec.core_count), "precision": variant.precision}
        models[f"{variant.name}.onnx"] = onnx_from_veca(variant.weights, variant.spec, CpuDialect, facts)
        progress("writing models", i + 1, len(variants))
    save_models(models, directory / "models", "weights.bin")
    artifacts = []
    for variant, details in zip(variants, details_of(variants), strict=True):
        path = f"models/{variant.name}.onnx"
        weights = external_bytes(directory / path)
        artifacts.append(artifact_for(directory, path, "onnx", "cpu", variant, details=details, external_bytes=weights))
    return artifacts


def details_of(variants: Sequence[Variant]) -> list[dict[str, bool] | None]:
    """`CpuDetails` of each variant, None where nothing is quantized. Codes are looked at once, whoever shares them."""
    fits: dict[int, bool] = {}
    found: list[dict[str, bool] | None] = []
    for variant in variants:
        layers = [layer.quantization for layer in variant.weights.linears.values()]
        quantized = [q for q in (*layers, variant.weights.patch_quantization) if q is not None]
        for q in quantized:
            if id(q.codes) not in fits:
                fits[id(q.codes)] = q.sums_fit_16_bits
        found.append({"sums_fit_16_bits": all(fits[id(q.codes)] for q in quantized)} if quantized else None)
    return found
