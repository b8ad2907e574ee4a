"""VECA as the paper writes it: the numerical reference that every artifact is compared with.

arXiv 2605.12491. It judges the inference form, and so shares no code with it, the rotary embedding included.
B images, C active cores, N patches, width D, h heads of width d, C + N tokens with the cores first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base.spec import MAP_STRIDE
from ..base.tasks import Task, Tokens
from .checkpoint import Checkpoint
from .config import NORM_EPS, ROPE_BASE, ModelConfig
from .heads import Head, Term


class CorePeripheryAttention(nn.Module):
    """Cores attend to cores and patches; patches attend to the cores only."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.heads = config.heads
        self.q_proj = nn.Linear(config.hidden, config.hidden)
        self.k_proj = nn.Linear(config.hidden, config.hidden)
        self.v_proj = nn.Linear(config.hidden, config.hidden)
        self.out_proj = nn.Linear(config.hidden, config.hidden)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, core_count: int) -> Tensor:
        """x `[B, C + N, D]`; cos, sin `[B, 1, C + N, d / 2]`."""

        def heads(t: Tensor) -> Tensor:
            return t.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q = rotate_pairs(heads(self.q_proj(x)), cos, sin)
        k = rotate_pairs(heads(self.k_proj(x)), cos, sin)
        v = heads(self.v_proj(x))
        cores = F.scaled_dot_product_attention(q[:, :, :core_count], k, v)
        patches = F.scaled_dot_product_attention(q[:, :, core_count:], k[:, :, :core_count], v[:, :, :core_count])
        return self.out_proj(torch.cat([cores, patches], dim=2).transpose(1, 2).flatten(2))

    def core_weights(self, x: Tensor, cos: Tensor, sin: Tensor, core_count: int) -> Tensor:
        """How the core tokens share their attention among all tokens: `[B, h, C, C + N]`; each row's sum is 1."""
        q, k = (p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj))
        q, k = rotate_pairs(q, cos, sin)[:, :, :core_count], rotate_pairs(k, cos, sin)
        return torch.softmax(q @ k.transpose(2, 3) / q.shape[-1] ** 0.5, dim=-1)


