"""INT8 packages beside the quantized model in PyTorch that they were written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..base.errors import GateError
from ..base.progress import Progress, silent
from ..base.spec import ImageSize
from ..bundle.types import Artifact
from ..images.preprocessing import normalised
from ..model.plan import Variant
from ..model.torch_graph import InferenceModel
from ..proof.fidelity import likeness
from .program import MilRunner, open_mlpackage

# 1 - cosine that FP16 arithmetic alone may cost a package: five times what it costs random weights at 256 px.
HALF_DISTANCE = 1e-5
# The same of label maps (1 - share of equal pixels: near a border two scores are alike) and of depth (its mean error).
HALF_MAP_DISTANCES = {"segmentation": 2e-3, "depth": 1e-3}


@dataclass(frozen=True)
class SimulationAgreement:
    """Likeness (mean cosine, or as `likeness` has it) per output: of the package with the quantized model in PyTorch,
    and of that model with the float one."""

    package: Mapping[str, float]
    simulation: Mapping[str, float]

    @property
    def ok(self) -> bool:
        """Whether every output of the package is at least as close to the quantized model as that is to the float one.

        Bits can't agree: a value that FP16 rounds across a quantization step changes everything behind it. Where so
        few layers are quantized that the two models hardly differ, FP16 has what it costs by itself.
        """
        return all(
            1 - self.package[name] <= max(1 - self.simulation[name], HALF_MAP_DISTANCES.get(name, HALF_DISTANCE))
            for name in self.package
        )


def check_simulation(
    directory: Path,
    artifacts: Sequence[Artifact],
    variants: Sequence[Variant],
    frames: Mapping[ImageSize, np.ndarray],
    progress: Progress = silent,
) -> dict[str, SimulationAgreement]:
    """Compares every INT8 package with the quantized model that it was written from, by artifact name.

    Args:
        variants: in the order of the artifacts.
        frames: uint8 `[n, H, W, 3]` for every image size; a few are enough.

    Raises:
        GateError: one is further from the quantized model than that is from the float one.
    """
    pairs = [(a, v) for a, v in zip(artifacts, variants, strict=True) if a.precision == "int8"]
    found = {}
    for i, (artifact, variant) in enumerate(pairs):
        runner = open_mlpackage(directory / artifact.path, artifact.function, artifact)
        agreement = agreement_with_simulation(runner, variant, frames[artifact.image_size])
        found[artifact.name] = agreement
        if not agreement.ok:
            raise GateError(
                f"{artifact.name} in {artifact.path} does not compute the quantized model that it was written from: "
                f"its distances (1 - cosine) from that model are {distances(agreement.package)}, where that model's "
                f"own from the float one are {distances(agreement.simulation)}.",
                "FP16 costs this model more than INT8: try --coordinates fp32, or export --precision fp16 and see "
                "how close that is. If it is close, please report this.",
            )
        progress("comparing with the quantized model", i + 1, len(pairs))
    return found


def distances(cosines: Mapping[str, float]) -> str:
    """`cls 1.6e-05, dense 2.6e-05`, of likenesses by output."""
    return ", ".join(f"{name} {1 - value:.2g}" for name, value in cosines.items())


def agreement_with_simulation(runner: MilRunner, variant: Variant, frames: np.ndarray) -> SimulationAgreement:
    """Runs an INT8 package, the simulated INT8 model and the float model on the same frames.

    Args:
        variant: what the package was written from.
        frames: uint8 `[n, H, W, 3]`; repeated to fill whole batches.
    """
    spec, weights = variant.spec, variant.weights
    plain = weights.with_linears({name: replace(layer, quantization=None) for name, layer in weights.linears.items()})
    frames = np.resize(frames, (-(-len(frames) // spec.batch) * spec.batch, *frames.shape[1:]))
    pixels = normalised(frames)
    wanted = replace(spec, input="tensor")
    with torch.inference_mode():
        simulated, original = (
            dict(
                zip(
                    spec.outputs,
                    (y.numpy() for y in InferenceModel(w, wanted).eval()(torch.from_numpy(pixels))),
                    strict=True,
                )
            )
            for w in (weights, plain)
        )
    given = frames if spec.input == "image" else pixels
    made = [runner(given[i : i + spec.batch]) for i in range(0, len(given), spec.batch)]
    package = {name: np.concatenate([m[name] for m in made]) for name in spec.outputs}
    return SimulationAgreement(
        {name: likeness(name, package[name], simulated[name]) for name in spec.outputs},
        {name: likeness(name, simulated[name], original[name]) for name in spec.outputs},
    )
