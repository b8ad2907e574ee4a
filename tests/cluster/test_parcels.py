"""What every worker gets, when workers are lost while it is sent and afterwards."""

import os
import signal
import threading

import pytest

from veca_edge.cluster.connection import connected, result_of
from veca_edge.cluster.parcels import broadcast

pytestmark = pytest.mark.usefixtures("forked_workers")
CONTENT = bytes(range(256)) * (1 << 16)


def process_of(dask_worker):
    return os.getpid()


def length_of(parcel):
    return len(parcel.checked("It"))


@pytest.fixture
def client():
    with connected("local:2", {}) as client:
        yield client


def kill(client, workers) -> None:
    processes = client.run(process_of, workers=workers)
    for process in processes.values():
        os.kill(process, signal.SIGKILL)


@pytest.mark.filterwarnings("error")
def test_every_worker_holds_it(client):
    parcel = broadcast(client, CONTENT)
    assert sorted(*client.who_has(parcel).values()) == sorted(client.nthreads())


def test_a_worker_that_is_lost_meanwhile_is_no_end(client):
    """The first one to begin, killed by the other's side: whatever it was at, the other one gets everything."""
    victim, _ = client.nthreads()
    process = client.run(process_of, workers=[victim])[victim]
    lost = threading.Timer(0.05, os.kill, (process, signal.SIGKILL))
    lost.start()
    parcels = [broadcast(client, CONTENT) for _ in range(4)]
    lost.join()
    assert [result_of(client.submit(length_of, parcel, pure=False)) for parcel in parcels] == [len(CONTENT)] * 4


def test_what_all_lost_workers_held_is_made_again(client):
    parcel = broadcast(client, CONTENT)
    kill(client, list(client.nthreads()))
    assert result_of(client.submit(length_of, parcel, pure=False)) == len(CONTENT)
