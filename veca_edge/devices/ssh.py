"""A board behind the system's own OpenSSH client.

`ssh` itself is run, so the user's keys, agent, configuration, aliases and jump hosts work as in a
terminal, and host keys are checked as there. Nothing is ever asked (`BatchMode`): what would need a
question is an error that says which command answers it once.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from ..base.errors import EdgeError
from .connection import BOARD_DIRECTORY, Completed, ConnectionLost, Device, board_name, whole

# A login shell may print what it likes before our output begins (a greeting in .bashrc).
_MARK = "veca-edge-output-begins"
_COPY_TIMEOUT_S = 3600


class SshConnection:
    """One host. Connections share one authenticated channel where the client can (`ControlMaster`)."""

    def __init__(self, device: Device):
        if device.host is None:
            raise ValueError("an SSH connection needs a host")
        self.target = device
        self.device = str(device)
        self.name = self.device
        self._ssh = shutil.which("ssh")
        if self._ssh is None:
            raise EdgeError(
                "Reaching a board needs the OpenSSH client (ssh), which is not installed.",
                "Install it, for example with: sudo apt install openssh-client",
            )
        self._control: tempfile.TemporaryDirectory | None = None
        self._options: list[str] | None = None

    def __enter__(self) -> SshConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._control is not None:
            if (Path(self._control.name) / "s").exists():
                subprocess.run(
                    [self._ssh, *self._command_options(), "-O", "exit", "--", self._host()],
                    capture_output=True,
                    timeout=20,
                    check=False,
                )
            self._control.cleanup()
            self._control = None
        self._options = None

    # ------------------------------------------------------------------------------------- scripts

    def run(self, script: str, *arguments: str, timeout_s: float = 120) -> Completed:
        command = shlex.join(["sh", "-s", "--", *arguments])
        done = self._call(command, timeout_s, input=whole(f"echo {_MARK}\n{script}").encode())
        return Completed(done.returncode, _after_mark(done.stdout), done.stderr)

    def put(self, source: Path, name: str) -> None:
        path = f'{BOARD_DIRECTORY}/"{board_name(name)}"'
        # One line without a single quote or backslash: every login shell reads it the same way.
        script = f'umask 077; mkdir -p "$(dirname {path})" && cat > {path}.part && mv {path}.part {path}'
        try:
            with Path(source).open("rb") as file:
                done = self._call(f"sh -c '{script}'", _COPY_TIMEOUT_S, stdin=file)
        except OSError as error:
            raise EdgeError(f"'{source}' could not be read: {error.strerror or error}.") from error
        if done.returncode:
            raise copy_error(self.name, Path(source).name, done.stderr.decode("utf-8", "replace").strip())

    def get(self, name: str, destination: Path) -> None:
        path = f'{BOARD_DIRECTORY}/"{board_name(name)}"'
        part = Path(destination).with_name(f"{Path(destination).name}.part")
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=part.parent) as raw:
                script = f"wc -c < {path} && echo {_MARK} && cat {path}"
                done = self._call(f"sh -c '{script}'", _COPY_TIMEOUT_S, stdout=raw)
                if done.returncode:
                    raise EdgeError(
                        f"'{name}' could not be copied from {self.name}: "
                        f"{done.stderr.decode('utf-8', 'replace').strip() or 'it is not there'}."
                    )
                _write_after_mark(raw, part, self.name)
            part.replace(destination)
        except OSError as error:
            raise EdgeError(f"'{destination}' could not be written: {error.strerror or error}.") from error
        finally:
            part.unlink(missing_ok=True)

    # ----------------------------------------------------------------------------------- the client

    def _host(self) -> str:
        return self.target.host or ""

    def _call(self, remote: str, timeout_s: float, **streams) -> subprocess.CompletedProcess:
        command = [self._ssh, *self._command_options(), "--", self._host(), remote]
        if "input" not in streams:
            streams.setdefault("stdin", subprocess.DEVNULL)
        streams.setdefault("stdout", subprocess.PIPE)
        try:
            done = subprocess.run(command, stderr=subprocess.PIPE, timeout=timeout_s, check=False, **streams)
        except subprocess.TimeoutExpired as error:
            raise ConnectionLost(
                f"{self.name} did not answer within {timeout_s:.0f} s.",
                "Check the network and run the same command again.",
            ) from error
        # ssh's own failures end in 255; none of our scripts does.
        if done.returncode == 255:
            raise ssh_error(self.target, done.stderr.decode("utf-8", "replace"))
        return done

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
        done = subprocess.run(
            [self._ssh, *options, "-G", "--", self._host()], capture_output=True, timeout=30, check=False
        )
        if done.returncode:
            raise ssh_error(self.target, done.stderr.decode("utf-8", "replace"))
        path = re.search(rb"^controlpath (.+)$", done.stdout, re.MULTILINE)
        return path is not None and path[1].strip() != b"none"


# -------------------------------------------------------------------------------------------- errors


def ssh_error(device: Device, text: str) -> EdgeError:
    """What the client's own words mean, and what to do about it."""
    words = text.strip()
    last = words.splitlines()[-1].strip() if words else "the client gave no reason"
    login = shlex.join(
        [
            "ssh",
            *(["-p", str(device.port)] if device.port else []),
            (f"{device.user}@" if device.user else "") + (device.host or ""),
        ]
    )

    def found(*patterns: str) -> bool:
        return any(re.search(pattern, words, re.IGNORECASE) for pattern in patterns)

    if found("REMOTE HOST IDENTIFICATION HAS CHANGED"):
        return EdgeError(
            f"The host key of {device} has changed since it was last seen.",
            "If the board was flashed anew, remove the old key with ssh-keygen -R and connect once with: "
            f"{login}. If not, find out who answers there.",
        )
    if found("Host key verification failed", "No .* host key is known"):
        return EdgeError(
            f"The host key of {device} is not known on this machine, and it is not accepted unseen.",
            f"Connect once, compare the fingerprint with the board's, and accept it: {login}",
        )
    if found("Permission denied", "Too many authentication failures", "No supported authentication methods"):
        return EdgeError(
            f"{device} refused the login: {last}",
            f"Passwords are never asked for. Put your key there with ssh-copy-id, and try: {login}",
        )
    if found("Could not resolve hostname"):
        return EdgeError(
            f"There is no host '{device.host}': {last}",
            "Check the name, or give its address; aliases come from your SSH configuration.",
        )
    if found(
        "Bad configuration option",
        "terminating,.*bad configuration",
        "Bad owner or permissions",
        "no such identity",
        "keyword .* extra arguments",
        "no argument after keyword",
    ):
        return EdgeError(f"Your SSH configuration stopped the connection to {device}: {last}", f"Try: {login}")
    if found(
        "Connection refused", "timed out", "No route to host", "Network is unreachable", "Host is down", "port 65535"
    ):
        return ConnectionLost(
            f"{device} cannot be reached: {last}",
            f"Is the board on, on this network, and its SSH server running? Try: {login}",
        )
    return ConnectionLost(
        f"The connection to {device} broke: {last}",
        "Run the same command again: what runs on the board goes on, and it is picked up there.",
    )


