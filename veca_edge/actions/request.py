"""What a user asks an export for. The command line is made from these fields, so that both share every default."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..base import lists
from ..base.errors import EdgeError
from ..base.moved import with_moved_fields
from ..base.options import check_kind, made_of, option, path_of, read_plain, threads_option
from ..base.spec import MAP_STRIDE, OUTPUTS, QUANTIZED_PRECISIONS, ImageSize
from ..base.tasks import HeadFile, Task, task_named
from ..images.options import ResizeOptions
from ..targets.table import TARGETS, target_named
from .run_file import read_run, run_text

if TYPE_CHECKING:
    from ..bundle.types import Bundle

DEFAULT_CORE_COUNT = 16
AUTO = "auto"
CALIBRATION_METHODS = ("search", "nncf")
_PRECISIONS = "; ".join(f"{name}: {','.join(target.precisions)}" for name, target in TARGETS.items())


class TaskGate(NamedTuple):
    """A gate on what heads say.

    Attributes:
        flag: as it is typed.
        default: where a model gives nothing but outputs of tasks, unless another is asked for.
        outputs: those that it looks at.
        tasks: of the heads that give them, in words.
    """

    flag: str
    default: float
    outputs: tuple[str, ...]
    tasks: str


# By the request's fields.
TASK_GATES = {
    "min_agreement": TaskGate(
        "--min-agreement", 0.98, ("logits", "segmentation", "segmentation_logits"), f"{Task.CLASSIFY} or {Task.SEGMENT}"
    ),
    "max_depth_error": TaskGate("--max-depth-error", 0.02, ("depth",), str(Task.DEPTH)),
}


def are_tasks_alone(outputs: Collection[str]) -> bool:
    """Whether no features are among the outputs, which `min_cosine` would judge."""
    return not {"cls", "dense"} & set(outputs)


@dataclass(frozen=True)
class CheckpointSource:
    """A trained model, and what its file may not say.

    Attributes:
        path: `.pt` or `.safetensors`; None is the bundled demo model.
        head: files with task heads, at most one of a task; the checkpoint's own classifier stays where none is given.
            A path, a `HeadFile`, or `TASK=FILE[#NAME]` as on the command line.
        labels: files with class names in the order of a head's scores: a path, or `TASK=FILE`.
        depth_range: metres of a depth head's first and last bin, where its file does not say them.
        heads: attention heads h, for a bare state dict of no released family.
        rope_zero: share of zero rotary frequencies in 0..1, likewise.
    """

    path: Path | None = None
    head: Any = option(
        (),
        f"A linear head, repeatable; [TASK=] ({', '.join(Task)}) where the file does not say it.",
        metavar="[TASK=]FILE",
        many=True,
        parse=tuple,
    )
    labels: Any = option(
        (),
        "Class names of a head: one a line, or a JSON list; repeatable.",
        metavar="[TASK=]FILE",
        many=True,
        parse=tuple,
    )
    depth_range: tuple[float, float] | None = option(
        None,
        "A depth head's first and last bin, in metres.",
        metavar="MIN,MAX",
        shown="the file's, or 0.001,10",
        parse=lists.depth_range,
    )
    heads: int | None = option(
        None, "Attention heads, for a bare state dict of no released family.", kind=int, metavar="COUNT", lowest=1
    )
    rope_zero: float | None = option(
        None, "Share of zero rotary frequencies, for a bare state dict of no released family.", kind=float
    )

    def __post_init__(self) -> None:
        read_plain(self)
        if self.path is not None:
            object.__setattr__(self, "path", path_of(self.path, "path"))
        for name in ("head", "labels"):
            value = getattr(self, name)
            listed = () if value is None else (value,) if isinstance(value, str | Path | HeadFile) else tuple(value)
            object.__setattr__(self, name, listed)

    @property
    def head_files(self) -> tuple[HeadFile, ...]:
        """The heads' files. Raises `EdgeError` for an unknown task, and for a depth range that is for none of them."""
        files = tuple(item if isinstance(item, HeadFile) else self._head_file(item) for item in self.head)
        if self.depth_range is not None and all(file.depth_range is None for file in files):
            raise EdgeError(
                "--depth-range is for a depth head, and none was given.",
                "Give the head with --head FILE, or leave it out.",
            )
        return files

    def _head_file(self, item: str | Path) -> HeadFile:
        task, text = _task_and_file(item)
        file, _, name = text.partition("#")
        whole = Path(text)
        if whole.exists():
            file, name = text, ""
        depth = self.depth_range if task in (None, Task.DEPTH) else None
        return HeadFile(Path(file), task, name or None, depth)

    @property
    def label_files(self) -> dict[Task | None, Path]:
        """Files of class names by task, None where none was said."""
        found: dict[Task | None, Path] = {}
        for item in self.labels:
            task, text = _task_and_file(item)
            if task in found:
                raise EdgeError(f"Two files of labels were given for {task or 'one head'}.", "Give --labels TASK=FILE.")
            found[task] = Path(text)
        return found


