"""`profile --device web`: a page measures every variant in the browser that opens it, as other sweeps measure here.

Rounds are interleaved, each in a worker of its own, so that every load is cold. An answer is on disk before the next
turn is handed out: a closed page, or a Ctrl-C, loses one turn at most.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ...base.errors import EdgeError
from ...base.progress import Progress, silent
from ...base.versions import own_version
from ...bundle.types import Artifact, Bundle
from ...proof.golden import read_golden
from ...serving import PORT
from ...serving.access import Admission
from ...serving.content import served_bundle, served_page
from ...serving.page import MEASURE
from ...serving.server import check_packages, open_address, page_app, qr_code, serve
from ..machine import Machine
from ..measurement import Measurement
from ..options import ProfileOptions
from ..sampling import Answer, input_batches
from ..sweep import Item, Opening, Profile, Sweep, SweepEnded, sweep_items
from .desk import BrowserFacts, Desk

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

DEVICES = ("web", "web:lan")
ARCHITECTURE = "wasm"
MOST_BODY_BYTES = 32 << 20
_HIDDEN = "The page was not in the foreground all the time, when browsers slow it down."
# Rounds in a row, each slower than the one before, and by how much in all, that look like a device that grows warm.
WARM_ROUNDS, WARM_SLOWDOWN = 3, 1.05


def profile_in_browser(
    bundle: Bundle,
    device: str,
    options: ProfileOptions,
    artifacts: Sequence[Artifact],
    progress: Progress = silent,
    say: Callable[[str], None] = lambda line: None,
) -> Profile:
    """Serves the page, waits until a browser has opened it, and measures there.

    Args:
        device: of `DEVICES`: on this machine, or in its network.
        say: told what the user has to open, and what is missing in the end.

    Raises:
        EdgeError: an unknown device; a package is missing; the page was closed and not opened again.
    """
    if device not in DEVICES:
        raise EdgeError(
            f"Unknown device '{device}': a bundle for the CPU is measured on this machine, or in a browser.",
            f"Known: {', '.join(DEVICES)}. Boards over SSH measure bundles of --target jetson.",
        )
    check_packages()
    files = {**served_page(), **served_bundle(bundle, artifacts)}
    stop = threading.Event()
    with open_address(device.endswith(":lan"), PORT) as address:
        admission = Admission() if address.tls else None
        url = address.url(MEASURE, admission)
        desk = Desk()
        app = page_app(files, address.origin, admission, _routes(desk, _Frames(bundle, artifacts)), MEASURE)
        thread = threading.Thread(target=serve, args=(app, address, stop.is_set), name="veca-edge page")
        thread.start()
        try:
            if admission is not None:
                say(f"scan this, which lets one device in:\n{qr_code(url)}")
                say(f"the browser does not know the certificate; its SHA-256 is {address.fingerprint}")
            say(f"open {url} in the browser to measure; leave it in the foreground")
            progress("waiting for the browser", 0, 1)
            facts = desk.wait_for_browser()
            pace = replace(options, threads=options.threads or facts.threads)
            how, take = Opening("", "onnxruntime-web"), _Turns(desk, pace).take
            sweep = Sweep(bundle, pace, how, machine_of(facts), progress, _described, take)
            return _swept(sweep, [Item(artifact) for artifact in artifacts], desk, say, url)
        finally:
            desk.end()
            stop.set()
            thread.join()


def _swept(sweep: Sweep, items: Sequence[Item], desk: Desk, say: Callable[[str], None], url: str) -> Profile:
    """Runs a sweep in the page that is open, and says what to do when that is closed."""

    def lost() -> None:
        say(f"the page was closed; open it again to go on, or end this with Ctrl-C: {url}")

    desk.on_lost = lost
    try:
        return sweep_items(sweep, items)
    except (KeyboardInterrupt, SweepEnded):
        say(f"missing: {missing(sweep, items)}; the same command and browser go on from there")
        raise


def missing(sweep: Sweep, items: Sequence[Item]) -> str:
    """What a sweep that ended early has not measured, by variant."""
    left = []
    done = sweep.finished(items)
    for item in items:
        rounds = len(sweep.unfinished(item).rounds)
        if sweep.stem(item) not in done:
            left.append(f"{item.artifact.name} ({rounds} of {sweep.options.rounds} rounds)")
    return ", ".join(left) or "nothing"


def machine_of(facts: BrowserFacts) -> Machine:
    """A browser as the machine that measurements belong to."""
    return Machine(
        name=f"{facts.browser.rpartition(' ')[0] or facts.browser} on {facts.system}",
        architecture=ARCHITECTURE,
        cores=facts.cores,
        usable_cores=facts.cores,
        memory_bytes=int(facts.memory_gb * (1 << 30)),
        system=facts.system,
        versions={"veca-edge": own_version(), "browser": facts.browser, "onnxruntime-web": facts.runtime},
        identity=facts.identity,
    )


def _described(item: Item, measured: Measurement, rounds: Sequence[Answer]) -> Measurement:
    hidden = (_HIDDEN,) if any(answer.facts.get("was_hidden") for answer in rounds) else ()
    warm = warmth_hint([float(np.median(answer.samples_ms)) for answer in rounds if answer.samples_ms])
    details = {**measured.details, "memory": "growth of the WebAssembly heap"}
    return replace(measured, recorded_warnings=(*measured.recorded_warnings, *hidden, *warm), details=details)


def warmth_hint(medians_ms: Sequence[float]) -> tuple[str, ...]:
    """What the rounds' medians, in the order in which they were measured, say of heat, which no browser tells."""
    falls = len(medians_ms) >= WARM_ROUNDS and all(a < b for a, b in pairwise(medians_ms))
    if not falls or medians_ms[-1] < WARM_SLOWDOWN * medians_ms[0]:
        return ()
    return (
        f"Every round was slower than the one before, from {medians_ms[0]:.2f} to {medians_ms[-1]:.2f} ms, as on a "
        "device that grows warm; let it cool down and measure again, or give --sustained to see where it ends.",
    )


