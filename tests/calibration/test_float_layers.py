"""How many layers stay float, on made-up numbers: a gate, a ranking, and what each number of layers is worth."""

from __future__ import annotations

import pytest

from veca_edge.calibration.float_layers import fewest, fewest_float_layers


class MadeUp:
    """Layer k costs `harm[k]` of what the gate allows in INT8; those that judge see `factor` times as much."""

    def __init__(self, harm: tuple[float, ...], factor: float = 1.0, floor: float = 0.0, gate: float = 0.0):
        self.harm, self.factor, self.floor, self.gate = harm, factor, floor, gate
        self.ranked = tuple(f"layer{k}" for k in range(len(harm)))
        self.made: list[int] = []

    def excess(self, kept: int) -> float:
        return sum(self.harm[kept:]) / (1.0 - self.gate)

    def make(self, kept: tuple[str, ...]) -> int:
        assert kept == self.ranked[: len(kept)]
        self.made.append(len(kept))
        return len(kept)

    def missed(self, result: int) -> float | None:
        excess = self.floor / (1.0 - self.gate) + self.factor * self.excess(result)
        return excess if excess > 1.0 else None

    def search(self) -> int:
        return fewest_float_layers(self, 0, self.make, self.missed)


HARM = tuple(0.01 / (k + 1) for k in range(16))


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("gate", [0.97, 0.98, 0.99, 0.999])
def test_the_fewest_that_hold_the_gate_whatever_the_judges_see(factor, gate):
    numbers = MadeUp(HARM, factor, gate=gate)
    expected = next(kept for kept in range(17) if numbers.missed(kept) is None)
    assert numbers.search() == expected
    assert len(numbers.made) <= 8
    assert not numbers.made or numbers.made[-1] == expected, "what is on disk is what was returned"


def test_nothing_is_made_again_where_the_gate_holds():
    numbers = MadeUp(HARM, gate=0.5)
    assert numbers.search() == 0
    assert numbers.made == []


def test_all_layers_where_even_they_are_not_enough():
    numbers = MadeUp(HARM, floor=0.1, gate=0.99)
    assert numbers.search() == 16
    assert len(numbers.made) <= 8


def test_the_fewest_by_the_ranking_alone():
    numbers = MadeUp(HARM)
    assert fewest(numbers, numbers.excess(5)) == 5
    assert fewest(numbers, numbers.excess(5), at_least=9) == 9
    assert fewest(numbers, -0.1) == 16
    assert fewest(numbers, -0.1, at_least=40) == 16
