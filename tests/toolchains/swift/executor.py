"""Executes saved Core ML packages for the Core ML stand-in: raw RGB frames in, a line of JSON and float32 out.

First comes a line with the model's width and height; every frame, `height x width x 3` bytes, is answered with a line
that lists the outputs, followed by their values.
"""

from __future__ import annotations

import json
import socket
import socketserver
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import BinaryIO

import numpy as np

from veca_edge.runtime.program import open_mlpackage

from .. import roots


@contextmanager
def executor(work: Path) -> Iterator[Path]:
    """A program `executor MODEL [FUNCTION]` for processes of a root that sees `work` as /work.

    It leaves the root through /host, and this process serves it, a thread for each.
    """
    with tempfile.TemporaryDirectory() as folder:  # a socket's path has to be short
        path, program = Path(folder) / "socket", work / "executor"
        program.write_text(
            f"#!/bin/bash\nmodel=$1\nshift\n"
            f"case $model in /tmp/*) model={work}$model ;; /work/*) model={work}${{model#/work}} ;; esac\n"
            f'exec chroot /host {sys.executable} -IS {roots.HERE}/swift/client.py {path} "$model" "$@"\n'
        )
        program.chmod(0o755)
        with socketserver.ThreadingUnixStreamServer(str(path), Served) as server:
            thread = Thread(target=server.serve_forever)
            thread.start()
            try:
                yield program
            finally:
                server.shutdown()
                thread.join()


class Served(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        words, files, *_ = socket.recv_fds(self.request, 65536, 3)
        with open(files[0], "rb") as frames, open(files[1], "wb") as answers, open(files[2], "w") as errors:
            try:
                execute(frames, answers, *json.loads(words))
            except BrokenPipeError:
                pass  # nobody waits for the answer
            except Exception:
                traceback.print_exc(file=errors)


def execute(frames: BinaryIO, out: BinaryIO, model: str, function: str | None = None) -> None:
    runner = open_mlpackage(model, function, threads=1)
    height, width = runner.input.shape
    out.write(json.dumps({"width": width, "height": height}).encode() + b"\n")
    out.flush()
    while frame := frames.read(width * height * 3):
        listed, values = [], b""
        for name, value in runner(np.frombuffer(frame, np.uint8).reshape(1, height, width, 3)).items():
            if value.dtype.kind == "U":
                listed.append({"name": name, "text": str(value)})
            else:
                listed.append({"name": name, "shape": list(value.shape)})
                values += value.astype("<f4").tobytes()
        out.write(json.dumps(listed).encode() + b"\n" + values)
        out.flush()
