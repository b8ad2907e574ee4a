"""How to measure on this machine's CPU or on a phone."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from ...base.errors import EdgeError, unknown_name
from ...base.options import option, threads_option
from ...base.units import parse_celsius
from ..options import ProfileOptions

ACCELERATORS = ("cpu", "gpu", "npu")
_PACKAGE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,60}(\.[A-Za-z][A-Za-z0-9_]{0,60}){1,10}")


def parse_accelerators(text: str) -> tuple[str, ...]:
    """`cpu,gpu` as ("cpu", "gpu")."""
    return tuple(part.strip() for part in text.split(","))


@dataclass(frozen=True)
class PhonePace(ProfileOptions):
    """How each turn on a phone is taken; `cool_to` as in `AndroidProfileOptions`."""

    cool_to: float | None = None


@dataclass(frozen=True)
class AndroidProfileOptions(ProfileOptions):
    """How to measure on this machine's CPU or, with a device, on a phone.

    Attributes:
        threads: CPU threads; None takes one per physical core here, and 4 on a phone.
        benchmark_model: the path of Google's tool for Android on arm64, which is copied to the phone; empty measures
            through the app that is installed there.
        app: the id of the app that measures.
        accelerators: what computes on the phone: `cpu`, `gpu`, `npu`.
        cool_to: degrees Celsius that the phone has at most when a round begins; None does not wait.
    """

    threads: int | None = threads_option("the same, but 4 on a phone")
    benchmark_model: str = option("", "Google's benchmark_model for arm64, to run on the phone.", metavar="FILE")
    app: str = option("", "The app on the phone that measures.", metavar="ID", shown="veca.camera")
    accelerators: tuple[str, ...] = option(
        ("cpu",), "On the phone: cpu, gpu, npu.", metavar="LIST", shown="cpu", parse=parse_accelerators
    )
    cool_to: float | None = option(
        None, "Wait before measuring until the device is as cool as this (45C).", metavar="TEMP", parse=parse_celsius
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.accelerators:
            if name not in ACCELERATORS:
                raise unknown_name("accelerator", name, ACCELERATORS)
        if self.app and not _PACKAGE.fullmatch(self.app):
            raise EdgeError(f"{self.app!r:.100} is not the id of an app.", "Give one like com.example.camera.")
        if self.cool_to is not None and not 10 <= self.cool_to <= 60:
            raise EdgeError(f"No phone cools to {self.cool_to:g} C.", "Give --cool-to from 10 to 60, for example 38C.")

    @property
    def here(self) -> ProfileOptions:
        """Those that say something on this machine. Raises `EdgeError` for one that needs a phone."""
        for name, value in (
            ("--benchmark-model", self.benchmark_model),
            ("--app", self.app),
            ("--accelerators", self.accelerators != ("cpu",)),
            ("--cool-to", self.cool_to),
        ):
            if value:
                raise EdgeError(
                    f"{name} is for a phone, but no --device was given.", "Add --device adb, or leave it out."
                )
        return ProfileOptions(**{f.name: getattr(self, f.name) for f in fields(ProfileOptions)})

    @property
    def pace(self) -> PhonePace:
        """What tells measurements of one file on one accelerator of a phone apart."""
        return PhonePace(**{f.name: getattr(self, f.name) for f in fields(PhonePace)})
