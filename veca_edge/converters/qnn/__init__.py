"""Snapdragon's NPU, ahead of time: an ONNX dialect for Qualcomm's compiler, the compiler, and its emulation."""
