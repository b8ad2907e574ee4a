"""Runs an export that replaces a bundle, and kills it at each of its file-system operations in turn.

Started by `test_killed.py` in a process of its own: `python killed.py DIRECTORY {replace,first} {exchange,renames}`.
Prints how many operations there were.
"""

from __future__ import annotations

import builtins
import io
import os
import sys

# Operations left until the process dies; None outside of an export.
left: int | None = None


class Counted:
    """A function of the system that the process dies at, instead of calling it, when its turn has come."""

    def __init__(self, function) -> None:
        self.function = function

    def __call__(self, *args, **kwargs):
        global left
        if left is not None and not self._only_reads(args, kwargs):
            left -= 1
            if left < 0:
                os._exit(9)
        return self.function(*args, **kwargs)

    def _only_reads(self, args, kwargs) -> bool:
        if self.function in (OPEN, IO_OPEN):
            mode = args[1] if len(args) > 1 else kwargs.get("mode", "r")
            return not set(mode) & set("wax+")
        if self.function is OS_OPEN:
            return not (args[1] if len(args) > 1 else kwargs["flags"]) & (os.O_WRONLY | os.O_RDWR)
        return False


OPEN, IO_OPEN, OS_OPEN = builtins.open, io.open, os.open
NAMES = ("mkdir", "rename", "replace", "unlink", "remove", "rmdir", "fsync", "link", "symlink", "truncate", "open")

# Before anything takes a reference of its own; `shutil` asks whether `os.open` and others can take a directory.
for name in NAMES:
    original = getattr(os, name)
    setattr(os, name, Counted(original))
    for supporting in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
        if original in supporting:
            supporting.add(getattr(os, name))
# A process that is killed loses nothing that it wrote; flushing for real would only take long.
os.fsync = Counted(lambda handle: None)
builtins.open = Counted(builtins.open)
io.open = Counted(io.open)

from pathlib import Path  # noqa: E402

import veca_edge.bundle.store as store  # noqa: E402
from veca_edge.base import files  # noqa: E402
from veca_edge.base.errors import EdgeError  # noqa: E402
from veca_edge.base.spec import ExportSpec, ImageSize  # noqa: E402
from veca_edge.bundle import types  # noqa: E402
from veca_edge.model.config import FAMILIES  # noqa: E402

SIZE = ImageSize(32, 32)


def export(output: Path, label: str) -> None:
    """A bundle of three files that says which one it is."""
    with store.new_bundle(output, force=True) as directory:
        (directory / "models").mkdir()
        for file in ("models/a.onnx", "models/b.onnx", "README.md"):
            (directory / file).write_text(f"{file} of {label}")
        artifact = types.Artifact(
            "models/a.onnx", "onnx", "cpu", 8, "int8", SIZE, 1, "image", ("cls",),
            files.sha256_of(directory / "models/a.onnx"), 10,
        )  # fmt: skip
        store.write_manifest(
            types.Bundle(
                directory,
                ExportSpec("cpu", (8,), ("int8",), (SIZE,)),
                types.CheckpointFacts(label, "ab" * 32, FAMILIES["small"].config()),
                {},
                {},
                (artifact,),
            )
        )


def there(output: Path) -> str | None:
    """Which bundle is at `output`, whole; None where there is nothing."""
    if not os.path.lexists(output):
        return None
    bundle = store.open_bundle(output)
    assert store.verify_files(bundle) == 3
    return bundle.checkpoint.name


def hint_at(output: Path) -> str:
    try:
        store.open_bundle(output)
    except EdgeError as error:
        return error.hint or ""
    return ""


def main() -> None:
    global left
    root, first, exchanged = Path(sys.argv[1]), sys.argv[2] == "first", sys.argv[3] == "exchange"
    exchange = Counted(files.exchange) if exchanged else lambda one, other: False
    store.exchange = exchange
    steps = 0
    while True:
        output = root / str(steps) / "out"
        output.parent.mkdir()
        if not first:
            export(output, "old")
        child = os.fork()
        if child == 0:
            left = steps
            export(output, "new")
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, 9), status
        found = there(output)
        if found is None and not first:
            # Only where names can't be exchanged: the message says how to put the old one back.
            assert not exchanged
            assert os.system(hint_at(output).partition(": ")[2]) == 0
            assert there(output) == "old"
        else:
            assert found in ((None, "new") if first else ("old", "new")), found
        export(output, "next")
        assert there(output) == "next"
        assert os.listdir(output.parent) == ["out"], os.listdir(output.parent)
        if status == 0:
            assert found == "new"
            print(steps)
            return
        steps += 1


main()