def _task_and_file(item: str | Path) -> tuple[Task | None, str]:
    """`TASK=FILE`, or a file alone; a file whose name has an equals sign in it is found as such."""
    text = str(item)
    before, equals, after = text.partition("=")
    if isinstance(item, Path) or not equals or Path(text).exists() or "/" in before:
        return None, text
    return task_named(before), after


@dataclass(frozen=True)
class ImageSource(ResizeOptions):
    """Images that calibrate, and images that judge, and how they are prepared; the two never overlap.

    Attributes:
        calibration: a folder of images like the camera's; quantization needs it (but for the demo model).
        count: how many of them calibrate.
        evaluation: a folder to judge on; None holds back some of the calibration images.
        seed: of the sampling.
    """

    calibration: Path | None = option(
        None, "Images like the camera's, searched recursively; INT8 needs them.", kind=Path, metavar="DIR"
    )
    count: int = option(128, "How many of them calibrate.", flag="--calibration-count", kind=int, shown="128", lowest=1)
    evaluation: Path | None = option(
        None,
        "Images to measure fidelity on; folders named by class give top-1.",
        kind=Path,
        metavar="DIR",
        shown="calibration images that did not calibrate",
    )
    seed: int = option(0, "Seed of the sampling of images.", kind=int, shown="0")

    def __post_init__(self) -> None:
        super().__post_init__()
        read_plain(self)


# Fields that lay at the top level of a request in version 0.1.
_MOVED = {
    **{name: f"checkpoint.{name}" for name in ("heads", "rope_zero", "head", "labels")},
    **{name: f"images.{name}" for name in ("calibration", "evaluation", "seed")},
    "calibration_count": "images.count",
}


