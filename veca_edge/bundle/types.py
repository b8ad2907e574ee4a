"""What a bundle is: frozen values, and the manifest they are written as.

The constraints stand in the types, which make the manifest's JSON Schema and its reader.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ..base.spec import ExportSpec, GraphSpec, ImageSize, variant_name
from ..model.config import ModelConfig

SCHEMA_VERSION = 1

Count = Annotated[int, Meta(ge=0)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
# Neither absolute, nor with a drive, nor with `..`, a backslash or NUL.
RelativePath = Annotated[
    str,
    Meta(
        pattern=r"^(?!/)(?![A-Za-z]:)(?![\s\S]*(^|/)\.\.(/|$))[^\\\u0000]+$",
        description="Relative to the bundle, with forward slashes.",
    ),
]


@dataclass(frozen=True)
class Artifact:
    """One variant in a bundle.

    Attributes:
        path: relative to the bundle, with forward slashes; a file, or a directory (`.mlpackage`).
        format: as its target calls it: `onnx`, `engine`, `mlpackage`.
        function: the function inside a multifunction package, or None.
        sha256: of the file, or of the sorted (path, sha256) list of a directory.
        bytes: size on disk, external weight files included.
        details: what only this target knows (dialect, TensorRT versions, compile report, ...); JSON values.
    """

    path: RelativePath
    format: str
    target: str
    core_count: int
    precision: str
    image_size: ImageSize
    batch: int
    input: str
    outputs: tuple[str, ...]
    sha256: Digest
    bytes: Count
    function: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "outputs", self.spec.outputs)

    @property
    def name(self) -> str:
        return variant_name(self.core_count, self.precision, self.image_size)

    @property
    def spec(self) -> GraphSpec:
        return GraphSpec(self.core_count, self.image_size, self.batch, self.input, self.outputs)

    def to_json(self) -> dict[str, Any]:
        return msgspec.to_builtins(self)


@dataclass(frozen=True)
class CheckpointFacts:
    """What a bundle says about the checkpoint it was made from; `sha256` is the file's."""

    name: str
    sha256: Digest
    config: ModelConfig

    @property
    def digest(self) -> str:
        """`sha256`, by the name that it has in a `Checkpoint`."""
        return self.sha256


@dataclass(frozen=True)
class CosineStatistics:
    """Cosine similarity over many vectors: one per image for `cls`, one per patch for `dense`.

    Attributes:
        first_percentile: 1% of the vectors are worse than this.
        worst: the least similar vector of all.
    """

    mean: float
    first_percentile: float
    worst: float


@dataclass(frozen=True)
class Agreement:
    """One set of outputs against another, over `images` images.

    Attributes:
        cls, dense: None where the artifact has no such output.
        top1_agreement: share of images with the same most likely class, or None without a head.
        top1: share of images whose most likely class is right, or None without labels.
    """

    images: Count
    cls: CosineStatistics | None
    dense: CosineStatistics | None
    top1_agreement: float | None = None
    top1: float | None = None

    @property
    def lowest_mean(self) -> float:
        """What the gate looks at: the lower of the two mean cosines (top-1 agreement where neither is an output)."""
        means = [s.mean for s in (self.cls, self.dense) if s is not None]
        return min(means) if means else float(self.top1_agreement or 0.0)

    def to_json(self) -> dict[str, Any]:
        return msgspec.to_builtins(self)


@dataclass(frozen=True)
class Fidelity:
    """One variant's fidelity.

    Attributes:
        reference: against the float32 model at the variant's own core count (what conversion and
            quantization cost).
        elastic: against the float32 model at the full core bank (what fewer cores cost on top).
        reference_top1: the float32 model's own top-1 at this core count, or None without labels.
    """

    core_count: int
    precision: str
    image_size: ImageSize
    reference: Agreement
    elastic: Agreement
    reference_top1: float | None = None

    @property
    def name(self) -> str:
        return variant_name(self.core_count, self.precision, self.image_size)

    def to_json(self) -> dict[str, Any]:
        return msgspec.to_builtins(self)


@dataclass(frozen=True)
class BundleDetails:
    """How an export came about.

    Attributes:
        golden_cosine: by artifact, the lowest mean cosine of its outputs with the golden ones; `verify` compares.
        kept_float: the layers that the gate kept out of INT8.
    """

    golden_cosine: Mapping[str, float] = field(default_factory=dict)
    kept_float: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bundle:
    """An export on disk, as its manifest describes it.

    Attributes:
        directory: where it is; everything else is in the manifest.
        preprocessing: `Preprocessing.to_json()`: how an image file becomes the model's input.
        versions: of the tools that made it.
        labels: class names in the order of `logits`, or None.
        recipe: the quantization recipe's file, relative, or None.
        fidelity: of every variant.
        created_at: UTC, ISO 8601.
        files: sha256 of every other file but measurements, by relative path; `write_manifest` fills it in.
    """

    directory: Path
    spec: ExportSpec
    checkpoint: CheckpointFacts
    preprocessing: Mapping[str, Any]
    versions: Mapping[str, str]
    artifacts: Annotated[tuple[Artifact, ...], Meta(min_length=1)]
    labels: tuple[str, ...] | None = None
    recipe: RelativePath | None = None
    fidelity: tuple[Fidelity, ...] = ()
    details: BundleDetails = field(default_factory=BundleDetails)
    created_at: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))
    files: Mapping[RelativePath, Digest] = field(default_factory=dict)

    @property
    def core_counts(self) -> tuple[int, ...]:
        return tuple(sorted({a.core_count for a in self.artifacts}))

    @property
    def precisions(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(a.precision for a in self.artifacts))

    @property
    def image_sizes(self) -> tuple[ImageSize, ...]:
        return tuple(dict.fromkeys(a.image_size for a in self.artifacts))

    def to_json(self) -> dict[str, Any]:
        """The manifest."""
        data = msgspec.to_builtins(self, enc_hook=str)
        del data["directory"]
        return {"schema_version": SCHEMA_VERSION, **data}


def manifest_schema() -> dict[str, Any]:
    """The JSON Schema of `manifest.json`, made from the types."""
    schema = msgspec.json.schema(Bundle, schema_hook=lambda kind: {"type": "string"})
    kinds = schema["$defs"]
    for kind in kinds.values():
        if "properties" in kind:
            kind["additionalProperties"] = False
    manifest = kinds["Bundle"]
    del manifest["properties"]["directory"]
    manifest["properties"] = {"schema_version": {"const": SCHEMA_VERSION}, **manifest["properties"]}
    manifest["required"] = list(manifest["properties"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "veca-edge bundle manifest", **schema}
