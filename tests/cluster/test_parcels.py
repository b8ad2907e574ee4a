"""What every worker gets, when workers are lost while it is sent."""

import pytest

from veca_edge.base.errors import EdgeError
from veca_edge.cluster import parcels


class LossyClient:
    """A double of Dask's client, whose scheduler loses a worker in each of the first scatters."""

    def __init__(self, losses: list[Exception]):
        self.losses = losses

    def scatter(self, thing, *, broadcast, hash):
        assert broadcast
        if self.losses:
            raise self.losses.pop(0)
        return "future", thing


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(parcels.time, "sleep", lambda seconds: None)


def test_a_worker_that_is_lost_meanwhile_is_no_end():
    losses = [KeyError("tcp://127.0.0.1:44163"), ValueError("Can not use replicate to delete data")]
    assert parcels.broadcast(LossyClient(losses), "thing") == ("future", "thing")


def test_workers_that_are_lost_again_and_again_are_told_of():
    with pytest.raises(EdgeError, match="loses its workers") as caught:
        parcels.broadcast(LossyClient([KeyError("worker")] * 9), "thing")
    assert caught.value.hint
