"""Reads files of task heads in the layouts that are in public use, each into the one form of `heads.py`.

| layout | keys |
|---|---|
| linear probe | `weight` `[K, D]` on cls, or `[K, (1 + L) D]`: cls of the last L blocks, and the mean of the patches |
| DINOv2 classifiers | `classifiers_dict.classifier_L_blocks_avgpool_True_lr_*.linear.*`; one is chosen by name |
| DINOv3 segmentation | `segmentation_model.1.conv.*`, `segmentation_model.1.batchnorm_layer.*` |
| DINOv2, mmsegmentation | `decode_head.conv_seg.*`, `decode_head.bn.*`: the last block, or the last L joined |
| DINOv3 depth | `conv_depth.*`, `batchnorm_layer.*`: 256 bins, or one score |
| DINOv2 depth | `decode_head.conv_depth.*`: patches joined with cls before the final norm, upsampled 4 times |

A BatchNorm is folded into the layer behind it. What a file holds beside its head (a backbone) is not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import EdgeError, unknown_name
from ..base.tasks import HeadFile, Task, Tokens, task_named
from .config import ModelConfig
from .heads import DEPTH_RANGE, Head, Term
from .labels import checked_labels
from .tensor_files import check_plain, finite_floats, listed, read_tensors

if TYPE_CHECKING:
    import torch

HEAD_HINT = (
    "Known heads: a linear probe ('weight' [K, D] and 'bias' [K], also under linear, head, fc or classifier), DINOv2's "
    "and DINOv3's linear classifiers, segmentation and depth heads, and what veca-edge fit writes."
)
BATCH_NORM_EPS = 1e-5
DINOV2_DEPTH_UPSAMPLING = 4
DEPTH_BINS = 256


@dataclass(frozen=True)
class _Layout:
    """Keys of one public layout, below any number of wrappers."""

    task: Task | None
    layer: str
    norm: str | None = None


_LAYOUTS = (
    _Layout(Task.SEGMENT, r"segmentation_model\.1\.conv", r"segmentation_model\.1\.batchnorm_layer"),
    _Layout(Task.SEGMENT, r"decode_head\.conv_seg", r"decode_head\.bn"),
    _Layout(Task.DEPTH, r"decode_head\.conv_depth"),
    _Layout(Task.DEPTH, r"(?:decoder\.)?conv_depth", r"(?:decoder\.)?batchnorm_layer"),
    _Layout(Task.SEGMENT, r"(?:conv_seg|cls_seg)", r"(?:bn|batchnorm_layer)"),
    _Layout(
        Task.CLASSIFY, r"(?:classifiers_dict\.)?(?P<name>classifier_\d+_blocks_avgpool_(?:True|False)_\w+)\.linear"
    ),
    _Layout(None, r"(?:(?:linear|head|fc|classifier|conv)(?=\.|$))?", r"(?:bn|norm|batchnorm_layer|batchnorm)"),
)
# What wraps a head's tensors in public files, and parts of a whole model that are not its head.
_WRAPPERS = ("model", "state_dict", "student", "head", "linear_classifiers", "linear_classifier")
_PREFIXES = re.compile(r"^(?:module\.|student\.|linear_classifiers\.|model\.)+")
_NOT_THE_HEAD = re.compile(r"^(?:backbone|encoder|segmentation_model\.0)\.|num_batches_tracked$")


@dataclass(frozen=True)
class _Found:
    """A head's arrays as a file has them."""

    layout: _Layout
    weight: np.ndarray
    bias: np.ndarray
    name: str
    rank: int


def read_head(file: HeadFile, config: ModelConfig, checkpoint_digest: str | None = None) -> Head:
    """Reads a head for a model of this shape.

    Args:
        checkpoint_digest: sha256 of the model's file; a head that says which it was trained on must say this one.

    Raises:
        EdgeError: the file is not a head in a known layout, or does not fit the model or what was said of it.
    """
    path = file.path
    content = read_tensors(path)
    said = content.get("head_facts", {})
    if not isinstance(said, Mapping):
        raise EdgeError(f"{path}: the metadata 'head_facts' is not a JSON object.", HEAD_HINT)
    trained_on = said.get("checkpoint_sha256")
    if trained_on is not None and checkpoint_digest not in (None, trained_on):
        raise EdgeError(
            f"{path} was trained on the features of another checkpoint ({said.get('checkpoint')!s:.80}).",
            "Give that checkpoint, or fit a head for this one: veca-edge fit",
        )
    found = _found(path, _tensors(path, content), file.name)
    stated = _said_task(path, said) or found.layout.task
    task = file.task or stated or _task_of(found)
    if stated not in (None, task):
        raise EdgeError(
            f"{path} holds a head for {stated}, but {task} was asked for.", f"Give it with --head {stated}={path.name}."
        )
    head = _head_for(path, found, task, config, _depth_range(path, said, task, file))
    head = replace(head, resize=_resize(path, said), core_counts=_core_counts(path, said))
    names = said.get("labels") or content.get("classes")
    if names is None or task == Task.DEPTH:
        return head
    return replace(head, labels=checked_labels(path, names, head.classes))


