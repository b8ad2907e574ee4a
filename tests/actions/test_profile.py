"""What may be measured of a bundle, and with which options."""

from __future__ import annotations

import pytest
from standin.fixtures import write_bundle, write_model

import veca_edge
from veca_edge.actions.profile import ProfileRequest, profile
from veca_edge.base.errors import EdgeError


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"device": "ssh://orin"}, "Unknown device 'ssh://orin'"),
        ({"options": veca_edge.BoardOptions()}, "takes options of the type ProfileOptions"),
        ({"core_counts": (12,)}, "no core count 12"),
        ({"precisions": ("int8",)}, "no precision int8"),
    ],
)
def test_what_does_not_fit_is_refused(square_bundle, fields, message):
    with pytest.raises(EdgeError, match=message):
        profile(ProfileRequest(square_bundle.directory, **fields))


def test_what_was_asked_for_is_measured(square_bundle):
    request = ProfileRequest(square_bundle.directory, (8,), options=veca_edge.ProfileOptions(rounds=1, seconds=0.05))
    profiled = profile(request)
    assert [m.core_count for m in profiled.profile.measurements] == [8]
    assert len(profile(request).profile.kept) == 1


def test_a_number_that_would_mean_nothing_is_refused(tmp_path):
    write_bundle(tmp_path, [write_model(tmp_path, "cores16_fp16_32x32")])
    with pytest.raises(EdgeError, match="holds no engine to measure, and the latency of its other files") as refused:
        profile(ProfileRequest(tmp_path))
    assert "veca-edge build" in refused.value.hint
