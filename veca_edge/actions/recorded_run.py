"""What a live run came to, in a file: for a report, and to be compared with later ones."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..base.files import disk_errors, write_atomically
from ..base.json_files import read_versioned, versioned
from ..base.spec import ImageSize
from ..bundle.types import Count, Digest
from ..profiles.machine import Machine, this_machine
from ..profiles.measurement import utc_now
from ..runtime.live import Live
from ..runtime.tally import Summary

FORMAT_VERSION = 1


@dataclass(frozen=True)
class RecordedRun:
    """A live run that has ended.

    Attributes:
        model, checkpoint: name and sha256 of what the bundle was made from.
        source, kind: as it was given, and a kind of `Source`.
        threads: CPU threads that were asked for; None left it to the runtime.
        created_at: UTC, ISO 8601.
    """

    model: str
    checkpoint: Digest
    precision: str
    image_size: tuple[Count, Count]
    source: str
    kind: str
    threads: Count | None
    machine: Machine
    created_at: str
    summary: Summary


def recorded_run(live: Live, summary: Summary, threads: int | None = None) -> RecordedRun:
    """What is to be kept of a run on this machine."""
    bundle, artifact = live.model.bundle, live.model.artifact
    size: ImageSize = artifact.image_size
    return RecordedRun(
        bundle.checkpoint.name,
        bundle.checkpoint.digest,
        artifact.precision,
        (size.height, size.width),
        live.source.name,
        live.source.kind,
        threads,
        this_machine(),
        utc_now(),
        summary,
    )


def save_run(path: Path, run: RecordedRun) -> None:
    """Writes a run. Raises `EdgeError` where that is not possible."""
    content = versioned(msgspec.to_builtins(run), FORMAT_VERSION)
    with disk_errors(path):
        write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def load_run(path: Path) -> RecordedRun:
    """Reads what `save_run` wrote. Raises `EdgeError` for anything else."""
    hint = "Give a file that was written by: veca-edge run BUNDLE --source SOURCE --summary FILE.json"
    return read_versioned(path, RecordedRun, FORMAT_VERSION, f"The run {path}", hint)
