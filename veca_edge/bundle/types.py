"""What a bundle is: frozen values, and the manifest they are written as.

The constraints stand in the types, which make the manifest's JSON Schema and its reader.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ..base.numbers import lowest
from ..base.spec import MAP_STRIDE, ExportSpec, GraphSpec, ImageSize, check_precision, variant_name
from ..base.tasks import Task, Tokens
from ..model.config import ModelConfig

SCHEMA_VERSION = 1
# Fields of a manifest that version 0.1 did not write; without them it opens all the same.
ADDED_FIELDS = ("heads",)

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
        map_stride: pixels of the image to one of its maps, along each side.
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
    map_stride: Count = MAP_STRIDE
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_precision(self.precision)
        object.__setattr__(self, "outputs", self.spec.outputs)

    @property
    def name(self) -> str:
        return variant_name(self.core_count, self.precision, self.image_size)

    @property
    def spec(self) -> GraphSpec:
        return GraphSpec(self.core_count, self.image_size, self.batch, self.input, self.outputs, self.map_stride)

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
class MapAgreement:
    """One set of label maps against another, pixel by pixel.

    Attributes:
        pixels: share of pixels with the same class.
        miou: mean intersection over union of the classes that occur in either.
        worst_iou: of the class `worst_class`, the lowest.
    """

    pixels: float
    miou: float
    worst_iou: float
    worst_class: Count


@dataclass(frozen=True)
class DepthAgreement:
    """One set of depth maps against another, pixel by pixel.

    Attributes:
        mean_error, worst_error: of |depth - expected| / expected (AbsRel is the mean).
        delta1: share of pixels within a factor of 1.25.
        rmse: root of the mean squared difference, metres.
    """

    mean_error: float
    worst_error: float
    delta1: float
    rmse: float


@dataclass(frozen=True)
class Agreement:
    """One set of outputs against another, over `images` images.

    Attributes:
        cls, dense, attention: None where the artifact has no such output.
        top1_agreement: share of images with the same most likely class, or None without a head.
        top1: share of images whose most likely class is right, or None without labels.
        segmentation, depth: None where the artifact has no such output. Without `segmentation`, the most likely
            classes of `segmentation_logits` are compared, patch by patch.
        segmentation_truth, depth_truth: against what the images' masks and depths say, or None without.
    """

    images: Count
    cls: CosineStatistics | None
    dense: CosineStatistics | None
    top1_agreement: float | None = None
    top1: float | None = None
    segmentation: MapAgreement | None = None
    depth: DepthAgreement | None = None
    segmentation_truth: MapAgreement | None = None
    depth_truth: DepthAgreement | None = None
    attention: CosineStatistics | None = None

    @property
    def cosines(self) -> dict[str, CosineStatistics]:
        """By output, of those that are compared by their directions and are there."""
        found = {"cls": self.cls, "dense": self.dense, "attention": self.attention}
        return {name: statistics for name, statistics in found.items() if statistics is not None}

    @property
    def lowest_mean(self) -> float:
        """How alike they are in one number: the lower of the two mean cosines, or of what the tasks say without.

        Not a number where an output is not.
        """
        means = [s.mean for s in (self.cls, self.dense) if s is not None]
        if means:
            return lowest(means)
        shares = [
            self.top1_agreement,
            self.segmentation and self.segmentation.pixels,
            self.depth and 1.0 - self.depth.mean_error,
            self.attention and self.attention.mean,
        ]
        return lowest((float(share) for share in shares if share is not None), default=0.0)

    @property
    def is_broken(self) -> bool:
        """Whether some outputs were not numbers, whichever of them."""
        means = [statistics.mean for statistics in self.cosines.values()]
        errors = [d.mean_error for d in (self.depth, self.depth_truth) if d is not None]
        return not all(map(math.isfinite, (*means, *errors)))

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
        reference_segmentation, reference_depth: the same against masks and depths, or None without.
    """

    core_count: int
    precision: str
    image_size: ImageSize
    reference: Agreement
    elastic: Agreement
    reference_top1: float | None = None
    reference_segmentation: MapAgreement | None = None
    reference_depth: DepthAgreement | None = None

    def __post_init__(self) -> None:
        check_precision(self.precision)

    @property
    def name(self) -> str:
        return variant_name(self.core_count, self.precision, self.image_size)

    @property
    def is_broken(self) -> bool:
        """Whether some of the variant's outputs were not numbers."""
        return self.reference.is_broken or self.elastic.is_broken

    def to_json(self) -> dict[str, Any]:
        return msgspec.to_builtins(self)


@dataclass(frozen=True)
class TermFacts:
    """What a term of a head reads: `tokens` (`cls`, `patches` or their `mean`) as they leave a block, from 0."""

    block: Count
    tokens: Tokens


@dataclass(frozen=True)
class HeadFacts:
    """What a bundle says about a task head in its models.

    Attributes:
        classes: scores of the head: classes, or bins of depth.
        labels: class names in the order of the scores, or None.
        palette: a colour for each class, `#rrggbb`, or None.
        depth_range: metres of the first and the last bin, or None.
    """

    task: Task
    classes: Count
    terms: tuple[TermFacts, ...]
    upsampling: Count = 1
    labels: tuple[str, ...] | None = None
    palette: tuple[str, ...] | None = None
    depth_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class BundleDetails:
    """How an export came about.

    Attributes:
        golden_cosine: by artifact, the lowest mean cosine of its outputs with the golden ones; `verify` compares.
        kept_float: the layers that the gate kept out of INT8.
        overridden: what was asked for instead of what a run file said, a text each.
    """

    golden_cosine: Mapping[str, float] = field(default_factory=dict)
    kept_float: tuple[str, ...] = ()
    overridden: tuple[str, ...] = ()


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
        heads: the task heads in its models.
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
    heads: tuple[HeadFacts, ...] = ()

    def head_for(self, task: Task) -> HeadFacts | None:
        return next((head for head in self.linear_heads if head.task == task), None)

    @property
    def linear_heads(self) -> tuple[HeadFacts, ...]:
        """`heads`; a bundle of version 0.1 had a classifier on `cls` alone, and did not say so."""
        if self.heads or "logits" not in self.spec.outputs:
            return self.heads
        term = TermFacts(self.checkpoint.config.layers - 1, Tokens.CLS)
        return (HeadFacts(Task.CLASSIFY, len(self.labels or ()), (term,), labels=self.labels),)

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
    manifest["required"] = [name for name in manifest["properties"] if name not in ADDED_FIELDS]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "veca-edge bundle manifest", **schema}
