"""A board behind the system's own OpenSSH client.

`ssh` itself is run, so the user's keys, agent, configuration, aliases and jump hosts work as in a
terminal, and host keys are checked as there. Nothing is ever asked (`BatchMode`): what would need a
question is an error that says which command answers it once.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from ..base.errors import EdgeError
from ..base.files import claim
from .answers import Reader, shown
from .device import Device
from .process import Completed, TooLong, TooSlow, run_bounded
from .shell import (
    ANSWER_BYTES,
    ANSWER_S,
    BOARD_DIRECTORY,
    FILE_BYTES,
    ConnectionLost,
    aside,
    board_name,
    too_long,
    whole_script,
)
from .ssh_errors import copy_error, login, ssh_error

# A login shell may print what it likes before our output begins (a greeting in .bashrc), up to 64 kB.
_MARK = "veca-edge-output-begins"
_MARK_LINE = f"{_MARK}\n".encode()
_GREETING_BYTES = 64 << 10
_COPY_S = 3600.0
# No byte of a copy moved for so long: the network is gone, or the other side does not want it.
_STALL_S = 45.0
_CLIENT_S = 30.0


class SshConnection:
    """One host. Connections share one authenticated channel where the client can (`ControlMaster`).

    Args:
        stall_s: the longest that a copy may stand still.
    """

    def __init__(self, device: Device, stall_s: float = _STALL_S):
        if device.host is None:
            raise ValueError("an SSH connection needs a host")
        self.target = device
        self.device = str(device)
        self.name = self.device
        ssh = shutil.which("ssh")
        if ssh is None:
            raise EdgeError(
                "Reaching a board needs the OpenSSH client (ssh), which is not installed.",
                "Install it, for example with: sudo apt install openssh-client",
            )
        self._ssh = ssh
        self._stall_s = stall_s
        self._control: tempfile.TemporaryDirectory[str] | None = None
        self._options: list[str] | None = None

    def __enter__(self) -> SshConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._control is not None:
            if (Path(self._control.name) / "s").exists():
                with suppress(OSError, TooLong, TooSlow):
                    run_bounded(
                        [self._ssh, *self._command_options(), "-O", "exit", "--", self._host()],
                        seconds=20,
                        most_bytes=ANSWER_BYTES,
                    )
            self._control.cleanup()
            self._control = None
        self._options = None

    # ------------------------------------------------------------------------------------- scripts

    def run(
        self, script: str, *arguments: str, timeout_s: float = ANSWER_S, most_bytes: int = ANSWER_BYTES
    ) -> Completed:
        command = shlex.join(["sh", "-s", "--", *arguments])
        done = self._call(
            command, timeout_s, most_bytes + _GREETING_BYTES, stdin=whole_script(f"echo {_MARK}\n{script}").encode()
        )
        before, mark, output = done.output.partition(_MARK_LINE)
        if not mark:
            raise self._reader.refused("what it answers a shell script with", done.errors.strip() or before.strip())
        return Completed(done.exit_code, output, done.errors)

    def put(self, source: Path, name: str) -> None:
        path = f'{BOARD_DIRECTORY}/"{board_name(name)}"'
        part = f'{BOARD_DIRECTORY}/"{aside(name)}"'
        try:
            with Path(source).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                # One line without a single quote or backslash: every login shell reads it the same way. The size
                # is checked there, where a connection that breaks looks like the end of the file.
                script = (
                    f'umask 077; mkdir -p "$(dirname {path})" && cat > {part} && '
                    f"test $(wc -c < {part}) -eq {size} && mv {part} {path} || {{ rm -f {part}; exit 1; }}"
                )
                done = self._call(f"sh -c '{script}'", _COPY_S, ANSWER_BYTES, stdin=file, stall_s=self._stall_s)
        except OSError as error:
            raise EdgeError(
                f"'{source}' could not be read: {error.strerror or error}.", "Is it there, and may you read it?"
            ) from error
        if done.exit_code:
            raise copy_error(self.name, Path(source).name, done.error_text)

    def get(self, name: str, destination: Path, most_bytes: int = FILE_BYTES) -> None:
        path = f'{BOARD_DIRECTORY}/"{board_name(name)}"'
        part = Path(destination).with_name(aside(Path(destination).name))
        script = (
            f"test -f {path} && {{ sha256sum < {path} || echo -; }} && wc -c < {path} && echo {_MARK} && cat {path}"
        )
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                claim(file)
                arriving = _Arriving(file, self._reader, name, min(most_bytes, shutil.disk_usage(part.parent).free))
                done = self._call(
                    f"sh -c '{script}'",
                    _COPY_S,
                    most_bytes + 2 * _GREETING_BYTES,
                    on_output=arriving.take,
                    stall_s=self._stall_s,
                )
                if done.exit_code:
                    raise EdgeError(
                        f"'{name}' could not be copied from {self.name}: {done.error_text or 'it is not there'}.",
                        "Run the same command again: what is not there is made again.",
                    )
                arriving.check()
            part.replace(destination)
        except OSError as error:
            raise EdgeError(
                f"'{destination}' could not be written: {error.strerror or error}.",
                "Free some space or get permission there, or choose another place.",
            ) from error
        finally:
            part.unlink(missing_ok=True)

    # ----------------------------------------------------------------------------------- the client

    @property
    def _reader(self) -> Reader:
        return Reader(
            self.name, f"Does its login shell, or a ForceCommand, run something else? Try: {login(self.target)} uname"
        )

    def _host(self) -> str:
        return self.target.host or ""

    def _call(
        self,
        remote: str,
        timeout_s: float,
        most_bytes: int,
        *,
        stdin: bytes | BinaryIO = b"",
        on_output: Callable[[bytes], None] | None = None,
        stall_s: float | None = None,
    ) -> Completed:
        done = self._client(["--", self._host(), remote], timeout_s, most_bytes, stdin, on_output, stall_s)
        # ssh's own failures end in 255; none of our scripts does.
        if done.exit_code == 255:
            raise ssh_error(self.target, done.error_text)
        return done

    def _client(
        self,
        words: list[str],
        timeout_s: float,
        most_bytes: int,
        stdin: bytes | BinaryIO = b"",
        on_output: Callable[[bytes], None] | None = None,
        stall_s: float | None = None,
    ) -> Completed:
        command = [self._ssh, *self._command_options(), *words]
        try:
            return run_bounded(
                command, seconds=timeout_s, most_bytes=most_bytes, stdin=stdin, on_output=on_output, stall_s=stall_s
            )
        except TooSlow as error:
            waited = timeout_s if stall_s is None else min(timeout_s, stall_s)
            raise ConnectionLost(
                f"{self.name} did not answer within {waited:.0f} s.",
                "Check the network and run the same command again.",
            ) from error
        except TooLong as error:
            raise too_long(
                self.name,
                most_bytes,
                "Does its login shell, or a ForceCommand, print without an end? "
                f"Try: {login(self.target)} uname | head",
            ) from error

    def _command_options(self) -> list[str]:
        if self._options is None:
            options = [
                "-T",
                "-x",
                "-a",
                "-o",
                "BatchMode=yes",
                "-o",
                "ConnectTimeout=15",
                "-o",
                "ServerAliveInterval=10",
                "-o",
                "ServerAliveCountMax=6",
                "-o",
                "ClearAllForwardings=yes",
                "-o",
                "RemoteCommand=none",
            ]
            if self.target.user:
                options += ["-l", self.target.user]
            if self.target.port:
                options += ["-p", str(self.target.port)]
            if os.name == "posix" and not self._shares_already(options):
                # A socket's path has about 100 characters, so not below the user's long directories.
                self._control = tempfile.TemporaryDirectory(prefix="veca-edge-", dir="/tmp", ignore_cleanup_errors=True)
                options += [
                    "-o",
                    "ControlMaster=auto",
                    "-o",
                    f"ControlPath={self._control.name}/s",
                    "-o",
                    "ControlPersist=60",
                ]
            self._options = options
        return self._options

    def _shares_already(self, options: list[str]) -> bool:
        """Whether the user's own configuration shares connections: theirs may already be authenticated."""
        try:
            done = run_bounded(
                [self._ssh, *options, "-G", "--", self._host()], seconds=_CLIENT_S, most_bytes=ANSWER_BYTES
            )
        except (TooLong, TooSlow) as error:
            raise EdgeError(
                f"Your SSH configuration for {self.name} could not be read within {_CLIENT_S:.0f} s.",
                f"Try: ssh -G {self._host()}",
            ) from error
        if done.exit_code:
            raise ssh_error(self.target, done.error_text)
        path = re.search(rb"^controlpath (.+)$", done.output, re.MULTILINE)
        return path is not None and path[1].strip() != b"none"


