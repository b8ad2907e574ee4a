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

from ..bundle import Artifact, artifact_for
from ..inference import Linear, Variant
from ..progress import Progress, silent
from .onnx_files import save_models
from .onnx_graph import Dialect, onnx_from_veca, short

MICROSOFT = "com.microsoft"


class CpuDialect(Dialect):
    """ONNX Runtime's operators; tensors between them stay `[B, S, D]`, without transposes."""

    opset = 23  # the first with Attention; ONNX Runtime 1.23 and later
    ir_version = 10
    domains: Mapping[str, int] = {MICROSOFT: 1}
    token_axis = 1

    def patch_embed(self, image: ir.Value) -> ir.Value:
        """Patches as rows of pixels and one matrix product: no transpose of the result."""
        g, size, (rows, columns) = self.g, self.config.patch_size, self.grid
        weight = self.constants.patch_weight
        if self.spec.input == "image":
            # Moves bytes, not floats: [B, Hp, P, Wp, P * 3] to [B, Hp, Wp, P, P * 3].
            x = g("Reshape", image, g.ints([self.batch, rows, size, columns, size * 3]))
            x = g("Transpose", x, perm=[0, 1, 3, 2, 4])
            weight = weight.transpose(0, 2, 3, 1)
            x = g("Cast", x, to=ir.DataType.FLOAT)
        else:
            x = g("Reshape", image, g.ints([self.batch, 3, rows, size, columns, size]))
            x = g("Transpose", x, perm=[0, 2, 4, 1, 3, 5])
        x = g("Reshape", x, g.ints([self.batch, self.patches, 3 * size * size]))
        product = g("MatMul", x, self.array("weight", weight.reshape(len(weight), -1).T))
        return g("Add", product, self.array("bias", self.constants.patch_bias))

    def linears(self, x: ir.Value, tokens: int, layers: Sequence[Linear]) -> list[ir.Value]:
        quantized = [layer.quantization for layer in layers if layer.quantization is not None]
        if not quantized:
            return super().linears(x, tokens, layers)
        g, scale = self.g, self.array("scale", np.array(quantized[0].activation_scale))
        zero = g.constant("zero_point", np.array(128, np.uint8))
        codes = g("QuantizeLinear", x, scale, zero, domain=MICROSOFT, dtype=ir.DataType.UINT8,
                  shape=[self.batch, tokens, layers[0].weight.shape[1]])
        return [self.integer_linear(codes, tokens, scale, zero, layer) if layer.quantization
                else self.float_linear(x, layer) for layer in layers]

    def integer_linear(self, codes: ir.Value, tokens: int, scale: ir.Value, zero: ir.Value, layer: Linear) -> ir.Value:
        g, q = self.g, layer.quantization
        with g.within(short(layer.name)):
            return g("MatMulIntegerToFloat", codes, g.constant("codes", q.codes.T), scale,
                     self.array("weight_scale", q.weight_scale), zero,
                     # Where ONNX Runtime rewrites the weights as uint8 it cannot rewrite a zero point twice.
                     g.constant("weight_zero_point", np.array(0, np.int8), shared=False),
                     self.array("bias", layer.bias), domain=MICROSOFT, dtype=ir.DataType.FLOAT,
                     shape=[self.batch, tokens, len(layer.bias)])

    def queries_or_keys(self, x: ir.Value, tokens: int, cos: ir.Value, sin: ir.Value) -> ir.Value:
        # The operator looks its angles up by position: each row of the tables is one.
        g = self.g
        positions = g.constant("positions", np.arange(self.batch * tokens).reshape(self.batch, tokens))
        flat = g.ints([self.batch * tokens, self.config.head_dim // 2])
        return g("RotaryEmbedding", x, positions, g("Reshape", cos, flat), g("Reshape", sin, flat), domain=MICROSOFT,
                 num_heads=self.config.heads, rotary_embedding_dim=0, interleaved=0, dtype=ir.DataType.FLOAT,
                 shape=[self.batch, tokens, self.config.hidden])

    def values(self, x: ir.Value) -> ir.Value:
        return x

    def constant_heads(self, name: str, array: np.ndarray) -> ir.Value:
        return self.array(name, self.per_batch(array))

    def constant_table(self, name: str, table: np.ndarray) -> ir.Value:
        return self.array(name, self.per_batch(table))

    def rotary_tables(self, raw: ir.Value) -> tuple[ir.Value, ir.Value]:
        """cos and sin of the core tokens: `[B, C, d / 2]`."""
        g = self.g
        angles = g("MatMul", g("Tanh", raw), g.constant("frequencies", self.frequency_matrix()))
        return g("Cos", angles), g("Sin", angles)

    def attention(self, q: ir.Value, k: ir.Value, v: ir.Value) -> ir.Value:
        # ONNX's own operator: ONNX Runtime runs it up to 1.4 times as fast as com.microsoft's MultiHeadAttention.
        return self.g("Attention", q, k, v, q_num_heads=self.config.heads, kv_num_heads=self.config.heads, scale=1.0)

    def merge_heads(self, parts: Sequence[ir.Value]) -> ir.Value:
        return self.concat(parts, 1)

    def silu_gate(self, gate: ir.Value, value: ir.Value) -> ir.Value:
        silu = self.g("QuickGelu", gate, domain=MICROSOFT, alpha=1.0, dtype=ir.DataType.FLOAT,
                      shape=[self.batch, None, self.config.mlp_hidden])
        return self.g("Mul", silu, value)


def without_inferable_types(model: ir.Model) -> ir.Model:
    """Leaves out the types that ONNX's own operators imply: every session would hold them (half a megabyte)."""
    for node in model.graph:
        for value in node.outputs:
            if node.domain == "" and not value.is_graph_output():
                value.shape = value.type = None
    return model


def onnx_models_from_variants(variants: Sequence[Variant], directory: Path, metadata: Mapping[str, str],
                              progress: Progress = silent) -> list[Artifact]:
    """Writes one ONNX file per variant under `directory/models`.

    Several variants share one weights file beside them, in which equal constants are stored once: the core
    counts differ in little but their activation scales.

    Raises:
        EdgeError: a variant is impossible for the model.
    """
    models = {}
    for i, variant in enumerate(variants):
        facts = {**metadata, "core_count": str(variant.spec.core_count), "precision": variant.precision}
        models[f"{variant.name}.onnx"] = without_inferable_types(
            onnx_from_veca(variant.weights, variant.spec, CpuDialect, facts))
        progress("writing models", i + 1, len(variants))
    save_models(models, directory / "models", "weights.bin")
    return [artifact_for(directory, f"models/{v.name}.onnx", "onnx", "cpu", v) for v in variants]
