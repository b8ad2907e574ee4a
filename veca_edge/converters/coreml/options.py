"""What only exports for Core ML understand."""

from __future__ import annotations

from dataclasses import dataclass

from ...base.errors import unknown_name
from ...base.options import option

IOS_VERSIONS = (17, 18, 26)
LAYOUTS = ("tokens", "ane")
COORDINATES = ("fp16", "fp32")


@dataclass(frozen=True)
class CoremlOptions:
    """How to write Core ML packages.

    Attributes:
        ios: the oldest iOS that has to load the package (macOS 14, 15, 26 for 17, 18, 26).
        default_cores: core count of the function that an app gets when it names none; by default the
            smallest exported.
        separate: one package per variant instead of one per precision.
        layout: `tokens` `[B, S, D]`, or `ane`, `[B, D, 1, S]` with 1x1 convolutions.
        coordinates: type in which the core tokens' coordinates are computed; `fp32` is a little more exact
            but leaves the Neural Engine in every block.
        classifier: adds the outputs `label` and `label_probs`; needs class names and the output `logits`.
    """

    ios: int = option(18, "The oldest iOS that loads the package: 17, 18 or 26.", kind=int, metavar="N", shown="18")
    default_cores: int | None = option(
        None, "Core count of the function an app gets when it names none.", kind=int, shown="the smallest"
    )
    separate: bool = option(False, "One package per core count instead of one for all.", kind=bool)
    layout: str = option("tokens", "tokens, or ane: 1x1 convolutions.", metavar="NAME", shown="tokens")
    coordinates: str = option(
        "fp16",
        "The core tokens' positions in fp16, or fp32, which the Neural Engine lacks.",
        metavar="NAME",
        shown="fp16",
    )
    classifier: bool = option(False, "Add the outputs label and label_probs.", kind=bool)

    def __post_init__(self) -> None:
        if self.ios not in IOS_VERSIONS:
            raise unknown_name("iOS version", self.ios, IOS_VERSIONS)
        if self.layout not in LAYOUTS:
            raise unknown_name("layout", self.layout, LAYOUTS)
        if self.coordinates not in COORDINATES:
            raise unknown_name("type of coordinates", self.coordinates, COORDINATES)