def copy_error(place: str, name: str, text: str) -> EdgeError:
    """A file could not be written on the board."""
    if "No space left" in text or "Disk quota" in text:
        return EdgeError(
            f"The disk of {place} is full: '{name}' could not be copied there.",
            "Free some space below ~/.cache there, and run the same command again.",
        )
    return EdgeError(f"'{name}' could not be copied to {place}: {text or 'no reason given'}.")


def _after_mark(output: bytes) -> bytes:
    return output.partition(f"{_MARK}\n".encode())[2]


def _write_after_mark(raw, part: Path, place: str) -> None:
    """Writes the bytes behind the mark and checks their number against the line in front of it."""
    mark = f"{_MARK}\n".encode()
    raw.seek(0)
    head = b""
    while mark not in head:
        block = raw.read(1 << 16)
        if not block:
            raise ConnectionLost(
                f"The connection to {place} broke while a file was fetched.", "Run the same command again."
            )
        head += block
    before, _, rest = head.partition(mark)
    expected, size = int(before.split()[-1]), len(rest)
    with part.open("wb") as file:
        file.write(rest)
        while block := raw.read(1 << 20):
            size += len(block)
            file.write(block)
    if size != expected:
        raise ConnectionLost(
            f"Only {size} of {expected} bytes of a file came from {place}.", "Run the same command again."
        )
