"""What compiles and runs a generated Jetson project on Linux without a GPU: Debian's g++, CMake and GStreamer.

ONNX Runtime stands in TensorRT's place, GStreamer's test picture in a camera's. docs/apps.md says what is proven by it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from products import made_or_kept

from veca_edge.apps.jetson import FRAMES, VALUES
from veca_edge.bundle.types import Bundle
from veca_edge.targets.table import open_artifact

from . import roots

SECONDS = 1800
LIBRARIES = ("/work/lib", *(f"/usr/lib/x86_64-linux-gnu/{name}" for name in ("pulseaudio", "blas", "lapack")))
# What a project is told of the library beside it.
ONNXRUNTIME = "-DVECA_BACKEND=onnxruntime -DONNXRUNTIME=/work/lib/libonnxruntime.so"


@dataclass(frozen=True)
class Board:
    """The root, the folder that is /work in it, and the bundle that /work/app was made from."""

    root: Path
    work: Path
    bundle: Bundle

    def run(self, script: str, code: int = 0) -> str:
        """Runs a script in /work, and returns what it says."""
        environment = (
            f"export LD_LIBRARY_PATH={':'.join(LIBRARIES)} GST_REGISTRY=/work/registry.bin; set -e; cd /work; "
        )
        command = roots.entering(self.root, self.work, [], ["bash", "-c", environment + script])
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS)
        assert ended.returncode == code, ended.stdout[-6000:]
        return ended.stdout

    def assert_outputs_are_those_of_run(self) -> None:
        """Replays the golden frames in C++ and in Python, on the same ONNX Runtime: only threads may differ."""
        self.run(f"mkdir -p outputs && build/golden_frames app/{FRAMES} app outputs")
        listed = json.loads((self.work / "app" / FRAMES / "golden.json").read_text())
        for artifact, golden in zip(self.bundle.artifacts, listed, strict=True):
            content = np.fromfile(self.work / "app" / FRAMES / golden["frames"], np.uint8)
            frames = content.reshape(-1, *artifact.image_size, 3)
            with closing(open_artifact(self.bundle.directory, artifact, 1)) as runner:
                for i, frame in enumerate(frames):
                    for name, expected in runner(frame[None]).items():
                        file = self.work / "outputs" / f"cores{artifact.core_count}_{name}_{i}"
                        assert_alike(np.fromfile(file, "<f4" if expected.dtype.kind == "f" else "<i4"), expected)


def assert_alike(made: np.ndarray, expected: np.ndarray) -> None:
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(made, expected.ravel(), atol=1e-4)
    else:
        np.testing.assert_array_equal(made, expected.ravel())


def compiled_here(command: Sequence[str | Path], inputs: Sequence[Path], output: Path) -> None:
    """Lets a compiler of this machine, not of the root, make a file of inputs, unless it did before.

    Args:
        command: without the output; where its files lie does not count.
        inputs: all that it reads beside the system's headers.
    """
    words = [str(word) for word in command]

    def make() -> None:
        ended = subprocess.run([*words, "-o", output], capture_output=True, text=True, timeout=SECONDS)
        assert ended.returncode == 0, ended.stderr

    version = subprocess.run([words[0], "--version"], capture_output=True, text=True, check=True).stdout
    asked = " ".join(Path(word).name if word.startswith("/") else word for word in words)
    made_or_kept(roots.cache() / "here", "compiled", [asked, version, *inputs], [output], make)


def headers(app: Path) -> list[Path]:
    """Those of a project, or of the template, that are the same in every app."""
    return sorted({*app.glob("*/*.h")} - {app / VALUES})


def jetson_project(root: Path, work: Path, bundle: Bundle) -> Board:
    """Puts ONNX Runtime's library, of this machine's Python package, beside the project in /work/app."""
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.1.*")
    (work / "lib").mkdir()
    shutil.copyfile(library, work / "lib/libonnxruntime.so.1")
    (work / "lib/libonnxruntime.so").symlink_to("libonnxruntime.so.1")
    return Board(root, work, bundle)
