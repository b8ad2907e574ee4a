"""Work that outlives the connection: a script that runs detached in a directory of its own on the board.

A job is named by its content. Starting the same job again finds it running or finished and picks it up
there, so that after a lost connection the same command simply continues. The exit code is written last
and whole; a job without one that no process works on was cut short, and is started anew.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..base.errors import EdgeError
from ..base.files import sha256_of
from .connection import BOARD_DIRECTORY, Connection, ConnectionLost, board_name

Log = Callable[[str], None]


def ignore(line: str) -> None:
    """Takes no notice of a line of a job's log."""


@dataclass(frozen=True)
class Job:
    """A POSIX shell script with its input files.

    Attributes:
        kind: one word for the directory's name, `build` or `profile`.
        script: runs in the job's directory, beside the inputs; output and errors go to its log.
        inputs: files by the name they get there.
        needed_bytes: disk space that the job writes, beside the inputs.
    """

    kind: str
    script: str
    inputs: Mapping[str, Path] = field(default_factory=dict)
    needed_bytes: int = 0

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
            raise EdgeError(f"'{error.filename}' could not be read: {error.strerror}.") from error


# Prints the state, and, when there is nothing yet, the free space in KiB and the files that are there.
_STATE = f"""
dir={BOARD_DIRECTORY}/"$1"
oldest_s=$2
mkdir -p "$dir" && cd "$dir" || exit 3
working() {{
    [ -f pid ] && pid=$(cat pid) && kill -0 "$pid" 2>/dev/null && tr '\\0' ' ' <"/proc/$pid/cmdline" | grep -q "$1"
}}
if [ -f exit ] && [ "$oldest_s" -gt 0 ] && [ $(($(date +%s) - $(cat finished))) -gt "$oldest_s" ]; then
    rm -f exit finished log pid
fi
if [ -f exit ]; then
    echo finished
elif working "$1"; then
    echo running
else
    echo idle
    df -Pk . | awk 'NR == 2 {{ print $4 }}'
    for file in *; do
        [ -f "$file" ] && sha256sum "$file"
    done
fi
exit 0
"""

# $0 holds the job's directory, by which its process is known again.
_RUNNER = """
cd "$(dirname "$0")" || exit 3
echo $$ >pid
sh ./job.sh >log 2>&1
code=$?
date +%s >finished
echo "$code" >exit.part && mv exit.part exit
"""

_LAUNCH = f"""
cd {BOARD_DIRECTORY}/"$1" || exit 3
rm -f log exit finished pid
detach=
if command -v setsid >/dev/null 2>&1; then
    detach=setsid
fi
$detach nohup sh {BOARD_DIRECTORY}/"$1"/run.sh </dev/null >/dev/null 2>&1 &
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ -s pid ] && exit 0
    sleep 0.1 2>/dev/null || sleep 1
done
echo "the job's process did not start" >&2
exit 4
"""

# The exit code is read before the log, so that a finished job's log is whole.
_POLL = f"""
cd {BOARD_DIRECTORY}/"$1" 2>/dev/null || {{ echo gone; exit 0; }}
if [ -f exit ]; then
    echo "exit $(cat exit)"
elif [ -s pid ] && kill -0 "$(cat pid)" 2>/dev/null; then
    echo running
elif [ -f exit ]; then
    echo "exit $(cat exit)"
else
    echo died
fi
[ ! -f log ] || tail -c +"$(($2 + 1))" log | head -c 1000000
exit 0
"""

_STOP = f"""
cd {BOARD_DIRECTORY}/"$1" 2>/dev/null || exit 0
if [ ! -f exit ] && [ -s pid ]; then
    pid=$(cat pid)
    if tr '\\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q "$1"; then
        kill -TERM "-$pid" 2>/dev/null || kill -TERM "$pid" 2>/dev/null
        # Time for the job to put back what it changed (clocks).
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            for _ in 1 2 3 4 5; do
                kill -0 "-$pid" 2>/dev/null || break 2
                sleep 0.2 2>/dev/null || sleep 1
            done
        done
        kill -KILL "-$pid" 2>/dev/null || true
    fi
fi
exit 0
"""

_REMOVE = f"""
rm -rf {BOARD_DIRECTORY}/"$1"
rmdir {BOARD_DIRECTORY}/jobs {BOARD_DIRECTORY} 2>/dev/null
exit 0
"""


