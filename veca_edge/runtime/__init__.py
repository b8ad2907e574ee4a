"""Runs models. Needs only the runtime of the artifact's format; ONNX files never need torch.

An application loads a bundle: `model = load("bundle")`, `outputs = model(frame)`. A tool opens one
artifact: `open_runner`.
"""

from .governor import Decision, Governor, Rules
from .model import Model, Output, load
from .runner import Runner, open_runner

__all__ = ["Decision", "Governor", "Model", "Output", "Rules", "Runner", "load", "open_runner"]
