"""One linear head for all core counts: every step sees the features of one of them, drawn anew."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..base.progress import Progress, silent
from ..base.tasks import Task, Tokens
from ..bundle.types import DepthAgreement, MapAgreement
from ..model.head_files import DEPTH_BINS
from ..model.heads import DEPTH_EPSILON, DEPTH_RANGE, Head, Term
from ..proof.fidelity import DepthErrors, LabelCounts
from .features import Features

# Of the scale-invariant logarithmic loss: the weight of its mean, as DINOv2's depth configurations have it.
SCALE_INVARIANCE = 0.85
STATISTICS_IMAGES = 256
# The share of a feature's mean below which the cache does not resolve its deviation: neighbours in float16 are up to
# half of it apart. A mean nearer to 0 than the other counts as that.
RESOLVED = 2.0**-9
LEAST_MEAN = 1e-3
# What a classifier chooses among: with few images for many features it would learn them by heart.
PENALTIES = (0.0, 1e-3, 1e-2, 3e-2, 1e-1)
# One in so many training images chooses.
CHOOSING = 4


@dataclass(frozen=True)
class TrainingOptions:
    """How a head is trained: AdamW on standardised features, with a learning rate that falls as a cosine.

    Attributes:
        steps: optimizer steps.
        batch: images a step.
        penalty: of the sum of squared weights, beside the loss. None has a classifier choose one of `PENALTIES` by its
            loss on a quarter of the training images, which then train it too; maps have pixels enough to go without.
        seed: of the order of images and core counts, and of the first weights.
    """

    steps: int = 2000
    batch: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    penalty: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class HeldOut:
    """A head at one core count, on images that did not train it; what its task does not have is None."""

    core_count: int
    images: int
    top1: float | None = None
    segmentation: MapAgreement | None = None
    depth: DepthAgreement | None = None


class LinearHeadModule(torch.nn.Module):
    """Standardised features `[..., F]` to scores."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor, classes: int, generator: torch.Generator):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.weight = torch.nn.Parameter(0.01 * torch.randn(classes, len(mean), generator=generator))
        self.bias = torch.nn.Parameter(torch.zeros(classes))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear((x - self.mean) * self.scale, self.weight, self.bias)

    def folded(self) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias for features as they are."""
        weight = self.weight.detach().double() * self.scale
        bias = self.bias.detach().double() - weight @ self.mean.double()
        return weight.float().numpy(), bias.float().numpy()


@dataclass(frozen=True)
class HeadSpec:
    """The head that is trained.

    Attributes:
        classes: of classify and segment; depth has 256 bins.
        block: the one whose tokens it reads.
        labels: names of the classes.
        depth_range: metres of the first and the last bin; None is `DEPTH_RANGE`.
    """

    task: Task
    classes: int
    block: int
    labels: tuple[str, ...] | None = None
    depth_range: tuple[float, float] | None = None

    @property
    def scores(self) -> int:
        """How many numbers it gives for an image, or a patch."""
        return DEPTH_BINS if self.task == Task.DEPTH else self.classes

    def head(self, weight: np.ndarray, bias: np.ndarray) -> Head:
        """The head of weights float32 `[K, F]` and biases `[K]`."""
        if self.task == Task.CLASSIFY:
            cls, mean = (np.ascontiguousarray(half) for half in np.split(weight, 2, axis=1))
            terms = (Term(self.block, Tokens.CLS, cls), Term(self.block, Tokens.MEAN, mean))
            return Head(self.task, terms, bias, labels=self.labels)
        terms = (Term(self.block, Tokens.PATCHES, weight),)
        return Head(self.task, terms, bias, labels=self.labels, depth_range=self.depth_range)


def fit_head(
    features: Features, spec: HeadSpec, train: np.ndarray, options: TrainingOptions, progress: Progress = silent
) -> Head:
    """Trains a head on the images `train` (int64 indices)."""
    wanted = _Training(features, spec)
    if options.penalty is None:
        penalty = _least_loss(wanted, train, options, progress) if spec.task == Task.CLASSIFY else 0.0
        options = replace(options, penalty=penalty)
    return spec.head(*_trained(wanted, train, options, progress, "training the head").folded())


@dataclass(frozen=True)
class _Training:
    """Which head is trained, and on which features."""

    features: Features
    spec: HeadSpec

    def loss(self, module: LinearHeadModule, count: int, chosen: np.ndarray) -> Tensor:
        """Of some images (ascending indices) at a core count."""
        scores = module(_read(self.features.by_count[count], chosen))
        known = torch.from_numpy(self.features.targets[chosen])
        bins = torch.linspace(*(self.spec.depth_range or DEPTH_RANGE), DEPTH_BINS)
        return _loss(self.spec.task, scores, known, self.features.grid, bins)


def _trained(
    wanted: _Training, train: np.ndarray, options: TrainingOptions, progress: Progress, stage: str
) -> LinearHeadModule:
    generator = torch.Generator().manual_seed(options.seed)
    mean, scale = _statistics(wanted.features, train, generator)
    module = LinearHeadModule(mean, scale, wanted.spec.scores, generator)
    optimizer = torch.optim.AdamW(module.parameters(), options.learning_rate, weight_decay=options.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    counts = tuple(wanted.features.by_count)
    for step in range(options.steps):
        count = counts[int(torch.randint(len(counts), (1,), generator=generator))]
        chosen = train[torch.randint(len(train), (min(options.batch, len(train)),), generator=generator).numpy()]
        loss = wanted.loss(module, count, np.sort(chosen))
        if options.penalty:
            loss = loss + options.penalty * module.weight.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress(stage, step + 1, options.steps)
    return module


def _least_loss(wanted: _Training, train: np.ndarray, options: TrainingOptions, progress: Progress) -> float:
    """The penalty whose head loses least on images that did not train it, over all core counts."""
    order = np.random.default_rng(options.seed).permutation(train)
    judging, rest = (
        np.sort(order[::CHOOSING]),
        np.sort(np.concatenate([order[i::CHOOSING] for i in range(1, CHOOSING)])),
    )
    if not len(rest):
        return 0.0
    losses = {}
    for i, penalty in enumerate(PENALTIES, 1):
        stage = f"choosing a penalty, {i} of {len(PENALTIES)}"
        module = _trained(wanted, rest, replace(options, penalty=penalty), progress, stage)
        with torch.inference_mode():
            losses[penalty] = sum(float(wanted.loss(module, count, judging)) for count in wanted.features.by_count)
    return min(losses, key=losses.__getitem__)


def evaluate_head(head: Head, features: Features, held_out: np.ndarray, progress: Progress = silent) -> list[HeldOut]:
    """The head on the images `held_out` (indices), in its task's metric, at every core count."""
    weight = torch.from_numpy(head.weight)
    bias, found = torch.from_numpy(head.bias), []
    bins = torch.linspace(*(head.depth_range or DEPTH_RANGE), head.classes)
    for i, (count, array) in enumerate(features.by_count.items()):
        right, maps, errors = 0, LabelCounts(), DepthErrors()
        for start in range(0, len(held_out), 64):
            chosen = held_out[start : start + 64]
            scores, known = F.linear(_read(array, chosen), weight, bias), features.targets[chosen]
            if head.task == Task.CLASSIFY:
                right += int((scores.argmax(-1).numpy() == known).sum())
            elif head.task == Task.SEGMENT:
                maps.add(_resized(_map(scores, features.grid), known.shape[1:]).argmax(1).numpy(), known)
            else:
                depth = _metres(_map(scores, features.grid), bins)[:, None]
                errors.add(_resized(depth, known.shape[1:])[:, 0].numpy(), known)
        top1 = right / len(held_out) if head.task == Task.CLASSIFY else None
        found.append(HeldOut(count, len(held_out), top1, maps.agreement(), errors.agreement()))
        progress("evaluating", i + 1, len(features.by_count))
    return found


