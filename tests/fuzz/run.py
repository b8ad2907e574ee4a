"""Tries damaged inputs and judges what happens: success or an `EdgeError`, soon, and within bounded memory."""

from __future__ import annotations

import hashlib
import logging
import random
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from veca_edge.base.errors import EdgeError

from .kinds import Kind, kinds

CORPUS = Path(__file__).parent / "corpus"
# Of the processor, which a busy machine does not stretch; PATIENCE times as many on the wall are no end.
SECONDS = 10.0
PATIENCE = 6
GROWTH_BYTES = 1 << 30
BATCH = 25


class Broken(Exception):
    """An input that did something else than it may."""


@dataclass
class Tally:
    """What became of the inputs of one kind."""

    taken: int = 0
    refused: int = 0
    broken: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    growth_bytes: int = 0

    @property
    def count(self) -> int:
        return self.taken + self.refused + len(self.broken)


class _Endless(BaseException):
    """Not an `Exception`: nothing that is tried may catch it."""


def judged(kind: Kind, content: bytes, tally: Tally) -> None:
    """Tries one input. Raises `Broken` when it breaks a promise."""

    def give_up(*_: object) -> None:
        raise _Endless

    before = _peak_bytes(reset=True)
    handler = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE * SECONDS)
    began = time.process_time()
    why = None
    try:
        kind.use(content)
        tally.taken += 1
    except EdgeError as error:
        tally.refused += 1
        why = None if error.message.strip() else "an error without words"
    except _Endless:
        why = f"no end within {PATIENCE * SECONDS:.0f} s"
    except Exception:
        why = traceback.format_exc(limit=-4)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    seconds = time.process_time() - began
    growth = max(0, _peak_bytes() - before)
    tally.slowest_s, tally.growth_bytes = max(tally.slowest_s, seconds), max(tally.growth_bytes, growth)
    if why is None and seconds > SECONDS:
        why = f"it took {seconds:.1f} s"
    if why is None and growth > GROWTH_BYTES:
        why = f"it took {growth / 1e9:.1f} GB"
    if why is not None:
        raise Broken(why)


def _peak_bytes(reset: bool = False) -> int:
    """The most memory that was resident since the last reset; 0 where the system does not say (not Linux)."""
    with suppress(OSError):
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return 1024 * int(line.split()[1])
    return 0


def fuzz_kind(
    name: str,
    kind: Kind,
    seconds: float,
    inputs: int,
    first_seed: int,
    found: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Tally:
    """Tries inputs until the time is over or enough were tried; goes on after one that breaks something.

    Args:
        found: a folder for what broke something; add it to the corpus when it is mended.
    """
    tally, until, number = Tally(), time.monotonic() + seconds, first_seed
    while time.monotonic() < until and tally.count < inputs:
        _batch(name, kind, number, min(BATCH, inputs - tally.count), tally, until, found, say)
        number += 1
    return tally


def _batch(
    name: str,
    kind: Kind,
    number: int,
    examples: int,
    tally: Tally,
    until: float,
    found: Path | None,
    say: Callable[[str], None],
) -> None:
    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(content=kind.inputs)
    def attempt(content: bytes) -> None:
        if time.monotonic() > until and (tally.count or tally.broken):  # one is always tried
            return
        try:
            judged(kind, content, tally)
        except Broken as error:
            digest = hashlib.sha256(content).hexdigest()[:12]
            tally.broken.append(f"{name}/{digest}: {error}")
            if found is not None:
                (found / name).mkdir(parents=True, exist_ok=True)
                (found / name / digest).write_bytes(content)
            say(f"{name}/{digest}: {error}")

    attempt()


def fuzz(
    seconds: float,
    inputs: int = 10**9,
    names: list[str] | None = None,
    found: Path | None = None,
    first_seed: int | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Tally]:
    """Every kind for its share of the time; without `first_seed` other inputs every time."""
    logging.disable(logging.WARNING)  # as a command does: libraries say at length what they make of a damaged file
    made, tallies = kinds(), {}
    start = random.randrange(2**32) if first_seed is None else first_seed
    for name in names or list(made):
        with tempfile.TemporaryDirectory(prefix="veca-edge-fuzz-") as root:
            share = len(names or made)
            kind = made[name](Path(root))
            tallies[name] = fuzz_kind(name, kind, seconds / share, -(-inputs // share), start, found, say)
        tally = tallies[name]
        say(
            f"{name:24} {tally.count:7} inputs  {tally.taken:6} taken  {tally.refused:6} refused  "
            f"{len(tally.broken):4} broken  slowest {tally.slowest_s:6.2f} s  "
            f"memory +{tally.growth_bytes / 1e6:5.0f} MB"
        )
    return tallies
