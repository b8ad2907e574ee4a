"""Where a sweep and a browser meet: one turn is handed out at a time, and its answer is waited for.

The sweep waits in a thread of its own; requests of the page come in others. What a page says is read by its types.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from msgspec import Meta

from ...base.errors import EdgeError
from ...base.json_files import typed
from ..measurement import Time, Window
from ..sampling import Answer
from ..sweep import SweepEnded

Short = Annotated[str, Meta(max_length=200)]
Few = Annotated[int, Meta(ge=1, le=1024)]
Bytes = Annotated[int, Meta(ge=0, le=1 << 48)]

# A page says every few seconds that it is there; one that crashed can't say that it goes.
SILENT_S = 20.0
POLL_S = 5.0
PATIENCE_S = 600.0
# How long a page that is there is waited for to ask once more, when everything was measured.
FAREWELL_S = 10.0


@dataclass(frozen=True)
class BrowserFacts:
    """What a page says of where it runs.

    Attributes:
        identity: made once by the page and kept by the browser; the same when the page is opened again.
        threads: that its runtime takes unless it is told.
        memory_gb: as browsers round it; 0 where they don't say.
    """

    identity: Annotated[str, Meta(pattern="^[0-9a-f-]{36}$")]
    browser: Short
    system: Short
    runtime: Short
    cores: Few
    threads: Few
    memory_gb: Annotated[float, Meta(ge=0, le=65536)] = 0.0


@dataclass(frozen=True)
class BrowserAnswer:
    """What a page measured in one turn; as `sampling.Answer`.

    Attributes:
        was_hidden: whether the page was not seen at some time, when browsers slow it down.
    """

    load_ms: Time
    first_ms: Time
    idle_memory_bytes: Bytes
    peak_memory_bytes: Bytes
    was_hidden: bool
    samples_ms: Annotated[tuple[Time, ...], Meta(max_length=1_000_000)] = ()
    windows: Annotated[tuple[Window, ...], Meta(max_length=1_000_000)] = ()


@dataclass(frozen=True)
class _Failed:
    message: str


@dataclass
class Desk:
    """Hands the turns of one sweep to one browser.

    Attributes:
        on_lost: called once each time the page is gone while a turn waits for it.
        patience_s: how long a page that is gone is waited for.
    """

    on_lost: Callable[[], None] = lambda: None
    patience_s: float = PATIENCE_S
    browser: BrowserFacts | None = None
    _turn: dict[str, Any] | None = None
    _answer: BrowserAnswer | _Failed | None = None
    _is_done: bool = False
    _was_told: bool = False
    _heard_at: float = float("-inf")
    _changed: threading.Condition = field(default_factory=threading.Condition)

    # ------------------------------------------------------------------------------ the sweep's

    def wait_for_browser(self) -> BrowserFacts:
        """The first browser that opens the page."""
        with self._changed:
            while self.browser is None:
                self._changed.wait(0.2)
            return self.browser

    def ask(self, what: dict[str, Any]) -> Answer:
        """One turn's answer.

        Raises:
            EdgeError: the page could not measure it.
            SweepEnded: the page is gone, and nobody opens it again.
        """
        with self._changed:
            self._turn, self._answer = {"id": uuid.uuid4().hex, **what}, None
            self._changed.notify_all()
            lost_at = None
            while self._answer is None:
                self._changed.wait(0.2)
                now = time.monotonic()
                if now - self._heard_at < SILENT_S:
                    lost_at = None
                elif lost_at is None:
                    lost_at = now
                    self.on_lost()
                elif now - lost_at > self.patience_s:
                    raise SweepEnded(
                        "The page was closed before everything was measured; what was is kept.",
                        "Run the same command and open the page in the same browser: it goes on.",
                    )
            answer, self._turn = self._answer, None
        if isinstance(answer, _Failed):
            raise EdgeError(answer.message)
        return Answer(
            answer.load_ms,
            answer.first_ms,
            answer.idle_memory_bytes,
            answer.peak_memory_bytes,
            0.0,
            answer.samples_ms,
            answer.windows,
            {"was_hidden": answer.was_hidden},
        )

    def end(self) -> None:
        """Nothing is left to do. Returns when the page was told so, unless it is gone or still at a turn."""
        with self._changed:
            self._is_done = True
            self._changed.notify_all()
            if self._turn is None and time.monotonic() - self._heard_at < SILENT_S:
                self._changed.wait_for(lambda: self._was_told, FAREWELL_S)

    # ------------------------------------------------------------------------------- the page's

    def hello(self, said: object) -> dict[str, Any]:
        """A page was opened. Raises `EdgeError` while another browser is measured."""
        facts = typed(said, BrowserFacts, "What the page says of its browser")
        with self._changed:
            if self.browser is not None and self.browser.identity != facts.identity:
                raise EdgeError("Another browser is being measured.", "Wait until it is done, then profile again.")
            self.browser = self.browser or facts
            self._heard()
        return {}

    def next_turn(self, said: object) -> dict[str, Any]:
        """The turn to take; the same as before where the page was opened anew; nothing yet after some seconds."""
        self._check(said)
        with self._changed:
            self._heard()
            self._changed.wait_for(lambda: self._is_done or (self._turn and self._answer is None), POLL_S)
            if self._is_done:
                self._was_told = True
                self._changed.notify_all()
                return {"is_done": True}
            return {"turn": self._turn if self._answer is None else None}

    def answered(self, said: object) -> dict[str, Any]:
        """A turn was measured."""
        fields = self._check(said)
        self._put(fields, typed(fields.get("answer"), BrowserAnswer, "What the page measured"))
        return {}

    def failed(self, said: object) -> dict[str, Any]:
        """A turn could not be measured."""
        fields = self._check(said)
        self._put(fields, _Failed(f"The browser could not run it: {fields.get('message')!s:.300}"))
        return {}

    def alive(self, said: object) -> dict[str, Any]:
        """The page is there; without a turn's answer it may take long."""
        self._check(said)
        with self._changed:
            self._heard()
        return {}

    def left(self, said: object) -> dict[str, Any]:
        """The page is being closed."""
        self._check(said)
        with self._changed:
            self._heard_at = float("-inf")
        return {}

    def _put(self, fields: dict[str, Any], answer: BrowserAnswer | _Failed) -> None:
        with self._changed:
            self._heard()
            # The answer to a turn that was handed out again, or was given up.
            if self._turn is None or self._turn["id"] != fields.get("id") or self._answer is not None:
                return
            self._answer = answer
            self._changed.notify_all()

    def _heard(self) -> None:
        self._heard_at = time.monotonic()

    def _check(self, said: object) -> dict[str, Any]:
        """What a page said, of the browser that is measured. Raises `EdgeError` for another."""
        fields = said if isinstance(said, dict) else {}
        if self.browser is None or fields.get("identity") != self.browser.identity:
            raise EdgeError("Another browser is being measured.", "Load the page again.")
        return fields
