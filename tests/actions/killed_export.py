"""Exports a tiny random model over a bundle that is there, and kills that at one in EVERY of its operations.

Started by `test_killed_export.py` in a process of its own: `python killed_export.py DIRECTORY EVERY`. Prints how many
operations there were, and at how many it was killed with the old bundle in place.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import killing  # noqa: I001

import shutil
from dataclasses import replace
from pathlib import Path

from veca_edge.bundle import new_bundle
from veca_edge.bundle.store import open_bundle, verify_files
from veca_edge import ExportRequest, export
from veca_edge.actions.request import CheckpointSource, ImageSource
from veca_edge.base import files
from veca_edge.base.spec import ImageSize
from veca_edge.demo import demo_calibration
from veca_edge.model.checkpoint import random_checkpoint, save_safetensors
from veca_edge.model.config import ModelConfig

root, every = Path(sys.argv[1]), int(sys.argv[2])
new_bundle.exchange = killing.Counted(files.exchange)
CONFIG = ModelConfig(16, 1, 2, 20, 8, 8, 8, 16, 0.0, "low", "tiny")
REQUEST = ExportRequest(
    root,
    CheckpointSource(root / "new.safetensors"),
    ImageSource(demo_calibration(), count=8),
    core_counts=(8,),
    precisions=("int8",),
    image_sizes=(ImageSize(16, 16),),
    min_cosine=-1.0,
    force=True,
    measure=False,
    threads=1,
)


def there(output: Path) -> str:
    """Which bundle is there: whole, and of files that are all in its manifest."""
    bundle = open_bundle(output)
    assert verify_files(bundle) == len(files.files_below(output)) - 1
    return bundle.checkpoint.name


def main() -> None:
    for seed, name in enumerate(("old", "new")):
        save_safetensors(random_checkpoint(CONFIG, seed=seed), root / f"{name}.safetensors")
    template = root / "template"
    export(replace(REQUEST, output=template, checkpoint=CheckpointSource(root / "old.safetensors")))
    output, found = template, []

    def prepare(step: int) -> None:
        nonlocal output
        output = root / str(step) / "out"
        shutil.copytree(template, output)

    def check(ended: bool) -> None:
        found.append(there(output))
        assert not ended or found[-1] == "new"
        if not ended:
            export(replace(REQUEST, output=output))
            assert there(output) == "new"
        assert os.listdir(output.parent) == ["out"], os.listdir(output.parent)

    steps = killing.killed_at_each(prepare, lambda: export(replace(REQUEST, output=output)), check, every)
    assert set(found) == {"old", "new"}
    print(steps, found.count("old"))


main()
