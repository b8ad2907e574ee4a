"""How hot a board is."""

from __future__ import annotations

import shlex

from ...base.errors import EdgeError
from ...devices.answers import Reader
from ...devices.jetson.probe import BOARD_ROOT, ConnectedBoard
from . import tegrastats

_HINT = "Run the same command again."
# Every zone's name and thousandths of a degree; a sensor that is switched off can't be read.
_ZONES = f"""\
root={BOARD_ROOT}
for zone in "$root"/sys/class/thermal/thermal_zone*; do
    [ -r "$zone/temp" ] || continue
    value=$(cat "$zone/temp" 2>/dev/null) || continue
    echo "$value $(cat "$zone/type" 2>/dev/null)"
done
"""


def temperature_of(there: ConnectedBoard) -> float:
    """The hottest sensor of a board now, Celsius: of the kernel's thermal zones, else as tegrastats says it.

    Raises:
        EdgeError: nothing there says it, or what does cannot be read; the connection was lost.
    """
    connection, board = there.connection, there.board
    reader = Reader(f"The temperature of {there.name}", _HINT)
    found = {}
    for line in connection.run(_ZONES).text.splitlines():
        value, _, name = line.strip().partition(" ")
        if value and "pmic" not in name.lower():
            celsius = reader.decimal("a temperature", value) / 1000
            if celsius > tegrastats.NO_TEMPERATURE_C:
                found[name] = celsius
    if not found and board.tegrastats:
        script = f"timeout 5 {shlex.quote(board.tegrastats)} --interval 100 2>/dev/null | head -n 1"
        found = tegrastats.parse_line(connection.run(script).text).temperatures_c
    if not found:
        raise EdgeError(
            f"{there.name} does not say how hot it is: it has no thermal zones, and no tegrastats.",
            "Leave --cool-to out.",
        )
    return max(found.values())
