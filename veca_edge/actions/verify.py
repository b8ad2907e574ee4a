"""Whether a bundle is still what was exported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..base.progress import Progress, silent
from ..bundle.store import opened, verify_files
from ..bundle.types import Artifact, Bundle
from ..proof.evaluate import golden_cosine
from ..targets.table import format_of, open_artifact

# How much lower another machine's arithmetic may leave the golden cosine: its rounding differs.
VERIFY_TOLERANCE = 0.005


@dataclass(frozen=True)
class Verified:
    """One artifact's check.

    Attributes:
        cosine: the lowest mean cosine with the golden outputs now; None where it does not run here, and only its
            digest was checked.
        exported_cosine: the same when it was exported.
        obstacle: why it does not run here, or None.
    """

    artifact: Artifact
    cosine: float | None
    exported_cosine: float
    obstacle: str | None = None

    @property
    def ok(self) -> bool:
        return self.cosine is None or self.cosine >= self.exported_cosine - VERIFY_TOLERANCE


def verify(path: Path | Bundle, threads: int | None = None, progress: Progress = silent) -> list[Verified]:
    """Checks a bundle: schema, digests of every file, and the golden outputs by running every model that runs here.

    Args:
        path: the bundle's, or one that was opened.

    Raises:
        EdgeError: the manifest is wrong, or files were changed or are missing.
    """
    bundle = opened(path)
    verify_files(bundle, progress)
    checks = []
    for i, artifact in enumerate(bundle.artifacts):
        exported = bundle.details.golden_cosine.get(artifact.name, bundle.spec.min_cosine)
        obstacle = format_of(artifact).obstacle(artifact)
        now = golden_cosine(bundle.directory, artifact, open_artifact, threads) if obstacle is None else None
        checks.append(Verified(artifact, now, exported, obstacle))
        progress("running the golden frames", i + 1, len(bundle.artifacts))
    return checks
