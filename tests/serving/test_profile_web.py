"""`profile --device web`: ordinary measurements from a page, also after it was closed in between."""

from __future__ import annotations

import math
import re
import shutil
import threading
import time

import pytest

from veca_edge.base.errors import EdgeError

pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'veca-edge[web]'")


# The page itself tells the turns apart: asked from outside, one might be over before the event arrives.
SLEEP_IN_SECOND_TURN = """() => new MutationObserver(() => {
  const isSecond = document.querySelectorAll("#rounds tr").length === 1;
  const text = document.querySelector("#status").textContent;
  if (isSecond && text.startsWith("Measuring")) document.dispatchEvent(new Event("freeze"));
}).observe(document.querySelector("#status"), { childList: true, characterData: true, subtree: true })"""


class Profiling:
    """`profile` in a thread of its own, and what it says."""

    def __init__(self, bundle, cores=(), seconds=0.05, **fields):
        from veca_edge.actions.profile import ProfileRequest, profile
        from veca_edge.profiles.options import ProfileOptions

        self.said: list[str] = []
        self.result = self.error = None
        options = ProfileOptions(rounds=2, seconds=seconds, samples=4, warmup_seconds=0.01)
        request = ProfileRequest(bundle, cores, ("fp32",), "web", options, **fields)

        def run() -> None:
            try:
                self.result = profile(request, say=self.said.append)
            except EdgeError as error:
                self.error = error

        self.thread = threading.Thread(target=run)
        self.thread.start()

    @property
    def url(self) -> str:
        self.wait(lambda: self.said)
        return re.search(r"http://\S+", self.said[0]).group()

    def wait(self, condition, seconds: float = 120) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until
            assert self.thread.is_alive(), self.error
            time.sleep(0.05)

    def end(self):
        self.thread.join(180)
        assert not self.thread.is_alive()
        assert self.error is None
        return self.result


@pytest.fixture
def copied(tasks_bundle, tmp_path, monkeypatch):
    from veca_edge.profiles.web import measure

    monkeypatch.setattr(measure, "PORT", 0)
    shutil.copytree(tasks_bundle, tmp_path / "bundle", ignore=shutil.ignore_patterns("link.txt"))
    return tmp_path / "bundle"


class Answers:
    """Holds what a page sends of the turns that it measured, so that it does not go on before the test does.

    Args:
        let_through: so many come before the one that is held.
    """

    def __init__(self, page, let_through: float = 0):
        self.page, self.left = page, let_through
        self.held: list = []
        page.route("**/measure/answer", self._take)

    def _take(self, route) -> None:
        if self.left:
            self.left -= 1
            route.continue_()
        else:
            self.held.append(route)

    def wait(self, profiling: Profiling) -> None:
        """Until one is held. Events of the browser are heard while something is asked of it."""
        profiling.wait(lambda: self.page.wait_for_timeout(50) or self.held)

    def lose(self) -> None:
        """As a network that is lost does with the one that is held; all after it are sent."""
        self.left = math.inf
        self.held.pop().abort("internetdisconnected")


def unfinished(bundle) -> int:
    import json

    paths = bundle.glob("profiles/*/unfinished/*.json")
    return sum(len(json.loads(path.read_text())["rounds"]) for path in paths)


def test_a_page_measures_and_goes_on_where_it_was_closed(chromium, copied, monkeypatch):
    from veca_edge.actions.limits import Limits
    from veca_edge.actions.recommend import recommend
    from veca_edge.profiles.store import read_measurements
    from veca_edge.profiles.web import desk

    context = chromium.new_context()
    profiling = Profiling(copied)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    answers = Answers(page, let_through=1)
    page.goto(profiling.url)
    answers.wait(profiling)
    page.close(run_before_unload=False)
    # A browser that is told to close a page at once may let it say so, or may not: then its silence does.
    with monkeypatch.context() as patch:
        patch.setattr(desk, "SILENT_S", 2.0)
        profiling.wait(lambda: any("was closed" in line for line in profiling.said))
    # The browser may send what was held when it closes the page.
    assert unfinished(copied) in (1, 2)
    assert not list(copied.glob("profiles/*/*.json"))
    page = context.new_page()
    page.goto(profiling.url)
    page.wait_for_selector("#status:has-text('Done')", timeout=120_000)
    result = profiling.end()
    context.close()
    assert complaints == []

    profile = result.profile
    assert not profile.failures
    assert [m.core_count for m in profile.measurements] == [16, 64]
    stored = read_measurements(result.bundle)
    assert [m.samples_ms for m in stored] == [m.samples_ms for m in profile.measurements]
    for m in stored:
        assert m.machine.architecture == "wasm"
        assert m.machine.versions["onnxruntime-web"] == "1.30.0"
        assert re.fullmatch(r"(Headless|Google )?Chrom\w+ on Linux", m.machine.name), m.machine.name
        assert len(m.round_sizes) == 2
        assert min(m.round_sizes) >= 4
        assert m.load_ms > 0
        assert m.first_ms > 0
        assert m.peak_memory_bytes >= 0
        assert m.threads >= 1
    found = recommend(copied, Limits(p95_ms=1e6), by="latency")
    assert found.best.measurement.machine.architecture == "wasm"


