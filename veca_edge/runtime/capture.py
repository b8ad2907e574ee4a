"""What is asked of a camera (size, rate and format), and what a source gives."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ..base.errors import EdgeError, unknown_name

if TYPE_CHECKING:
    from ..images.pictures import Picture

# Names of formats with what V4L2 and GStreamer call them.
FORMATS = {"nv12": ("NV12", "NV12"), "yuyv": ("YUYV", "YUY2"), "i420": ("YU12", "I420"), "mjpg": ("MJPG", "")}


@dataclass(frozen=True)
class CaptureMode:
    """Width and height in pixels, frames a second and a name of `FORMATS`; None leaves it to the camera."""

    width: int
    height: int
    fps: float | None = None
    format: str | None = None

    def __str__(self) -> str:
        rate = "" if self.fps is None else f"@{self.fps:g}"
        return f"{self.width}x{self.height}{rate}" + ("" if self.format is None else f":{self.format}")

    @classmethod
    def parse(cls, text: str) -> CaptureMode:
        """Reads `1920x1080`, `1920x1080@30`, `1920x1080@30:nv12`. Raises `EdgeError` for anything else."""
        found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})(?:@([0-9]+(?:\.[0-9]+)?))?(?::(\w+))?", text.strip())
        if found is None or not (int(found[1]) and int(found[2])) or (found[3] and not float(found[3])):
            raise EdgeError(f"A camera can't be asked for '{text}'.", "Give WIDTHxHEIGHT@FPS: --capture 1920x1080@30")
        name = found[4] and found[4].lower()
        if name and name not in FORMATS:
            raise unknown_name("camera format", name, FORMATS)
        return cls(int(found[1]), int(found[2]), float(found[3]) if found[3] else None, name or None)


class Captured(NamedTuple):
    """A picture of a source.

    Attributes:
        at: when it was captured, on the clock of `time.perf_counter`.
        rate: frames a second as the source states them, or None.
        shown: when a recording shows it, in seconds from its begin; None of a camera, and where it does not say.
    """

    picture: Picture
    at: float
    rate: float | None
    shown: float | None = None


def hdr_error(label: str, transfer: str, hint: str) -> EdgeError:
    """Of a source with the transfer characteristics PQ or HLG, whose pictures would look washed out to a model."""
    return EdgeError(f"{label} has HDR colours ({transfer}), which are not those that models are trained on.", hint)
