"""The reference against the published vectors, and the architecture's own invariants."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from veca_edge.base.errors import EdgeError
from veca_edge.model.checkpoint import load_checkpoint, random_checkpoint
from veca_edge.model.config import FAMILIES, ModelConfig
from veca_edge.model.reference import reference_model, reference_outputs, rotate_pairs

VECTORS = ("square", "prefixed", "wide_projected")


@pytest.mark.parametrize("name", VECTORS)
def test_reference_agrees_with_every_vector(data, name):
    """In float64, so that the order in which a processor sums does not show. The vectors are float32, with roundings
    of their own that end up to 1.8e-4 from it."""
    checkpoint = load_checkpoint(data / f"{name}.pt")
    model = reference_model(checkpoint).double()
    with np.load(data / f"{name}.npz") as vectors:
        image = torch.from_numpy(vectors["image"]).double()
        counts = [int(key[4:]) for key in vectors if key.startswith("cls_")]
        assert len(counts) >= 2
        for count in counts:
            outputs = reference_outputs(model, checkpoint, image, count)
            for output in ("cls", "dense"):
                expected = torch.from_numpy(vectors[f"{output}_{count}"]).double()
                torch.testing.assert_close(outputs[output], expected, rtol=0, atol=2e-4)


def test_outputs_by_shape(wide_projected):
    model = reference_model(wide_projected)
    cls, dense = model(torch.zeros(2, 3, 16, 40), 8)
    assert cls.shape == (2, 40)
    assert dense.shape == (2, 2 * 5, 40)


def test_parameters_carry_the_names_of_the_format(square):
    assert set(reference_model(square).state_dict()) == set(square.tensors)


def test_reference_does_not_train(square):
    model = reference_model(square)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


def test_logits_where_there_is_a_head(demo):
    outputs = reference_outputs(reference_model(demo), demo, torch.zeros(1, 3, 32, 32), 8)
    (head,) = demo.heads
    expected = outputs["cls"] @ torch.from_numpy(head.terms[0].weight).T + torch.from_numpy(head.bias)
    torch.testing.assert_close(outputs["logits"], expected)


def test_no_logits_without_a_head(square):
    outputs = reference_outputs(reference_model(square), square, torch.zeros(1, 3, 16, 16), 8)
    assert set(outputs) == {"cls", "dense", "attention"}


def test_impossible_core_count_lists_the_possible(square):
    model = reference_model(square)
    with pytest.raises(EdgeError, match=r"multiples of 8.*\n.*8, 16, 24, 32"):
        model(torch.zeros(1, 3, 16, 16), 12)
    with pytest.raises(EdgeError, match="bank holds 32"):
        model(torch.zeros(1, 3, 16, 16), 40)


def test_impossible_image_size_names_the_nearest(square):
    with pytest.raises(EdgeError, match=r"17x32.*patches of 8.*\n.*16x32"):
        reference_model(square)(torch.zeros(1, 3, 17, 32), 8)


def test_unused_cores_change_nothing(square):
    """The budgets are nested: a core beyond the active prefix must not be seen."""
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = reference_model(square)
    before = model(image, 8)
    with torch.no_grad():
        model.query_token_chunks[1].add_(1.0)
    for a, b in zip(before, model(image, 8), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(before[0], model(image, 16)[0])


def test_patches_see_each_other_only_through_cores():
    """In one layer a patch attends to cores alone, so changing another patch changes `cls`, but not it."""
    checkpoint = random_checkpoint(ModelConfig(32, 2, 1, 40, 8, 8, 8, 32))
    model = reference_model(checkpoint)
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    changed = image.clone()
    changed[..., 8:, 8:] += 1.0
    cls, dense = model(image, 8)
    other_cls, other_dense = model(changed, 8)
    assert torch.equal(dense[:, :3], other_dense[:, :3])
    assert not torch.equal(dense[:, 3], other_dense[:, 3])
    assert not torch.equal(cls, other_cls)


def test_rotation_keeps_lengths():
    x = torch.randn(1, 1, 5, 8, generator=torch.Generator().manual_seed(0))
    angle = torch.randn(1, 1, 5, 4, generator=torch.Generator().manual_seed(1))
    turned = rotate_pairs(x, angle.cos(), angle.sin())
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(rotate_pairs(turned, angle.cos(), -angle.sin()), x)


@pytest.mark.parametrize(("family", "millions"), [("small", 21.6), ("base", 85.8)])
def test_families_have_their_published_sizes(family, millions):
    """Weights of the blocks and embeddings; the notes count 21.6 M for small."""
    from veca_edge.model.checkpoint import expected_shapes

    count = sum(int(np.prod(shape)) for shape in expected_shapes(FAMILIES[family].config()).values())
    assert count / 1e6 == pytest.approx(millions, abs=0.2)
