"""Making an export's files: on how many images they are proved."""

import pytest

from veca_edge.actions.make import PROOF_PIXELS, proof_image_count
from veca_edge.base.spec import ImageSize


@pytest.mark.parametrize(
    ("size", "count"),
    [((1024, 1024), 4), ((256, 256), 4), ((128, 256), 8), ((128, 128), 16), ((64, 64), 32), ((32, 32), 32)],
)
def test_small_images_are_proved_on_more_of_them(size, count):
    """Four label maps of 8 x 8 once refused a right package, by two pixels to one."""
    assert proof_image_count(ImageSize(*size)) == count
    assert count in (4, 32) or count * size[0] * size[1] == PROOF_PIXELS
