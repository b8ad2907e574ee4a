"""Reads trained VECA checkpoints, `.pt` and `.safetensors`, and checks every tensor of them.

A checkpoint comes from anywhere, so nothing in it is believed: code is refused, sizes are compared with
what the file holds before anything is allocated, and every fault is one `EdgeError` that names it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import EdgeError
from ..base.files import open_regular
from ..base.progress import Progress, silent
from ..base.tasks import HeadFile, Task
from .checkpoint_config import model_config
from .config import ModelConfig
from .head_files import plain_classifier, read_head
from .heads import Head, classifier
from .labels import checked_labels, with_labels
from .tensor_files import CHECKPOINT_HINT, check_plain, finite_floats, listed, read_tensors

if TYPE_CHECKING:
    import torch

Shapes = dict[str, tuple[int, ...]]
HEAD_KEYS = ("head.weight", "head.bias")
PARTS = {
    "patch_embed": "patch embedding",
    "query_token_chunks": "core bank",
    "qcoord_chunks": "core bank",
    "pos_linears": "core movement",
    "pos_alpha": "core movement",
    "attn": "attention",
    "fc1": "feed-forward",
    "fc2": "feed-forward",
    "output_proj": "output projection",
}


@dataclass(frozen=True)
class Checkpoint:
    """A checked checkpoint: prefixes stripped, float32 tensors under the keys of the format.

    Attributes:
        tensors: exactly the keys that `expected_shapes(config)` names, in memory of their own.
        heads: task heads that the file holds or the user gave, at most one of a task, in the order of `Task`.
        digest: sha256 of the file.
        name: what to call it in messages and bundles.
    """

    config: ModelConfig
    tensors: Mapping[str, torch.Tensor] = field(repr=False)
    digest: str
    name: str
    heads: tuple[Head, ...] = ()

    def __post_init__(self) -> None:
        order = {task: i for i, task in enumerate(Task)}
        object.__setattr__(self, "heads", tuple(sorted(self.heads, key=lambda head: order[head.task])))

    def head_for(self, task: Task) -> Head | None:
        return next((head for head in self.heads if head.task == task), None)

    @property
    def head(self) -> Head | None:
        """The classifier, as version 0.1 called it."""
        warnings.warn("Checkpoint.head is Checkpoint.head_for(Task.CLASSIFY) now.", DeprecationWarning, stacklevel=2)
        return self.head_for(Task.CLASSIFY)

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Class names in the order of `logits`, or None."""
        head = self.head_for(Task.CLASSIFY)
        return head and head.labels

    @property
    def parameters(self) -> int:
        """Learned numbers of the model, without the head."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    @property
    def parameters_by_part(self) -> dict[str, int]:
        """The same, by part of the architecture."""
        parts: dict[str, int] = {}
        for key, tensor in self.tensors.items():
            part = re.sub(r"^blocks\.\d+\.", "blocks.", key).split(".")
            name = PARTS.get(part[1] if part[0] == "blocks" else part[0], "norms")
            parts[name] = parts.get(name, 0) + tensor.numel()
        return parts


def expected_shapes(config: ModelConfig, patch_norm: bool = False, output_proj: bool = False) -> Shapes:
    """Every key of the checkpoint format with its shape."""
    width, chunk = config.hidden, config.chunk_size
    shapes: Shapes = {
        "patch_embed.proj.weight": (width, 3, config.patch_size, config.patch_size),
        "patch_embed.proj.bias": (width,),
    }

    def norm(key: str) -> None:
        shapes[f"{key}.weight"] = shapes[f"{key}.bias"] = (width,)

    def linear(key: str, rows: int, columns: int) -> None:
        shapes[f"{key}.weight"], shapes[f"{key}.bias"] = (rows, columns), (rows,)

    if patch_norm:
        norm("patch_embed.norm")
    for i in range(config.core_bank // chunk):
        shapes[f"query_token_chunks.{i}"] = (1, chunk, width)
        shapes[f"qcoord_chunks.{i}"] = (1, chunk, 2)
    for i in range(config.layers - 1):
        linear(f"pos_linears.{i}", 2, width)
    if config.layers > 1:
        shapes["pos_alpha"] = (config.layers - 1,)
    for i in range(config.layers):
        norm(f"blocks.{i}.norm_attn")
        for name in ("q", "k", "v", "out"):
            linear(f"blocks.{i}.attn.{name}_proj", width, width)
        norm(f"blocks.{i}.norm_ffn")
        linear(f"blocks.{i}.fc1", 2 * config.mlp_hidden, width)
        linear(f"blocks.{i}.fc2", width, config.mlp_hidden)
    norm("final_norm")
    if output_proj:
        linear("output_proj", config.output_dim, width)
    return shapes


def load_checkpoint(
    path: str | Path,
    *,
    heads: int | None = None,
    rope_zero: float | None = None,
    head_files: Sequence[HeadFile] = (),
    labels: str | Path | Mapping[Task | None, Path] | None = None,
    progress: Progress = silent,
    head: str | Path | None = None,
) -> Checkpoint:
    """Loads and validates a checkpoint.

    The weights alone decide every size; the number of heads and the rotary settings come from the
    file's `config`, or, for a bare state dict, from `heads` and `rope_zero` or the released family
    whose sizes match. The file is memory-mapped, so optimizer state in it costs no memory.

    Args:
        heads: number of attention heads, for a file that does not say it.
        rope_zero: share of rotary frequencies that are zero, for a file that does not say it.
        head_files: task heads; a classifier takes the place of the checkpoint's own.
        labels: a file of class names for the one head that lacks them, or files by the task of their head.
        head: as version 0.1 had it, one file; deprecated.

    Raises:
        EdgeError: the file is not a checkpoint, holds code, is truncated, lacks keys, or has wrong
            shapes or values; the message names what is wrong.
    """
    if head is not None:
        warnings.warn("load_checkpoint takes head_files=[HeadFile(path)] now.", DeprecationWarning, stacklevel=2)
        head_files = (*head_files, HeadFile(Path(head)))
    named: Mapping[Task | None, Path] = {}
    if labels is not None:
        named = labels if isinstance(labels, Mapping) else {None: Path(labels)}
    path = Path(path)
    content = read_tensors(path)
    state = _state_dict(path, content)
    config = content.get("config", {})
    if not isinstance(config, Mapping):
        raise EdgeError(f"{path}: 'config' is a {type(config).__name__}, not a dict.", CHECKPOINT_HINT)
    model = model_config(path, state, config, heads, rope_zero)
    shapes = expected_shapes(model, "patch_embed.norm.weight" in state, "output_proj.weight" in state)
    _check_shapes(path, state, shapes)
    tensors = finite_floats(path, {key: state[key] for key in shapes})
    digest = _sha256(path, progress)
    given = [read_head(file, model, digest) for file in head_files]
    task_heads = _task_heads(given, _own_head(path, content, state, model))
    task_heads = with_labels(task_heads, named)
    return Checkpoint(model, tensors, digest, path.stem, task_heads)


def random_checkpoint(config: ModelConfig, *, patch_norm: bool = False, classes: int = 0, seed: int = 0) -> Checkpoint:
    """Random weights of the given shape, for benchmarks and tests: it computes nothing useful.

    Its digest identifies the shape and the seed. With `classes` it has a head and labels.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    tensors = {}
    for key, shape in expected_shapes(config, patch_norm, config.output_dim != config.hidden).items():
        if "norm" in key:
            tensors[key] = 0.1 * normal(*shape) + (1.0 if key.endswith("weight") else 0.0)
        elif key.endswith("weight"):
            tensors[key] = normal(*shape) / math.prod(shape[1:]) ** 0.5
        else:
            tensors[key] = normal(*shape) * (1.0 if "chunks" in key else 0.1)
    digest = hashlib.sha256(f"{config} {patch_norm} {classes} {seed}".encode()).hexdigest()
    heads: tuple[Head, ...] = ()
    if classes:
        weight, bias = (normal(classes, config.output_dim) / config.output_dim**0.5).numpy(), normal(classes).numpy()
        heads = (classifier(weight, bias, config.layers - 1, tuple(f"class {i}" for i in range(classes))),)
    return Checkpoint(config, tensors, digest, f"random_{config.family}", heads)


