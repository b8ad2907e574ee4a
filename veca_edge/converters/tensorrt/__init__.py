"""ONNX for TensorRT, and engines built from it on a board."""