@dataclass(frozen=True)
class _Turns:
    desk: Desk
    options: ProfileOptions

    def take(self, item: Item, sustained: bool) -> Answer:
        options = self.options
        turn = {
            "path": item.artifact.path,
            "name": item.artifact.name,
            "frames": _frames_name(item.artifact),
            "threads": options.threads,
            "warmup_seconds": options.warmup_seconds,
            "seconds": options.seconds,
            "samples": options.samples,
            "most_seconds": options.most_seconds,
            "sustained_seconds": options.sustained_seconds if sustained else 0,
        }
        answer = self.desk.ask(turn)
        if not (answer.windows if sustained else answer.samples_ms):
            raise EdgeError(f"The browser measured no call of {item.artifact.name}.", "Profile again.")
        return answer


# ------------------------------------------------------------------------------------- requests


def _frames_name(artifact: Artifact) -> str:
    return f"{artifact.image_size}-{artifact.input}"


@dataclass(frozen=True)
class _Frames:
    """The golden frames as inputs, one after the other."""

    bundle: Bundle
    artifacts: Sequence[Artifact]

    def __call__(self, name: str) -> bytes | None:
        for artifact in self.artifacts:
            if _frames_name(artifact) == name:
                golden = read_golden(self.bundle.directory, artifact.core_count, artifact.image_size)
                return b"".join(batch.tobytes() for batch in input_batches(artifact, golden))
        return None


def _routes(desk: Desk, frames: _Frames) -> list[BaseRoute]:
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    def posted(answer: Callable[[object], Mapping[str, Any]]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            body = bytearray()
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BODY_BYTES:
                    return JSONResponse({"message": "That is too much."}, 413)
            try:
                return JSONResponse(await run_in_threadpool(answer, json.loads(body)))
            except (ValueError, RecursionError):
                return JSONResponse({"message": "That is no JSON."}, 400)
            except EdgeError as error:
                return JSONResponse({"message": error.message, "hint": error.hint or ""}, 409)

        return endpoint

    def frames_of(request: Request) -> Response:
        content = frames(request.path_params["name"])
        return Response(status_code=404) if content is None else Response(content)

    posts = {"hello": desk.hello, "next": desk.next_turn, "answer": desk.answered, "failed": desk.failed}
    posts |= {"alive": desk.alive, "left": desk.left}
    made: list[BaseRoute] = [Route("/measure/frames/{name}", frames_of)]
    return made + [Route(f"/measure/{name}", posted(answer), methods=["POST"]) for name, answer in posts.items()]
