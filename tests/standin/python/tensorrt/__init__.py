"""A test double: TensorRT-RTX under the name of TensorRT, which shares its builder and its parser."""

import sys
from pathlib import Path

from tensorrt_rtx import *  # noqa: F403

sys.path.insert(0, str(Path(__file__).parents[2]))
from settings import settings

__version__ = settings()["tensorrt"] + ".30"
