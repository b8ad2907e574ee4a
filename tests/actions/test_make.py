"""Making an export's files: on how many images they are proved."""

import math
from types import SimpleNamespace

import pytest

from veca_edge.actions import make
from veca_edge.actions.make import PROOF_PIXELS, Attempt, make_here, proof_image_count, write_within_gate
from veca_edge.base.errors import GateError
from veca_edge.base.progress import silent
from veca_edge.base.spec import ImageSize
from veca_edge.bundle.types import Agreement, CosineStatistics, DepthAgreement, Fidelity


@pytest.mark.parametrize(
    ("size", "count"),
    [((1024, 1024), 4), ((256, 256), 4), ((128, 256), 8), ((128, 128), 16), ((64, 64), 32), ((32, 32), 32)],
)
def test_small_images_are_proved_on_more_of_them(size, count):
    """Four label maps of 8 x 8 once refused a right package, by two pixels to one."""
    assert proof_image_count(ImageSize(*size)) == count
    assert count in (4, 32) or count * size[0] * size[1] == PROOF_PIXELS


def test_an_output_that_no_gate_looks_at_has_to_be_numbers_too(monkeypatch, tmp_path):
    artifacts = [SimpleNamespace(name=name) for name in ("cores8_fp16_32x32", "cores16_fp16_32x32")]
    monkeypatch.setattr(make, "write_within_gate", lambda *given: SimpleNamespace(written=None))
    monkeypatch.setattr(make, "compile_and_prove", lambda *given: artifacts)
    monkeypatch.setattr(make, "write_golden_data", lambda *given: None)
    monkeypatch.setattr(
        make, "golden_cosine", lambda _, artifact, *given: math.nan if "16" in artifact.name[:7] else 1.0
    )
    with pytest.raises(GateError, match=r"not numbers: cores16_fp16_32x32\. No bundle was written"):
        make_here(SimpleNamespace(threads=None), tmp_path, silent)


@pytest.mark.parametrize("error", [math.nan, math.inf])
def test_a_depth_that_is_no_number_on_one_image_is_refused_although_no_gate_asks_for_depths(
    monkeypatch, tmp_path, error
):
    same = CosineStatistics(1.0, 1.0, 1.0)
    sound = Agreement(4, same, same, depth=DepthAgreement(0.01, 0.1, 1.0, 0.1))
    broken = Agreement(4, same, same, depth=DepthAgreement(error, error, 0.9, error))
    found = tuple(Fidelity(count, "fp16", ImageSize(32, 32), sound, a) for count, a in ((8, sound), (16, broken)))
    monkeypatch.setattr(make, "write_and_compare", lambda *given: Attempt(None, found, ()))
    spec = SimpleNamespace(min_cosine=0.99, min_agreement=None, max_depth_error=None)
    with pytest.raises(GateError, match=r"evaluation images are not numbers: cores16_fp16_32x32\. No bundle") as caught:
        write_within_gate(SimpleNamespace(spec=spec), tmp_path, silent)
    assert "65504" in caught.value.hint
