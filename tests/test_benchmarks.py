"""The benchmarks run, and what they compare is comparable. Times are not looked at."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks import claims, peers, readme, scaling
from benchmarks.common import absmax_quantized, hard_twin, interleaved, linear_of, random_images, write_result
from benchmarks.dense_vit import TOKENS, dense_checkpoint, onnx_from_dense
from benchmarks.toolchains import Task, ours
from benchmarks.worker import agreement
from veca_edge.checkpoint import random_checkpoint
from veca_edge.config import NORM_EPS, Family
from veca_edge.inference import inference_weights, patch_coordinates, rotary_tables
from veca_edge.inference_model import rotate_halves
from veca_edge.model import reference_model
from veca_edge.runtime.onnxruntime import session_from_file, session_options
from veca_edge.spec import GraphSpec, ImageSize

TINY = Family("small", 2, 64, 2, 2.0)
SIZE = ImageSize(32, 48)


@pytest.mark.parametrize("name", ["square", "wide_projected"])
def test_the_hard_twin_is_the_same_function(request, name):
    checkpoint = request.getfixturevalue(name)
    twin = hard_twin(checkpoint)
    image = torch.from_numpy(random_images(1, SIZE))
    with torch.inference_mode():
        expected, made = (reference_model(c)(image, 16) for c in (checkpoint, twin))
    for value, wanted in zip(made, expected, strict=True):
        torch.testing.assert_close(value, wanted, atol=1e-4, rtol=1e-4)
    changed = [key for key in checkpoint.tensors if not torch.equal(checkpoint.tensors[key], twin.tensors[key])]
    assert {key.split(".")[-2] for key in changed} >= {"norm_attn", "norm_ffn", "q_proj", "v_proj", "out_proj", "fc1",
                                                       "fc2"}
    factors = twin.tensors["blocks.0.norm_ffn.weight"] / checkpoint.tensors["blocks.0.norm_ffn.weight"]
    assert 1 / 64 <= factors.min() < 1 / 16
    assert 16 < factors.max() <= 64


def test_plain_ranges_reach_every_layer(demo, tmp_path):
    weights, images = inference_weights(demo), random_images(2, ImageSize(32, 32))
    task = Task(demo, tmp_path / "unused", GraphSpec(16, ImageSize(32, 32), input="tensor"), weights, None, images,
                tmp_path)
    path = ours("ours_fp32", "fp32", task).path
    quantized = absmax_quantized(weights, path, images, 16)
    assert all(layer.quantization.activation_scale > 0 for layer in quantized.linears.values())
    assert linear_of("blocks.3.fc1.gate.MatMul") == "blocks.3.fc1"
    assert linear_of("blocks.1.position.MatMul") is None


def test_the_dense_model_is_a_vision_transformer(tmp_path):
    """Against the same transformer, written here from its definition."""
    import onnx_ir as ir

    weights, spec = inference_weights(dense_checkpoint(TINY)), GraphSpec(TOKENS, SIZE, input="tensor")
    ir.save(onnx_from_dense(weights, spec), tmp_path / "dense.onnx")
    image = random_images(1, SIZE)
    session = session_from_file(tmp_path / "dense.onnx", session_options(1))
    made = dict(zip(("cls", "dense"), session.run(["cls", "dense"], {"image": image}), strict=True))

    def linear(layer, x):
        return F.linear(x, torch.from_numpy(layer.weight), torch.from_numpy(layer.bias))

    def heads(x):
        return x.unflatten(-1, (TINY.heads, -1)).transpose(1, 2)

    def norm(x, gain=None, shift=None):
        return F.layer_norm(x, (TINY.hidden,), *(None if a is None else torch.from_numpy(a) for a in (gain, shift)),
                            NORM_EPS)

    patches = F.conv2d(torch.from_numpy(image), torch.from_numpy(weights.patch_weight),
                       torch.from_numpy(weights.patch_bias), 16).flatten(2).transpose(1, 2)
    x = torch.cat([torch.from_numpy(weights.cores)[None], patches], dim=1)
    cos, sin = (torch.from_numpy(t) for t in rotary_tables(patch_coordinates(2, 3), weights.periods))
    cos = torch.cat([torch.ones(TOKENS, cos.shape[1]), cos])[None, None]
    sin = torch.cat([torch.zeros(TOKENS, sin.shape[1]), sin])[None, None]
    for block in weights.blocks:
        q, k, v = linear(block.qkv, norm(x)).chunk(3, dim=-1)
        q, k = (rotate_halves(heads(t), cos, sin) for t in (q, k))
        mixed = F.scaled_dot_product_attention(q, k, heads(v), scale=1.0)
        x = x + linear(block.out, mixed.transpose(1, 2).flatten(2))
        gate, value = linear(block.fc1, norm(x)).chunk(2, dim=-1)
        x = x + linear(block.fc2, F.silu(gate) * value)
    x = norm(x, weights.final_gain, weights.final_shift).numpy()
    assert agreement(made, {"cls": x[:, 0], "dense": x[:, TOKENS:]})["largest_difference"] < 1e-5


def test_every_call_is_timed_in_every_round():
    calls = []
    samples = interleaved({name: (lambda n=name: calls.append(n)) for name in "abc"}, rounds=4, per_round=2, pause_s=0)
    assert {name: len(s) for name, s in samples.items()} == {"a": 8, "b": 8, "c": 8}
    for number in range(4):
        assert sorted(calls[9 * number:9 * number + 9]) == sorted("aaabbbccc")


def test_from_measurement_to_readme(tmp_path, capsys):
    """The smallest peers and scaling runs there are, in real processes, and the tables that come of them."""
    checkpoint = random_checkpoint(TINY.config())
    spec = GraphSpec(16, ImageSize(32, 32), input="tensor")
    result = peers.measure(checkpoint, spec, 1, 2, 1, ("eager", "ours_fp32", "ours_int8"), 1)
    assert [len(row["samples_ms"]) for row in result["candidates"]] == [2, 2, 2]
    assert all(row["peak_memory_bytes"][0] > 0 for row in result["candidates"])
    assert set(result["gemm_share"]) == {"ours_fp32", "ours_int8"}
    write_result(tmp_path, "peers", {**result, "image_size": [256, 256]})
    result = scaling.measure(TINY, [8], [32], 1, 2, 1, 1)
    assert "dense ViT" in scaling.summary(result)
    write_result(tmp_path, "scaling", result)
    section = readme.rendered(tmp_path)
    assert "| small, 256 px, 16 cores |" in section
    assert "| VECA, 64 cores | 1.623 |" in section
    text = f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n"
    assert readme.replaced(text, "new") == f"before\n{readme.BEGIN}\nnew\n{readme.END}\nafter\n"
    with pytest.raises(SystemExit, match="once and in this order"):
        readme.replaced("no markers", "new")
    assert any("our FP32" in claim.text for claim in claims.claims(tmp_path))


def test_a_candidate_that_computes_something_else_stops_the_benchmark(demo, tmp_path):
    task = Task(demo, tmp_path / "x.safetensors", GraphSpec(16, SIZE, input="tensor"), inference_weights(demo), None,
                np.zeros((1, 3, *SIZE), np.float32), tmp_path)
    candidate = ours("ours_fp32", "fp32", task)
    peers.check(candidate, {"cls": 1.0, "dense": 1.0, "largest_difference": 1e-6})
    with pytest.raises(SystemExit, match="differs from the reference"):
        peers.check(candidate, {"cls": 1.0, "dense": 1.0, "largest_difference": 0.01})
