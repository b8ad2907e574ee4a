"""The inference form in PyTorch: one static graph, ready to trace, to calibrate and to compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base.spec import GraphSpec
from ..base.tasks import Task, Tokens
from .config import NORM_EPS, ModelConfig
from .folding import Block, InferenceWeights, Linear
from .heads import Head, active_heads, bilinear_matrix, depth_form
from .plan import BlockRows, block_rows, graph_constants, watched_block


class FloatLinear(nn.Linear):
    """A linear layer in float32."""

    def __init__(self, layer: Linear):
        super().__init__(layer.weight.shape[1], layer.weight.shape[0], device="meta")
        self.weight = nn.Parameter(torch.from_numpy(layer.weight), requires_grad=False)
        self.bias = nn.Parameter(torch.from_numpy(layer.bias), requires_grad=False)


class QuantizedLinear(nn.Module):
    """A linear layer as INT8 hardware computes it, simulated in float32 (the products are exact integers
    times scales; only the order of summation differs)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: Linear):
        super().__init__()
        q = layer.quantization
        assert q is not None
        self.scale = q.activation_scale
        self.register_buffer("weight", torch.from_numpy(q.codes).float() * torch.from_numpy(q.weight_scale)[:, None])
        self.register_buffer("bias", torch.from_numpy(layer.bias))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.fake_quantize_per_tensor_affine(x, self.scale, 0, -128, 127)
        return F.linear(x, self.weight, self.bias)


def simulated_linear(layer: Linear) -> nn.Module:
    """A layer as it computes on a target: in INT8 where it is quantized."""
    return QuantizedLinear(layer) if layer.quantization else FloatLinear(layer)


