"""What the linear layers see: activations of the float32 model on calibration images, a sample of rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np
import torch
from torch import Tensor

from ..base.progress import Progress, silent
from ..base.spec import GraphSpec, ImageSize
from ..model.folding import InferenceWeights
from ..model.torch_graph import InferenceModel

BATCH = 8
# Of the rows that are kept, how many are drawn among core tokens alone. There are few of those, `cls` is one of them,
# and patches hear of each other through them. On the trained demo, over 4 draws of 128 images, 1 - cosine of `cls` is a
# third lower with it, two thirds where it was largest, and that of `dense` the same.
CORE_SHARE = 0.3

# The inputs of each layer of `InferenceWeights.linears`, by layer name and core count: float32 `[rows, in]`.
Activations = dict[str, dict[int, Tensor]]


class SampledRows:
    """Rows collected one call at a time, into memory that is taken once: lists of parts would need it twice."""

    def __init__(self, most: int, width: int):
        self._rows = torch.empty(most, width)
        self._filled = 0

    def add(self, rows: Tensor) -> None:
        self._rows[self._filled : self._filled + len(rows)] = rows
        self._filled += len(rows)

    def shuffled(self, generator: torch.Generator) -> Tensor:
        """The rows so that the first ones are a sample of all calls."""
        rows = self._rows[: self._filled]
        rows.copy_(rows[torch.randperm(self._filled, generator=generator)])
        return rows


def sampled(shape: tuple[int, int], cores: int, most: int, generator: torch.Generator) -> Tensor:
    """Random rows of a batch, int64: positions in its tokens `[batch, tokens]`, of which the first are `cores`."""
    batch, tokens = shape
    count = min(most, batch * tokens)
    rows = torch.randint(batch * tokens, (count,), generator=generator)
    if cores:
        of_cores = int(CORE_SHARE * count)
        images = torch.randint(batch, (of_cores,), generator=generator)
        rows[:of_cores] = images * tokens + torch.randint(cores, (of_cores,), generator=generator)
    return rows


def collect_activations(
    weights: InferenceWeights,
    frames: Sequence[np.ndarray],
    core_counts: Sequence[int],
    rows: int,
    seed: int = 0,
    progress: Progress = silent,
) -> Activations:
    """Runs the float32 model at every core count and keeps about `rows` token rows per layer and count.

    Each call contributes a random sample of what the layer saw, `CORE_SHARE` of it from core tokens.

    Args:
        frames: uint8 `[n, H, W, 3]`, one array for each image size; all sizes weigh the same.
    """
    generator = torch.Generator().manual_seed(seed)
    batches = [[of_one_size[i : i + BATCH] for i in range(0, len(of_one_size), BATCH)] for of_one_size in frames]
    calls = sum(map(len, batches))
    per_call = -(-rows // calls)
    found = {
        name: {c: SampledRows(calls * per_call, layer.weight.shape[1]) for c in core_counts}
        for name, layer in weights.linears.items()
    }
    done, total = 0, len(core_counts) * calls
    for count, of_one_size in product(core_counts, batches):
        size = ImageSize(*of_one_size[0].shape[1:3])
        model, patches = InferenceModel(weights, GraphSpec(count, size)).eval(), prod(weights.config.grid(*size))

        def keep(name: str, count: int = count, patches: int = patches):
            def hook(module, inputs) -> None:
                seen = inputs[0]
                chosen = sampled(seen.shape[:2], seen.shape[1] - patches, per_call, generator)
                found[name][count].add(seen.flatten(0, 1)[chosen])

            return hook

        for i, block in enumerate(model.each_block()):
            # k stands for qkv: it sees every row, q of the last block does not.
            for module, name in ((block.k, "qkv"), (block.out, "out"), (block.fc1, "fc1"), (block.fc2, "fc2")):
                module.register_forward_pre_hook(keep(f"blocks.{i}.{name}"))
        if model.output is not None:
            model.output.register_forward_pre_hook(keep("output_proj"))
        with torch.inference_mode():
            for batch in of_one_size:
                model(torch.from_numpy(batch))
                done += 1
                progress("collecting activations", done, total)
    return {
        name: {count: sample.shuffled(generator) for count, sample in counts.items()} for name, counts in found.items()
    }
