import base64
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from measured import SIZE
from PIL import Image

from veca_edge.base.errors import EdgeError
from veca_edge.images.palette import ramp
from veca_edge.images.preprocessing import normalised
from veca_edge.model.reference import reference_model
from veca_edge.proof.evaluate import run_frames, run_reference
from veca_edge.proof.fidelity import cosine
from veca_edge.proof.golden import read_golden
from veca_edge.reports.pictures import (
    attention_pictures,
    comparable_artifacts,
    core_attention,
    frame_uri,
    patch_fidelity,
    spread,
)
from veca_edge.targets.table import open_artifact


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_patches_against_the_bundles_best_variant(real_bundle):
    found = patch_fidelity(real_bundle, SIZE, None, 1)
    assert "32 cores in fp32" in found.against
    assert found.how == "Computed with ONNX Runtime when this report was made."
    assert len(found.frames) == 2
    groups = dict(found.frames[0].groups)
    assert list(groups) == ["int8", "fp32", "int8 against fp32 at the same core count"]
    assert [t.caption for t in groups["int8"]] == ["8 cores", "16 cores", "32 cores"]
    assert [t.caption for t in groups["fp32"]] == ["8 cores", "16 cores"]  # the best is not compared with itself
    assert pixels(groups["int8"][0].image).shape == (4, 4, 3)

    golden = read_golden(real_bundle.directory, 8, SIZE)
    small, best = (
        next(a for a in real_bundle.artifacts if (a.core_count, a.precision) == key)
        for key in ((8, "int8"), (32, "fp32"))
    )
    dense = [run_frames(open_artifact(real_bundle.directory, a, 1), a, golden.frames)["dense"] for a in (small, best)]
    expected = cosine(*dense)[0]
    assert groups["int8"][0].details == (f"mean {expected.mean():.4f}", f"worst {expected.min():.4f}")


def test_patches_against_the_float_model(real_bundle, square):
    found = patch_fidelity(real_bundle, SIZE, square, 1)
    assert found.against == "the float32 model at its full core bank (32 cores)"
    groups = dict(found.frames[0].groups)
    assert groups["fp32"][2].details == ("mean 1.0000", "worst 1.0000")
    golden = read_golden(real_bundle.directory, 8, SIZE)
    model = reference_model(square)
    expected = cosine(*(run_reference(model, square, golden.frames, count)["dense"] for count in (8, 32)))[1]
    assert dict(found.frames[1].groups)["fp32"][0].details == (
        f"mean {expected.mean():.4f}",
        f"worst {expected.min():.4f}",
    )


def test_no_pictures_without_dense(real_bundle):
    bare = replace(real_bundle, artifacts=tuple(replace(a, outputs=("cls",)) for a in real_bundle.artifacts))
    with pytest.raises(EdgeError, match="no 'dense'"):
        patch_fidelity(bare, SIZE, None, 1)
    alone = replace(real_bundle, artifacts=real_bundle.artifacts[-1:])
    with pytest.raises(EdgeError, match="nothing to compare"):
        patch_fidelity(alone, SIZE, None, 1)
    board = replace(real_bundle, artifacts=tuple(replace(a, target="jetson") for a in real_bundle.artifacts))
    assert patch_fidelity(board, SIZE, None, 1).how.endswith("made, not with TensorRT, whose arithmetic differs.")
    assert comparable_artifacts(real_bundle, SIZE)[-1].name == "cores32_fp32_32x32"


def test_attention_is_that_of_the_reference(square):
    """Its sums are the shares that leave for other cores; its product with the values is what the block computes."""
    frame = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), np.uint8)
    model, count = reference_model(square), 16
    seen = core_attention(model, frame, count, (0, 2))
    assert list(seen) == [0, 2]
    weights, places = seen[2]
    assert weights.shape == (count, 16)
    assert places.shape == (count, 2)
    assert ((weights.sum(1) > 0) & (weights.sum(1) < 1)).all()
    assert (np.abs(places) <= 1).all()
    assert not np.allclose(places, seen[0][1])

    # Layer 0 by hand: where the cores stand, what they ask, softmax over cores and patches.
    raw = torch.cat(list(model.qcoord_chunks), 1)[:, :count]
    np.testing.assert_allclose(seen[0][1], torch.tanh(raw[0]).numpy(), atol=1e-6)
    inputs = {}
    hook = model.blocks[0].attn.register_forward_pre_hook(lambda _, args: inputs.update(args=args))
    with torch.inference_mode():
        model(torch.from_numpy(normalised(frame[None])), count)
        hook.remove()
        x, cos, sin, _ = inputs["args"]
        attention = model.blocks[0].attn
        width = x.shape[-1] // attention.heads
        total = 0
        for head in range(attention.heads):
            rows = slice(head * width, (head + 1) * width)
            q, k = (part(x)[0, :, rows] for part in (attention.q_proj, attention.k_proj))
            turned = []
            for t in (q, k):
                a, b = t[:, 0::2], t[:, 1::2]
                pairs = torch.stack([a * cos[0, 0] - b * sin[0, 0], b * cos[0, 0] + a * sin[0, 0]], -1)
                turned.append(pairs.flatten(1))
            total = total + torch.softmax(turned[0][:count] @ turned[1].T / width**0.5, -1)
    np.testing.assert_allclose(seen[0][0], (total / attention.heads)[:, count:].numpy(), atol=1e-5)


def test_attention_pictures(real_bundle, square):
    found = attention_pictures(square, real_bundle, SIZE, ())
    assert found.layers == (0, 1, 2)
    assert found.core_count == 32
    groups = dict(found.frames[0].groups)
    assert list(groups) == ["layer 0", "layer 1", "layer 2 (last)"]
    assert len(groups["layer 0"]) == 8
    tile = groups["layer 0"][0]
    assert tile.caption == "core 0 (cls)"
    assert pixels(tile.image)[..., 3].max() == 235
    assert all(0 <= place <= 100 for place in tile.dot)
    with pytest.raises(EdgeError, match="no layer 3") as caught:
        attention_pictures(square, real_bundle, SIZE, (3,))
    assert "0 to 2" in caught.value.hint


def test_pixels():
    assert spread([8, 16, 24, 32, 40, 48, 56, 64], 4) == [8, 24, 48, 64]
    assert spread([8], 4) == [8]
    assert ramp(np.array([0.0, 1.0, -1.0, 2.0])).tolist() == [[68, 1, 84], [253, 231, 37], [68, 1, 84], [253, 231, 37]]
    frame = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    np.testing.assert_array_equal(pixels(frame_uri(frame)), frame)
    assert frame_uri(np.zeros((256, 256, 3), np.uint8)).startswith("data:image/jpeg;base64,")
