"""A run that is stopped goes on; nothing is counted twice, and nothing that differs is added up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.base.files import held
from veca_edge.base.progress import silent
from veca_edge.bundle.store import EVALUATIONS, verify_files
from veca_edge.evaluation.data import open_data
from veca_edge.evaluation.engine import here
from veca_edge.evaluation.journal import open_journal
from veca_edge.evaluation.run import ChunkEngine, evaluate_data
from veca_edge.evaluation.statistics import Totals, totals_text
from veca_edge.evaluation.store import EvaluationFacts, digest_beside, read_evaluations

from .conftest import CHUNK, write_images


@pytest.fixture
def bundle(short_bundle, tmp_path):
    """A copy of `short_bundle` that a test may change."""
    import shutil

    from veca_edge.bundle.store import open_bundle

    shutil.copytree(short_bundle.directory, tmp_path / "short", ignore=shutil.ignore_patterns(EVALUATIONS))
    return open_bundle(tmp_path / "short")


def facts_of(bundle, data) -> EvaluationFacts:
    sha = {a.name: a.sha256 for a in bundle.artifacts}
    beside = digest_beside(bundle, bundle.artifacts)
    return EvaluationFacts(data.name, data.kind, data.digest, data.images, (), None, sha, beside, CHUNK, 1, {})


@pytest.fixture
def run(bundle, images, job_of, classes_of):
    """A function that evaluates; `stop_after` chunks it fails, as where a cluster went away."""
    data = open_data(str(images), classes_of(bundle), CHUNK)
    ran = []

    def engine(chunks, stop_after):
        for outcome in here(job_of(bundle), chunks):
            if len(ran) == stop_after:
                raise EdgeError("The cluster went away.")
            ran.append(outcome[0])
            yield outcome

    def evaluate(stop_after=None, again=False, max_failures=10, **facts):
        ran.clear()
        stated = replace(facts_of(bundle, data), **facts)
        limited = ChunkEngine(lambda chunks: engine(chunks, stop_after), "one process")
        found = evaluate_data(bundle.directory, data, stated, limited, max_failures, again, silent)
        return found, list(ran)

    return evaluate


def test_a_run_that_stopped_goes_on(bundle, run):
    whole, every = run()
    expected = totals_text(whole.totals)
    assert len(every) == 5
    read, ran = run()  # it is read, not repeated
    assert (read.timed, ran) == (0, [])
    with pytest.raises(EdgeError, match="went away"):
        run(stop_after=2, again=True)
    found, rest = run()
    assert rest == every[2:]
    assert totals_text(found.totals) == expected
    assert found.timed == whole.totals.images - 16
    (stored,) = read_evaluations(bundle)
    assert totals_text(stored.totals) == expected
    assert verify_files(bundle) > 0


def test_a_journal_of_another_run_is_not_added_to(run):
    with pytest.raises(EdgeError, match="went away"):
        run(stop_after=2)
    with pytest.raises(EdgeError, match=r"differs from this one in its threads.*\n.*--again"):
        run(threads=2)
    assert len(run(threads=2, again=True)[1]) == 5


def test_too_many_failures_are_named_and_go_on_with_more(run):
    with pytest.raises(EdgeError, match=r"1 image could not be used, and --max-failures allows 0: bird/00010.png"):
        run(max_failures=0)
    found, rest = run(max_failures=1)
    assert (found.totals.images, found.totals.failed) == (39, 1)
    assert len(rest) < 5
    with pytest.raises(EdgeError, match="allows 0"):
        run(max_failures=0)


def test_other_files_make_an_evaluation_stale(bundle, run):
    run()
    other = replace(bundle, artifacts=tuple(replace(a, sha256="0" * 64) for a in bundle.artifacts))
    assert len(read_evaluations(bundle)) == 1
    assert read_evaluations(other) == []
    weights = replace(bundle, files={**bundle.files, "models/weights.bin": "0" * 64})
    assert read_evaluations(weights) == []


@pytest.mark.parametrize("damage", [b'{"images":2', b"xx", b""])
def test_a_damaged_line_and_all_after_it_are_dropped(damage, tmp_path):
    payload = totals_text(Totals(images=1))
    with open_journal(tmp_path / "j", {"run": 1}) as journal:
        for i in range(4):
            journal.append(str(i), payload)
        with pytest.raises(ValueError, match="counted twice"):
            journal.append("3", payload)
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b'{"failed":0', damage) if damage else lines[3][:-9]
    (tmp_path / "j").write_bytes(b"".join(lines))
    with open_journal(tmp_path / "j", {"run": 1}) as journal:
        assert journal.keys == {"0", "1"}
        assert journal.totals.images == 2
        journal.append("2", payload)
    assert len((tmp_path / "j").read_bytes().splitlines()) == 4


def test_a_journal_that_went_while_it_was_waited_for(tmp_path):
    (tmp_path / "j").touch()
    ending = ExitStack()
    ending.enter_context(held(tmp_path / "j"))
    timer = threading.Timer(0.2, lambda: ((tmp_path / "j").unlink(), ending.close()))
    timer.start()
    with pytest.raises(EdgeError, match="has just ended"), open_journal(tmp_path / "j", {"run": 1}):
        pass
    timer.join()


def test_a_journal_that_is_in_use(tmp_path):
    with (
        open_journal(tmp_path / "j", {"run": 1}),
        pytest.raises(EdgeError, match="Another process is evaluating"),
        open_journal(tmp_path / "j", {"run": 1}),
    ):
        pass


def test_a_damaged_evaluation_says_what_to_do(bundle, run):
    run()
    (path,) = (bundle.directory / EVALUATIONS).glob("*.json")
    data = json.loads(path.read_text())
    data["totals"]["images"] = -1.5
    path.write_text(json.dumps(data))
    with pytest.raises(EdgeError, match="Remove it and evaluate again"):
        read_evaluations(bundle)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_while_it_writes(bundle, images):
    script = Path(__file__).with_name("killed_run.py")
    words = [sys.executable, str(script), str(bundle.directory), str(images)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    # If there seem to be fewer, they are not seen.
    assert int(done.stdout) >= 20


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_memory_does_not_grow_with_the_images(bundle, tmp_path):
    first = write_images(tmp_path / "200", 200)
    for i in range(5):
        for path in first.rglob("*.png"):
            copy = tmp_path / "1000" / path.parent.name / f"{i}-{path.name}"
            copy.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, copy)
    script, peaks = Path(__file__).with_name("memory_run.py"), {}
    for count in (200, 1000):
        words = [sys.executable, str(script), str(bundle.directory), str(tmp_path / str(count))]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        evaluated, peaks[count] = map(int, done.stdout.split())
        assert evaluated == count
    assert peaks[1000] < 1.1 * peaks[200]
