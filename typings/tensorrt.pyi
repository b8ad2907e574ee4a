# TensorRT is installed with a JetPack or not at all, and brings no types.
from typing import Any

def __getattr__(name: str) -> Any: ...
