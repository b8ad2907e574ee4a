"""The bundled demo: a small trained model and real images, so that everything works with no other input."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from ..base.spec import ImageSize

DEMO_IMAGE_SIZE = ImageSize(32, 32)


def demo_checkpoint() -> Path:
    """The trained tiny model (safetensors, with its classifier head and class names); images are 32 x 32 pixels."""
    return _path("veca_tiny_cifar10.safetensors")


def demo_segment_head() -> Path:
    """A segmentation head for the same model, fitted on mosaics of CIFAR-10 images at 64 x 64 pixels."""
    return _path("veca_tiny_mosaics_segment.safetensors")


def demo_calibration() -> Path:
    """The folder of images to calibrate on, in subfolders named by class."""
    return _path("images/calibration")


def demo_evaluation() -> Path:
    """The folder of images to evaluate on, in subfolders named by class; none of them is a calibration image."""
    return _path("images/evaluation")


def _path(name: str) -> Path:
    return Path(str(files(__name__) / name))
