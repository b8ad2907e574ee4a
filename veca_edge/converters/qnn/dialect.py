"""ONNX as Qualcomm's compiler takes it whole.

Every quantized layer has Q/DQ at its input and at its output: without the second the compiler leaves the weights'
DequantizeLinear to the CPU. Camera bytes become floats by a DequantizeLinear with scale 1: with a Cast the compiler's
emulation computes wrong numbers, without an error (cosine 0.17 with onnxruntime-qnn 2.7).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ...base.errors import EdgeError
from ...model.folding import Linear, LinearQuantization
from ..onnx.dialect import Dialect, short

# Calibration sees a sample of what a layer sees; 16 bits have room for more than that.
HEADROOM = 1.25


class QnnDialect(Dialect):
    """All of it in the compiler's FP16 where nothing is quantized; floats are written as float32."""

    opset = 21  # the first with 16-bit QuantizeLinear
    ir_version = 10

    def label_type(self, classes: int) -> ir.DataType:
        return ir.DataType.INT32

    def floats(self, image: ir.Value) -> ir.Value:
        if self.spec.input != "image":
            return image
        one, zero = self.array("pixel_scale", np.array(1.0)), self.g.constant("pixel_zero", np.array(0, np.uint8))
        return self.g("DequantizeLinear", image, one, zero)


class QuantizedQnnDialect(QnnDialect):
    """INT8 weights; activations of `zero`'s type, symmetric around it."""

    zero = np.array(0)
    headroom = 1.0

    def activation_scale(self, q: LinearQuantization) -> float:
        raise NotImplementedError

    def scale_to(self, peak: float) -> float:
        """The scale with which `peak` is the largest code."""
        return max(self.headroom * peak / (int(self.zero) - 1), float(np.finfo(np.float32).tiny))

    def linears(self, x: ir.Value, tokens: int, layers: Sequence[Linear]) -> list[ir.Value]:
        first = next((layer for layer in layers if layer.quantization), None)
        if first is None or first.quantization is None:
            return super().linears(x, tokens, layers)
        with self.g.within(short(first.name)):
            rounded = self.rounded(x, self.activation_scale(first.quantization))
        return [
            self.quantized_linear(rounded, layer, q) if (q := layer.quantization) else self.float_linear(x, layer)
            for layer in layers
        ]

    def quantized_linear(self, x: ir.Value, layer: Linear, q: LinearQuantization) -> ir.Value:
        g = self.g
        if q.output_peak is None:
            raise EdgeError(
                f"The recipe does not say how large the outputs of '{layer.name}' are.", "Calibrate it again."
            )
        with g.within(short(layer.name)):
            weight = g(
                "DequantizeLinear",
                g.constant("codes", q.codes.T),
                self.array("weight_scale", q.weight_scale),
                g.constant("weight_zero", np.zeros(len(q.weight_scale), np.int8)),
                axis=1,
            )
            product = self.rounded(g("MatMul", x, weight), self.scale_to(float(q.output_peak.max())))
            return g("Add", product, self.array("bias", layer.bias))

    def rounded(self, x: ir.Value, scale: float) -> ir.Value:
        g = self.g
        constants = self.array("scale", np.array(scale)), g.constant("zero", self.zero)
        return g("DequantizeLinear", g("QuantizeLinear", x, *constants), *constants)


class A16W8(QuantizedQnnDialect):
    """16-bit activations."""

    zero = np.array(1 << 15, np.uint16)
    headroom = HEADROOM

    def activation_scale(self, q: LinearQuantization) -> float:
        if q.input_peak is None:
            raise EdgeError("The recipe does not say how large the inputs of layers are.", "Calibrate it again.")
        return self.scale_to(q.input_peak)


class A8W8(QuantizedQnnDialect):
    """8-bit activations, with the scales that calibration found for inputs."""

    zero = np.array(1 << 7, np.uint8)

    def activation_scale(self, q: LinearQuantization) -> float:
        return q.activation_scale
