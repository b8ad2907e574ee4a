"""VECA as ONNX, whatever runs it."""
