import os

import pytest

from veca_edge.base.cpu_features import cpu_count, usable_cpu_count


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs an affinity mask")
def test_an_affinity_mask_counts():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cpu_count() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert 1 <= usable_cpu_count() <= cpu_count()
