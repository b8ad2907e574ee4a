"""A process whose answer is bounded in bytes and in time while it arrives, and which is ended when it passes either."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

# Of what a process writes to its standard error the end is kept: there is the reason.
ERROR_BYTES = 16 << 10
_LEAST_ERROR_LIMIT = 1 << 20
_BLOCK = 1 << 16


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


class TooLong(Exception):
    """The process wrote more than it may."""


class TooSlow(Exception):
    """The process did not end in time, or nothing moved for too long."""


def run_bounded(
    command: Sequence[str],
    *,
    seconds: float,
    most_bytes: int,
    stdin: bytes | BinaryIO = b"",
    stall_s: float | None = None,
    on_output: Callable[[bytes], None] | None = None,
    own_session: bool = False,
) -> Completed:
    """Runs a process to its end. However it ends, the process itself does not outlive the call.

    Args:
        seconds: the longest it may take; stall_s: the longest that no byte may go in or out.
        most_bytes: the most it may write to its standard output, and, from 1 MiB on, to its standard error.
        stdin: what it reads.
        on_output: takes the output block by block, in another thread, instead of `Completed.output`; an exception of
            it ends the process and is raised here.
        own_session: so that what it started can be ended with it.

    Raises:
        TooLong, TooSlow: it was ended for passing a bound.
        OSError: it could not be started, or `stdin` could not be read.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=own_session,
    )
    exchange = _Exchange(process, most_bytes, on_output)
    try:
        exchange.wait(stdin, time.monotonic() + seconds, stall_s)
    except BaseException:
        _end(process, own_session)
        raise
    finally:
        exchange.close()
    return Completed(process.returncode, bytes(exchange.output), exchange.errors)


class _Exchange:
    """Moves the bytes of a process: one thread each for what it reads, writes, and complains of."""

    def __init__(self, process: subprocess.Popen[bytes], most_bytes: int, on_output: Callable[[bytes], None] | None):
        self.output, self.errors = bytearray(), b""
        self._process, self._most, self._on_output = process, most_bytes, on_output
        self._ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._moved_at = time.monotonic()
        self._threads: list[threading.Thread] = []

    def wait(self, stdin: bytes | BinaryIO, deadline: float, stall_s: float | None) -> None:
        for work in (lambda: self._write(stdin), self._read_output, self._read_errors):
            thread = threading.Thread(target=self._do, args=(work,), daemon=True)
            thread.start()
            self._threads.append(thread)
        left = len(self._threads)
        while left:
            until = deadline if stall_s is None else min(deadline, self._moved_at + stall_s)
            remaining = until - time.monotonic()
            if remaining <= 0:
                raise TooSlow
            with suppress(queue.Empty):
                error = self._ended.get(timeout=remaining)
                if error is not None:
                    raise error
                left -= 1
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            raise TooSlow from error

    def close(self) -> None:
        """A thread that something else keeps waiting (a process that inherited a pipe) keeps its pipe, too."""
        streams = (self._process.stdin, self._process.stdout, self._process.stderr)
        for thread, stream in zip(self._threads, streams, strict=False):
            thread.join(1.0)
            if stream is not None and not thread.is_alive():
                with suppress(OSError):
                    stream.close()

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._ended.put(error)
        else:
            self._ended.put(None)

    def _write(self, stdin: bytes | BinaryIO) -> None:
        stream = self._process.stdin
        assert stream is not None
        with suppress(BrokenPipeError):  # it need not read everything
            blocks = [stdin] if isinstance(stdin, bytes) else iter(lambda: stdin.read(_BLOCK), b"")
            for block in blocks:
                view = memoryview(block)
                while view:
                    view = view[stream.write(view) or 0 :]
                    self._moved_at = time.monotonic()
        with suppress(BrokenPipeError):
            stream.close()

    def _read_output(self) -> None:
        stream, total = self._process.stdout, 0
        assert stream is not None
        while block := stream.read(_BLOCK):
            self._moved_at = time.monotonic()
            total += len(block)
            if total > self._most:
                raise TooLong
            if self._on_output is None:
                self.output += block
            else:
                self._on_output(block)

    def _read_errors(self) -> None:
        stream, total = self._process.stderr, 0
        assert stream is not None
        while block := stream.read(_BLOCK):
            total += len(block)
            if total > max(self._most, _LEAST_ERROR_LIMIT):
                raise TooLong
            self.errors = (self.errors + block)[-ERROR_BYTES:]


def _end(process: subprocess.Popen[bytes], own_session: bool) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if own_session and os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
