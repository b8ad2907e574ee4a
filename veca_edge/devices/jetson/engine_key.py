"""What an engine was built for, and whether that is the board it shall run on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...base.errors import EdgeError
from ...bundle.types import Artifact
from .probe import Board

# A board may call itself what it likes, and a file system takes 255 bytes.
_SLUG_CHARACTERS = 160


@dataclass(frozen=True)
class EngineKey:
    """What an engine was built for. It runs rightly, and as fast as it was tuned to, only where all of it agrees.

    A field is None where nothing tells; None agrees only with None.
    """

    module: str
    compute_capability: str | None
    l4t: str | None
    tensorrt: str | None
    power_mode: str | None

    @property
    def slug(self) -> str:
        """For file names: `orin-nano-8gb-l4t36.4.3-trt10.3.0-maxn-super`."""
        parts = (self.module, self.l4t and f"l4t{self.l4t}", self.tensorrt and f"trt{self.tensorrt}", self.power_mode)
        return re.sub(r"[^a-z0-9.]+", "-", " ".join(p for p in parts if p).lower()).strip("-.")[:_SLUG_CHARACTERS]

    def to_json(self) -> dict[str, str | None]:
        return {
            "module": self.module,
            "compute_capability": self.compute_capability,
            "l4t": self.l4t,
            "tensorrt": self.tensorrt,
            "power_mode": self.power_mode,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EngineKey:
        """The inverse of `to_json`; what is missing, or not text, is not known."""
        module, *others = (
            value if isinstance(value := data.get(name), str) else None
            for name in ("module", "compute_capability", "l4t", "tensorrt", "power_mode")
        )
        return cls(module or "", *others)


_KEY_NAMES = {
    "module": "module",
    "compute_capability": "compute capability",
    "l4t": "L4T",
    "tensorrt": "TensorRT",
    "power_mode": "power mode",
}


def engine_key(board: Board) -> EngineKey:
    """The key of an engine that is built on this board as it is now."""
    return EngineKey(board.name, board.compute_capability, board.l4t, board.tensorrt, board.power_mode)


def engines_for(artifacts: Iterable[Artifact], board: Board) -> list[Artifact]:
    """The engines among `artifacts` that were built for this board; all of them where none was.

    What is wrong with those `check_engine_key` says.
    """
    engines = [a for a in artifacts if a.format == "engine"]
    here = engine_key(board).to_json()
    fitting = [a for a in engines if a.details.get("engine_key") == here]
    return fitting or engines


def check_engine_key(details: Mapping[str, Any], board: Board, engine: str, rebuild: str) -> None:
    """Refuses an engine that was made for another board.

    Args:
        details: the artifact's, with `engine_key`.
        engine: its name, for the message.
        rebuild: the command that builds it again for this board.
    """
    if not isinstance(details.get("engine_key"), Mapping):
        raise EdgeError(f"The engine '{engine}' does not say what board it was built for.", f"Build it: {rebuild}")
    built, here = EngineKey.from_json(details["engine_key"]).to_json(), engine_key(board).to_json()
    differing = [
        f"{_KEY_NAMES[name]} {built[name] or 'unknown'} (here {here[name] or 'unknown'})"
        for name in built
        if built[name] != here[name]
    ]
    if differing:
        raise EdgeError(
            f"The engine '{engine}' was built for another board: {', '.join(differing)}.",
            f"An engine runs only where it was built. Build it for this one: {rebuild}",
        )
