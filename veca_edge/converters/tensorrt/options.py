"""What only exports and builds for TensorRT understand."""

from __future__ import annotations

from dataclasses import dataclass

from ...base.errors import EdgeError
from ...base.options import option
from ...devices.jetson.modules import DEFAULT_JETPACK, JETPACKS, jetpack_tensorrt

DEFAULT_TENSORRT = "10.3"


@dataclass(frozen=True)
class TensorrtOptions:
    """How to write ONNX for TensorRT.

    Attributes:
        version: the TensorRT that builds the engines, `major.minor`; None takes the JetPack's.
        jetpack: the board's JetPack, instead of `version`; once it has given the version, it is None.
        elastic: one file per precision and image size, with the core tokens as inputs, and one optimization
            profile per core count; otherwise one file per core count.
        compile: build every strongly typed file with TensorRT-RTX where that is installed.
    """

    version: str | None = option(None, "The board's TensorRT, instead of --jetpack.", flag="--tensorrt", metavar="X.Y")
    elastic: bool = option(False, "One file and one engine for all core counts, which share its weights.", kind=bool)
    compile: bool = True
    jetpack: str | None = option(
        None, f"The board's JetPack: {', '.join(JETPACKS)}.", metavar="X.Y", shown=DEFAULT_JETPACK
    )

    def __post_init__(self) -> None:
        if self.jetpack and self.version:
            raise EdgeError(
                "Both --jetpack and --tensorrt were given.", "A JetPack brings its TensorRT: give one of them."
            )
        version = jetpack_tensorrt(self.jetpack) if self.jetpack else self.version or DEFAULT_TENSORRT
        from ...rules.tensorrt.releases import tensorrt_version

        tensorrt_version(version)
        object.__setattr__(self, "version", version)
        object.__setattr__(self, "jetpack", None)

    @property
    def tensorrt(self) -> str:
        """The version, which is known once this is made."""
        assert self.version is not None
        return self.version


@dataclass(frozen=True)
class EngineOptions:
    """How to build.

    Attributes:
        workspace_mib: memory the builder may take for one layer's scratch; None takes half of what the board
            has free, 1024 at most.
        level: builder optimization level 0 to 5 (TensorRT 8.6 and later); None leaves TensorRT's own, 3.
        power_mode: the one that the board has to be in; None takes any.
    """

    workspace_mib: int | None = option(
        None,
        "Memory the builder may take for scratch.",
        flag="--workspace",
        kind=int,
        metavar="MIB",
        shown="half of what is free, at most 1024",
        lowest=1,
    )
    level: int | None = option(
        None,
        "Builder optimization level; lower needs less memory.",
        flag="--builder-level",
        kind=int,
        shown="TensorRT's own",
        lowest=0,
        highest=5,
    )
    power_mode: str | None = None

    def __post_init__(self) -> None:
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise EdgeError(f"The workspace is {self.workspace_mib} MiB.", "Give --workspace 64 or more.")
        if self.level is not None and self.level not in range(6):
            raise EdgeError(f"The builder level is {self.level}.", "Give --builder-level 0 to 5.")
