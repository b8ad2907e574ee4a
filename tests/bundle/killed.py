"""Runs an export that replaces a bundle, and kills it at each of its file-system operations in turn.

Started by `test_killed.py` in a process of its own: `python killed.py DIRECTORY {replace,first} {exchange,renames}`.
Prints how many operations there were.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import killing  # noqa: I001

from pathlib import Path

from veca_edge.bundle import new_bundle, store, types
from veca_edge.base import files
from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import ExportSpec, ImageSize
from veca_edge.model.config import FAMILIES

SIZE = ImageSize(32, 32)


def export(output: Path, label: str) -> None:
    """A bundle of three files that says which one it is."""
    with new_bundle.new_bundle(output, force=True) as directory:
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
    root, first, exchanged = Path(sys.argv[1]), sys.argv[2] == "first", sys.argv[3] == "exchange"
    new_bundle.exchange = killing.Counted(files.exchange) if exchanged else lambda one, other: False
    output = root

    def prepare(step: int) -> None:
        nonlocal output
        output = root / str(step) / "out"
        output.parent.mkdir()
        if not first:
            export(output, "old")

    def check(ended: bool) -> None:
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
        if ended:
            assert found == "new"

    print(killing.killed_at_each(prepare, lambda: export(output, "new"), check))


main()
