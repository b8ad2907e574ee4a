"""What a user of version 0.1 wrote still works, and is told the new place."""

from __future__ import annotations

from pathlib import Path

import pytest

import veca_edge
from veca_edge.actions.profile import Profiled
from veca_edge.actions.run import Predictions
from veca_edge.base.errors import EdgeError


def test_names_that_moved_say_where_to():
    import veca_edge.runtime as old

    with pytest.warns(DeprecationWarning, match=r"veca_edge\.runtime\.load has moved: use veca_edge\.actions\.load"):
        assert old.load is veca_edge.load
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        old.laod  # noqa: B018


def test_fields_that_moved_say_where_to():
    with pytest.warns(DeprecationWarning, match="is now") as warned:
        request = veca_edge.ExportRequest(
            Path("b"), checkpoint=Path("m.pt"), heads=3, calibration=Path("photos"), calibration_count=7
        )
    assert request.checkpoint == veca_edge.CheckpointSource(Path("m.pt"), heads=3)
    assert request.images == veca_edge.ImageSource(Path("photos"), count=7)
    assert {str(w.message) for w in warned} == {
        "ExportRequest's heads is now checkpoint.heads.",
        "ExportRequest's calibration is now images.calibration.",
        "ExportRequest's calibration_count is now images.count.",
    }


def test_a_path_alone_is_a_checkpoint():
    assert veca_edge.ExportRequest(Path("b"), Path("m.pt")).checkpoint == veca_edge.CheckpointSource(Path("m.pt"))
    assert veca_edge.ExportRequest(Path("b")).checkpoint == veca_edge.CheckpointSource()


def test_fields_of_a_profile_go_to_the_target(square_bundle):
    with pytest.warns(DeprecationWarning, match=r"rounds is now options\.rounds"):
        request = veca_edge.ProfileRequest(square_bundle.directory, (8,), rounds=1, seconds=0.05)
    with pytest.warns(DeprecationWarning, match="bundle and profile"):
        _, profile = veca_edge.profile(request)
    assert profile.measurements[0].round_sizes == (len(profile.measurements[0].samples_ms),)
    with pytest.warns(DeprecationWarning, match="is now"), pytest.raises(EdgeError, match="no option 'layers'"):
        veca_edge.profile(veca_edge.ProfileRequest(square_bundle.directory, layers=True))


@pytest.mark.parametrize("result", [Profiled("one", "two"), Predictions("one", ("two",))])
def test_pairs_have_fields_now(result):
    with pytest.warns(DeprecationWarning, match="has fields"):
        first, second = result
    assert first == "one"
    assert second in ("two", ("two",))
