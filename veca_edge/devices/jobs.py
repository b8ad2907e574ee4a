"""Work that outlives the connection: a script that runs detached in a directory of its own on the board.

A job is named by its content. Starting the same job again finds it running or finished and picks it up
there, so that after a lost connection the same command simply continues. The exit code is written last
and whole; a job without one that no process works on was cut short, and is started again.

Several clients may share a job. What changes its state holds a lock on the board, so that one of them starts it,
and each has a file below `users` that it touches with every look: the files of a job go with its last user.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import psutil

from ..base.errors import EdgeError
from ..base.files import sha256_of
from .answers import Reader
from .connection import Completed, Connection, ConnectionLost
from .job_scripts import BLOCK_BYTES, LAUNCH, LEAVE, POLL, READ, REMOVE, RUNNER, STATE, STOP
from .shell import FILE_BYTES, board_name, is_board_name

Log = Callable[[str], None]

# What a job itself keeps in its directory.
_OWN_NAMES = {"job.sh", "run.sh", "exit", "exit.part", "finished", "log", "pid", "users"}

LOG_BYTES = 32 << 20
LINE_CHARACTERS = 4000
_SMALL_FILE_BYTES = 32 << 20
_LOOK_S = 20.0


def ignore(line: str) -> None:
    """Takes no notice of a line of a job's log."""


def _new_client() -> str:
    """`HOST-PID-STARTED-NUMBER`: tells a user of a job apart from every other, and whether its process still runs."""
    process = psutil.Process()
    return f"{_this_host()}-{process.pid}-{int(process.create_time())}-{uuid.uuid4().hex[:8]}"