def plain_classifier(path: Path, value: Any, config: ModelConfig) -> Head:
    """The classifier that a checkpoint itself brings: `weight` and `bias`."""
    if not isinstance(value, Mapping) or not _is_layer(value, ""):
        raise EdgeError(f"{path}: its head lacks the tensors 'weight' and 'bias'.", HEAD_HINT)
    found = _found(path, {key: value[key] for key in ("weight", "bias")}, None)
    return _head_for(path, found, Task.CLASSIFY, config, None)


# ---------------------------------------------------------------------------------------- the file


def _tensors(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a file by their full names, wrappers and prefixes taken off."""
    import torch

    inner: Any = content
    if isinstance(content.get("head"), Mapping):  # a checkpoint that brings its head
        inner = content["head"]
    while True:
        below = [key for key in _WRAPPERS if isinstance(inner.get(key), Mapping)]
        if not below or any(isinstance(v, torch.Tensor) for v in inner.values()):
            break
        inner = inner[below[0]]
    flat: dict[str, Any] = {}
    for key, value in inner.items():
        if isinstance(value, Mapping) and isinstance(key, str):
            flat.update({f"{key}.{k}": v for k, v in value.items() if isinstance(k, str)})
        elif isinstance(key, str):
            flat[key] = value
    tensors = {_PREFIXES.sub("", key): value for key, value in flat.items() if isinstance(value, torch.Tensor)}
    tensors = {key: value for key, value in tensors.items() if not _NOT_THE_HEAD.search(key)}
    if "head.weight" in tensors and "patch_embed.proj.weight" in tensors:  # a checkpoint likewise
        tensors = {key: value for key, value in tensors.items() if key.startswith("head.")}
    if not tensors:
        held = listed([f"'{key}'" for key in content]) or "nothing"
        raise EdgeError(f"{path} holds no head: it has {held}, but no tensors of one.", HEAD_HINT)
    return tensors


def _is_layer(tensors: Mapping[str, Any], prefix: str) -> bool:
    import torch

    return all(isinstance(tensors.get(f"{prefix}{key}"), torch.Tensor) for key in ("weight", "bias"))


def _found(path: Path, tensors: Mapping[str, Any], name: str | None) -> _Found:
    """The one head of a file, with its BatchNorm folded in; every tensor has to be a part of it."""
    for layout in _LAYOUTS:
        matches = {
            prefix: match
            for key in tensors
            if key.endswith("weight")
            and (match := re.fullmatch(layout.layer, prefix := key.removesuffix("weight").removesuffix(".")))
            and (key == "weight" or key == f"{prefix}.weight")
        }
        if not matches:
            continue
        if "name" in next(iter(matches.values())).groupdict():
            prefix, used = _named(path, {m["name"]: p for p, m in matches.items()}, name), set(tensors)
        elif len(matches) > 1:
            raise EdgeError(f"{path} holds several layers: {listed(sorted(matches))}.", HEAD_HINT)
        else:
            (prefix,) = matches
            used = {f"{prefix}.{key}".lstrip(".") for key in ("weight", "bias")}
            if name is not None:
                raise EdgeError(f"{path} holds one head, and it has no name.", f"Leave '#{name}' out.")
        norm = _norm_prefix(tensors, layout)
        used |= {f"{norm}.{key}" for key in _NORM_KEYS} if norm else set()
        if unknown := [f"'{key}'" for key in tensors if key not in used]:
            raise EdgeError(f"{path} holds more than a linear head: {listed(unknown)}.", HEAD_HINT)
        return _folded(path, tensors, layout, prefix, norm)
    shapes = [f"'{key}' {list(value.shape)}" for key, value in tensors.items()]
    raise EdgeError(f"{path} is not a head that is known: it holds {listed(shapes)}.", HEAD_HINT)


def _named(path: Path, prefixes: Mapping[str, str], name: str | None) -> str:
    if name is None and len(prefixes) == 1:
        return next(iter(prefixes.values()))
    if name is None:
        raise EdgeError(
            f"{path} holds {len(prefixes)} classifiers: {listed(sorted(prefixes))}.",
            f"Choose the one that evaluated best: --head {path.name}#{min(prefixes)}",
        )
    if name not in prefixes:
        raise unknown_name("classifier", name, sorted(prefixes))
    return prefixes[name]


_NORM_KEYS = ("weight", "bias", "running_mean", "running_var")


def _norm_prefix(tensors: Mapping[str, Any], layout: _Layout) -> str | None:
    if layout.norm is None:
        return None
    prefixes = {key.removesuffix(".running_var") for key in tensors if key.endswith(".running_var")}
    return next((p for p in sorted(prefixes) if re.fullmatch(layout.norm, p)), None)


def _folded(path: Path, tensors: Mapping[str, Any], layout: _Layout, prefix: str, norm: str | None) -> _Found:
    dot = f"{prefix}." if prefix else ""
    if not _is_layer(tensors, dot):
        raise EdgeError(f"{path}: the head '{prefix}' lacks one of 'weight' and 'bias'.", HEAD_HINT)
    wanted: dict[str, torch.Tensor] = {key: tensors[f"{dot}{key}"] for key in ("weight", "bias")}
    if norm:
        if missing := [key for key in _NORM_KEYS if f"{norm}.{key}" not in tensors]:
            raise EdgeError(f"{path}: its BatchNorm lacks {listed(missing)}.", HEAD_HINT)
        wanted |= {f"norm.{key}": tensors[f"{norm}.{key}"] for key in _NORM_KEYS}
    check_plain(f"The head of {path}", wanted)
    floats = {key: value.numpy() for key, value in finite_floats(f"The head of {path}", wanted).items()}
    weight, bias = floats["weight"], floats["bias"]
    rank = weight.ndim
    if rank not in (2, 4) or weight.shape[2:] not in ((), (1, 1)) or not weight.size or bias.shape != weight.shape[:1]:
        raise EdgeError(f"{path}: the head has weight {list(weight.shape)} and bias {list(bias.shape)}.", HEAD_HINT)
    weight = weight.reshape(weight.shape[:2])
    if norm:
        weight, bias = _without_norm(path, weight, bias, *(floats[f"norm.{key}"] for key in _NORM_KEYS))
    return _Found(layout, weight, bias, prefix, rank)


def _without_norm(
    path: Path,
    weight: np.ndarray,
    bias: np.ndarray,
    gain: np.ndarray,
    shift: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """A BatchNorm in evaluation mode folded into the layer behind it."""
    columns = weight.shape[1]
    if any(a.shape != (columns,) for a in (gain, shift, mean, variance)) or (variance < 0).any():
        raise EdgeError(f"{path}: its BatchNorm does not fit its layer of {columns} inputs.", HEAD_HINT)
    scale = gain.astype(np.float64) / np.sqrt(variance.astype(np.float64) + BATCH_NORM_EPS)
    moved = bias + weight.astype(np.float64) @ (shift - mean * scale)
    return (weight * scale).astype(np.float32), moved.astype(np.float32)


# ---------------------------------------------------------------------------------------- the form


def _said_task(path: Path, said: Mapping[str, Any]) -> Task | None:
    task = said.get("task")
    return None if task is None else task_named(str(task), f"{path}: the task")


def _resize(path: Path, said: Mapping[str, Any]) -> tuple[str, float] | None:
    if "resize" not in said:
        return None
    name, ratio = said["resize"], said.get("crop_ratio", 1.0)
    if not isinstance(name, str) or not isinstance(ratio, int | float) or isinstance(ratio, bool):
        raise EdgeError(f"{path}: 'resize' and 'crop_ratio' say {name!r:.40} and {ratio!r:.40}.", HEAD_HINT)
    return name, float(ratio)


def _core_counts(path: Path, said: Mapping[str, Any]) -> tuple[int, ...]:
    counts = said.get("core_counts", [])
    if not isinstance(counts, list) or not all(type(count) is int for count in counts):
        raise EdgeError(f"{path}: 'core_counts' says {counts!r:.80}.", HEAD_HINT)
    return tuple(counts)


def _task_of(found: _Found) -> Task:
    if found.rank == 4:
        return Task.DEPTH if len(found.bias) == 1 else Task.SEGMENT
    return Task.CLASSIFY


def _depth_range(path: Path, said: Mapping[str, Any], task: Task, file: HeadFile) -> tuple[float, float] | None:
    if task != Task.DEPTH:
        if file.depth_range is not None:
            raise EdgeError(f"--depth-range is for a depth head, and {path} is one for {task}.", "Leave it out.")
        return None
    stated = said.get("depth_range")
    value = stated or file.depth_range or DEPTH_RANGE
    try:
        low, high = (float(v) for v in value)
    except (TypeError, ValueError):
        raise EdgeError(f"{path}: its depth range is {value!r:.80}, not two numbers of metres.", HEAD_HINT) from None
    if stated and file.depth_range not in (None, (low, high)):
        asked = " to ".join(f"{metres:g}" for metres in file.depth_range)
        raise EdgeError(
            f"{path} was trained for {low:g} to {high:g} metres, and --depth-range says {asked}.",
            "Leave out --depth-range: other metres for the same bins would be wrong ones.",
        )
    if not 0 < low < high < 1e5:
        raise EdgeError(
            f"A depth range from {low:g} to {high:g} metres is impossible.", "Give --depth-range MIN,MAX in metres."
        )
    return low, high


def _head_for(path: Path, found: _Found, task: Task, config: ModelConfig, depth_range: Any) -> Head:
    joined = _joined(path, found, task, config)
    width = config.hidden if joined.before_norm else config.output_dim
    terms, start = [], 0
    for block, tokens in joined.groups:
        terms.append(Term(block, tokens, np.ascontiguousarray(found.weight[:, start : start + width])))
        start += width
    upsampling = DINOV2_DEPTH_UPSAMPLING if joined.before_norm else 1
    return Head(task, tuple(terms), found.bias, not joined.before_norm, upsampling, depth_range)


@dataclass(frozen=True)
class _Joined:
    """What the columns of a weight read, in order."""

    groups: list[tuple[int, Tokens]]
    before_norm: bool = False


def _joined(path: Path, found: _Found, task: Task, config: ModelConfig) -> _Joined:
    """Raises `EdgeError` where the columns are not those of this model."""
    columns, classes, last = found.weight.shape[1], len(found.bias), config.layers - 1
    dinov2_depth = task == Task.DEPTH and found.name.startswith("decode_head")
    width = config.hidden if dinov2_depth else config.output_dim
    count, rest = divmod(columns, width)
    if rest or not count:
        raise EdgeError(
            f"{path}: the head takes {columns} features, but the model gives {width} (or a multiple, joined).",
            "Give the head that was trained on this checkpoint's features with --head.",
        )

    def blocks(number: int) -> list[int]:
        if number > config.layers:
            raise EdgeError(
                f"{path}: the head reads the last {number} blocks, but the model has {config.layers}.",
                "Give the head that was trained on this checkpoint's features with --head.",
            )
        return list(range(config.layers - number, config.layers))

    if task == Task.CLASSIFY:
        pooled = count > 1
        if trained := re.search(r"classifier_(\d{1,3})_blocks_avgpool_(True|False)", found.name):
            number, pooled = int(trained[1]), trained[2] == "True"
            if number + pooled != count:
                raise EdgeError(
                    f"{path}: '{trained[0]}' should take {number + pooled} x {width} features, but takes {columns}.",
                    HEAD_HINT,
                )
        groups = [(block, Tokens.CLS) for block in blocks(count - pooled)]
        return _Joined(groups + ([(last, Tokens.MEAN)] if pooled else []))
    if task == Task.SEGMENT:
        if classes < 2:
            raise EdgeError(f"{path}: a segmentation head of one class separates nothing.", HEAD_HINT)
        return _Joined([(block, Tokens.PATCHES) for block in blocks(count)])
    if classes not in (1, DEPTH_BINS) and found.layout.task is None:
        raise EdgeError(
            f"{path}: a depth head has {DEPTH_BINS} bins, or one score in metres, but this one has {classes} scores.",
            HEAD_HINT,
        )
    if dinov2_depth:
        if count % 2:
            raise EdgeError(
                f"{path}: DINOv2's depth head joins each patch with cls, but takes {columns} features.", HEAD_HINT
            )
        number = count // 2
        if number > 1 and (number > config.layers or config.layers % number):
            blocks(number)
            raise EdgeError(
                f"{path}: the head reads {number} blocks at even intervals, and {config.layers} blocks have none.",
                "Give the head that was trained on this checkpoint's features with --head.",
            )
        every = [config.layers * (i + 1) // number - 1 for i in range(number)]
        return _Joined([(b, t) for b in every for t in (Tokens.PATCHES, Tokens.CLS)], before_norm=True)
    return _Joined([(block, Tokens.PATCHES) for block in blocks(count)])
