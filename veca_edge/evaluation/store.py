"""Evaluations in a bundle: `evaluations/DATA.json`, one file each, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

import msgspec

from ..base.files import disk_errors, inside, write_atomically
from ..base.json_files import read_versioned, versioned
from ..bundle.store import EVALUATIONS, files_beside
from ..bundle.types import Artifact, Bundle, Count, Digest
from .statistics import Totals, totals_from

FORMAT_VERSION = 1


@dataclass(frozen=True)
class EvaluationFacts:
    """What has to be the same for the parts of an evaluation to be added up.

    Attributes:
        data, kind, data_digest, listed: name, form, digest and number of images of the data set.
        truths: what its images are known to show, by task.
        reference: sha256 of the checkpoint that was compared with, or None.
        artifacts: sha256 by variant; `beside`: of the list of files that lie beside theirs, such as shared weights.
        chunk: images of a chunk.
        threads: of one worker.
        versions: of what has a say in the numbers, by package.
        heads: sha256 of the files of heads that the checkpoint was given.
    """

    data: str
    kind: str
    data_digest: Digest
    listed: Count
    truths: tuple[str, ...]
    reference: Digest | None
    artifacts: Mapping[str, Digest]
    beside: Digest
    chunk: Count
    threads: Count
    versions: Mapping[str, str]
    heads: tuple[Digest, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return msgspec.to_builtins(self)


@dataclass(frozen=True)
class Evaluation:
    """A whole data set through every variant of a bundle.

    Attributes:
        seconds: that the last run took, of `timed` images; those of a run that it went on from do not count.
        workers: what computed it, in words.
    """

    facts: EvaluationFacts
    totals: Totals
    created_at: str
    seconds: float
    timed: int
    workers: str
    notes: tuple[str, ...] = field(default=())


def digest_beside(bundle: Bundle, artifacts: Sequence[Artifact]) -> str:
    """Of the digests of files that lie beside some artifacts, with their names, as the manifest has them."""
    every = sorted(files_beside(bundle, (a.path for a in artifacts)).items())
    return hashlib.sha256(json.dumps(every).encode()).hexdigest()


def evaluation_stem(facts: EvaluationFacts) -> str:
    """What an evaluation's file is called: one for each data set."""
    plain = re.sub(r"[^A-Za-z0-9.-]+", "-", facts.data).strip("-.")[:60] or "data"
    return f"{plain}-{facts.data_digest[:8]}"


def evaluations_folder(directory: Path) -> Path:
    """Where a bundle's evaluations are; created where it is missing."""
    folder = inside(directory, EVALUATIONS, "Remove the link, then evaluate again.")
    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
    return folder


def save_evaluation(directory: Path, evaluation: Evaluation) -> Path:
    """Stores an evaluation in the bundle at `directory`; an older one of the same data is replaced."""
    path = evaluations_folder(directory) / f"{evaluation_stem(evaluation.facts)}.json"
    data = {
        "facts": evaluation.facts.to_json(),
        "created_at": evaluation.created_at,
        "seconds": evaluation.seconds,
        "timed": evaluation.timed,
        "workers": evaluation.workers,
        "notes": evaluation.notes,
        "totals": evaluation.totals.to_json(),
    }
    write_atomically(
        path, json.dumps(versioned(data, FORMAT_VERSION), sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    )
    return path


@dataclass(frozen=True)
class _Stored:
    facts: EvaluationFacts
    totals: Mapping[str, Any]
    created_at: str
    seconds: float
    timed: Count
    workers: str
    notes: tuple[str, ...]


def load_evaluation(path: Path) -> Evaluation:
    """Raises `EdgeError` when the file is not an evaluation."""
    hint = f"Remove it and evaluate again: veca-edge evaluate {quote(str(path.parents[1]))} --data DATA"
    whose = f"The evaluation {path}"
    stored = read_versioned(path, _Stored, FORMAT_VERSION, whose, hint)
    totals = totals_from(dict(stored.totals), whose, hint)
    return Evaluation(
        stored.facts, totals, stored.created_at, stored.seconds, stored.timed, stored.workers, stored.notes
    )


def read_evaluations(bundle: Bundle) -> list[Evaluation]:
    """Every evaluation in a bundle, the largest first, of equals the latest; those of other files are left out."""
    names = sorted(p.name for p in (bundle.directory / EVALUATIONS).glob("*.json"))
    found = [load_evaluation(inside(bundle.directory, f"{EVALUATIONS}/{name}")) for name in names]
    fitting = [e for e in found if _is_of(e, bundle)]
    return sorted(fitting, key=lambda e: (e.totals.images, e.created_at), reverse=True)


def _is_of(evaluation: Evaluation, bundle: Bundle) -> bool:
    facts = evaluation.facts
    mine = [a for a in bundle.artifacts if facts.artifacts.get(a.name) == a.sha256]
    return len({a.name for a in mine}) == len(facts.artifacts) and digest_beside(bundle, mine) == facts.beside
