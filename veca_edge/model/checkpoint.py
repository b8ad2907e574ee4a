"""Reads trained VECA checkpoints, `.pt` and `.safetensors`, and checks every tensor of them.

A checkpoint comes from anywhere, so nothing in it is believed: code is refused, sizes are compared with
what the file holds before anything is allocated, and every fault is one `EdgeError` that names it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import EdgeError, MissingDependency
from ..base.files import check_name, open_regular, read_limited
from ..base.json_files import parse_json
from ..base.progress import Progress, silent
from .config import FAMILIES, FAMILY_ROPE_ZERO, ModelConfig

if TYPE_CHECKING:
    import numpy as np
    import torch

Shapes = dict[str, tuple[int, ...]]
CHECKPOINT_HINT = "A VECA checkpoint is a dict with 'student' and 'config', or a bare state dict."
STATE_DICT_HINT = "Save the state dict alone: torch.save({'student': model.state_dict(), 'config': {...}}, path)."
NO_CHECKPOINT_HINT = "Give a file written by torch.save or safetensors; if it is one, copy or download it again."
DAMAGED_HINT = "Copy or download the file again."
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
HEAD_KEYS = ("head.weight", "head.bias")
LABELS_HINT = "Give a --labels file with one name a line, or a JSON list, in the order of the head's rows."
MAX_LABELS_BYTES = 16 << 20
HEAD_HINT = "A head is a dict with 'weight' [K, D] and 'bias' [K]."


@dataclass(frozen=True)
class Head:
    """A linear classifier on `cls`: float32 `weight` `[K, D_out]`, `bias` `[K]`."""

    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Checkpoint:
    """A checked checkpoint: prefixes stripped, float32 tensors under the keys of the format.

    Attributes:
        tensors: exactly the keys that `expected_shapes(config)` names, in memory of their own.
        head: the classifier on `cls`, if the file holds one or the user gave one.
        labels: class names, in the order of the head's rows.
        digest: sha256 of the file.
        name: what to call it in messages and bundles.
    """

    config: ModelConfig
    tensors: Mapping[str, torch.Tensor] = field(repr=False)
    digest: str
    name: str
    head: Head | None = None
    labels: tuple[str, ...] | None = None

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
    head: str | Path | None = None,
    labels: str | Path | None = None,
    progress: Progress = silent,
) -> Checkpoint:
    """Loads and validates a checkpoint.

    The weights alone decide every size; the number of heads and the rotary settings come from the
    file's `config`, or, for a bare state dict, from `heads` and `rope_zero` or the released family
    whose sizes match. The file is memory-mapped, so optimizer state in it costs no memory.

    Args:
        heads: number of attention heads, for a file that does not say it.
        rope_zero: share of rotary frequencies that are zero, for a file that does not say it.
        head: a file with a linear classifier on `cls`; it takes the place of the checkpoint's own.
        labels: a file of class names, one a line, or a JSON list.

    Raises:
        EdgeError: the file is not a checkpoint, holds code, is truncated, lacks keys, or has wrong
            shapes or values; the message names what is wrong.
    """
    path = Path(path)
    content = _read(path)
    state = _state_dict(path, content)
    config = content.get("config", {})
    if not isinstance(config, Mapping):
        raise EdgeError(f"{path}: 'config' is a {type(config).__name__}, not a dict.", CHECKPOINT_HINT)
    model = _model_config(path, state, config, heads, rope_zero)
    shapes = expected_shapes(model, "patch_embed.norm.weight" in state, "output_proj.weight" in state)
    _check_shapes(path, state, shapes)
    tensors = _finite_floats(path, {key: state[key] for key in shapes})
    classifier = _head_of(path, content, state) if head is None else _load_head(Path(head))
    if classifier is not None and classifier.weight.shape[1] != model.output_dim:
        raise EdgeError(
            f"{head or path}: the head takes {classifier.weight.shape[1]} features, "
            f"but the model gives {model.output_dim}.",
            "Give the head that was trained on this checkpoint's cls output with --head.",
        )
    if labels is not None and classifier is None:
        raise EdgeError(
            "Labels were given, but there is no classifier head that they could name.",
            "Give the head with --head FILE.",
        )
    found = content.get("classes") if labels is None else _load_labels(Path(labels))
    names = None
    if found is not None and classifier is not None:
        names = _checked_labels(labels or path, found, classifier)
    return Checkpoint(model, tensors, _sha256(path, progress), path.stem, classifier, names)


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
    head = labels = None
    if classes:
        head = Head((normal(classes, config.output_dim) / config.output_dim**0.5).numpy(), normal(classes).numpy())
        labels = tuple(f"class {i}" for i in range(classes))
    return Checkpoint(config, tensors, digest, f"random_{config.family}", head, labels)


# ---------------------------------------------------------------------------------------- reading


def _read(path: Path) -> Mapping[str, Any]:
    try:
        if path.is_dir():
            raise EdgeError(f"{path} is a directory, not a checkpoint file.", "Give the .pt or .safetensors file.")
        if not path.is_file():
            raise EdgeError(f"There is no file {path}.", "Give the path of a .pt or .safetensors checkpoint.")
        with open_regular(path) as file:
            start = file.read(4)
    except OSError as error:
        raise EdgeError(f"{path} can't be read: {error.strerror}.") from error
    if not start:
        raise EdgeError(f"{path} is empty.", DAMAGED_HINT)
    check_name(path)
    for package in ("torch", "safetensors"):
        if find_spec(package) is None:
            raise MissingDependency(package, "export", "Reading a checkpoint")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path, start)
    if not isinstance(content, Mapping):
        raise EdgeError(f"{path} holds a {type(content).__name__}, not a checkpoint.", CHECKPOINT_HINT)
    return content


def _read_torch(path: Path, start: bytes) -> Any:
    import pickle
    import warnings
    import zipfile

    import torch

    mappable = False
    if start == b"PK\3\4":
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
        except Exception as error:
            raise EdgeError(
                f"{path} is truncated or damaged: the directory at the end of the archive can't be read.", DAMAGED_HINT
            ) from error
        if any(entry.filename.endswith("/constants.pkl") for entry in entries):
            raise EdgeError(f"{path} is a TorchScript archive: it holds code, and was not run.", STATE_DICT_HINT)
        mappable = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about deprecated ways of writing files, which this user did not choose
            # Mapped, so that optimizer state is never read; a compressed archive can't be.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mappable)
    except pickle.UnpicklingError as error:
        if code := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise EdgeError(
                f"{path} is a pickle that asks to load code ({code[1]}); it was refused, nothing of it was run.",
                STATE_DICT_HINT,
            ) from error
        if start[:1] == b"\x80" and start != b"\x80\2\x8a\n":  # a pickle, but not with torch's magic number
            raise EdgeError(
                f"{path} is a pickle that torch.save did not write; it was refused, nothing of it was run.",
                STATE_DICT_HINT,
            ) from error
        raise EdgeError(
            f"{path} is not a checkpoint: torch.save did not write it, or it is damaged.", NO_CHECKPOINT_HINT
        ) from error
    except Exception as error:  # a damaged file makes the reader fail in every way there is
        raise EdgeError(
            f"{path} is not a checkpoint, or is truncated or damaged: torch can't read it.", NO_CHECKPOINT_HINT
        ) from error


def _read_safetensors(path: Path) -> dict[str, Any]:
    """A safetensors checkpoint: tensors under their own keys, and JSON metadata `config` and `classes`."""
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            content: dict[str, Any] = {"student": {key: file.get_tensor(key) for key in file.keys()}}  # noqa: SIM118
    except Exception as error:  # as for torch files
        raise EdgeError(
            f"{path} is not a safetensors file, or is truncated or damaged: {_first_line(error)[:120]}.", DAMAGED_HINT
        ) from error
    for key in ("config", "classes"):
        if key in metadata:
            try:
                content[key] = parse_json(metadata[key])
            except ValueError as error:
                raise EdgeError(f"{path}: the metadata '{key}' is not JSON.") from error
    return content


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
    if checkpoint.head is not None:
        tensors["head.weight"] = torch.from_numpy(checkpoint.head.weight)
        tensors["head.bias"] = torch.from_numpy(checkpoint.head.bias)
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
        held = _listed([f"'{key}'" for key in content]) or "nothing"
        raise EdgeError(f"{path} is not a VECA checkpoint: it holds {held}, but no weights.", CHECKPOINT_HINT)
    _check_plain(path, stripped)
    return stripped


# --------------------------------------------------------------------------------------- checking


def _model_config(
    path: Path, state: Mapping[str, torch.Tensor], config: Mapping[str, Any], heads: int | None, rope_zero: float | None
) -> ModelConfig:
    def shape(key: str, rank: int) -> tuple[int, ...]:
        if key not in state:
            raise EdgeError(f"{path} is not a VECA checkpoint: it lacks '{key}'.", CHECKPOINT_HINT)
        if state[key].dim() != rank:
            raise EdgeError(f"{path}: '{key}' should have {rank} dimensions, but is {list(state[key].shape)}.")
        return tuple(state[key].shape)

    def count(prefix: str) -> int:
        found = {int(m[1]) for m in (re.match(rf"{prefix}\.([0-9]{{1,4}})(?:\.|$)", key) for key in state) if m}
        if missing := set(range(len(found))) - found:
            raise EdgeError(
                f"{path} lacks '{prefix}.{min(missing)}', but has '{prefix}.{max(found)}'.",
                "The file is incomplete, or of another architecture.",
            )
        return len(found)

    def number(key: str, default: float | None) -> float | None:
        value = config.get(key, default)
        if value is not None and not (type(value) in (int, float) and abs(value) < 1e9):
            raise EdgeError(f"{path}: the config's '{key}' is {value!r:.80}, not a number.")
        return value

    hidden, _, patch_size, _ = shape("patch_embed.proj.weight", 4)
    _, chunk_size, _ = shape("query_token_chunks.0", 3)
    mlp_hidden = shape("blocks.0.fc1.weight", 2)[0] // 2
    layers, chunks = count("blocks"), count("query_token_chunks")
    output_dim = shape("output_proj.weight", 2)[0] if "output_proj.weight" in state else hidden
    said = number("nested_chunk_size", number("matryoshka_chunk_size", chunk_size))
    if said != chunk_size:
        raise EdgeError(f"{path}: the config says chunks of {said} cores, but the tensors hold {chunk_size}.")

    family = next(
        (
            f
            for f in FAMILIES.values()
            if (f.layers, f.hidden, int(f.hidden * f.mlp_ratio)) == (layers, hidden, mlp_hidden)
        ),
        None,
    )
    head_count = heads if heads is not None else number("num_heads", family and family.heads)
    if head_count is None:
        raise EdgeError(
            f"{path} does not say its number of attention heads, and is of no released family "
            f"({layers} layers, width {hidden}).",
            "Give it with --heads N.",
        )
    if head_count % 1:
        raise EdgeError(f"{path}: {head_count} is not a number of attention heads.", "Give it with --heads N.")
    zero = rope_zero if rope_zero is not None else number("rope_p_zero_freqs", FAMILY_ROPE_ZERO if family else None)
    if zero is None:
        raise EdgeError(
            f"{path} does not say which share of its rotary frequencies is zero, and is of no released family "
            f"({layers} layers, width {hidden}).",
            "Give it with --rope-zero (the training setting rope_p_zero_freqs; 0 if there was none).",
        )
    name = str(config.get("model_family") or (family.name if family else "custom"))
    try:
        return ModelConfig(
            hidden,
            int(head_count),
            layers,
            mlp_hidden,
            patch_size,
            chunks * chunk_size,
            chunk_size,
            output_dim,
            float(zero),
            str(config.get("rope_zero_freqs_from", "low")),
            name,
        )
    except EdgeError as error:
        raise EdgeError(f"{path}: {error.message}", error.hint) from error


def _check_shapes(path: Path, state: Mapping[str, torch.Tensor], shapes: Shapes) -> None:
    if missing := [f"'{key}'" for key in shapes if key not in state]:
        raise EdgeError(f"{path} lacks {_listed(missing)}.", "The file is incomplete, or of another architecture.")
    wrong = [
        f"'{key}' is {list(state[key].shape)} instead of {list(shape)}"
        for key, shape in shapes.items()
        if tuple(state[key].shape) != shape
    ]
    if wrong:
        raise EdgeError(
            f"{path} has wrong shapes: {_listed(wrong)}.", "The file is damaged, or of another architecture."
        )
    # A tensor that VECA does not know would change what the model computes, and must not be dropped in silence.
    # (An empty one can't: a model of one layer may bring an empty `pos_alpha`.)
    extra = [key for key in state if key not in shapes and key not in HEAD_KEYS and state[key].numel()]
    if unknown := [f"'{key}'" for key in extra]:
        raise EdgeError(
            f"{path} has tensors that VECA does not know: {_listed(unknown)}.",
            "If inference does not need them, save the state dict without them.",
        )


def _check_plain(path: Path | str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Every element must be a real number that the file holds: none sparse, none one number repeated without end."""
    import torch

    def plain(value: torch.Tensor) -> bool:
        return (
            not value.is_nested
            and value.layout == torch.strided
            and value.device.type == "cpu"
            and value.is_floating_point()
            and value.untyped_storage().nbytes() >= value.numel() * value.element_size()
        )

    if odd := [f"'{key}' ({value.dtype})" for key, value in tensors.items() if not plain(value)]:
        raise EdgeError(
            f"{path} has tensors that are not dense floating point numbers: {_listed(odd)}.",
            "Save the float weights; quantization is this tool's work.",
        )


