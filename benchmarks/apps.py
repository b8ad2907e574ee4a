"""The three app projects around the same model: written, built by the real compilers, and tested as their READMEs say.

    python -m benchmarks.apps                  the demo model with its masks, and `small` with random weights
    python -m benchmarks.apps --model small    one of them

Each model is exported for its device, whose app is then written; `verify` runs the exported models here and compares
them with the float32 model. `tests/toolchains/projects.py` builds and tests the projects: a toolchain that is missing
(`python tests/toolchains/roots.py` makes them) is said, not passed over.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

import veca_edge
from veca_edge.actions.app import write_app
from veca_edge.actions.request import CheckpointSource, ExportRequest, ImageSource
from veca_edge.actions.verify import verify
from veca_edge.apps.table import platform_named
from veca_edge.base.spec import ImageSize
from veca_edge.demo import demo_calibration, demo_checkpoint, demo_evaluation
from veca_edge.model.checkpoint import load_checkpoint, random_checkpoint, save_safetensors
from veca_edge.model.config import FAMILIES

from .common import add_output_option, say, table, write_result

DEMO, CLASSES = "demo", 4
SIZES = {DEMO: ImageSize(32, 32), "small": ImageSize(256, 256)}
CORES = (8, 16)
# Of each platform, the precision whose export needs no calibration.
PRECISIONS = {"ios": "fp16", "android": "fp32", "jetson": "fp16"}


def checkpoint_of(model: str, folder: Path) -> CheckpointSource:
    """The demo model, or random weights of a family, with a random head for masks over the patches."""
    checkpoint = load_checkpoint(demo_checkpoint()) if model == DEMO else random_checkpoint(FAMILIES[model].config())
    path, head = folder / f"{model}.safetensors", folder / "masks.safetensors"
    save_safetensors(checkpoint, path)
    from safetensors.numpy import save_file

    weight = np.random.default_rng(0).normal(0, 0.3, (CLASSES, checkpoint.config.output_dim)).astype(np.float32)
    save_file({"weight": weight, "bias": np.zeros(CLASSES, np.float32)}, head)
    labels = folder / "labels.txt"
    labels.write_text("sky\nroad\ntree\ncar\n")
    return CheckpointSource(path, head=(f"segment={head}",), labels=(f"segment={labels}",))


def row_of(model: str, platform: str, folder: Path) -> dict[str, Any]:
    """Exports, verifies, and writes the project; raises where a model is not what the float32 model is."""
    size, bundle = SIZES[model], folder / f"bundle-{platform}"
    request = ExportRequest(
        bundle,
        checkpoint_of(model, folder),
        ImageSource(demo_calibration(), evaluation=demo_evaluation()),
        target=platform_named(platform).target,
        core_counts=CORES,
        precisions=(PRECISIONS[platform],),
        image_sizes=(size,),
        outputs=("cls", "segmentation"),
        measure=False,
    )
    veca_edge.export(request)
    checks = verify(bundle)
    failed = [check for check in checks if not check.ok]
    if failed:
        raise SystemExit(f"{model} for {platform}: {failed}")
    written = write_app(bundle, platform, folder / f"app-{platform}")
    return {
        "model": model,
        "platform": platform,
        "precision": PRECISIONS[platform],
        "cores": list(CORES),
        "files": written.files,
        "bytes": written.bytes,
        "least_like_float": min(check.cosine for check in checks if check.cosine is not None),
    }


def built(folder: Path) -> dict[str, str]:
    """What became of each platform's project: "passed", or why it was not built here. Raises where one fails."""
    report = folder / "built.xml"
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "tests/toolchains/projects.py", f"--junitxml={report}"]
    ended = subprocess.run(
        [*command, f"--basetemp={folder / 'work'}"],
        env={**os.environ, "VECA_EDGE_PROJECTS": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    if ended.returncode:
        raise SystemExit(ended.stdout)
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        skipped = case.find("skipped")
        found[case.attrib["name"].removeprefix("test_")] = "passed" if skipped is None else skipped.attrib["message"]
    return found


def measured(models: list[str]) -> Iterator[dict[str, Any]]:
    for model in models:
        with tempfile.TemporaryDirectory() as name:
            rows = []
            for platform in PRECISIONS:
                rows.append(row_of(model, platform, Path(name)))
                say(f"{model}, {platform}: {rows[-1]['files']} files, {rows[-1]['bytes'] / 1e6:.1f} MB")
            results = built(Path(name))
            for row in rows:
                say(f"{model}, {row['platform']}: {results[row['platform']]}")
                yield {**row, "built_and_tested": results[row["platform"]]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(SIZES), action="append", help="by default each")
    add_output_option(parser)
    options = parser.parse_args()
    rows = list(measured(options.model or list(SIZES)))
    say(
        table(
            ("project", "files", "MB", "least like float32", "built and tested"),
            (
                (
                    f"`{row['model']}`, {row['platform']}, {row['precision']}",
                    str(row["files"]),
                    f"{row['bytes'] / 1e6:.1f}",
                    f"{row['least_like_float']:.6f}",
                    row["built_and_tested"],
                )
                for row in rows
            ),
        )
    )
    say(write_result(options.output, "apps", {"benchmark": "apps", "rows": rows}))


if __name__ == "__main__":
    main()
