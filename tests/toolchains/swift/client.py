"""Leaves its standard input and output to who executes saved Core ML packages, and ends when that does.

`client.py SOCKET MODEL [FUNCTION]`; `executor.py` listens at the socket. No process of many has to import what
executes a package.
"""

from __future__ import annotations

import json
import socket
import sys

with socket.socket(socket.AF_UNIX) as served:
    served.connect(sys.argv[1])
    socket.send_fds(served, [json.dumps(sys.argv[2:]).encode()], [0, 1, 2])
    served.recv(1)