class ReferenceBlock(nn.Module):
    """Pre-norm attention and a SwiGLU feed-forward."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.norm_attn = nn.LayerNorm(config.hidden, eps=NORM_EPS)
        self.attn = CorePeripheryAttention(config)
        self.norm_ffn = nn.LayerNorm(config.hidden, eps=NORM_EPS)
        self.fc1 = nn.Linear(config.hidden, 2 * config.mlp_hidden)
        self.fc2 = nn.Linear(config.mlp_hidden, config.hidden)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, core_count: int) -> Tensor:
        x = x + self.attn(self.norm_attn(x), cos, sin, core_count)
        gate, value = self.fc1(self.norm_ffn(x)).chunk(2, dim=-1)
        return x + self.fc2(F.silu(gate) * value)


class PatchEmbed(nn.Module):
    def __init__(self, config: ModelConfig, norm: bool):
        super().__init__()
        self.proj = nn.Conv2d(3, config.hidden, config.patch_size, config.patch_size)
        self.norm = nn.LayerNorm(config.hidden, eps=NORM_EPS) if norm else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.proj(image).flatten(2).transpose(1, 2))


class Veca(nn.Module):
    """The whole model. Its parameters carry the names of the checkpoint format."""

    periods: Tensor

    def __init__(self, config: ModelConfig, patch_norm: bool = False, output_proj: bool = False):
        super().__init__()
        self.config = config
        chunks = config.core_bank // config.chunk_size
        self.patch_embed = PatchEmbed(config, patch_norm)
        self.query_token_chunks = nn.ParameterList(
            torch.zeros(1, config.chunk_size, config.hidden) for _ in range(chunks)
        )
        self.qcoord_chunks = nn.ParameterList(torch.zeros(1, config.chunk_size, 2) for _ in range(chunks))
        self.pos_linears = nn.ModuleList(nn.Linear(config.hidden, 2) for _ in range(config.layers - 1))
        if config.layers > 1:
            self.pos_alpha = nn.Parameter(torch.zeros(config.layers - 1))
        self.blocks = nn.ModuleList(ReferenceBlock(config) for _ in range(config.layers))
        self.final_norm = nn.LayerNorm(config.hidden, eps=NORM_EPS)
        self.output_proj = nn.Linear(config.hidden, config.output_dim) if output_proj else nn.Identity()
        self.register_buffer("periods", periods_of(config).float(), persistent=False)

    def forward(self, image: Tensor, core_count: int) -> tuple[Tensor, Tensor]:
        """Runs the model with the first `core_count` cores of the bank.

        Args:
            image: float32 `[B, 3, H, W]`, normalised with the ImageNet mean and std.

        Returns:
            `cls` `[B, D_out]` (core token 0) and `dense` `[B, N, D_out]` (the patches, row by row).
        """
        x = self.final(self.tokens(image, core_count)[-1])
        return x[:, 0], x[:, core_count:]

    def each_block(self) -> Iterator[ReferenceBlock]:
        """The blocks in order of execution."""
        for block in self.blocks:
            assert isinstance(block, ReferenceBlock)
            yield block

    def final(self, x: Tensor) -> Tensor:
        """The final norm and the output projection."""
        return self.output_proj(self.final_norm(x))

    def tokens(self, image: Tensor, core_count: int) -> list[Tensor]:
        """The core tokens and patches `[B, C + N, D]` as they leave every block."""
        self.config.check_core_count(core_count)
        rows, columns = self.config.grid(*image.shape[-2:])
        batch = len(image)
        cores = torch.cat(list(self.query_token_chunks), dim=1)[:, :core_count].expand(batch, -1, -1)
        raw = torch.cat(list(self.qcoord_chunks), dim=1)[:, :core_count].expand(batch, -1, -1)
        patches_at = patch_centres(rows, columns).to(raw.dtype).expand(batch, -1, -1)
        x = torch.cat([cores, self.patch_embed(image)], dim=1)
        states = []
        for i, block in enumerate(self.each_block()):
            if i:
                raw = raw + self.pos_alpha[i - 1] * self.pos_linears[i - 1](x[:, :core_count])
            cos, sin = self.rotary(torch.cat([torch.tanh(raw), patches_at], dim=1))
            x = block(x, cos, sin, core_count)
            states.append(x)
        return states

    def rotary(self, coordinates: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin `[B, 1, S, d / 2]` of coordinates `[B, S, 2]`: the angles of x, then of y."""
        angles = (2 * torch.pi * coordinates[..., None] / self.periods).flatten(2)[:, None]
        return angles.cos(), angles.sin()


def periods_of(config: ModelConfig) -> Tensor:
    """Rotary periods, float64 `[d / 4]`: 100 ** (2k / (d / 2)), and infinite for the frequencies that are zero."""
    count = config.head_dim // 4
    zeros = round(config.rope_zero_fraction * count)
    first_zero = 0 if config.rope_zero_from == "high" else count - zeros
    periods = [ROPE_BASE ** (4.0 * k / config.head_dim) for k in range(count)]
    periods[first_zero : first_zero + zeros] = [math.inf] * zeros
    return torch.tensor(periods, dtype=torch.float64)


def patch_centres(rows: int, columns: int) -> Tensor:
    """Where the patches sit, float64 `[rows * columns, 2]` as (x, y) in (-1, 1), row by row."""
    at = [
        (2.0 * (column + 0.5) / columns - 1.0, 2.0 * (row + 0.5) / rows - 1.0)
        for row in range(rows)
        for column in range(columns)
    ]
    return torch.tensor(at, dtype=torch.float64)


def rotate_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates neighbouring channels (2k, 2k + 1) of `[B, h, S, d]` by angle k."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)


def reference_model(checkpoint: Checkpoint) -> Veca:
    """The reference with a checkpoint's weights, in evaluation mode, without gradients."""
    tensors = checkpoint.tensors
    with torch.device("meta"):
        model = Veca(checkpoint.config, "patch_embed.norm.weight" in tensors, "output_proj.weight" in tensors)
    model.load_state_dict(dict(tensors), assign=True)
    model.periods = periods_of(checkpoint.config).float()
    return model.eval().requires_grad_(False)


