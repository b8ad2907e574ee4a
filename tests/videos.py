"""Small videos of any kind, written by FFmpeg."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np

from veca_edge.images.pictures import MATRICES


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

    code = {"bt601": 6, "bt709": 1, "bt2020": 9}[matrix]
    assert matrix in MATRICES
    range_ = 2 if is_full_range else 1
    converter = VideoReformatter()
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.pix_fmt = pixels
        if states:
            stream.codec_context.colorspace, stream.codec_context.color_range = code, range_
        if transfer is not None:
            stream.codec_context.color_trc = transfer
        for number, pixels_ in enumerate(frames):
            if not number:
                stream.height, stream.width = pixels_.shape[:2]
            frame = av.VideoFrame.from_ndarray(pixels_, "rgb24")
            made = converter.reformat(
                frame,
                format=pixels,
                src_colorspace=code,
                dst_colorspace=code,
                src_color_range=2,
                dst_color_range=range_,
            )
            container.mux(stream.encode(made))
        container.mux(stream.encode(None))
    return path