def _finite_floats(path: Path | str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """float32 copies: the file may be overwritten by a training that still runs, and would take a mapping with it."""
    import torch

    floats = {
        key: value.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        for key, value in tensors.items()
    }
    if bad := [f"'{key}'" for key, value in floats.items() if not torch.isfinite(value).all()]:
        raise EdgeError(f"{path} has NaN or Inf in {_listed(bad)}.", "The training diverged, or the file is damaged.")
    return floats


def _head_of(path: Path, content: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> Head | None:
    """The head that a checkpoint brings: an entry of its own, or `head.weight` and `head.bias` beside the weights."""
    value = content.get("head", {key[5:]: state[key] for key in HEAD_KEYS if key in state} or None)
    return None if value is None else _head_from(path, value)


def _load_head(path: Path) -> Head:
    content = _read(path)
    content = content.get("head", content.get("student", content))
    if isinstance(content, Mapping) and "head.weight" in content:
        content = {key[5:]: content[key] for key in HEAD_KEYS if key in content}
    return _head_from(path, content)


def _head_from(path: Path, value: Any) -> Head:
    import torch

    if not isinstance(value, Mapping) or not all(isinstance(value.get(k), torch.Tensor) for k in ("weight", "bias")):
        raise EdgeError(f"{path}: its head lacks the tensors 'weight' and 'bias'.", HEAD_HINT)
    weight, bias = value["weight"], value["bias"]
    _check_plain(f"The head of {path}", {"weight": weight, "bias": bias})
    if weight.dim() != 2 or not weight.numel() or bias.shape != weight.shape[:1]:
        raise EdgeError(f"{path}: the head has weight {list(weight.shape)} and bias {list(bias.shape)}.", HEAD_HINT)
    floats = _finite_floats(f"The head of {path}", {"weight": weight, "bias": bias})
    return Head(floats["weight"].numpy(), floats["bias"].numpy())


def _load_labels(path: Path) -> Any:
    try:
        content = read_limited(path, MAX_LABELS_BYTES)
        if path.suffix == ".json":
            return parse_json(content)
        text = content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise EdgeError(f"The labels file {path} can't be read: {_first_line(error)}.", LABELS_HINT) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _checked_labels(path: Path | str, names: Any, head: Head) -> tuple[str, ...]:
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise EdgeError(f"{path}: the class names are not a list of names.", LABELS_HINT)
    if len(names) != len(head.bias):
        raise EdgeError(f"{path} has {len(names)} labels for a head of {len(head.bias)} classes.", LABELS_HINT)
    return tuple(names)


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


def _listed(items: list[str], most: int = 6) -> str:
    more = f", and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
