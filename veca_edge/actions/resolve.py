"""Checks what was asked of an export, and fills in every default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..base.errors import EdgeError, unknown_name
from ..base.options import check_kind, to_mapping
from ..base.progress import Progress, silent
from ..base.spec import OUTPUTS, ExportSpec, ImageSize
from ..base.tasks import HeadFile, Task
from ..bundle.new_bundle import check_output
from ..demo import DEMO_IMAGE_SIZE, demo_checkpoint, demo_segment_head
from ..images.folder import find_images
from ..images.options import ResizeOptions
from ..model.checkpoint import Checkpoint, load_checkpoint
from ..model.head_files import read_head
from ..model.heads import Head, active_heads
from ..model.tensor_files import check_file
from ..targets.base import Target
from ..targets.table import target_named
from .request import AUTO, CALIBRATION_METHODS, TASK_GATES, CheckpointSource, ExportRequest, are_tasks_alone

DEFAULT_IMAGE_SIZE = ImageSize(256, 256)


def check_request(request: ExportRequest) -> Target:
    """Everything that can be refused before anything slow. Returns the row of the target."""
    target = target_named(request.target)
    check_kind(request.options, target.options, f"The target '{target.name}'")
    if AUTO in request.precisions:
        raise EdgeError(f"--precision {AUTO} stands alone.", f"Give {AUTO}, or the precisions you want.")
    for precision in request.precisions:
        target.check_precision(precision)
    if request.calibration_method not in CALIBRATION_METHODS:
        raise unknown_name("calibration method", request.calibration_method, CALIBRATION_METHODS)
    if request.checkpoint.path is not None:
        check_file(request.checkpoint.path)
    if request.quantized and request.checkpoint.path is not None and request.images.calibration is None:
        raise EdgeError(
            f"{request.quantized[0].upper()} needs images to calibrate on, and none were given.",
            "Give a folder of images like those of the camera with --calibration DIR (about 128 are enough), "
            f"or ask for --precision {target.precisions[-1]}.",
        )
    if request.device is not None and target.builder is None:
        raise EdgeError(
            f"--device builds on a board, and the target '{target.name}' has nothing to build there.",
            "Leave it out; measure on a device with: veca-edge profile BUNDLE --device DEVICE",
        )
    for folder in (request.images.calibration, request.images.evaluation):
        if folder is not None:
            find_images(folder)
    check_output(request.output, request.force)
    return target


def checkpoint_of(source: CheckpointSource, progress: Progress = silent) -> Checkpoint:
    """Reads and checks what a request names, or the bundled demo model."""
    checkpoint = load_checkpoint(
        source.path or demo_checkpoint(),
        heads=source.heads,
        rope_zero=source.rope_zero,
        head_files=source.head_files,
        labels=source.label_files,
        progress=progress,
    )
    if source.path is None and checkpoint.head_for(Task.SEGMENT) is None:
        masks = read_head(HeadFile(demo_segment_head(), Task.SEGMENT), checkpoint.config, checkpoint.digest)
        # The demo shows every way to prepare a frame, with the head that it has.
        checkpoint = replace(checkpoint, heads=(*checkpoint.heads, replace(masks, resize=None)))
    return checkpoint


def check_resize(heads: Sequence[Head], how: ResizeOptions) -> None:
    """Raises `EdgeError` where a head was fitted on frames that were made in another way."""
    for head in heads:
        if head.resize is not None and head.resize != (how.resize, how.crop_ratio):
            name, ratio = head.resize
            raise EdgeError(
                f"The head for {head.task} was fitted on frames made with --resize {name} --crop-ratio {ratio:g}, and "
                f"here they are made with --resize {how.resize} --crop-ratio {how.crop_ratio:g}.",
                f"Give --resize {name} --crop-ratio {ratio:g}, or fit a head on frames like these: veca-edge fit",
            )


def spec_of(request: ExportRequest, checkpoint: Checkpoint) -> ExportSpec:
    """The request with every default filled in and every name checked against the checkpoint."""
    target, config = target_named(request.target), checkpoint.config
    target.check_input(request.input)
    counts = request.core_counts or config.core_counts
    for count in counts:
        config.check_core_count(count)
    sizes = request.image_sizes or (DEMO_IMAGE_SIZE if request.checkpoint.path is None else DEFAULT_IMAGE_SIZE,)
    for size in sizes:
        config.grid(*size)
    outputs = request.outputs or ("cls", "dense", *(head.task.outputs[0] for head in checkpoint.heads))
    if unknown := [name for name in outputs if name not in OUTPUTS]:
        raise unknown_name("output", unknown[0], OUTPUTS)
    check_resize(active_heads(checkpoint.heads, outputs), request.images)
    gates = {name: _gate(name, getattr(request, name), outputs, checkpoint) for name in TASK_GATES}
    return ExportSpec(
        target.name,
        counts,
        request.precisions or (target.default_precision,),
        sizes,
        request.batch,
        request.input,
        outputs,
        request.min_cosine,
        to_mapping(check_kind(request.options, target.options, f"The target '{target.name}'")),
        request.map_stride,
        **gates,
    )


def _gate(name: str, asked: float | None, outputs: Sequence[str], checkpoint: Checkpoint) -> float | None:
    """One of `TASK_GATES`: as asked, or its default where outputs of tasks are all there is; None is no gate.

    Raises:
        EdgeError: it was asked for, and none of the outputs is what it looks at.
    """
    gate = TASK_GATES[name]
    if set(gate.outputs) & set(outputs):
        return gate.default if asked is None and are_tasks_alone(outputs) else asked
    if asked is None:
        return None
    there = [output for output in gate.outputs if any(output in head.task.outputs for head in checkpoint.heads)]
    needed = f"Add {there[0]} to --outputs" if there else f"Give a head for {gate.tasks} with --head FILE"
    raise EdgeError(
        f"{gate.flag} is a gate on {' or '.join(gate.outputs)}, and this export gives {', '.join(outputs)}: it "
        "would let everything pass.",
        f"{needed}, or leave {gate.flag} out.",
    )