@with_moved_fields(_MOVED)
@dataclass(frozen=True)
class ExportRequest:
    """What to export, and how. `None` and `()` stand for defaults that the checkpoint or the target decides. Paths and
    lists may be given as text, as on the command line, and lists of one as their value.

    Attributes:
        output: the bundle to write.
        checkpoint: the model; a path alone will do.
        images: those that calibrate, and those that judge.
        target: a name of `veca_edge.targets.table.TARGETS`.
        options: of the target, its `options` dataclass; None is its defaults.
        core_counts: active core tokens C of each variant; () is every count of the checkpoint.
        precisions: `("auto",)` is the fastest that passes; () the target's default.
        image_sizes: height and width in pixels, multiples of the patch size; () is 256 x 256 (the demo's own 32).
        batch: images per call.
        input: one of `base.spec.INPUT_FORMS` that the target knows: `image`, uint8 RGB `[B, H, W, 3]`; `tensor`,
            normalised float32 `[B, 3, H, W]`; `planar`, float32 RGB `[B, 3, H, W]` of 0 to 255.
        outputs: any of `OUTPUTS`; () is `cls`, `dense`, and the usual output of every head.
        map_stride: pixels of the image to one of `segmentation` and `depth`, along each side; 1 is the frame's size.
        calibration_method: `search`, or `nncf` (extra `nncf`).
        min_cosine: the gate: the least mean cosine with the float32 reference that a variant may have.
        min_agreement: the least share of images, and of pixels, with the same class; None is 0.98 where `logits` or
            `segmentation` is an output, and neither `cls` nor `dense`, else no gate.
        max_depth_error: the largest mean relative difference of depth; None is 0.02 where `depth` is an output, and
            neither `cls` nor `dense`, else no gate.
        force: replace a bundle that is there.
        measure: time the quantized precision against the next one, where the target runs here.
        device: a board to ask for its versions, and to build on: `local`, or `ssh://[user@]host[:port]`.
        threads: CPU threads of what runs here; None leaves them to the runtime.
        overridden: what was said instead of what the run file says, a text each; `from_toml` and `like` fill it in.
    """

    output: Path
    checkpoint: CheckpointSource = field(default_factory=CheckpointSource)
    images: ImageSource = field(default_factory=ImageSource)
    core_counts: tuple[int, ...] = option(
        (DEFAULT_CORE_COUNT,),
        "Core counts: one (16), a list (8,16,64) or all.",
        flag="--cores",
        metavar="LIST",
        shown=str(DEFAULT_CORE_COUNT),
        parse=lists.core_counts,
    )
    target: str = option(
        "cpu", f"{', '.join(TARGETS)}; or a list (cpu,jetson) for a bundle of each.", metavar="NAME", shown="cpu"
    )
    options: Any = None
    precisions: tuple[str, ...] = option(
        (),
        f"One, a list, or auto: the fastest that passes. {_PRECISIONS}.",
        flag="--precision",
        metavar="LIST",
        shown="the first",
        parse=lists.precisions,
    )
    image_sizes: tuple[ImageSize, ...] = option(
        (),
        "256 or HxW in pixels, or a list.",
        flag="--image-size",
        metavar="LIST",
        shown="256; the demo's own 32",
        parse=lists.image_sizes,
    )
    batch: int = option(1, "Images per call.", kind=int, shown="1", lowest=1, highest=4096)
    input: str = option(
        "image",
        "image: the camera's frame, uint8 RGB [B,H,W,3]; tensor: normalised float32 [B,3,H,W]; planar (jetson, for "
        "DeepStream): float32 RGB [B,3,H,W], 0 to 255.",
        metavar="NAME",
        shown="image",
    )
    outputs: tuple[str, ...] = option(
        (),
        f"Any of {','.join(OUTPUTS)}.",
        metavar="LIST",
        shown="cls,dense, and what the heads say",
        parse=lists.outputs,
    )
    map_stride: int = option(
        MAP_STRIDE, "Pixels of the image to one of a map, along each side.", kind=int, shown=str(MAP_STRIDE), lowest=1
    )
    calibration_method: str = option(
        "search",
        "search (smoothing, ranges and rounding by output error), or nncf, which needs the extra nncf.",
        metavar="NAME",
        shown="search",
    )
    min_cosine: float = option(0.99, "The gate: mean cosine with the FP32 reference.", kind=float, shown="0.99")
    min_agreement: float | None = option(
        None,
        "The gate: share of images and pixels with the reference's class, 0 to 1.",
        kind=float,
        shown=f"{TASK_GATES['min_agreement'].default} without cls and dense",
    )
    max_depth_error: float | None = option(
        None,
        "The gate: mean relative difference of depth.",
        kind=float,
        shown=f"{TASK_GATES['max_depth_error'].default} without cls and dense",
    )
    force: bool = option(False, "Replace a bundle that is there.", kind=bool)
    measure: bool = option(
        True, "Time INT8 against the next precision, where the target runs here.", kind=bool, shown="measure"
    )
    device: str | None = option(None, "A board to build on: local, or ssh://[user@]host[:port].", metavar="DEVICE")
    threads: int | None = threads_option("the runtime's choice")
    overridden: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        read_plain(self)
        object.__setattr__(self, "output", path_of(self.output, "output"))
        checkpoint: Any = self.checkpoint
        if isinstance(checkpoint, Mapping):
            object.__setattr__(self, "checkpoint", CheckpointSource(**checkpoint))
        elif checkpoint is None or isinstance(checkpoint, Path | str):
            path = None if checkpoint is None else path_of(checkpoint, "checkpoint")
            object.__setattr__(self, "checkpoint", CheckpointSource(path))
        images: Any = self.images
        if isinstance(images, Mapping):
            object.__setattr__(self, "images", ImageSource(**images))
        check_kind(self.images, ImageSource, "images")

    @property
    def quantized(self) -> list[str]:
        """The quantized precisions that are asked for."""
        wanted = self.precisions or (target_named(self.target).default_precision,)
        return [p for p in wanted if p in QUANTIZED_PRECISIONS]

    @classmethod
    def from_typed(
        cls, typed: Mapping[str, Any], checkpoint: Path | None = None, output: Path | None = None
    ) -> ExportRequest:
        """The request of what was typed, by flag. Raises `EdgeError` for a value that cannot be."""
        target = target_named(typed.get("--target") or cls.target)
        if typed.get("--device") is not None and target.builder is not None:
            for flag in target.builder.answered:
                if typed.get(flag) is not None:
                    raise EdgeError(
                        f"A board was given with --device, and {flag} for it.", "The board knows its own: leave it out."
                    )
        place = output or Path("veca-edge-out") / f"{checkpoint.stem if checkpoint else 'demo'}-{target.name}"
        return replace(
            made_of(cls, typed, output=place),
            checkpoint=replace(made_of(CheckpointSource, typed), path=checkpoint),
            images=made_of(ImageSource, typed),
            options=made_of(target.options, typed),
        )

    @classmethod
    def from_toml(
        cls,
        path: str | Path,
        checkpoint: Path | None = None,
        output: Path | None = None,
        typed: Mapping[str, Any] | None = None,
    ) -> ExportRequest:
        """The request of a run file: what `veca-edge export --config` is given.

        Args:
            path: a TOML file. Its keys are the flags of `veca-edge export` without their dashes, `checkpoint` and
                `output`; paths in it are relative to its folder.
            checkpoint, output: instead of those that it names.
            typed: what else is said instead of what it says, by flag. `--target` chooses one of several that it names;
                the bundle then goes below `output`.

        Raises:
            EdgeError: it can't be read, has an unknown key (the nearest known one is named), or a wrong value; it is
                for several targets, and none was chosen.
        """
        given = {flag: value for flag, value in (typed or {}).items() if value is not None}
        run = read_run(path, given, (cls, CheckpointSource, ImageSource), cls.target)
        places = checkpoint or run.checkpoint, output or run.output
        request = replace(cls.from_typed(run.typed, *places), overridden=run.overridden)
        if request.outputs and are_tasks_alone(request.outputs):
            # Earlier versions wrote both defaults whatever the outputs; a default that looks at some comes again.
            untyped = {name: gate for name, gate in TASK_GATES.items() if gate.flag not in given}
            defaults = [name for name, gate in untyped.items() if getattr(request, name) == gate.default]
            request = replace(request, **dict.fromkeys(defaults))
        return request

    @classmethod
    def like(
        cls,
        bundle: str | Path | Bundle,
        checkpoint: Path | None = None,
        output: Path | None = None,
        typed: Mapping[str, Any] | None = None,
    ) -> ExportRequest:
        """The request that made a bundle, on other weights: what `veca-edge export --like` is given.

        Args:
            bundle: one with a run file; every export writes one.
            checkpoint: the new weights; None is those that the bundle was made from.
            output, typed: as of `from_toml`.

        Raises:
            EdgeError: the bundle has no run file, or it was changed since; or as `from_toml`.
        """
        from ..bundle.store import checked_run_file

        return cls.from_toml(checked_run_file(bundle), checkpoint, output, typed)

    def to_toml(self) -> str:
        """The run file that repeats this export. Raises `EdgeError` for an unknown task of a head.

        Without what says where and not what (`output`, `force`, `device`), and without what only users of the library
        can choose.
        """
        target = target_named(self.target)
        return run_text(
            self.checkpoint.path,
            (self, self.checkpoint, self.images, self.options or target.options()),
            self.checkpoint.head_files,
            self.checkpoint.label_files,
            self.checkpoint.depth_range,
        )
