import math

import pytest

from veca_edge.base.numbers import lowest


@pytest.mark.parametrize("values", [[math.nan, 1.0, 0.5], [1.0, math.nan, 0.5], [1.0, 0.5, math.nan]])
def test_one_that_is_no_number_is_not_overlooked(values):
    assert math.isnan(lowest(values))


def test_the_lowest_of_numbers():
    assert lowest(iter([1.0, 0.5, 2.0])) == 0.5
    assert math.isnan(lowest([]))
    assert lowest([], 0.0) == 0.0