# ---------------------------------------------------------------------------------------- reading


def save_safetensors(checkpoint: Checkpoint, path: str | Path) -> None:
    """Writes a checkpoint as safetensors, with config, head and labels; `load_checkpoint` reads it back."""
    import torch
    from safetensors.torch import save_file

    config = checkpoint.config
    tensors = {key: tensor.contiguous() for key, tensor in checkpoint.tensors.items()}
    metadata = {
        "config": json.dumps(
            {
                "model_family": config.family,
                "num_heads": config.heads,
                "rope_p_zero_freqs": config.rope_zero_fraction,
                "rope_zero_freqs_from": config.rope_zero_from,
                "nested_chunk_size": config.chunk_size,
            }
        )
    }
    head = checkpoint.head_for(Task.CLASSIFY)
    if head is not None:
        tensors["head.weight"] = torch.from_numpy(head.weight)
        tensors["head.bias"] = torch.from_numpy(head.bias)
    if checkpoint.labels is not None:
        metadata["classes"] = json.dumps(list(checkpoint.labels))
    save_file(tensors, str(path), metadata)


def _state_dict(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """The model's own entries with the prefixes stripped."""
    import torch

    state = content.get("student", content)
    if not isinstance(state, Mapping):
        raise EdgeError(f"{path}: 'student' is a {type(state).__name__}, not a state dict.", CHECKPOINT_HINT)
    stripped: dict[str, Any] = {}
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            continue  # beside the weights of a bare state dict: config, epoch, optimizer
        name = re.sub(r"^(?:module\.|student\.)+", "", key)
        if name in stripped:
            raise EdgeError(
                f"{path} holds '{name}' twice, with and without a prefix.", "Save the state dict of one model."
            )
        stripped[name] = value
    if not stripped:
        held = listed([f"'{key}'" for key in content]) or "nothing"
        raise EdgeError(f"{path} is not a VECA checkpoint: it holds {held}, but no weights.", CHECKPOINT_HINT)
    check_plain(path, stripped)
    return stripped


# --------------------------------------------------------------------------------------- checking


def _check_shapes(path: Path, state: Mapping[str, torch.Tensor], shapes: Shapes) -> None:
    if missing := [f"'{key}'" for key in shapes if key not in state]:
        raise EdgeError(f"{path} lacks {listed(missing)}.", "The file is incomplete, or of another architecture.")
    wrong = [
        f"'{key}' is {list(state[key].shape)} instead of {list(shape)}"
        for key, shape in shapes.items()
        if tuple(state[key].shape) != shape
    ]
    if wrong:
        raise EdgeError(
            f"{path} has wrong shapes: {listed(wrong)}.", "The file is damaged, or of another architecture."
        )
    # A tensor that VECA does not know would change what the model computes, and must not be dropped in silence.
    # (An empty one can't: a model of one layer may bring an empty `pos_alpha`.)
    extra = [key for key in state if key not in shapes and key not in HEAD_KEYS and state[key].numel()]
    if unknown := [f"'{key}'" for key in extra]:
        raise EdgeError(
            f"{path} has tensors that VECA does not know: {listed(unknown)}.",
            "If inference does not need them, save the state dict without them.",
        )


def _own_head(
    path: Path, content: Mapping[str, Any], state: Mapping[str, torch.Tensor], config: ModelConfig
) -> Head | None:
    """The classifier that a checkpoint brings: an entry `head`, or `head.weight` and `head.bias` beside the weights."""
    value = content.get("head", {key[5:]: state[key] for key in HEAD_KEYS if key in state} or None)
    if value is None:
        return None
    head, names = plain_classifier(path, value, config), content.get("classes")
    return head if names is None else replace(head, labels=checked_labels(path, names, head.classes))


def _task_heads(given: Sequence[Head], own: Head | None) -> tuple[Head, ...]:
    """The heads of a model, at most one of a task."""
    tasks = [head.task for head in given]
    if twice := next((task for task in tasks if tasks.count(task) > 1), None):
        raise EdgeError(
            f"Two heads for {twice} were given, but a model has one output for it.",
            "Give one head of a task; export another bundle for the other.",
        )
    return (*given, *((own,) if own is not None and own.task not in tasks else ()))


def _sha256(path: Path, progress: Progress) -> str:
    """In pieces of a MiB, so that progress counts in them."""
    digest, total = hashlib.sha256(), -(-path.stat().st_size // (1 << 20))
    with open_regular(path) as file:
        done = 0
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            done += 1
            progress("hashing the checkpoint", done, max(done, total))
    return digest.hexdigest()
