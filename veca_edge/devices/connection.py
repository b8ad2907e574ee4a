"""Reaching a board: through this machine's own shell, or through SSH."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from ..base.errors import EdgeError
from ..base.files import claim, open_regular
from .device import Device, parse_device
from .process import Completed, TooLong, TooSlow, run_bounded
from .shell import (
    ANSWER_BYTES,
    ANSWER_S,
    FILE_BYTES,
    Connection,
    ConnectionLost,
    aside,
    board_name,
    too_long,
    whole_script,
)
from .ssh import SshConnection

__all__ = ["Completed", "Connection", "ConnectionLost", "Device", "LocalConnection", "connect", "parse_device"]


def connect(device: Device) -> LocalConnection | SshConnection:
    """A connection to the device; SSH connects with the first script that runs."""
    return LocalConnection() if device.host is None else SshConnection(device)


class LocalConnection:
    """This machine, through its own shell."""

    name = "this machine"
    device = ""

    def __enter__(self) -> LocalConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        pass

    def run(
        self, script: str, *arguments: str, timeout_s: float = ANSWER_S, most_bytes: int = ANSWER_BYTES
    ) -> Completed:
        shell = shutil.which("sh")
        if shell is None:
            raise EdgeError(
                "This machine has no POSIX shell (sh), which building and profiling need.",
                "Give the board with --device ssh://host.",
            )
        try:
            return run_bounded(
                [shell, "-s", "--", *arguments],
                stdin=whole_script(script).encode(),
                seconds=timeout_s,
                most_bytes=most_bytes,
                own_session=True,
            )
        except TooSlow as error:
            raise EdgeError(
                f"A command on this machine took longer than {timeout_s:.0f} s.",
                "Stop other programs, and run the same command again.",
            ) from error
        except TooLong as error:
            raise too_long(self.name, most_bytes, "Run the same command again with --debug to see what it ran.") from (
                error
            )

    def put(self, source: Path, name: str) -> None:
        _copy_whole(Path(source), self._path(name))

    def get(self, name: str, destination: Path, most_bytes: int = FILE_BYTES) -> None:
        source = self._path(name)
        try:
            facts = source.lstat()
        except OSError as error:
            raise EdgeError(
                f"'{name}' could not be copied from {self.name}: {error.strerror or error}.",
                "Run the same command again: what is not there is made again.",
            ) from error
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > most_bytes:
            raise EdgeError(
                f"'{name}' on {self.name} is not a file of {most_bytes} bytes or less.", "Run the same command again."
            )
        _copy_whole(source, Path(destination))

    def _path(self, name: str) -> Path:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(cache) / "veca-edge" / board_name(name)


def _copy_whole(source: Path, destination: Path) -> None:
    part = destination.with_name(aside(destination.name))
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with open_regular(source) as original, part.open("wb") as file:
            claim(file)
            shutil.copyfileobj(original, file, 1 << 20)
        part.replace(destination)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise EdgeError(
            f"'{source}' could not be copied to '{destination}': {error.strerror or error}.",
            "Free some space or get permission there, and run the same command again.",
        ) from error
