"""Videos as data: frames in their order, which know no labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..base.errors import EdgeError
from ..images.pictures import Picture
from ..runtime.ffmpeg import opened
from .samples import Chunk, DataSet, Listing, ReadImage

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".avi", ".webm")


@dataclass(frozen=True)
class VideoChunk:
    """Frames of one video from `start` on.

    Attributes:
        count: how many; None for all that are left.
        begin, end: when the first is shown, and the first of the next chunk, in the video's own units; None where it
            does not say, or nothing follows.
    """

    video: str
    start: int
    count: int | None
    begin: int | None = None
    end: int | None = None

    @property
    def key(self) -> str:
        return f"{Path(self.video).name}#{self.start:09d}"

    def samples(self) -> Iterator[ReadImage]:
        label = Path(self.video).name
        number, failure = self.start, "no frame could be decoded from here on"
        try:
            for picture in self._pictures():
                yield ReadImage(f"{label}#{number}", picture)
                number += 1
        except EdgeError as error:
            if not number:
                raise
            failure = error.message
        else:
            if self.count is None or number == self.start + self.count:
                return
        yield ReadImage(f"{label}#{number}", None, failure)

    def _pictures(self) -> Iterator[Picture]:
        with opened(self.video, Path(self.video).name) as video:
            if self.begin is None or not self.start:
                pictures = islice(video.pictures(), self.start, None)
            else:
                pictures = video.pictures_from(self.begin)
            for number, (picture, pts) in enumerate(pictures, self.start):
                if self._is_behind(number, pts):
                    return
                yield picture

    def _is_behind(self, number: int, pts: int | None) -> bool:
        """Whether a frame is the next chunk's."""
        if self.end is not None and pts is not None:
            return pts >= self.end
        return self.count is not None and number >= self.start + self.count


def videos_of(folder: Path) -> list[Path]:
    """All videos below a folder, hidden names left out, sorted."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and not p.name.startswith("."))


def open_videos(name: str, videos: Sequence[Path], size: int) -> DataSet:
    """Lists videos with their frames, which are counted without decoding them."""
    if len({video.name for video in videos}) < len(videos):
        raise EdgeError("Two videos have one name.", "Give each a name of its own.")
    digest, images = Listing(), 0
    chunks: list[Chunk] = []
    for video in videos:
        with opened(str(video), str(video)) as read:
            times = read.times() or [None]
        digest.add(video.name, video.stat().st_size, len(times))
        images += len(times)
        begins: list[int | None] = [*times[::size], None]
        for start, begin, end in zip(range(0, len(times), size), begins, begins[1:], strict=False):
            count = size if start + size < len(times) else None
            chunks.append(VideoChunk(str(video.resolve()), start, count, begin, end))
    return DataSet("video", name, images, digest.hex, (), lambda: iter(chunks))
