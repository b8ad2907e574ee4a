"""What the stand-in was told to be: defaults, overridden by `standin.json` in the board's root."""

import json
import os
from pathlib import Path

ROOT = Path(os.environ["VECA_EDGE_BOARD_ROOT"])
DEFAULTS = {
    "tensorrt": "10.3.0",
    "power_mode": "MAXN_SUPER",
    "fault": "",  # killed, memory, disk: how a build ends; timing, times: how a timing run ends
    "build_s": 0.0,  # added to a build
    "timing_s": 0.3,  # how long a timing run takes in truth, whatever it says
    "until": "",  # a file that a timing run waits for too
    "latency_ms": 9.82,  # of the replayed queries, which spread by 1.5%
    "capture": "orin_nx",  # which recorded tegrastats line
    "throttle": False,
}


def settings():
    path = ROOT / "standin.json"
    return {**DEFAULTS, **(json.loads(path.read_text()) if path.exists() else {})}
