"""Videos as data: frames in their order, which know no labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..base.errors import EdgeError
from ..runtime.sources import opened_video
from .samples import Chunk, DataSet, Listing, ReadImage

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm")


@dataclass(frozen=True)
class VideoChunk:
    """Frames of one video from `start` on; `count` is None for all that are left."""

    video: str
    start: int
    count: int | None

    @property
    def key(self) -> str:
        return f"{Path(self.video).name}#{self.start:09d}"

    def samples(self) -> Iterator[ReadImage]:
        label = Path(self.video).name
        with opened_video(Path(self.video)) as (cv2, capture):
            if self.start:
                capture.set(cv2.CAP_PROP_POS_FRAMES, self.start)
            if int(capture.get(cv2.CAP_PROP_POS_FRAMES)) != self.start:
                # Not every kind of file can be entered in the middle.
                capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
                for _ in range(self.start):
                    capture.grab()
            number = self.start
            while self.count is None or number < self.start + self.count:
                there, pixels = capture.read()
                if not there:
                    break
                yield ReadImage(f"{label}#{number}", cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
                number += 1
            if self.count is not None and number < self.start + self.count:
                yield ReadImage(f"{label}#{number}", None, "no frame could be decoded from here on")


def videos_of(folder: Path) -> list[Path]:
    """All videos below a folder, hidden names left out, sorted."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and not p.name.startswith("."))


def open_videos(name: str, videos: Sequence[Path], size: int) -> DataSet:
    """Lists videos with the frames that they say they have."""
    if len({video.name for video in videos}) < len(videos):
        raise EdgeError("Two videos have one name.", "Give each a name of its own.")
    digest, images = Listing(), 0
    chunks: list[Chunk] = []
    for video in videos:
        with opened_video(video) as (cv2, capture):
            frames = max(1, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        digest.add(video.name, video.stat().st_size, frames)
        images += frames
        starts = range(0, frames, size)
        chunks += [VideoChunk(str(video.resolve()), at, None if at == starts[-1] else size) for at in starts]
    return DataSet("video", name, images, digest.hex, (), lambda: iter(chunks))
