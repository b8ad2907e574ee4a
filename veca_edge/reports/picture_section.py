"""What a report draws of frames: fidelity per patch, and attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..base.errors import EdgeError
from ..base.progress import Progress
from ..base.spec import ImageSize
from .facts import ReportedBundle
from .left_out import LeftOut
from .options import ReportOptions
from .pictures import Attention, PatchFidelity, attention_pictures, patch_fidelity

if TYPE_CHECKING:
    from ..model.checkpoint import Checkpoint


@dataclass(frozen=True)
class Pictures:
    """The pictures of one bundle at one image size."""

    label: str
    patches: PatchFidelity | None
    attention: Attention | None


def picture_sections(
    subjects: Sequence[ReportedBundle],
    checkpoint: Checkpoint | None,
    options: ReportOptions,
    left_out: list[LeftOut],
    progress: Progress,
) -> tuple[Pictures, ...]:
    if not options.pictures:
        left_out.append(LeftOut("Fidelity per patch", "The pictures were not asked for."))
    if checkpoint is None:
        left_out.append(
            LeftOut(
                "Core-to-patch attention",
                "It is computed with the float32 model, which a bundle does not hold; give --checkpoint FILE.",
            )
        )
    found = []
    for subject in subjects:
        own = checkpoint if checkpoint and checkpoint.digest == subject.bundle.checkpoint.digest else None
        if checkpoint and own is None:
            left_out.append(
                LeftOut(
                    f"Core-to-patch attention of {subject.label}",
                    f"It was made from another checkpoint than {options.checkpoint}.",
                )
            )
        size, *others = sorted({c.artifact.image_size for c in subject.measured})
        if others and (options.pictures or own):
            left_out.append(
                LeftOut(
                    f"Pictures of {subject.label} at {', '.join(map(str, others))}",
                    f"They are drawn at the smallest size only, {size}.",
                )
            )
        patches = _patches(subject, size, own, options, left_out, progress) if options.pictures else None
        attention = attention_pictures(own, subject.bundle, size, options.layers, progress) if own else None
        if patches or attention:
            label = f"{subject.label}, {size}" if len(subjects) > 1 else f"At {size}"
            found.append(Pictures(label, patches, attention))
    return tuple(found)


def _patches(
    subject: ReportedBundle,
    size: ImageSize,
    checkpoint: Checkpoint | None,
    options: ReportOptions,
    left_out: list[LeftOut],
    progress: Progress,
) -> PatchFidelity | None:
    try:
        return patch_fidelity(subject.bundle, size, checkpoint, options.threads, progress)
    except EdgeError as error:
        left_out.append(
            LeftOut(f"Fidelity per patch of {subject.label}", f"{error.message} {error.hint or ''}".strip())
        )
        return None
