"""Small videos of any kind, written by FFmpeg; who imports this is skipped where PyAV is not installed."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from veca_edge.images.pictures import MATRICES

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'veca-edge[camera]'")
# Numbers of matrices in ITU-T H.273.
CODES = {"bt601": 6, "bt709": 1, "bt2020": 9}


def written(
    path: Path,
    frames: Iterable[np.ndarray],
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rate: int = 25,
    matrix: str = "bt601",
    is_full_range: bool = False,
    states: bool = True,
    transfer: int | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Frames uint8 RGB `[h, w, 3]` as a video with such colours, which it `states` or not."""
    from av.video.reformatter import VideoReformatter

    range_, converter = 2 if is_full_range else 1, VideoReformatter()
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.pix_fmt = pixels
        if states:
            stream.codec_context.colorspace, stream.codec_context.color_range = CODES[matrix], range_
        if transfer is not None:
            stream.codec_context.color_trc = transfer
        for number, rgb in enumerate(frames):
            if not number:
                stream.height, stream.width = rgb.shape[:2]
            if av.VideoFormat(pixels).is_rgb:
                frame = av.VideoFrame.from_ndarray(rgb, "rgb24")
            else:
                frame = av.VideoFrame.from_ndarray(luma_and_chroma(rgb, matrix, is_full_range), "yuv444p")
            made = converter.reformat(frame, format=pixels, src_color_range=range_, dst_color_range=range_)
            container.mux(stream.encode(made))
        container.mux(stream.encode(None))
    return path


def luma_and_chroma(rgb: np.ndarray, matrix: str, is_full_range: bool) -> np.ndarray:
    """y, u and v of every pixel, uint8 `[3, h, w]`, by the definition of the matrix."""
    red, blue = MATRICES[matrix]
    r, g, b = np.moveaxis(rgb / 255, -1, 0)
    y = red * r + (1 - red - blue) * g + blue * b
    u, v = (b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))
    of_luma, of_chroma, base = (255, 255, 0) if is_full_range else (219, 224, 16)
    planes = np.stack([base + of_luma * y, 128 + of_chroma * u, 128 + of_chroma * v])
    return np.clip(np.round(planes), 0, 255).astype(np.uint8)


def turned(path: Path, signs: tuple[int, int, int, int]) -> Path:
    """The same `.mp4` with another display matrix, a, b, c and d of it, as phones that were held upright write it."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    a, b, c, d = (sign << 16 for sign in signs)
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path
