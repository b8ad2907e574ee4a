"""How many layers stay float, on made-up numbers: a gate, a ranking, and what each number of layers is worth."""

from __future__ import annotations

import pytest

from veca_edge.calibration.float_layers import fewest, fewest_float_layers


class MadeUp:
    """Layer k costs `harm[k]` of cosine in INT8; those that judge see `factor` times as much."""

    def __init__(self, harm: tuple[float, ...], factor: float = 1.0, floor: float = 0.0):
        self.harm, self.factor, self.floor = harm, factor, floor
        self.ranked = tuple(f"layer{k}" for k in range(len(harm)))
        self.made: list[int] = []

    def lowest_cosine(self, kept: int) -> float:
        return 1.0 - sum(self.harm[kept:])

    def make(self, kept: tuple[str, ...]) -> int:
        assert kept == self.ranked[: len(kept)]
        self.made.append(len(kept))
        return len(kept)

    def missed(self, result: int, gate: float) -> float | None:
        cosine = 1.0 - self.floor - self.factor * (1.0 - self.lowest_cosine(result))
        return cosine if cosine < gate else None

    def search(self, gate: float) -> int:
        return fewest_float_layers(self, 0, self.make, lambda result: self.missed(result, gate), gate)


HARM = tuple(0.01 / (k + 1) for k in range(16))


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("gate", [0.97, 0.98, 0.99, 0.999])
def test_the_fewest_that_hold_the_gate_whatever_the_judges_see(factor, gate):
    numbers = MadeUp(HARM, factor)
    expected = next(kept for kept in range(17) if numbers.missed(kept, gate) is None)
    assert numbers.search(gate) == expected
    assert len(numbers.made) <= 8
    assert not numbers.made or numbers.made[-1] == expected, "what is on disk is what was returned"


def test_nothing_is_made_again_where_the_gate_holds():
    numbers = MadeUp(HARM)
    assert numbers.search(0.5) == 0
    assert numbers.made == []


def test_all_layers_where_even_they_are_not_enough():
    numbers = MadeUp(HARM, floor=0.1)
    assert numbers.search(0.99) == 16
    assert len(numbers.made) <= 8


def test_the_fewest_by_the_ranking_alone():
    numbers = MadeUp(HARM)
    assert fewest(numbers, numbers.lowest_cosine(5)) == 5
    assert fewest(numbers, numbers.lowest_cosine(5), at_least=9) == 9
    assert fewest(numbers, 1.1) == 16
    assert fewest(numbers, 1.1, at_least=40) == 16