def _this_host() -> str:
    return hashlib.sha256(f"{platform.node()}\0{os.name}".encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Job:
    """A POSIX shell script with its input files.

    Attributes:
        kind: one word for the directory's name, `build` or `profile`.
        script: runs in the job's directory, beside the inputs; output and errors go to its log.
        inputs: files by the name they get there.
        needed_bytes: disk space that the job writes, beside the inputs.
        longest_s: a job that has not ended so long after the first look is not waited for any more.
        client: the name of this user of the job among all.
    """

    kind: str
    script: str
    inputs: Mapping[str, Path] = field(default_factory=dict)
    needed_bytes: int = 0
    longest_s: float = 12 * 3600.0
    client: str = field(default_factory=_new_client, compare=False)

    def __post_init__(self) -> None:
        for name in self.inputs:
            if not is_board_name(name) or name.split("/")[0] in _OWN_NAMES:
                raise EdgeError(
                    f"A file cannot be called {name!r} on a board.", "Export again, or give the file another name."
                )

    @cached_property
    def directory(self) -> str:
        """Below the board directory: the same for the same script and the same content of the inputs."""
        listed = "".join(f"{name} {digest}\n" for name, digest in sorted(self.digests.items()))
        digest = hashlib.sha256(f"{self.script}\0{listed}".encode())
        return board_name(f"jobs/{self.kind}-{digest.hexdigest()[:20]}")

    @cached_property
    def digests(self) -> dict[str, str]:
        """sha256 of every input, by name."""
        try:
            return {name: sha256_of(path) for name, path in self.inputs.items()}
        except OSError as error:
            raise EdgeError(
                f"'{error.filename}' could not be read: {error.strerror}.", "Is it there, and may you read it?"
            ) from error


def run_job(
    connection: Connection,
    job: Job,
    *,
    on_log: Log = ignore,
    on_wait: Callable[[], None] = lambda: None,
    oldest_s: int = 0,
    interval_s: float = 1.0,
    patience_s: float = 50.0,
    log_bytes: int = LOG_BYTES,
) -> int:
    """Starts a job, or picks it up where it is, and waits for its end. Returns its exit code.

    The job's files stay on the board until `remove`. A connection that breaks is made again for
    `patience_s`; an interruption by the user (Ctrl-C) ends the job too, unless another client waits for it.

    Args:
        on_log: gets every line of the job's log, once; what is longer than 4,000 characters is cut.
        on_wait: called at every look, for progress.
        oldest_s: a result that was finished longer ago is not taken; 0 takes any.
        log_bytes: the longest log that is read.

    Raises:
        ConnectionLost: for longer than `patience_s`.
        EdgeError: the job was stopped from outside; it, or its log, passed its limit; the board's answers cannot be
            read.
    """
    try:
        ensure_started(connection, job, oldest_s=oldest_s)
        return _wait(connection, job, on_log, on_wait, interval_s, patience_s, log_bytes)
    except KeyboardInterrupt:
        with suppress(EdgeError):
            connection.run(STOP, job.directory, job.client, timeout_s=40)
        raise
    except ConnectionLost:
        raise
    except EdgeError:
        with suppress(EdgeError):
            leave(connection, job)
        raise


def _wait(
    connection: Connection,
    job: Job,
    on_log: Log,
    on_wait: Callable[[], None],
    interval_s: float,
    patience_s: float,
    log_bytes: int,
) -> int:
    reader, again = Reader(connection.name), "Run the same command again."
    read, line = 0, b""
    started_at = answered_at = time.monotonic()
    while True:
        on_wait()
        try:
            done = connection.run(
                POLL, job.directory, job.client, str(read), timeout_s=_LOOK_S, most_bytes=BLOCK_BYTES + 4096
            )
            poll = _checked(done, connection)
        except ConnectionLost:
            if time.monotonic() - answered_at >= patience_s:
                raise
            time.sleep(interval_s)
            continue
        answered_at = time.monotonic()
        state, _, log = poll.output.partition(b"\n")
        read += len(log)
        if read > log_bytes:
            raise EdgeError(
                f"The log of the work on {connection.name} is longer than the {log_bytes / 1e6:.0f} MB that are read.",
                f"See what it says without an end: {job.directory}/log below ~/.cache/veca-edge there.",
            )
        *lines, line = (line + log).split(b"\n")
        for text in lines:
            on_log(_line(text))
        word = state.decode("utf-8", "replace")
        ended = re.fullmatch(r"exit ([0-9]{1,3})", word)
        if ended and not log:
            if line:
                on_log(_line(line))
            return reader.whole("an exit code", ended[1], most=255)
        if word in ("gone", "died"):
            raise EdgeError(
                f"The work on {connection.name} ended without a result: it was stopped from outside, "
                "or the board was restarted.",
                again,
            )
        if word != "running" and not ended:
            raise reader.refused("the state of the work", word)
        if time.monotonic() - started_at > job.longest_s:
            raise EdgeError(
                f"The work on {connection.name} did not end within {job.longest_s / 3600:.3g} hours.",
                "Run the same command again to go on waiting, or restart the board.",
            )
        if not log:
            time.sleep(interval_s)


def _line(text: bytes) -> str:
    return text[: 4 * LINE_CHARACTERS].decode("utf-8", "replace")[:LINE_CHARACTERS]


@dataclass(frozen=True)
class _State:
    """`idle`, `running` or `finished`; users but this one; free bytes and digests by name of an idle job."""

    word: str
    users: tuple[str, ...]
    free_bytes: int
    digests: Mapping[str, str]


def _read_state(text: str, place: str) -> _State:
    reader = Reader(place)
    word, users, free_bytes, digests = "", [], None, {}
    for line in text.splitlines():
        tag, _, rest = line.partition(" ")
        if tag == "state" and not word and rest in ("idle", "running", "finished"):
            word = rest
        elif tag == "user" and is_board_name(rest) and len(users) < 1000:
            users.append(rest)
        elif tag == "free" and free_bytes is None:
            free_bytes = reader.whole("the free space of its disk", rest) * 1024
        elif tag == "file":
            digest, _, name = rest.partition("  ")
            digests[name] = reader.digest("the digest of a file there", digest)
        else:
            raise reader.refused("the state of the work", line)
    if not word or (word == "idle" and free_bytes is None):
        raise reader.refused("the state of the work", text)
    return _State(word, tuple(users), free_bytes or 0, digests)


def ensure_started(connection: Connection, job: Job, *, oldest_s: int = 0) -> str:
    """Brings the inputs and starts the job unless it runs or is finished. Returns the state it was found in."""
    directory = job.directory
    done = _checked(connection.run(STATE, directory, job.client, str(oldest_s)), connection)
    state = _read_state(done.text, connection.name)
    if ended := [user for user in state.users if _has_ended(user)]:
        connection.run(LEAVE, directory, *ended)
    if state.word != "idle":
        return state.word
    missing = {name: path for name, path in job.inputs.items() if state.digests.get(name) != job.digests[name]}
    needed = sum(path.stat().st_size for path in missing.values()) + job.needed_bytes
    if needed > state.free_bytes:
        remove(connection, job)
        raise EdgeError(
            f"The disk of {connection.name} has {state.free_bytes / 1e6:.0f} MB free, "
            f"and this needs {needed / 1e6:.0f} MB.",
            "Free some space there, and run the same command again.",
        )
    for name, path in missing.items():
        connection.put(path, f"{directory}/{name}")
    _put_text(connection, job.script, f"{directory}/job.sh")
    _put_text(connection, RUNNER, f"{directory}/run.sh")
    _checked(connection.run(LAUNCH, directory, job.client), connection)
    return state.word


def _has_ended(client: str) -> bool:
    """Whether a user of a job was a process of this machine that was killed; of other machines nothing is known."""
    match = re.fullmatch(r"([0-9a-f]{12})-([0-9]{1,9})-([0-9]{1,12})-[0-9a-f]{8}", client)
    if match is None or match[1] != _this_host():
        return False
    try:
        return int(psutil.Process(int(match[2])).create_time()) != int(match[3])
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, OverflowError):
        return False


