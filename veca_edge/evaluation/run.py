"""A data set through every variant of a bundle, chunk by chunk, whichever engine runs the chunks."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from ..base.errors import EdgeError
from ..base.progress import Progress
from ..base.text import counted
from .compute import Outcome
from .journal import open_journal
from .samples import Chunk, DataSet
from .statistics import Totals
from .store import Evaluation, EvaluationFacts, evaluation_stem, evaluations_folder, load_evaluation, save_evaluation

STAGE = "evaluating"
# How many images that could not be used are named.
NAMED = 8


@dataclass(frozen=True)
class ChunkEngine:
    """What runs the chunks.

    Attributes:
        run: takes chunks and gives their outcomes, in any order.
        name: what it runs on, in words: `4 processes`.
    """

    run: Callable[[Iterator[Chunk]], Generator[Outcome, None, None]]
    name: str


def evaluate_data(
    directory: Path,
    data: DataSet,
    facts: EvaluationFacts,
    engine: ChunkEngine,
    max_failures: int,
    again: bool,
    progress: Progress,
) -> Evaluation:
    """Goes on where an earlier run of the same facts stopped; one that came to its end is read, not repeated.

    Args:
        max_failures: images that may fail; each is named in the result.
        again: evaluate anew whatever is there.

    Raises:
        EdgeError: more images failed, a worker can't do its work, or another run's journal is in the way.
    """
    folder = evaluations_folder(directory)
    stem = evaluation_stem(facts)
    path, journal_path = folder / f"{stem}.json", folder / f"{stem}.journal"
    # Beside a journal it is the result before the one that was interrupted.
    if path.exists() and not journal_path.exists() and not again:
        stored = load_evaluation(path)
        if stored.facts == facts:
            _check_failures(stored.totals, max_failures)
            return replace(stored, timed=0)
    start = time.monotonic()
    with open_journal(journal_path, facts.to_json(), again) as journal:
        before = journal.totals.images
        _check_failures(journal.totals, max_failures)
        left = (chunk for chunk in data.chunks() if chunk.key not in journal.keys)
        with closing(engine.run(left)) as outcomes:
            for key, outcome in outcomes:
                if isinstance(outcome, EdgeError):
                    raise outcome
                journal.append(key, outcome)
                done = journal.totals.images + journal.totals.failed
                progress(STAGE, min(done, data.images), data.images)
                _check_failures(journal.totals, max_failures)
        if not journal.totals.images:
            journal_path.unlink()  # or the same command would not look at them again
            raise EdgeError(
                f"None of {counted(journal.totals.failed, 'image')} of {data.name} could be used: "
                f"{journal.totals.named_failures(NAMED)}.",
                "Check --data.",
            )
        evaluation = Evaluation(
            facts,
            journal.totals,
            datetime.now(timezone.utc).isoformat(timespec="seconds"),
            round(time.monotonic() - start, 3),
            journal.totals.images - before,
            engine.name,
            data.notes,
        )
        save_evaluation(directory, evaluation)
        journal_path.unlink()
    return evaluation


def _check_failures(totals: Totals, most: int) -> None:
    if totals.failed <= most:
        return
    raise EdgeError(
        f"{counted(totals.failed, 'image')} could not be used, and --max-failures allows {most}: "
        f"{totals.named_failures(NAMED)}.",
        "Mend them and evaluate --again, or allow more and run the same command: it goes on where it stopped.",
    )
