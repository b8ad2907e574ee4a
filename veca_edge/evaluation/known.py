"""What is known of a bundle's fidelity: of whole data sets where it was evaluated on some, else of its export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..base.tasks import Task
from ..base.text import counted
from ..bundle.types import Agreement, Bundle, Fidelity
from .metrics import fidelity_of
from .store import Evaluation, read_evaluations

# What of an agreement, and of a fidelity, says how right the answers to a task are.
_AGREEMENT = {Task.CLASSIFY: "top1", Task.SEGMENT: "segmentation_truth", Task.DEPTH: "depth_truth"}
_REFERENCE = {Task.CLASSIFY: "reference_top1", Task.SEGMENT: "reference_segmentation", Task.DEPTH: "reference_depth"}
_WORDS = {Task.CLASSIFY: "Top-1 is", Task.SEGMENT: "Masks were judged", Task.DEPTH: "Depths were judged"}


@dataclass(frozen=True)
class KnownFidelity:
    """By variant; `sources` says in sentences which evaluations it is of, and nothing where it is all of the export."""

    by_variant: Mapping[str, Fidelity]
    sources: tuple[str, ...]


def known_fidelity(bundle: Bundle) -> KnownFidelity:
    """Cosines of the largest evaluation that compared with the float32 model, and what is right by the labels, task by
    task, of the largest that had them."""
    known, sources = {f.name: f for f in bundle.fidelity}, []
    evaluations = read_evaluations(bundle)
    compared = next((e for e in evaluations if e.facts.reference is not None), None)
    if compared is not None:
        known |= {name: _with_labels(f, known.get(name)) for name, f in fidelity_of(compared, bundle).items()}
        sources.append(f"Cosines are of {_images(compared)}.")
    for task in Task:
        judged = next((e for e in evaluations if str(task) in e.facts.truths), None)
        if judged is None:
            continue
        for name, found in fidelity_of(judged, bundle).items():
            known[name] = _with_truth(known.get(name, found), found, task)
        sources.append(f"{_WORDS[task]} {'of' if task == Task.CLASSIFY else 'on'} {_images(judged)}.")
    return KnownFidelity(known, tuple(sources))


def _images(evaluation: Evaluation) -> str:
    return f"the {counted(evaluation.totals.images, 'image')} of {evaluation.facts.data}"


def _with_labels(found: Fidelity, exported: Fidelity | None) -> Fidelity:
    """What the labels of an export's images said, where an evaluation's images had none."""
    for task in Task:
        if exported is not None and getattr(found.reference, _AGREEMENT[task]) is None:
            found = _with_truth(found, exported, task)
    return found


def _with_truth(known: Fidelity, found: Fidelity, task: Task) -> Fidelity:
    name = _AGREEMENT[task]

    def judged(one: Agreement, other: Agreement) -> Agreement:
        return replace(one, **{name: getattr(other, name)})

    return replace(
        known,
        reference=judged(known.reference, found.reference),
        elastic=judged(known.elastic, found.elastic),
        **{_REFERENCE[task]: getattr(found, _REFERENCE[task])},
    )
