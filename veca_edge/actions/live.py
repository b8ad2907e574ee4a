"""A bundle run live on a folder, a video or a camera, within a latency budget if asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..base.errors import EdgeError
from ..base.options import check_bounds
from ..bundle.store import open_bundle
from ..images.preprocessing import Preprocessing
from ..profiles.sweep import default_threads
from ..runtime.lanes import LANES
from ..runtime.live import Live, steps_of
from ..runtime.model import Model
from ..runtime.pipeline import Pace
from ..runtime.sources import Source, find_source, frames_of
from .load import chosen_artifacts, load_bundle, runnable_format
from .run_request import LiveRequest


def open_live(request: LiveRequest, stopped: Callable[[], bool] = lambda: False) -> Live:
    """Finds the source and loads the model.

    Args:
        stopped: asked before every frame; the steps end when it says so.

    Raises:
        EdgeError: no bundle, source or core count as asked; options that exclude each other. While iterating, what
            `frames_of` raises.
    """
    check_request(request)
    source = find_source(request.source, request.capture)
    if source.is_live and (request.repeat or request.fps is not None):
        raise EdgeError(
            f"{source.name} is a {source.kind}, which has no end to repeat at and sets its own pace.",
            "Leave out --repeat and --fps; end with --frames or --duration.",
        )
    each = threads_side_by_side(request, source)
    model = open_model(request if each is None else replace(request, threads=each))
    # Four times as large, it is halved as a camera's are: the first frame does not wait for what that imports.
    model.prepare(np.zeros((4 * model.image_size.height, 4 * model.image_size.width, 3), np.uint8))
    pace = Pace(request.fps, request.frames, request.seconds)
    ending = threading.Event()
    frames = frames_of(source, request.repeat, ending.is_set)
    steps = steps_of(model, frames, pace, stopped, source.is_live, ending, each is not None)
    return Live(model, source, steps, request.fps, each is not None)


def check_request(request: LiveRequest) -> None:
    """Raises `EdgeError` where a request contradicts itself, or has numbers that can't be."""
    check_bounds(request)
    if request.seconds is not None and not request.seconds > 0:
        raise EdgeError(f"A run of {request.seconds} s is none.", "Give --duration a positive time.")
    if request.is_adaptive and request.core_count is not None:
        raise EdgeError(
            "A budget chooses the core count, so it can't be fixed as well.",
            "Give --budget (--frame-budget) or --cores; --min-cosine keeps --budget from the smallest core counts.",
        )
    if request.min_cosine is not None and not request.is_adaptive:
        raise EdgeError("A floor of fidelity is for what a budget may choose from.", "Give --budget with --min-cosine.")


def threads_side_by_side(request: LiveRequest, source: Source) -> int | None:
    """CPU threads of each of two frames at a time, or None where one frame after the other gets them all.

    Two at a time make more results a second, of which each takes longer: for files, which come as fast as they are
    taken, where nothing is said of how long a frame may take.
    """
    if source.is_live or request.is_adaptive or request.fps is not None:
        return None
    if not runnable_format(open_bundle(request.bundle), request.format).runs_side_by_side:
        return None
    each, left = divmod(request.threads or default_threads(), LANES)
    return each if each and not left else None


def open_model(request: LiveRequest) -> Model:
    """With a budget every core count, ready to be switched between; without one just the one that will run."""
    bundle = open_bundle(request.bundle)
    counts = None if request.core_count is None else (request.core_count,)
    kind = runnable_format(bundle, request.format)
    Preprocessing.from_json(bundle.preprocessing)
    artifacts = chosen_artifacts(bundle, kind, counts, request.precision, request.image_size)
    largest = artifacts[max(artifacts)]
    if largest.batch != 1:
        raise EdgeError(
            f"{largest.name} takes batches of {largest.batch}, but frames come one by one.", "Export with --batch 1."
        )
    wanted = tuple(artifacts) if request.is_adaptive else (largest.core_count,)
    model = load_bundle(bundle, wanted, largest.precision, largest.image_size, request.threads, request.format)
    if request.is_adaptive:
        model.adapt(request.budget_ms, request.min_cosine, None, request.frame_budget_ms)
    return model
