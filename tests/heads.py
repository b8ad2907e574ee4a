"""Head files in every public layout, made from their keys and shapes, and their published mathematics in plain PyTorch.

Sources: DINOv2 `dinov2/eval/linear.py`, `eval/depth/models/decode_heads/linear_head.py`, `hub/depthers.py`; DINOv3
`dinov3/eval/segmentation/models`, `eval/depth/models`; mmsegmentation's `BNHead`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from veca_edge.base.tasks import Task
from veca_edge.model.reference import Veca

CLASSES, BINS = 7, 256


@dataclass(frozen=True)
class Features:
    """What a head sees: tokens of every block before the final norm, and behind it."""

    raw: list[Tensor]
    normal: list[Tensor]
    core_count: int
    grid: tuple[int, int]

    def map(self, tokens: Tensor) -> Tensor:
        """Patches as `[B, D, h, w]`."""
        return tokens[:, self.core_count :].transpose(1, 2).unflatten(2, self.grid)


def features_of(model: Veca, image: Tensor, core_count: int) -> Features:
    with torch.inference_mode():
        raw = model.tokens(image, core_count)
        return Features(raw, [model.final(x) for x in raw], core_count, model.config.grid(*image.shape[-2:]))


@dataclass(frozen=True)
class Layout:
    """A file's content, and what its public code makes of features; maps in the size of `map_size`."""

    name: str
    task: Task
    content: Any
    output: Callable[[Features, tuple[int, int]], Tensor]
    choose: str = ""