def fetch(connection: Connection, job: Job, name: str, destination: Path, most_bytes: int = FILE_BYTES) -> None:
    """Brings one file of a finished job: the last one of those that are needed, since others may remove the job then.

    Args:
        most_bytes: the largest file that is taken.
    """
    connection.get(f"{job.directory}/{name}", destination, most_bytes)


def read(connection: Connection, job: Job, name: str, most_bytes: int = _SMALL_FILE_BYTES) -> bytes | None:
    """The content of one small file of a job, or None when it is not there."""
    done = connection.run(READ, job.directory, job.client, board_name(name), most_bytes=most_bytes)
    return done.output if done.exit_code == 0 else None


def leave(connection: Connection, job: Job) -> None:
    """Uses a job no more, and leaves its files where they are, for the same command to go on with."""
    connection.run(LEAVE, job.directory, job.client, timeout_s=_LOOK_S)


def remove(connection: Connection, job: Job) -> None:
    """Removes a job's files from the board, unless another client uses them: then that one will."""
    _checked(connection.run(REMOVE, job.directory, job.client), connection)


def _put_text(connection: Connection, text: str, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text"
        path.write_text(text)
        connection.put(path, name)


def _checked(done: Completed, connection: Connection) -> Completed:
    if done.exit_code == 5:
        raise EdgeError(
            f"Another client holds the same work on {connection.name}, and does not let go of it.",
            "Wait for it to end, and run the same command again.",
        )
    if done.exit_code:
        if "No space left" in done.error_text:
            raise EdgeError(f"The disk of {connection.name} is full.", "Free some space below ~/.cache there.")
        raise EdgeError(
            f"A step on {connection.name} failed: {done.error_text[-500:] or f'exit code {done.exit_code}'}.",
            "Run the same command again. If it fails again, log in there and see what is wrong.",
        )
    return done
