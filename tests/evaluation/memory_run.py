"""Evaluates a bundle on a folder in this process and prints the peak of its resident memory: `BUNDLE IMAGES`."""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path


def main(directory: Path, images: str) -> None:
    from veca_edge.base.progress import silent
    from veca_edge.base.tasks import Task
    from veca_edge.bundle.store import open_bundle
    from veca_edge.evaluation.compute import EvaluationJob
    from veca_edge.evaluation.data import open_data
    from veca_edge.evaluation.engine import here
    from veca_edge.evaluation.run import ChunkEngine, evaluate_data
    from veca_edge.evaluation.samples import Classes
    from veca_edge.evaluation.store import EvaluationFacts
    from veca_edge.images.preprocessing import Preprocessing
    from veca_edge.targets.table import open_artifact

    bundle = open_bundle(directory)
    data = open_data(images, Classes(bundle.labels, bundle.head_for(Task.CLASSIFY).classes), 128)
    how = Preprocessing.from_json(bundle.preprocessing)
    job = EvaluationJob(directory, bundle.artifacts[:1], how, open_artifact, None, 0, 1)
    facts = EvaluationFacts(data.name, data.kind, data.digest, data.images, (), None, {}, "0" * 64, 128, 1, {})
    found = evaluate_data(directory, data, facts, ChunkEngine(partial(here, job), "one process"), 0, True, silent)
    # Not `ru_maxrss`, which a process takes over from the one that started it.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]
    print(found.totals.images, peak)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
