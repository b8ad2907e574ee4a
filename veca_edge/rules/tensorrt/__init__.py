"""TensorRT's rules for ONNX files: `lint.lint_onnx` checks them, `table.RULES` names them all."""