def run_job(
    connection: Connection,
    job: Job,
    *,
    on_log: Log = ignore,
    on_wait: Callable[[], None] = lambda: None,
    oldest_s: int = 0,
    interval_s: float = 1.0,
    patience_s: float = 60.0,
) -> int:
    """Starts a job, or picks it up where it is, and waits for its end. Returns its exit code.

    The job's files stay on the board until `remove`. A connection that breaks is made again for
    `patience_s`; an interruption by the user (Ctrl-C) ends the job too.

    Args:
        on_log: gets every line of the job's log, once.
        on_wait: called at every look, for progress.
        oldest_s: a result that was finished longer ago is not taken; 0 takes any.
    """
    directory = job.directory
    ensure_started(connection, job, oldest_s=oldest_s)
    read, line, broken_at = 0, b"", None
    try:
        while True:
            on_wait()
            try:
                poll = _checked(connection.run(_POLL, directory, str(read)), connection)
            except ConnectionLost:
                broken_at = broken_at or time.monotonic()
                if time.monotonic() - broken_at >= patience_s:
                    raise
                time.sleep(interval_s)
                continue
            broken_at = None
            state, _, log = poll.output.partition(b"\n")
            read += len(log)
            *lines, line = (line + log).split(b"\n")
            for text in lines:
                on_log(text.decode("utf-8", "replace"))
            if state.startswith(b"exit ") and not log:
                if line:
                    on_log(line.decode("utf-8", "replace"))
                return int(state.split()[1])
            if state in (b"gone", b"died"):
                raise EdgeError(
                    f"The work on {connection.name} ended without a result: it was stopped from outside, "
                    "or the board was restarted.",
                    "Run the same command again.",
                )
            if not log:
                time.sleep(interval_s)
    except KeyboardInterrupt:
        with suppress(EdgeError):
            connection.run(_STOP, directory, timeout_s=30)
            remove(connection, job)
        raise


def ensure_started(connection: Connection, job: Job, *, oldest_s: int = 0) -> str:
    """Brings the inputs and starts the job unless it runs or is finished. Returns the state it was found in."""
    directory = job.directory
    lines = _checked(connection.run(_STATE, directory, str(oldest_s)), connection).text.splitlines()
    state = lines[0] if lines else ""
    if state != "idle":
        return state
    there = {name: digest for digest, name in (text.split(maxsplit=1) for text in lines[2:])}
    missing = {name: path for name, path in job.inputs.items() if there.get(name) != job.digests[name]}
    needed = sum(path.stat().st_size for path in missing.values()) + job.needed_bytes
    free = int(lines[1]) * 1024
    if needed > free:
        connection.run(_REMOVE, directory)
        raise EdgeError(
            f"The disk of {connection.name} has {free / 1e6:.0f} MB free, and this needs {needed / 1e6:.0f} MB.",
            "Free some space there, and run the same command again.",
        )
    for name, path in missing.items():
        connection.put(path, f"{directory}/{name}")
    _put_text(connection, job.script, f"{directory}/job.sh")
    _put_text(connection, _RUNNER, f"{directory}/run.sh")
    _checked(connection.run(_LAUNCH, directory), connection)
    return state


def fetch(connection: Connection, job: Job, name: str, destination: Path) -> None:
    """Brings one file of a finished job."""
    connection.get(f"{job.directory}/{name}", destination)


def read(connection: Connection, job: Job, name: str) -> bytes | None:
    """The content of one small file of a job, or None when it is not there."""
    script = f'cd {BOARD_DIRECTORY}/"$1" 2>/dev/null && [ -f "$2" ] && cat "$2"'
    done = connection.run(script, job.directory, board_name(name))
    return done.output if done.exit_code == 0 else None


def remove(connection: Connection, job: Job) -> None:
    """Removes a job's files from the board."""
    _checked(connection.run(_REMOVE, job.directory), connection)


def _put_text(connection: Connection, text: str, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text"
        path.write_text(text)
        connection.put(path, name)


def _checked(done, connection: Connection):
    if done.exit_code:
        if "No space left" in done.error_text:
            raise EdgeError(f"The disk of {connection.name} is full.", "Free some space below ~/.cache there.")
        raise EdgeError(f"A step on {connection.name} failed: {done.error_text or f'exit code {done.exit_code}'}.")
    return done
