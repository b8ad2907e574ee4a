"""What is served, and where. The command line is made from these fields."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.options import option
from ..serving import PORT

if TYPE_CHECKING:
    from ..bundle.types import Bundle


@dataclass(frozen=True)
class ServeRequest:
    """What to serve, and where.

    Attributes:
        bundle: a path, or one that was opened.
        port: 0 takes a free one.
        lan: for other devices of the local network, with HTTPS and a token, instead of this machine alone.
    """

    bundle: Path | Bundle
    port: int = option(
        PORT, "Port to listen on; 0 takes a free one.", kind=int, shown=str(PORT), lowest=0, highest=65535
    )
    lan: bool = option(False, "Serve the local network, with HTTPS and a code to scan.", kind=bool)