class InferenceBlock(nn.Module):
    """One block on the rows it has to compute. No tensor has more than four dimensions."""

    attn_gain: Tensor
    ffn_gain: Tensor
    core_qkv: Tensor | None

    def __init__(
        self,
        block: Block,
        rows: BlockRows,
        heads: int,
        core_count: int,
        core_qkv: Tensor | None,
        make_linear: Callable[[Linear], nn.Module],
    ):
        super().__init__()
        width = len(block.attn_gain)
        self.rows, self.heads, self.core_count, self.width = rows, heads, core_count, width
        self.q = make_linear(block.qkv.rows(0, width, f"{block.qkv.name}.q"))
        self.k = make_linear(block.qkv.rows(width, 2 * width, f"{block.qkv.name}.k"))
        self.v = make_linear(block.qkv.rows(2 * width, 3 * width, f"{block.qkv.name}.v"))
        self.out, self.fc1, self.fc2 = make_linear(block.out), make_linear(block.fc1), make_linear(block.fc2)
        self.position = FloatLinear(block.position) if block.position else None
        self.register_buffer("attn_gain", torch.from_numpy(block.attn_gain))
        self.register_buffer("ffn_gain", torch.from_numpy(block.ffn_gain))
        self.register_buffer("core_qkv", core_qkv)

    def norm(self, x: Tensor, gain: Tensor) -> Tensor:
        return F.layer_norm(x, (self.width,), gain, None, NORM_EPS)

    def split_heads(self, x: Tensor) -> Tensor:
        """`[B, S, D]` to `[B, h, S, d]`."""
        return x.reshape(x.shape[0], x.shape[1], self.heads, self.width // self.heads).transpose(1, 2)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x `[B, C + N, D]`; cos, sin `[B, 1, C + N, d / 2]`; returns the rows that leave the block."""
        return self.leaving_block(x, *self.all_qkv(x, cos, sin))

    def all_qkv(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of the rows that leave, keys and values, `[B, h, S, d]`."""
        if self.core_qkv is not None:
            return self.first_qkv(x, cos, sin, self.core_qkv)
        return self.qkv(x, cos, sin)

    def looks(self, q: Tensor, k: Tensor) -> Tensor:
        """The core tokens' attention on the patches, the mean of cores and heads: `[B, N]`."""
        weights = torch.softmax(q[:, :, : self.rows.core_queries] @ k.transpose(2, 3), dim=-1)
        return weights[..., self.core_count :].mean((1, 2))

    def leaving_block(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        asking = self.rows.core_queries
        parts = []
        if asking:
            parts.append(attention(q[:, :, :asking], k, v))
        if self.rows.patch_queries:
            count = self.core_count
            parts.append(attention(q[:, :, asking:], k[:, :, :count], v[:, :, :count]))
        mixed = torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]
        x = self.leaving(x) + self.out(mixed.transpose(1, 2).reshape(x.shape[0], -1, self.width))
        gate, value = self.fc1(self.norm(x, self.ffn_gain)).chunk(2, dim=-1)
        return x + self.fc2(F.silu(gate) * value)

    def leaving(self, x: Tensor) -> Tensor:
        """The rows of `[B, C + N, ...]` that ask and leave."""
        asking, count = self.rows.core_queries, self.core_count
        if not self.rows.patch_queries:
            return x[:, :asking]
        if asking == count:
            return x
        return torch.cat([x[:, :asking], x[:, count:]], dim=1) if asking else x[:, count:]

    def leaving_table(self, table: Tensor) -> Tensor:
        return self.leaving(table.transpose(1, 2)).transpose(1, 2)

    def qkv(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.norm(x, self.attn_gain)
        q = rotate_halves(self.split_heads(self.q(self.leaving(y))), self.leaving_table(cos), self.leaving_table(sin))
        if not self.rows.patch_keys:
            y, cos, sin = y[:, : self.core_count], cos[:, :, : self.core_count], sin[:, :, : self.core_count]
        k = rotate_halves(self.split_heads(self.k(y)), cos, sin)
        return q, k, self.split_heads(self.v(y))

    def first_qkv(self, x: Tensor, cos: Tensor, sin: Tensor, core_qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Layer 0: the core tokens' rows are constants."""
        count, width = self.core_count, self.width
        y = self.norm(x[:, count:], self.attn_gain)
        cos, sin = cos[:, :, count:], sin[:, :, count:]
        constant = core_qkv.expand(x.shape[0], -1, -1)
        q, k, v = (self.split_heads(constant[..., i * width : (i + 1) * width]) for i in range(3))
        q = q[:, :, : self.rows.core_queries]
        if self.rows.patch_queries:
            q = torch.cat([q, rotate_halves(self.split_heads(self.q(y)), cos, sin)], dim=2)
        if self.rows.patch_keys:
            k = torch.cat([k, rotate_halves(self.split_heads(self.k(y)), cos, sin)], dim=2)
            v = torch.cat([v, self.split_heads(self.v(y))], dim=2)
        return q, k, v


class TaskHead(nn.Module):
    """A task head in the exact form that every target computes; see `heads`."""

    bias: Tensor
    values: Tensor | None
    shifts: Tensor

    def __init__(self, head: Head, spec: GraphSpec, config: ModelConfig):
        super().__init__()
        self.head, self.spec = head, spec
        self.grid = config.grid(*spec.image_size)
        self.weights = nn.ParameterList(
            nn.Parameter(torch.from_numpy(term.weight), requires_grad=False) for term in head.terms
        )
        self.register_buffer("bias", torch.from_numpy(head.bias))
        if head.task == Task.DEPTH:
            form = depth_form(head)
            self.scale = form.scale
            self.register_buffer("values", None if form.values is None else torch.from_numpy(form.values))
            self.register_buffer("shifts", torch.from_numpy(form.shifts))

    def forward(self, tokens: Callable[[int, Tokens, bool], Tensor]) -> dict[str, Tensor]:
        """The head's outputs by name. `tokens(block, kind, normalised)` gives what its terms read."""
        scores = self.bias
        for term, weight in zip(self.head.terms, self.weights, strict=True):
            x = tokens(term.block, term.tokens, self.head.normalised)
            scores = scores + F.linear(x.mean(1, keepdim=True) if term.tokens == Tokens.MEAN else x, weight)
        if self.head.task == Task.CLASSIFY:
            return {"logits": scores[:, 0]}
        scores = scores.reshape(len(scores), *self.grid, self.head.classes)
        if self.head.task == Task.DEPTH:
            return {"depth": self.depth(scores)}
        wanted = {}
        if "segmentation_logits" in self.spec.outputs:
            wanted["segmentation_logits"] = scores.permute(0, 3, 1, 2)
        if "segmentation" in self.spec.outputs:
            wanted["segmentation"] = resized(scores, self.spec.map_size).argmax(-1).to(torch.int32)
        return wanted

    def depth(self, scores: Tensor) -> Tensor:
        """Scores `[B, h, w, K]` to metres `[B, H', W']`."""
        rows, columns = (side * self.head.upsampling for side in self.grid)
        raised = torch.relu(resized(scores, (rows, columns)))
        if self.values is None:
            metres = raised + self.shifts
        else:
            sums = raised @ self.values + self.shifts
            metres = sums[..., :1] / sums[..., 1:] * self.scale
        return resized(metres, self.spec.map_size)[..., 0]


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps `[B, h, w, K]` to other rows and columns, bilinearly, by one matrix product for each side."""
    for axis, target in enumerate(size, 1):
        source = x.shape[axis]
        if source != target:
            matrix = torch.from_numpy(bilinear_matrix(source, target)).to(x.dtype)
            x = (matrix @ x.flatten(2)).unflatten(2, x.shape[2:]) if axis == 1 else matrix @ x
    return x


class InferenceModel(nn.Module):
    """`image` to the outputs of `spec`, in their order.

    Args:
        make_linear: makes the module of a quantizable layer; by default float32, or simulated INT8 where
            the layer carries a quantization. A converter gives its own.
    """

    patch_weight: Tensor
    patch_bias: Tensor
    patch_gain: Tensor | None
    patch_shift: Tensor | None
    patch_cos: Tensor
    patch_sin: Tensor
    cores: Tensor
    core_coordinates: Tensor
    core_cos: Tensor
    core_sin: Tensor
    frequencies: Tensor
    final_gain: Tensor
    final_shift: Tensor

    def __init__(
        self, weights: InferenceWeights, spec: GraphSpec, make_linear: Callable[[Linear], nn.Module] = simulated_linear
    ):
        super().__init__()
        constants = graph_constants(weights, spec)
        config = weights.config
        self.config, self.spec, self.width = config, spec, config.hidden
        for name in ("patch_weight", "patch_bias", "cores", "core_coordinates", "core_cos", "core_sin"):
            self.register_buffer(name, torch.from_numpy(getattr(constants, name)))
        self.register_buffer("patch_cos", torch.from_numpy(constants.patch_cos)[None, None])
        self.register_buffer("patch_sin", torch.from_numpy(constants.patch_sin)[None, None])
        # Infinite periods become frequencies of zero.
        frequencies = torch.from_numpy(2 * torch.pi / weights.periods).float()
        self.register_buffer("frequencies", frequencies)
        norm = weights.patch_norm
        self.register_buffer("patch_gain", torch.from_numpy(norm[0]) if norm else None)
        self.register_buffer("patch_shift", torch.from_numpy(norm[1]) if norm else None)
        core_qkv = torch.from_numpy(constants.core_qkv)
        rows_of_blocks = block_rows(spec, config.layers, weights.heads)
        blocks = [
            InferenceBlock(block, rows, config.heads, spec.core_count, None if i else core_qkv, make_linear)
            for i, (block, rows) in enumerate(zip(weights.blocks, rows_of_blocks, strict=True))
        ]
        self.blocks = nn.ModuleList(blocks)
        self.register_buffer("final_gain", torch.from_numpy(weights.final_gain))
        self.register_buffer("final_shift", torch.from_numpy(weights.final_shift))
        self.output = make_linear(weights.output) if weights.output else None
        self.inner_output = FloatLinear(weights.output) if weights.output else None
        self.heads = nn.ModuleList(TaskHead(head, spec, config) for head in active_heads(weights.heads, spec.outputs))

    def each_block(self) -> Iterator[InferenceBlock]:
        """The blocks in order of execution."""
        for block in self.blocks:
            assert isinstance(block, InferenceBlock)
            yield block

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        batch, count = image.shape[0], self.spec.core_count
        if self.spec.input == "image":
            image = image.permute(0, 3, 1, 2).to(self.patch_weight.dtype)
        patches = self.embed(image)
        x = torch.cat([self.cores[None].expand(batch, -1, -1), patches], dim=1)
        raw = self.core_coordinates[None].expand(batch, -1, -1)
        patch_cos = self.patch_cos.expand(batch, -1, -1, -1)
        patch_sin = self.patch_sin.expand(batch, -1, -1, -1)
        states, watched = [], watched_block(len(self.blocks)) if "attention" in self.spec.outputs else None
        made = {}
        for i, block in enumerate(self.each_block()):
            if block.position is None:
                cos = self.core_cos[None, None].expand(batch, -1, -1, -1)
                sin = self.core_sin[None, None].expand(batch, -1, -1, -1)
            else:
                raw = raw + block.position(x[:, :count])
                cos, sin = self.core_tables(raw)
            q, k, v = block.all_qkv(x, torch.cat([cos, patch_cos], dim=2), torch.cat([sin, patch_sin], dim=2))
            if i == watched:
                made["attention"] = block.looks(q, k).unflatten(1, self.config.grid(*self.spec.image_size))
            x = block.leaving_block(x, q, k, v)
            states.append(x)
        made.update(self.answers(states))
        return tuple(made[name] for name in self.spec.outputs)

    def embed(self, image: Tensor) -> Tensor:
        """Normalised (or raw, for `image` input) pixels `[B, 3, H, W]` to patches `[B, N, D]`."""
        patches = F.conv2d(image, self.patch_weight, self.patch_bias, self.patch_weight.shape[-1])
        patches = patches.flatten(2).transpose(1, 2)
        if self.patch_gain is not None:
            patches = F.layer_norm(patches, (self.width,), self.patch_gain, self.patch_shift, NORM_EPS)
        return patches

    def core_tables(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Raw coordinates `[B, C, 2]` to cos and sin `[B, 1, C, d / 2]`."""
        at = torch.tanh(raw)
        angles = torch.cat([at[..., :1] * self.frequencies, at[..., 1:] * self.frequencies], dim=-1)[:, None]
        return angles.cos(), angles.sin()

    def answers(self, states: list[Tensor]) -> dict[str, Tensor]:
        """The outputs of `spec` that are made of the tokens that left every block, by name."""
        (*_, last) = self.each_block()
        known: dict[tuple[int, bool], Tensor] = {}

        def tokens(block: int, kind: Tokens, normalised: bool = True) -> Tensor:
            """`[B, 1, D]` of the first core token, or `[B, N, D]` of the patches."""
            is_last = block == len(states) - 1
            if (block, normalised) not in known:
                known[block, normalised] = self.final(states[block], is_last) if normalised else states[block]
            x = known[block, normalised]
            first_patch = self.spec.core_count if not is_last else last.rows.core_queries
            return x[:, :1] if kind == Tokens.CLS else x[:, first_patch:]

        made: dict[str, Tensor] = {}
        if "cls" in self.spec.outputs:
            made["cls"] = tokens(len(states) - 1, Tokens.CLS)[:, 0]
        if "dense" in self.spec.outputs:
            made["dense"] = tokens(len(states) - 1, Tokens.PATCHES)
        for head in self.heads:
            made.update(head(tokens))
        return made

    def final(self, x: Tensor, is_last: bool) -> Tensor:
        """The final norm and the output projection; other blocks' tokens did not calibrate it, and keep it float."""
        x = F.layer_norm(x, (self.width,), self.final_gain, self.final_shift, NORM_EPS)
        output = self.output if is_last else self.inner_output
        return x if output is None else output(x)


def rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Half-split rotation of `[B, h, S, d]` by `[B, 1, S, d / 2]` tables."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention `[B, h, S, d]`; 1/sqrt(d) is folded into q."""
    return torch.softmax(q @ k.transpose(2, 3), dim=-1) @ v
