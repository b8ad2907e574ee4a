"""Kills an evaluation at every second of its file-system operations in turn; the next goes on to the same totals.

Started by `test_run.py` in a process of its own: `python killed_run.py BUNDLE IMAGES`. Prints how many there were.
"""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import killing  # noqa: I001

import random
import shutil
from functools import partial
from pathlib import Path

from veca_edge.base.progress import silent
from veca_edge.base.tasks import Task
from veca_edge.bundle.store import EVALUATIONS, open_bundle
from veca_edge.evaluation.compute import EvaluationJob
from veca_edge.evaluation.data import open_data
from veca_edge.evaluation.engine import here
from veca_edge.evaluation.run import ChunkEngine, evaluate_data
from veca_edge.evaluation.samples import Classes
from veca_edge.evaluation.statistics import totals_text
from veca_edge.evaluation.store import EvaluationFacts, digest_beside, read_evaluations
from veca_edge.images.preprocessing import Preprocessing
from veca_edge.targets.table import open_artifact

CHUNK = 4
# Bytes that a journal may lose of what was being written when the process died.
TORN = 600


def main(directory: Path, images: str) -> None:
    bundle = open_bundle(directory)
    data = open_data(images, Classes(bundle.labels, bundle.head_for(Task.CLASSIFY).classes), CHUNK)
    how = Preprocessing.from_json(bundle.preprocessing)
    job = EvaluationJob(directory, bundle.artifacts[:1], how, open_artifact, None, 0, 1)
    sha = {a.name: a.sha256 for a in job.artifacts}
    beside = digest_beside(bundle, job.artifacts)
    facts = EvaluationFacts(data.name, data.kind, data.digest, data.images, (), None, sha, beside, CHUNK, 1, {})
    folder, rng, expected = directory / EVALUATIONS, random.Random(0), []

    def evaluate() -> None:
        evaluate_data(directory, data, facts, ChunkEngine(partial(here, job), "one process"), 10, False, silent)

    def prepare(number: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)

    def check(ended: bool) -> None:
        journals = list(folder.glob("*.journal")) if folder.exists() else []
        # What a power failure leaves: the last line is torn anywhere.
        for journal in journals:
            size = journal.stat().st_size
            with open(journal, "r+b") as file:
                file.truncate(max(0, size - rng.randrange(TORN)))
        child = os.fork()
        if child == 0:
            evaluate()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        (stored,) = read_evaluations(bundle)
        expected.append(totals_text(stored.totals))
        assert stored.totals.images == 39
        assert [p.suffix for p in folder.iterdir() if not p.name.startswith(".")] == [".json"]

    steps = killing.killed_at_each(prepare, evaluate, check, every=2)
    assert len(set(expected)) == 1
    print(steps)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
