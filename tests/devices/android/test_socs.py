"""The table of SoCs."""

import re

from veca_edge.devices.android.socs import SOCS


def test_the_table():
    assert {"SM8650", "SM8750"} <= set(SOCS)
    assert len({s.soc_model for s in SOCS.values()}) == len(SOCS)
    for name, soc in SOCS.items():
        assert re.fullmatch(r"SM[0-9]{4}", name)
        assert soc.npu == f"Hexagon v{soc.htp_arch}"
        assert soc.int8_tops is None
        assert soc.source
        assert re.match(r"[1-9]x .* GHz", soc.cpu)
