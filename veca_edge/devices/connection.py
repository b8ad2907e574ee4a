"""How work reaches a board: two implementations, this machine and SSH, behind one small protocol.

Everything that runs on a board is a POSIX shell script, and every file lives under one directory of its
own there (`~/.cache/veca-edge`), so that the names on the board are ours: paths given by the user never
reach a shell.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..base.errors import EdgeError

# Where our files live on a board. The variable is expanded there.
BOARD_DIRECTORY = '"${XDG_CACHE_HOME:-$HOME/.cache}/veca-edge"'

_BOARD_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


class ConnectionLost(EdgeError):
    """The connection broke, or could not be made; what runs detached on the board goes on."""


@dataclass(frozen=True)
class Completed:
    """What a script left. `output` and `errors` as bytes: logs need not be valid UTF-8."""

    exit_code: int
    output: bytes
    errors: bytes

    @property
    def text(self) -> str:
        return self.output.decode("utf-8", "replace")

    @property
    def error_text(self) -> str:
        return self.errors.decode("utf-8", "replace").strip()


class Connection(Protocol):
    """A machine that scripts run on.

    Attributes:
        name: for messages ("this machine", "ssh://orin").
        device: what `--device` has to be given to come back here, or "" for this machine.
    """

    name: str
    device: str

    def run(self, script: str, *arguments: str, timeout_s: float = 120) -> Completed:
        """Runs a POSIX shell script there with `$1`, `$2`, ... and an empty standard input."""

    def put(self, source: Path, name: str) -> None:
        """Copies a file there, to `name` below the board directory; whole, or not at all."""

    def get(self, name: str, destination: Path) -> None:
        """Copies `name` from below the board directory; whole, or not at all."""

    def close(self) -> None:
        """Frees what was held; the connection can be used no more."""


# ------------------------------------------------------------------------------------------ device


@dataclass(frozen=True)
class Device:
    """What `--device` names: a host for SSH, or this machine where `host` is None.

    `user` and `port` are None where the user's SSH configuration decides.
    """

    host: str | None
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        if self.host is None:
            return "local"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return "ssh://" + (f"{self.user}@" if self.user else "") + host + (f":{self.port}" if self.port else "")


_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252})")


def parse_device(text: str) -> Device:
    """Reads `local`, `ssh://[user@]host[:port]`, or `[user@]host`, where host may be an alias of the SSH configuration.

    Everything that is not plainly a name is refused: spaces, quotes, `;`, `$(...)`, a leading `-`.
    """
    if text == "local":
        return Device(None)
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "ssh", text
    if scheme != "ssh":
        raise EdgeError(f"'{text}' is no device: there is no scheme '{scheme}'.", _DEVICE_HINT)
    user, at, address = rest.rpartition("@")
    if at and not _USER.fullmatch(user):
        raise EdgeError(f"'{text}' is no device: {user!r} is no user name.", _DEVICE_HINT)
    match = re.fullmatch(r"(?:\[(?P<six>[^\]]*)\]|(?P<host>[^:]*))(?::(?P<port>.*))?", address, re.DOTALL)
    if match is None:
        raise EdgeError(
            f"'{text}' is no device: {address!r} is no host.", f"{_DEVICE_HINT} An IPv6 address goes in brackets."
        )
    host = match["six"] or match["host"] or ""
    if not (_is_ipv6(host) if match["six"] is not None else _HOST.fullmatch(host)):
        raise EdgeError(f"'{text}' is no device: {host!r} is no host name.", _DEVICE_HINT)
    port = match["port"]
    if port is not None and not (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65536):
        raise EdgeError(f"'{text}' is no device: {port!r} is no port.", "A port is a number from 1 to 65535.")
    return Device(host, user or None, int(port) if port else None)


_DEVICE_HINT = "Give --device ssh://[user@]host[:port] (host may be an alias of your SSH configuration), or local."


def _is_ipv6(text: str) -> bool:
    address, percent, zone = text.partition("%")
    if percent and not re.fullmatch(r"[A-Za-z0-9._-]+", zone):
        return False
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return True


def connect(device: Device) -> Connection:
    """A connection to the device; SSH connects with the first script that runs."""
    if device.host is None:
        return LocalConnection()
    from .ssh import SshConnection

    return SshConnection(device)


# ------------------------------------------------------------------------------------------- local


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

    def run(self, script: str, *arguments: str, timeout_s: float = 120) -> Completed:
        shell = shutil.which("sh")
        if shell is None:
            raise EdgeError(
                "This machine has no POSIX shell (sh), which building and profiling need.",
                "Give the board with --device ssh://host.",
            )
        command = [shell, "-s", "--", *arguments]
        try:
            done = subprocess.run(
                command, input=whole(script).encode(), capture_output=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise EdgeError(f"A command on this machine took longer than {timeout_s:.0f} s.") from error
        return Completed(done.returncode, done.stdout, done.stderr)

    def put(self, source: Path, name: str) -> None:
        _copy_whole(Path(source), self._path(name))

    def get(self, name: str, destination: Path) -> None:
        _copy_whole(self._path(name), Path(destination))

    def _path(self, name: str) -> Path:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(cache) / "veca-edge" / board_name(name)


def _copy_whole(source: Path, destination: Path) -> None:
    part = destination.with_name(f"{destination.name}.part")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, part)
        part.replace(destination)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise EdgeError(f"'{source}' could not be copied to '{destination}': {error.strerror or error}.") from error


def whole(script: str) -> str:
    """The script in braces: a shell reads it to its end before it starts, and nothing in it can eat the rest."""
    return "{\n" + script + "\n} </dev/null\n"


def board_name(name: str) -> str:
    """Checks a path below the board directory: ours, so a wrong one is a bug."""
    if not _BOARD_NAME.fullmatch(name) or ".." in name:
        raise ValueError(f"{name!r} is no name for a file on a board")
    return name
