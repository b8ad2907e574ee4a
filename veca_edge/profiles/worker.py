"""Starts the process that measures an artifact, and reads what it answers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from threading import Timer
from typing import Any

from ..base.errors import EdgeError
from .sampling import Request


def answer_of_worker(request: Request, timeout: float, note: Callable[[float], None]) -> dict[str, Any]:
    """Runs one worker to its end and returns its answer's JSON.

    Args:
        timeout: seconds until it is killed.
        note: gets how many seconds it has been measuring for, whenever it says so.

    Raises:
        EdgeError: it fails, crashes, or does not answer in time.
    """
    name = request.artifact.name
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.sampling"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
        )
        # Both are pipes.
        assert process.stdin is not None
        assert process.stdout is not None
        watch = Timer(timeout, process.kill)
        watch.start()
        last: dict[str, Any] = {}
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(json.dumps(asdict(request)))
                process.stdin.close()
            for line in process.stdout:
                with suppress(ValueError):  # a process that dies may leave half a line
                    last = json.loads(line)
                    note(last.get("elapsed", 0.0))
            code = process.wait()
        finally:
            timed_out = not watch.is_alive()
            watch.cancel()
            process.kill()
            process.wait()
            process.stdout.close()
        if "answer" in last:
            return last["answer"]
        if "error" in last:
            raise EdgeError(last["error"]["message"], last["error"]["hint"])
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace").strip().splitlines()
    if timed_out:
        raise EdgeError(f"{name} did not answer within {timeout / 60:.0f} minutes.", "Try it alone with: veca-edge run")
    if code < 0:
        what = signal.Signals(-code).name
        raise EdgeError(
            f"The process that measured {name} was ended by {what}.",
            "The system may have run out of memory: see its log." if what == "SIGKILL" else None,
        )
    raise EdgeError(
        f"The process that measured {name} ended with an error: {said[-1] if said else f'code {code}'}",
        "Try it alone with: veca-edge run",
    )
