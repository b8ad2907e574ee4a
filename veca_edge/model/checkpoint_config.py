"""The sizes of a model, read off the weights of a checkpoint and what its file says beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base.errors import EdgeError
from .config import FAMILIES, FAMILY_ROPE_ZERO, Family, ModelConfig
from .tensor_files import CHECKPOINT_HINT

if TYPE_CHECKING:
    import torch

_OTHER = "The file is incomplete, or of another architecture."


def model_config(
    path: Path, state: Mapping[str, torch.Tensor], config: Mapping[str, Any], heads: int | None, rope_zero: float | None
) -> ModelConfig:
    """The configuration of a checkpoint.

    Args:
        state: the weights, which decide every size.
        config: what the file says of the rest; it may be empty.
        heads, rope_zero: instead of what it says.

    Raises:
        EdgeError: the weights are not VECA's, or contradict one another or `config`; heads or rotary settings are
            said nowhere, and the sizes are of no released family.
    """
    read = _Reader(path, state, config)
    hidden, _, patch_size, _ = read.shape("patch_embed.proj.weight", 4)
    _, chunk_size, _ = read.shape("query_token_chunks.0", 3)
    mlp_hidden = read.shape("blocks.0.fc1.weight", 2)[0] // 2
    layers, chunks = read.count("blocks"), read.count("query_token_chunks")
    output_dim = read.shape("output_proj.weight", 2)[0] if "output_proj.weight" in state else hidden
    said = read.number("nested_chunk_size", read.number("matryoshka_chunk_size", chunk_size))
    if said != chunk_size:
        raise EdgeError(f"{path}: the config says chunks of {said} cores, but the tensors hold {chunk_size}.", _OTHER)
    sizes = layers, hidden, mlp_hidden
    family = next((f for f in FAMILIES.values() if (f.layers, f.hidden, int(f.hidden * f.mlp_ratio)) == sizes), None)
    if heads is None:
        heads = read.head_count(family, f"({layers} layers, width {hidden})")
    if rope_zero is None:
        rope_zero = read.zero_share(family, f"({layers} layers, width {hidden})")
    try:
        return ModelConfig(
            hidden,
            heads,
            layers,
            mlp_hidden,
            patch_size,
            chunks * chunk_size,
            chunk_size,
            output_dim,
            float(rope_zero),
            str(config.get("rope_zero_freqs_from", "low")),
            str(config.get("model_family") or (family.name if family else "custom")),
        )
    except EdgeError as error:
        raise EdgeError(f"{path}: {error.message}", error.hint) from error


@dataclass(frozen=True)
class _Reader:
    """Finds what a checkpoint says; everything raises `EdgeError` for what can't be."""

    path: Path
    state: Mapping[str, torch.Tensor]
    config: Mapping[str, Any]

    def shape(self, key: str, rank: int) -> tuple[int, ...]:
        """Of a tensor that has to be there, with so many dimensions."""
        if key not in self.state:
            raise EdgeError(f"{self.path} is not a VECA checkpoint: it lacks '{key}'.", CHECKPOINT_HINT)
        shape = tuple(self.state[key].shape)
        if len(shape) != rank:
            raise EdgeError(f"{self.path}: '{key}' should have {rank} dimensions, but is {list(shape)}.", _OTHER)
        return shape

    def count(self, prefix: str) -> int:
        """How many parts `PREFIX.0`, `PREFIX.1`, ... there are."""
        found = {int(m[1]) for m in (re.match(rf"{prefix}\.([0-9]{{1,4}})(?:\.|$)", key) for key in self.state) if m}
        if missing := set(range(len(found))) - found:
            raise EdgeError(f"{self.path} lacks '{prefix}.{min(missing)}', but has '{prefix}.{max(found)}'.", _OTHER)
        return len(found)

    def number(self, key: str, default: float | None) -> float | None:
        """Of the config."""
        value = self.config.get(key, default)
        if value is not None and not (type(value) in (int, float) and abs(value) < 1e9):
            raise EdgeError(f"{self.path}: the config's '{key}' is {value!r:.80}, not a number.", _OTHER)
        return value

    def head_count(self, family: Family | None, sizes: str) -> int:
        found = self.number("num_heads", family and family.heads)
        if found is None:
            raise EdgeError(
                f"{self.path} does not say its number of attention heads, and is of no released family {sizes}.",
                "Give it with --heads N.",
            )
        if found % 1:
            raise EdgeError(f"{self.path}: {found} is not a number of attention heads.", "Give it with --heads N.")
        return int(found)

    def zero_share(self, family: Family | None, sizes: str) -> float:
        found = self.number("rope_p_zero_freqs", FAMILY_ROPE_ZERO if family else None)
        if found is None:
            raise EdgeError(
                f"{self.path} does not say which share of its rotary frequencies is zero, and is of no released family "
                f"{sizes}.",
                "Give it with --rope-zero (the training setting rope_p_zero_freqs; 0 if there was none).",
            )
        return found
