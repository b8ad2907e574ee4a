"""Processes, however many, and a cluster that loses a worker say exactly what one process says."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.evaluation.data import open_data
from veca_edge.evaluation.engine import here, in_processes
from veca_edge.evaluation.statistics import totals_from, totals_text

from .conftest import CHUNK, summed


def test_two_processes_say_what_one_says(short_bundle, short_demo, images, job_of, classes_of, whole):
    data = open_data(str(images), classes_of(short_bundle), CHUNK)
    found = summed(in_processes(job_of(short_bundle, short_demo), data.chunks(), 2))
    assert totals_text(found) == whole
    assert (found.images, found.failed) == (39, 1)
    assert found.failures[0][0] == "bird/00010.png"
    assert "not an image" in found.failures[0][1]


def test_the_numbers_are_those_of_an_export(short_bundle, short_demo, images, whole):
    """The same images through the code that proves an export, which holds everything in memory."""
    import json
    from functools import partial

    from veca_edge.base.spec import ImageSize
    from veca_edge.evaluation.metrics import fidelity_of
    from veca_edge.evaluation.store import Evaluation, EvaluationFacts
    from veca_edge.images.folder import find_images, load_images
    from veca_edge.proof.evaluate import EvaluationImages, measure_fidelity
    from veca_edge.proof.fidelity import Truth
    from veca_edge.targets.table import open_artifact

    size = ImageSize(32, 32)
    loaded = load_images(find_images(images), size, classes=short_bundle.labels)
    known = {size: EvaluationImages(loaded.frames, Truth(loaded.labels))}
    expected = measure_fidelity(
        short_demo, short_bundle.spec, short_bundle.artifacts, known, partial(open_artifact, short_bundle.directory)
    )
    facts = EvaluationFacts(
        "images", "folder", "0" * 64, 40, ("classify",), short_demo.digest, {}, "0" * 64, CHUNK, 1, {}
    )
    totals = totals_from(json.loads(whole), "the totals")
    found = fidelity_of(Evaluation(facts, totals, "", 1.0, 39, ""), short_bundle)
    for one in expected:
        other = found[one.name]
        assert other.reference.top1 == one.reference.top1
        assert other.reference_top1 == one.reference_top1
        assert other.reference.top1_agreement == one.reference.top1_agreement
        for ours, theirs in ((other.reference, one.reference), (other.elastic, one.elastic)):
            for name in ("cls", "dense"):
                got, wanted = getattr(ours, name), getattr(theirs, name)
                assert got.mean == pytest.approx(wanted.mean, abs=1e-12)
                assert got.worst == pytest.approx(wanted.worst, abs=1e-12)
                # A sketch is within a percent of the loss, and takes a value where numpy goes between two.
                assert 1 - got.first_percentile == pytest.approx(1 - wanted.first_percentile, rel=0.1, abs=1e-9)


class Killing:
    """A chunk that ends the process that reads it, once."""

    def __init__(self, chunk, mark):
        self.chunk, self.mark = chunk, mark

    @property
    def key(self):
        return self.chunk.key

    def samples(self):
        try:
            os.close(os.open(self.mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            yield from self.chunk.samples()
        else:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_an_error_that_says_so(short_bundle, images, job_of, classes_of, tmp_path):
    data = open_data(str(images), classes_of(short_bundle), CHUNK)
    chunks = (Killing(chunk, tmp_path / "mark") for chunk in data.chunks())
    with pytest.raises(EdgeError, match="ended from outside"):
        list(in_processes(job_of(short_bundle), chunks, 2))


def test_a_cluster_that_loses_a_worker_says_what_one_process_says(
    short_bundle, short_demo, images, job_of, classes_of, whole, tmp_path, forked_workers
):
    from veca_edge.base.versions import versions_of
    from veca_edge.evaluation.cluster import on_cluster

    data = open_data(str(images), classes_of(short_bundle), CHUNK)
    chunks = (Killing(c, tmp_path / "mark") if i == 3 else c for i, c in enumerate(data.chunks()))
    versions = versions_of(("veca-edge", "onnxruntime", "torch"))
    found = summed(on_cluster(job_of(short_bundle, short_demo), chunks, "local:2", versions))
    assert (tmp_path / "mark").exists()
    assert totals_text(found) == whole


def test_two_evaluations_on_one_cluster_do_not_get_each_others_results(short_bundle, images, job_of, classes_of):
    """Their chunks have the same names, and its worker has a thread for each."""
    distributed = pytest.importorskip(
        "distributed", reason="distributed is not installed: pip install 'veca-edge[cluster]'"
    )
    from veca_edge.evaluation.cluster import on_cluster

    chunks = list(open_data(str(images), classes_of(short_bundle), CHUNK).chunks())
    job = job_of(short_bundle)
    jobs = [replace(job, artifacts=(artifact,)) for artifact in job.artifacts]
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0", protocol="tcp"
        ) as cluster,
        ThreadPoolExecutor(2) as pool,
    ):
        address = cluster.scheduler_address
        found = list(pool.map(lambda one: summed(on_cluster(one, iter(chunks), address, {})), jobs))
    assert [totals_text(totals) for totals in found] == [totals_text(summed(here(one, iter(chunks)))) for one in jobs]


def test_workers_over_ssh_say_what_one_process_says(short_bundle, images, job_of, classes_of, tmp_path, monkeypatch):
    """Without the reference, for which each of them would import PyTorch."""
    pytest.importorskip("asyncssh", reason="asyncssh is not installed: pip install 'veca-edge[cluster]'")
    from standin.fixtures import start_server

    import veca_edge
    from veca_edge.evaluation.cluster import on_cluster

    server = start_server(tmp_path / "ssh", {"PYTHONPATH": str(Path(veca_edge.__file__).parents[1])})
    try:
        (tmp_path / "home" / ".ssh").mkdir(parents=True)
        (tmp_path / "home" / ".ssh" / "config").write_text(server.client.read_text())
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        data = open_data(str(images), classes_of(short_bundle), CHUNK)
        found = summed(on_cluster(job_of(short_bundle), data.chunks(), "ssh:orin*2", {}))
    finally:
        server.stop()
    assert found.images == 39
    assert totals_text(found) == totals_text(summed(here(job_of(short_bundle), data.chunks())))


def test_a_worker_of_another_version_is_refused(short_bundle, images, job_of, classes_of, forked_workers):
    from veca_edge.evaluation.cluster import on_cluster

    data = open_data(str(images), classes_of(short_bundle), CHUNK)
    with pytest.raises(EdgeError, match=r"onnxruntime [0-9.]+, and this machine 0\.0\.1"):
        list(on_cluster(job_of(short_bundle), data.chunks(), "local:1", {"onnxruntime": "0.0.1"}))


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nowhere", "no cluster"),
        ("local:none", "number of workers"),
        ("ssh:", "names no hosts"),
        ("ssh:lab*x", "number of"),
    ],
)
def test_an_address_that_is_none(short_bundle, job_of, address, said):
    pytest.importorskip("distributed", reason="distributed is not installed: pip install 'veca-edge[cluster]'")
    from veca_edge.evaluation.cluster import on_cluster

    with pytest.raises(EdgeError, match=said):
        list(on_cluster(job_of(short_bundle), iter(()), address, {}))


def test_what_stops_a_chunk_comes_back_as_such(short_bundle, images, job_of, classes_of):
    from dataclasses import replace

    data = open_data(str(images), classes_of(short_bundle), CHUNK)
    broken = replace(job_of(short_bundle), directory=images)
    ((_, outcome),) = here(broken, iter([next(data.chunks())]))
    assert not isinstance(outcome, bytes)
    assert outcome.message