def layouts(width: int, hidden: int, blocks: int, seed: int = 0) -> list[Layout]:
    """One of each, for a model of `blocks` blocks whose features have `width` channels."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g) / shape[1] ** 0.5 if len(shape) > 1 else torch.randn(shape, generator=g)

    def norm(channels: int, prefix: str) -> dict[str, Tensor]:
        return {
            f"{prefix}.weight": 1 + 0.1 * normal(channels),
            f"{prefix}.bias": 0.1 * normal(channels),
            f"{prefix}.running_mean": 0.1 * normal(channels),
            f"{prefix}.running_var": normal(channels).abs() + 0.5,
            f"{prefix}.num_batches_tracked": torch.tensor(3),
        }

    def layer(prefix: str, *shape: int) -> dict[str, Tensor]:
        return {f"{prefix}.weight": normal(*shape), f"{prefix}.bias": normal(shape[0])}

    def normed(x: Tensor, content: dict[str, Tensor], prefix: str) -> Tensor:
        stats = (content[f"{prefix}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *stats)

    def conv(x: Tensor, content: dict[str, Tensor], prefix: str) -> Tensor:
        return F.conv2d(x, content[f"{prefix}.weight"], content[f"{prefix}.bias"])

    def labels(scores: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(scores, size, mode="bilinear", align_corners=False).argmax(1)

    def metres(scores: Tensor, size: tuple[int, int], low: float, high: float) -> Tensor:
        if scores.shape[1] == 1:
            depth = F.relu(scores) + low
        else:
            shares = F.relu(scores) + 0.1
            shares = shares / shares.sum(1, keepdim=True)
            depth = torch.einsum("ikmn,k->imn", shares, torch.linspace(low, high, scores.shape[1])).unsqueeze(1)
        return F.interpolate(depth, size, mode="bilinear", align_corners=False)[:, 0]

    def pooled(f: Features) -> Tensor:
        return f.normal[-1][:, f.core_count :].mean(1)

    probe = layer("linear", CLASSES, width)
    plain = {key.removeprefix("linear."): value for key, value in layer("linear", CLASSES, 2 * width).items()}
    name = "classifier_2_blocks_avgpool_True_lr_0_001"
    trained = layer(f"classifiers_dict.{name}.linear", CLASSES, 3 * width)
    other = layer("classifiers_dict.classifier_1_blocks_avgpool_False_lr_0_1.linear", CLASSES, width)
    seg3 = norm(width, "segmentation_model.1.batchnorm_layer") | layer(
        "segmentation_model.1.conv", CLASSES, width, 1, 1
    )
    seg2 = norm(width, "decode_head.bn") | layer("decode_head.conv_seg", CLASSES, width, 1, 1)
    ms = norm(4 * width, "decode_head.bn") | layer("decode_head.conv_seg", CLASSES, 4 * width, 1, 1)
    bare = layer("conv", CLASSES, width, 1, 1)
    depth3 = norm(width, "batchnorm_layer") | layer("conv_depth", BINS, width, 1, 1)
    depth2 = layer("decode_head.conv_depth", BINS, 2 * hidden, 1, 1)
    depth4 = layer("decode_head.conv_depth", BINS, 8 * hidden, 1, 1)
    regression = layer("conv_depth", 1, width, 1, 1)

    def dinov2_depth(f: Features, size: tuple[int, int], content: dict[str, Tensor], indices: list[int]) -> Tensor:
        joined = []
        for i in indices:
            patches = f.map(f.raw[i])
            joined += [patches, f.raw[i][:, 0][:, :, None, None].expand_as(patches)]
        large = F.interpolate(torch.cat(joined, 1), scale_factor=4, mode="bilinear", align_corners=False)
        return metres(conv(large, content, "decode_head.conv_depth"), size, 0.001, 10)

    def trained_logits(f: Features, size: tuple[int, int]) -> Tensor:
        x = torch.cat([f.normal[-2][:, 0], f.normal[-1][:, 0], pooled(f)], 1)
        return F.linear(x, *(trained[f"classifiers_dict.{name}.linear.{key}"] for key in ("weight", "bias")))

    every = [blocks * (i + 1) // 4 - 1 for i in range(4)]
    return [
        Layout(
            "linear probe",
            Task.CLASSIFY,
            probe,
            lambda f, size: F.linear(f.normal[-1][:, 0], probe["linear.weight"], probe["linear.bias"]),
        ),
        Layout(
            "bare, with the mean of the patches",
            Task.CLASSIFY,
            plain,
            lambda f, size: F.linear(torch.cat([f.normal[-1][:, 0], pooled(f)], 1), plain["weight"], plain["bias"]),
        ),
        Layout(
            "DINOv2 classifiers", Task.CLASSIFY, {"linear_classifiers": trained | other}, trained_logits, f"#{name}"
        ),
        Layout(
            "DINOv3 segmentation",
            Task.SEGMENT,
            {"model": seg3},
            lambda f, size: labels(
                conv(
                    normed(f.map(f.normal[-1]), seg3, "segmentation_model.1.batchnorm_layer"),
                    seg3,
                    "segmentation_model.1.conv",
                ),
                size,
            ),
        ),
        Layout(
            "DINOv2 segmentation",
            Task.SEGMENT,
            {"state_dict": seg2},
            lambda f, size: labels(
                conv(normed(f.map(f.normal[-1]), seg2, "decode_head.bn"), seg2, "decode_head.conv_seg"), size
            ),
        ),
        Layout(
            "DINOv2 segmentation, four blocks",
            Task.SEGMENT,
            {"state_dict": ms},
            lambda f, size: labels(
                conv(
                    normed(torch.cat([f.map(x) for x in f.normal[-4:]], 1), ms, "decode_head.bn"),
                    ms,
                    "decode_head.conv_seg",
                ),
                size,
            ),
        ),
        Layout(
            "bare convolution",
            Task.SEGMENT,
            bare,
            lambda f, size: labels(conv(f.map(f.normal[-1]), bare, "conv"), size),
        ),
        Layout(
            "DINOv3 depth",
            Task.DEPTH,
            {"model": depth3},
            lambda f, size: metres(
                conv(normed(f.map(f.normal[-1]), depth3, "batchnorm_layer"), depth3, "conv_depth"), size, 0.001, 10
            ),
        ),
        Layout(
            "DINOv2 depth",
            Task.DEPTH,
            {"state_dict": depth2},
            lambda f, size: dinov2_depth(f, size, depth2, [blocks - 1]),
        ),
        Layout(
            "DINOv2 depth, four blocks",
            Task.DEPTH,
            {"state_dict": depth4},
            lambda f, size: dinov2_depth(f, size, depth4, every),
        ),
        Layout(
            "depth by regression",
            Task.DEPTH,
            regression,
            lambda f, size: metres(conv(f.map(f.normal[-1]), regression, "conv_depth"), size, 0.001, 10),
        ),
    ]
