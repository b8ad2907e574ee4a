"""The rotary embedding twice, by two implementations that share no code: the reference's and the inference form's."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

from veca_edge.model import reference
from veca_edge.model.config import FAMILIES, ModelConfig
from veca_edge.model.reference import patch_centres, periods_of, rotate_pairs
from veca_edge.model.rotary import patch_coordinates, rotary_periods, rotary_tables, rotate

GRIDS = ((1, 1), (2, 4), (5, 3), (16, 16))


def with_zeros(head_dim: int, fraction: float, end: str) -> ModelConfig:
    return ModelConfig(2 * head_dim, 2, 1, 8, 8, 8, 8, 2 * head_dim, fraction, end)


CONFIGS = [
    *(family.config() for family in FAMILIES.values()),
    *(
        with_zeros(head_dim, fraction, end)
        for head_dim in (4, 12, 64)
        for fraction in (0.0, 0.125, 0.3, 0.5, 1.0)
        for end in ("low", "high")
    ),
]


def test_the_reference_imports_nothing_that_it_judges():
    tree = ast.parse(Path(reference.__file__).read_text(encoding="utf-8"))
    own = {node.module: node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level}
    assert set(own) == {"base.spec", "base.tasks", "checkpoint", "config", "heads"}
    assert {name.name for name in own["heads"].names} == {"Head", "Term"}, "what a file holds, not how it is rewritten"


@pytest.mark.parametrize("config", CONFIGS)
def test_both_have_the_same_periods(config):
    ours, theirs = rotary_periods(config), periods_of(config).numpy()
    assert np.array_equal(np.isinf(ours), np.isinf(theirs))
    np.testing.assert_allclose(ours, theirs, rtol=1e-14)


@pytest.mark.parametrize("grid", GRIDS)
def test_both_put_the_patches_at_the_same_places(grid):
    np.testing.assert_allclose(patch_coordinates(*grid), patch_centres(*grid).numpy(), rtol=0, atol=1e-15)


@pytest.mark.parametrize("config", CONFIGS)
def test_both_give_the_same_attention_scores(config):
    """Half-split pairs are neighbouring pairs in another order, so the products of queries and keys are the same."""
    d, at = config.head_dim, patch_coordinates(3, 4)
    q, k = (torch.randn(12, d, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(2))
    angles = (2 * torch.pi * patch_centres(3, 4)[..., None] / periods_of(config)).flatten(1)
    a, b = (rotate_pairs(t, angles.cos(), angles.sin()) for t in (q, k))
    cos, sin = rotary_tables(at, rotary_periods(config))
    order = np.concatenate([np.arange(0, d, 2), np.arange(1, d, 2)])
    c, e = (rotate(t.numpy()[:, order], cos, sin, 1) for t in (q, k))
    np.testing.assert_allclose((a @ b.T).numpy(), c @ e.T, rtol=0, atol=1e-5)


def test_zero_frequencies_are_taken_from_the_end_asked_for():
    low = rotary_periods(ModelConfig(64, 1, 1, 8, 8, 8, 8, 64, 0.25, "low"))
    high = rotary_periods(ModelConfig(64, 1, 1, 8, 8, 8, 8, 64, 0.25, "high"))
    assert np.isinf(low).tolist() == [False] * 12 + [True] * 4
    assert np.isinf(high).tolist() == [True] * 4 + [False] * 12
    assert low[0] == 1.0
    assert low[8] == pytest.approx(100**0.5)


def test_patch_coordinates_are_centres_row_by_row():
    at = patch_coordinates(2, 4)
    assert at.tolist()[:4] == [[-0.75, -0.5], [-0.25, -0.5], [0.25, -0.5], [0.75, -0.5]]
    assert at[-1].tolist() == [0.75, 0.5]