def reference_outputs(
    model: Veca, checkpoint: Checkpoint, image: Tensor, core_count: int, map_stride: int = MAP_STRIDE
) -> dict[str, Tensor]:
    """`cls`, `dense`, `attention`, and what the checkpoint's heads answer (see `head_outputs`).

    `attention` `[B, h, w]` is how much of their attention the core tokens give each patch in the last block but one
    (the last one moves patches by cores that nobody reads but the first), the mean of cores and heads.
    """
    grid = model.config.grid(*image.shape[-2:])
    seen: list[tuple[Tensor, ...]] = []
    hooks = [b.attn.register_forward_pre_hook(lambda _, entering: seen.append(entering)) for b in model.each_block()]
    with torch.inference_mode():
        states = model.tokens(image, core_count)
        for hook in hooks:
            hook.remove()
        x = model.final(states[-1])
        outputs = {"cls": x[:, 0], "dense": x[:, core_count:]}
        if len(seen) > 1:
            (*_, watched, _) = model.each_block()
            x_in, cos, sin, _ = seen[-2]
            weights = watched.attn.core_weights(x_in, cos, sin, core_count)
            outputs["attention"] = weights[..., core_count:].mean((1, 2)).unflatten(1, grid)
        size = image.shape[-2] // map_stride, image.shape[-1] // map_stride
        for head in checkpoint.heads:
            read = {block: model.final(states[block]) if head.normalised else states[block] for block in head.blocks}
            outputs.update(head_outputs(head, read, core_count, grid, size))
    return outputs


def head_outputs(
    head: Head, states: Mapping[int, Tensor], core_count: int, grid: tuple[int, int], size: tuple[int, int]
) -> dict[str, Tensor]:
    """What a head says, as its public code computes it.

    DINOv2 and DINOv3 (`eval/linear.py`, `eval/segmentation`, `eval/depth`): a linear layer on joined features; labels
    by bilinear logits, without aligned corners, and argmax; depth by linear bins with linear normalisation.

    Args:
        states: tokens `[B, C + N, D]` by block, normalised where the head reads them so.
        grid: rows and columns of the patches; `size`: of the maps.

    Returns:
        `logits` `[B, K]`; or `segmentation_logits` `[B, K, *grid]` and `segmentation` int64 `[B, *size]`; or `depth`
        `[B, *size]` in metres.
    """

    def read(term: Term) -> Tensor:
        patches = states[term.block][:, core_count:]
        if term.tokens == Tokens.MEAN:
            return patches.mean(1)
        cls = states[term.block][:, 0]
        if term.tokens == Tokens.CLS:
            return cls if head.task == Task.CLASSIFY else cls[:, None].expand_as(patches)
        return patches

    joined = torch.cat([read(term) for term in head.terms], dim=-1)
    weight = torch.from_numpy(head.weight)
    bias = torch.from_numpy(head.bias)
    if head.task == Task.CLASSIFY:
        return {"logits": F.linear(joined, weight, bias)}
    features = joined.transpose(1, 2).unflatten(2, grid)
    if head.upsampling > 1:
        features = F.interpolate(features, scale_factor=head.upsampling, mode="bilinear", align_corners=False)
    scores = F.conv2d(features, weight[:, :, None, None], bias)
    if head.task == Task.SEGMENT:
        large = F.interpolate(scores, size, mode="bilinear", align_corners=False)
        return {"segmentation_logits": scores, "segmentation": large.argmax(1)}
    assert head.depth_range is not None
    low, high = head.depth_range
    if head.classes == 1:
        depth = torch.relu(scores) + low
    else:
        shares = torch.relu(scores) + 0.1
        shares = shares / shares.sum(1, keepdim=True)
        depth = torch.einsum("bkhw,k->bhw", shares, torch.linspace(low, high, head.classes))[:, None]
    return {"depth": F.interpolate(depth, size, mode="bilinear", align_corners=False)[:, 0]}