def test_a_network_that_is_lost_and_back_costs_no_answer_and_a_sleep_is_told_of(chromium, copied):
    """The page is cut off when it has measured one turn, and keeps its answer; in the next one it is told, as a browser
    tells it, that it is put to sleep."""
    context = chromium.new_context()
    profiling = Profiling(copied, (16,))
    page = context.new_page()
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    answers = Answers(page)
    page.goto(profiling.url)
    answers.wait(profiling)
    context.set_offline(True)
    answers.lose()
    page.wait_for_selector("#status:has-text('does not answer')", timeout=120_000)
    assert unfinished(copied) == 0
    page.evaluate(SLEEP_IN_SECOND_TURN)
    context.set_offline(False)
    page.wait_for_selector("#status:has-text('Done')", timeout=120_000)
    assert page.locator("#rounds tr").count() == 2, "no turn was measured twice"
    (measured,) = profiling.end().profile.measurements
    context.close()
    assert broken == []
    assert len(measured.round_sizes) == 2
    assert any("not in the foreground" in warning for warning in measured.warnings)


def test_rounds_that_grow_slower_one_by_one_hint_at_heat():
    from veca_edge.profiles.web.measure import warmth_hint

    (said,) = warmth_hint([20.0, 20.5, 21.5])
    assert "from 20.00 to 21.50 ms" in said
    assert "--sustained" in said
    for no_hint in ([20.0, 20.5, 20.9], [20.0, 24.0], [20.0, 22.0, 21.9, 24.0], [24.0, 22.0, 20.0], []):
        assert warmth_hint(no_hint) == (), no_hint


def test_another_browser_is_told_to_wait_and_nonsense_is_refused():
    from veca_edge.profiles.web.desk import Desk

    facts = {"browser": "A 1", "system": "B", "runtime": "1", "cores": 2, "threads": 2}
    first, second = (f"{i:08d}-0000-4000-8000-000000000000" for i in range(2))
    desk = Desk()
    desk.hello({"identity": first, **facts})
    desk.hello({"identity": first, **facts})
    with pytest.raises(EdgeError, match="Another browser"):
        desk.hello({"identity": second, **facts})
    with pytest.raises(EdgeError, match="Another browser"):
        desk.next_turn({"identity": second})
    for wrong in (None, [], {"identity": first}, {"identity": first, **facts, "cores": -1}, {"identity": "x", **facts}):
        with pytest.raises(EdgeError, match="What the page says"):
            desk.hello(wrong)
    answer = {"load_ms": 1.0, "first_ms": 1.0, "idle_memory_bytes": 0, "peak_memory_bytes": 0, "was_hidden": False}
    for wrong in ({}, {**answer, "load_ms": "1"}, {**answer, "samples_ms": [-1.0]}, {**answer, "first_ms": 1e300}):
        with pytest.raises(EdgeError, match="What the page measured"):
            desk.answered({"identity": first, "id": "0", "answer": wrong})


def test_a_page_that_stays_away_ends_the_sweep():
    from veca_edge.profiles.sweep import SweepEnded
    from veca_edge.profiles.web.desk import Desk

    identity = "00000000-0000-4000-8000-000000000000"
    lost = []
    desk = Desk(lambda: lost.append(1), patience_s=0.3)
    desk.hello({"identity": identity, "browser": "A 1", "system": "B", "runtime": "1", "cores": 2, "threads": 2})
    desk.left({"identity": identity})
    with pytest.raises(SweepEnded, match="closed before everything"):
        desk.ask({"path": "x"})
    assert lost == [1]


def test_a_page_that_is_there_is_told_that_everything_was_measured(monkeypatch):
    """However late it asks, the server stays until then; one that is gone is not waited for."""
    from veca_edge.profiles.web import desk as module

    monkeypatch.setattr(module, "FAREWELL_S", 600.0)
    page = {"identity": "00000000-0000-4000-8000-000000000000"}
    told: list[dict] = []
    desk = module.Desk()
    late = threading.Timer(0.3, lambda: told.append(desk.next_turn(page)))
    desk.hello({**page, "browser": "A 1", "system": "B", "runtime": "1", "cores": 2, "threads": 2})
    late.start()
    desk.end()
    late.join()
    assert told == [{"is_done": True}]
    gone = module.Desk()
    gone.end()
    gone.hello({**page, "browser": "A 1", "system": "B", "runtime": "1", "cores": 2, "threads": 2})
    gone.left(page)
    gone.end()


def test_an_unknown_device_is_told_the_known_ones(tasks_bundle):
    from veca_edge.actions.profile import ProfileRequest, profile

    with pytest.raises(EdgeError, match="Unknown device 'phone'") as caught:
        profile(ProfileRequest(tasks_bundle, device="phone"))
    assert "web, web:lan" in caught.value.hint