def _statistics(features: Features, train: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mean and one over the deviation of every feature, over all core counts, on some of the images.

    A feature that is as good as constant says nothing and has 0: scaled up, it would have an enormous weight, on what
    the cache's rounding hides from those who judge the head.
    """
    chosen = np.sort(train[torch.randperm(len(train), generator=generator)[:STATISTICS_IMAGES].numpy()])
    seen = torch.cat([_read(array, chosen).flatten(0, -2) for array in features.by_count.values()])
    # A single row deviates by nothing; Bessel's correction would make that NaN.
    mean, deviation = seen.mean(0), seen.std(0, correction=min(1, len(seen) - 1))
    constant = deviation < RESOLVED * mean.abs().clamp_min(LEAST_MEAN)
    return mean, torch.where(constant, 0.0, 1.0 / deviation)


def _read(array: np.ndarray, chosen: np.ndarray) -> Tensor:
    """float32 of some images: `[n, 2 D]` of cls and mean, or `[n, N, D]` of patches."""
    read = torch.from_numpy(np.asarray(array[chosen], np.float32))
    return read.flatten(1) if read.shape[1] == 2 else read


def _map(scores: Tensor, grid: tuple[int, int]) -> Tensor:
    """`[n, N, K]` as `[n, K, h, w]`."""
    return scores.transpose(1, 2).unflatten(2, grid)


def _resized(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)


def _metres(scores: Tensor, bins: Tensor) -> Tensor:
    """`[n, K, h, w]` to `[n, h, w]`, as DINOv3's linear depth."""
    shares = torch.relu(scores) + DEPTH_EPSILON
    return torch.einsum("nkhw,k->nhw", shares / shares.sum(1, keepdim=True), bins)


def _loss(task: Task, scores: Tensor, known: Tensor, grid: tuple[int, int], bins: Tensor) -> Tensor:
    if task == Task.CLASSIFY:
        return F.cross_entropy(scores, known)
    if task == Task.SEGMENT:
        return F.cross_entropy(_resized(_map(scores, grid), known.shape[1:]), known.long(), ignore_index=-1)
    depth = _resized(_metres(_map(scores, grid), bins)[:, None], known.shape[1:])[:, 0]
    there = known > 0
    difference = torch.log(depth[there]) - torch.log(known[there])
    spread = (difference**2).mean() - SCALE_INVARIANCE * difference.mean() ** 2
    return torch.sqrt(spread.clamp_min(1e-8))