# ------------------------------------------------------------------------------------------- files


class _Arriving:
    """A file on its way from a board: never more than was announced, and what the announced digest says.

    Args:
        file: where it is written.
        most_bytes: the most that may be announced.
    """

    def __init__(self, file: BinaryIO, reader: Reader, name: str, most_bytes: int):
        self._file, self._reader, self._name, self._most = file, reader, name, most_bytes
        self._head: bytes | None = b""
        self._expected, self._digest, self._size = 0, "", 0
        self._hash = hashlib.sha256()

    def take(self, block: bytes) -> None:
        """Takes the next bytes: a greeting, a line with the digest, one with the size, our mark, the file."""
        if self._head is not None:
            head, mark, block = (self._head + block).partition(_MARK_LINE)
            if not mark:
                self._head = head
                if len(head) > _GREETING_BYTES:
                    raise self._reader.refused(f"what comes before '{self._name}'", head)
                return
            self._head = None
            self._announce(head)
        self._size += len(block)
        if self._size > self._expected:
            raise self._reader.refused(f"'{self._name}', announced with {self._expected} bytes and longer,", block)
        self._hash.update(block)
        self._file.write(block)

    def _announce(self, head: bytes) -> None:
        digest, size = ([b"", b"", *head.splitlines()])[-2:]
        self._expected = self._reader.whole(f"the size of '{self._name}'", size.decode("utf-8", "replace").strip())
        words = digest.decode("utf-8", "replace").split()
        # A board without sha256sum says "-".
        if words != ["-"]:
            self._digest = self._reader.digest(f"the digest of '{self._name}'", words[0] if words else "")
        if self._expected > self._most:
            raise EdgeError(
                f"'{self._name}' on {self._reader.source} is said to have {self._expected} bytes, "
                f"and {self._most} can be taken.",
                "Free some space here. If that is not the reason, the file is not the one that was made there.",
            )

    def check(self) -> None:
        """Raises `EdgeError` unless the whole file came."""
        place = self._reader.source
        if self._head is not None or self._size < self._expected:
            raise ConnectionLost(
                f"Only {self._size} of {self._expected} bytes of a file came from {place}."
                if self._head is None
                else f"The connection to {place} broke while a file was fetched: it sent {shown(self._head)}.",
                "Run the same command again.",
            )
        if self._digest and self._hash.hexdigest() != self._digest:
            raise EdgeError(
                f"'{self._name}' came from {place} with other content than the digest that it announced.",
                "Run the same command again. If it happens again, check the board's disk and memory.",
            )
