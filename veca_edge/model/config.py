"""The shape of a VECA model: plain numbers, validated, and the released families."""

from __future__ import annotations

from dataclasses import dataclass

from ..base.errors import EdgeError

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
NORM_EPS = 1e-5
ROPE_BASE = 100.0
# `rope_p_zero_freqs` of every released family, taken from the low end (the published training configuration).
FAMILY_ROPE_ZERO = 0.125


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of one VECA model (arXiv 2605.12491).

    Attributes:
        hidden: D, the token width.
        heads: attention heads h; the head width is d = D / h, a multiple of 4.
        layers: L.
        mlp_hidden: F = int(D * mlp_ratio); fc1 is D -> 2F, fc2 is F -> D.
        patch_size: P in pixels.
        core_bank: M, the number of learned core tokens.
        chunk_size: granularity of the nested budgets; C is a multiple of it.
        output_dim: D_out, equal to D without an output projection.
        rope_zero_fraction: share of rotary frequencies that are zero (`rope_p_zero_freqs`).
        rope_zero_from: which end they are taken from, `low` or `high`.
        family: the family's name in the checkpoint, for display.
    """

    hidden: int
    heads: int
    layers: int
    mlp_hidden: int
    patch_size: int
    core_bank: int
    chunk_size: int
    output_dim: int
    rope_zero_fraction: float = 0.0
    rope_zero_from: str = "low"
    family: str = "custom"

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "mlp_hidden", "patch_size", "core_bank", "chunk_size", "output_dim"):
            if getattr(self, name) < 1:
                raise EdgeError(
                    f"A model with {name.replace('_', ' ')} {getattr(self, name)} is impossible.",
                    "Is the checkpoint one of VECA, and whole?",
                )
        if self.heads < 1 or self.hidden % self.heads or self.head_dim % 4:
            raise EdgeError(
                f"{self.heads} heads do not fit a width of {self.hidden}: "
                "the width of a head must be a whole multiple of 4.",
                "Give the right number with --heads.",
            )
        if self.rope_zero_from not in ("low", "high"):
            raise EdgeError(f"rope_zero_freqs_from is '{self.rope_zero_from}'.", "Known: low, high.")
        if not 0.0 <= self.rope_zero_fraction <= 1.0:
            raise EdgeError(
                f"The fraction of zero rotary frequencies is {self.rope_zero_fraction}.",
                "Give a number between 0 and 1 with --rope-zero.",
            )

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    @property
    def core_counts(self) -> tuple[int, ...]:
        """Every core count this model can run with."""
        return tuple(range(self.chunk_size, self.core_bank + 1, self.chunk_size))

    def check_core_count(self, core_count: int) -> None:
        if core_count not in self.core_counts:
            why = (
                f"the bank holds {self.core_bank}"
                if core_count > self.core_bank
                else f"core counts are multiples of {self.chunk_size}"
            )
            raise EdgeError(
                f"This model cannot run with {core_count} cores: {why}.",
                f"Possible: {', '.join(map(str, self.core_counts))}.",
            )

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Patch rows and columns of an image, or an error when the patch size does not divide it."""
        if height % self.patch_size or width % self.patch_size:

            def near(n: int) -> int:
                return max(self.patch_size, round(n / self.patch_size) * self.patch_size)

            raise EdgeError(
                f"An image of {height}x{width} cannot be cut into patches of {self.patch_size} pixels.",
                f"The nearest size that can: {near(height)}x{near(width)}.",
            )
        return height // self.patch_size, width // self.patch_size


@dataclass(frozen=True)
class Family:
    """A released model family: what a bare state dict cannot tell, and what random weights need."""

    name: str
    layers: int
    hidden: int
    heads: int
    mlp_ratio: float

    def config(self, patch_size: int = 16, core_bank: int = 64, chunk_size: int = 8) -> ModelConfig:
        return ModelConfig(
            self.hidden,
            self.heads,
            self.layers,
            int(self.hidden * self.mlp_ratio),
            patch_size,
            core_bank,
            chunk_size,
            self.hidden,
            FAMILY_ROPE_ZERO,
            family=self.name,
        )


FAMILIES = {
    family.name: family
    for family in (
        Family("small", 12, 384, 6, 2.66667),
        Family("splus", 12, 384, 6, 4.0),
        Family("base", 12, 768, 12, 2.66667),
        Family("large", 24, 1024, 16, 2.66667),
    )
}
