"""The one builder of bundles for tests: a manifest around artifacts that are there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from veca_edge.base.spec import ExportSpec
from veca_edge.bundle.types import Artifact, Bundle, CheckpointFacts
from veca_edge.images.preprocessing import Preprocessing
from veca_edge.model.config import FAMILIES

TINY = CheckpointFacts("tiny", "ab" * 32, FAMILIES["small"].config())

# Labels whose characters have to be escaped somewhere.
AWKWARD_LABELS = ('a "cat"', "two\nlines", "\U0001f415 d\u00f6g", " ${x} \\u0041 ", "@'?#!=:", "", "%1$s %2$s")


def bundle_around(
    directory: Path, artifacts: Sequence[Artifact], checkpoint: CheckpointFacts = TINY, **fields: Any
) -> Bundle:
    """A bundle whose spec is what its artifacts are; `fields` are further ones of `Bundle`. Nothing is written."""
    first = artifacts[0]
    spec = ExportSpec(
        first.target,
        *(
            tuple(dict.fromkeys(getattr(a, name) for a in artifacts))
            for name in ("core_count", "precision", "image_size")
        ),
        first.batch,
        first.input,
        first.outputs,
    )
    known = {"preprocessing": Preprocessing().to_json(), "versions": {"veca-edge": "test"}}
    return Bundle(directory, spec, checkpoint, artifacts=tuple(artifacts), **{**known, **fields})
