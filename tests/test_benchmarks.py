"""The benchmarks run, and what they compare is comparable. Times are not looked at."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import browsers
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks import claims, elastic, fidelity, governor, gpu, litert, npu, peers, preparing, readme, scaling, web
from benchmarks.bundles import made_bundle
from benchmarks.common import (
    absmax_quantized,
    hard_twin,
    interleaved,
    linear_of,
    loud_products_twin,
    loud_stream_twin,
    random_frames,
    random_images,
    write_result,
)
from benchmarks.dense_vit import TOKENS, dense_checkpoint, onnx_from_dense
from benchmarks.toolchains import INT8_TARGETS, Task, ours
from benchmarks.worker import agreement
from veca_edge.base.spec import GraphSpec, ImageSize
from veca_edge.converters.qnn.contexts import CompilerCost
from veca_edge.demo import demo_evaluation
from veca_edge.images.folder import find_images, load_images
from veca_edge.model.checkpoint import random_checkpoint
from veca_edge.model.config import NORM_EPS, Family
from veca_edge.model.folding import inference_weights
from veca_edge.model.reference import reference_model
from veca_edge.model.rotary import patch_coordinates, rotary_tables
from veca_edge.model.torch_graph import rotate_halves
from veca_edge.runtime.onnxruntime import session_from_file, session_options

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
    assert {key.split(".")[-2] for key in changed} >= {
        "norm_attn",
        "norm_ffn",
        "q_proj",
        "v_proj",
        "out_proj",
        "fc1",
        "fc2",
    }
    factors = twin.tensors["blocks.0.norm_ffn.weight"] / checkpoint.tensors["blocks.0.norm_ffn.weight"]
    assert 1 / 64 <= factors.min() < 1 / 16
    assert 16 < factors.max() <= 64


def test_loud_twins_are_the_same_function_but_for_what_fp16_holds(short_demo, monkeypatch):
    """The GPU's part is taken by the CPU here. Products are scaled back by the export; the stream is infinite."""
    monkeypatch.setattr(gpu, "CORE_COUNTS", (16,))
    monkeypatch.setattr(
        gpu, "on_gpu", lambda path, artifact: lambda batch: {"cls": np.ones((1, 192)), "dense": np.ones((1, 64, 192))}
    )
    frames = random_frames(2, ImageSize(32, 32))
    rows = {}
    for twin in (loud_products_twin, loud_stream_twin):
        for row in gpu.compared("demo", twin.__name__, twin(short_demo), frames, ("fp16", "fp32")):
            rows[twin, row["precision"], row["output"]] = row["written out"]
    for output in gpu.OUTPUTS:
        assert rows[loud_products_twin, "fp16", output] < 1e-5
        assert rows[loud_products_twin, "fp32", output] < 1e-9
        assert rows[loud_stream_twin, "fp32", output] < 1e-9
        assert rows[loud_stream_twin, "fp16", output] is None


def test_what_a_gpu_gave_is_told(tmp_path):
    row = {"model": "demo", "weights": "hard", "cores": 8, "precision": "fp16", "output": "cls"}
    lost = {"GPU": 2e-7, "written out": 1e-7, "as written": 1e-8}
    rows = [{**row, **lost}, {**row, "weights": "loud", **lost, "GPU": None}]
    write_result(tmp_path, "gpu", {"benchmark": "gpu", "gpu": "a GPU", "started_at": "2026-01-02", "rows": rows})
    text = readme.rendered(tmp_path)
    assert "| demo, hard weights | fp16 | a GPU | 2.0e-07 | 1.0e-07 | 1.0e-08 |" in text
    assert "| demo, loud weights | fp16 | a GPU | not a number |" in text
    assert [claim.holds for claim in claims.claims(tmp_path)] == [False, False]


def test_plain_ranges_reach_every_layer(demo, tmp_path):
    weights, images = inference_weights(demo), random_images(2, ImageSize(32, 32))
    task = Task(
        demo, tmp_path / "unused", GraphSpec(16, ImageSize(32, 32), input="tensor"), weights, None, images, tmp_path
    )
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
        return F.layer_norm(
            x, (TINY.hidden,), *(None if a is None else torch.from_numpy(a) for a in (gain, shift)), NORM_EPS
        )

    patches = (
        F.conv2d(
            torch.from_numpy(image), torch.from_numpy(weights.patch_weight), torch.from_numpy(weights.patch_bias), 16
        )
        .flatten(2)
        .transpose(1, 2)
    )
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
        assert sorted(calls[9 * number : 9 * number + 9]) == sorted("aaabbbccc")


def test_from_measurement_to_readme(tmp_path, capsys):
    """The smallest peers and scaling runs there are, in real processes, and the tables that come of them."""
    checkpoint = random_checkpoint(TINY.config())
    spec = GraphSpec(16, ImageSize(32, 32), input="tensor")
    result = peers.measure(checkpoint, spec, 1, 2, 1, ("eager", "ours_fp32", "ours_int8"), 1)
    kept = 2 - result["discarded_rounds"]
    assert kept >= 1
    assert [len(row["samples_ms"]) for row in result["candidates"]] == [kept] * 3
    assert all(row["peak_memory_bytes"][0] > 0 for row in result["candidates"])
    assert set(result["gemm_share"]) == {"ours_fp32", "ours_int8"}
    for name, part in result["gemm_share"].items():
        assert 0 < result["attention_gemm_share"][name] < part < 1
    write_result(tmp_path, "peers", {**result, "image_size": [256, 256]})
    result = scaling.measure(TINY, [8], [32], 1, 2, 1, 0)
    assert "dense ViT" in scaling.summary(result)
    write_result(tmp_path, "scaling", result)
    result = elastic.measure(TINY, ImageSize(32, 32), [8, 64], 1, 1, 1)
    assert {count: len(ms) for count, ms in result["first_ms"].items()} == {8: 1, 64: 1}
    assert result["memory_bytes"]["one"][0] > 0
    write_result(tmp_path, "elastic", result)
    result = litert.measure(checkpoint, [32], 16, [1], 2, 1, 0)
    assert {len(row["samples_ms"]) for row in result["rows"]} <= {1, 2}  # without the rounds that were slow for all
    write_result(tmp_path, "litert", result)
    section = readme.rendered(tmp_path)
    assert "| small, 32 px, 16 cores, 1 thread |" in section
    assert "| 2 core counts, INT8 |" in section
    assert "| small, 256 px, 16 cores |" in section
    assert "| VECA, 64 cores | 1.623 |" in section
    assert "veca-edge INT8" in readme.summary(tmp_path)
    text = f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n"
    assert readme.replaced(text, "new") == f"before\n{readme.BEGIN}\nnew\n{readme.END}\nafter\n"
    with pytest.raises(SystemExit, match="once and in this order"):
        readme.replaced("no markers", "new")
    said = [claim.text for claim in claims.claims(tmp_path)]
    assert any("our FP32" in text for text in said)
    assert any("a switch, ms" in text for text in said)


def test_preparing_is_timed_in_every_layout_beside_the_one_step(monkeypatch):
    monkeypatch.setitem(preparing.VIDEO_SIZES, "1080p", (270, 480))
    result = preparing.measure("1080p", ImageSize(64, 64), 1, 1)
    assert list(result["median_ms"]) == ["rgb", "i420", "nv12", "yuyv", "in one step"]
    assert 0 < result["difference"] < 1
    assert result["findings"]["close"][0]


def test_a_candidate_that_computes_something_else_stops_the_benchmark(demo, tmp_path):
    task = Task(
        demo,
        tmp_path / "x.safetensors",
        GraphSpec(16, SIZE, input="tensor"),
        inference_weights(demo),
        None,
        np.zeros((1, 3, *SIZE), np.float32),
        tmp_path,
    )
    candidate = ours("ours_fp32", "fp32", task)
    peers.check(candidate, {"cls": 1.0, "dense": 1.0, "largest_difference": 1e-6})
    with pytest.raises(SystemExit, match="differs from the reference"):
        peers.check(candidate, {"cls": 1.0, "dense": 1.0, "largest_difference": 0.01})


def test_the_governor_is_given_a_budget_that_can_be_held():
    alone, beside = {8: [50.0] * 20, 64: [70.0] * 20}, {8: [100.0] * 19 + [120.0], 64: [140.0] * 20}
    budget = governor.chosen_budget(alone, beside)
    assert budget == pytest.approx(1.05 * 101.0)
    assert governor.within(beside[8], budget) == 0.95
    with pytest.raises(SystemExit, match="nothing to govern"):
        governor.chosen_budget(alone, {8: [100.0] * 20, 64: [104.0] * 20})
    with pytest.raises(SystemExit, match="even without the load"):
        governor.chosen_budget({8: [95.0] * 20, 64: [120.0] * 20}, {8: [100.0] * 20, 64: [130.0] * 20})


def test_what_the_governor_promises_is_counted_after_settling():
    # A frame every 0.1 s: 64 cores alone; beside the competitor 16, then 8, and 2 of its 50 settled frames late.
    frames = [
        governor.Timed(
            t / 10, 64 if t < 105 or t >= 210 else 16 if t < 112 else 8, 50.0 if t not in (103, 104, 160, 170) else 90.0
        )
        for t in range(300)
    ]
    moves = [10.5, 11.2, 20.95]
    spans = (("alone", 0.0, 10.0), ("beside", 10.0, 20.0), ("alone again", 20.0, 30.0))
    alone, beside, again = (
        governor.phase_of(name, frames, moves, start, stop, 5.0, 60.0, 8) for name, start, stop in spans
    )
    assert (alone.frames, alone.within_budget, alone.core_count, alone.switches_per_second) == (50, 1.0, 64, 0.0)
    assert (beside.frames, beside.within_budget, beside.missed_at_smallest) == (50, 0.96, 0.04)
    assert (beside.lowest, beside.highest, beside.core_count, beside.switches_per_second) == (8, 64, 8, 0.0)
    assert (again.lowest, again.core_count) == (8, 64)
    found = governor.findings(alone, beside, again)
    assert {name: kept for name, (kept, _) in found.items()} == dict.fromkeys(("within", "steady", "down", "up"), True)
    assert found["within"][1] == "98.7% of 150 frames within the budget after settling"
    worse = governor.findings(
        alone, governor.phase_of("beside", frames, [15.0 + i / 2 for i in range(10)], 10.0, 20.0, 5.0, 45.0, 8), beside
    )
    assert {name: kept for name, (kept, _) in worse.items()} == {
        "within": False,
        "steady": False,
        "down": True,
        "up": False,
    }
    with pytest.raises(SystemExit, match="No frame"):
        governor.phase_of("short", frames, [], 28.0, 30.0, 5.0, 60.0, 8)


def test_the_governor_beside_a_real_process(tmp_path):
    """The smallest run there is: the bundle, the competitor and the phases are real; the times are not looked at."""
    bundle = made_bundle(TINY, ImageSize(32, 32), [8, 64], tmp_path)
    assert bundle.core_counts == (8, 64)
    frames, decisions, changes = governor.governed(bundle, 1, 1, (0.2, 0.2, 0.2), 1e-6, governor.demo_evaluation())
    assert 0 < changes[0] < changes[1] < frames[-1].at
    assert (decisions[0].before, decisions[0].after) == (64, 8)
    assert set(governor.latencies(bundle, 1, 2, next(governor.demo_evaluation().rglob("*.jpg")))) == {8, 64}


def test_the_governor_of_whole_frames(tmp_path):
    """The same with a video and a frame's budget, which is of the age that live runs report."""
    bundle = made_bundle(TINY, ImageSize(32, 32), [8, 64], tmp_path)
    video = governor.made_video(tmp_path / "video.mp4", (72, 128), 20)
    taken = governor.ages(bundle, 1, 6, video)
    assert {count: len(ms) for count, ms in taken.items()} == {8: 6, 64: 6}
    assert min(taken[8]) > 0
    frames, decisions, _ = governor.governed(bundle, 1, 1, (0.2, 0.2, 0.2), 1e-6, video, of_frame=True)
    assert len(frames) > 3
    assert "of 1e-06 ms: no core count can help" in decisions[0].reason


def test_a_frame_that_no_core_count_could_make_does_not_count():
    frames = [governor.Timed(i / 10, 8, 90.0 if i % 2 else 50.0) for i in range(300)]
    spans = [("alone", 0, 10), ("beside", 10, 20), ("alone again", 20, 30)]
    phases = [governor.phase_of(name, frames, [], start, stop, 5.0, 60.0, 8) for name, start, stop in spans]
    assert governor.findings(phases[0], phases[1], phases[2], of_frame=True)["within"][0]
    assert not governor.findings(phases[0], phases[1], phases[2])["within"][0]
    for_larger = [governor.phase_of(name, frames, [], start, stop, 5.0, 60.0, 4) for name, start, stop in spans]
    assert not governor.findings(for_larger[0], for_larger[1], for_larger[2], of_frame=True)["within"][0]


def test_fidelity_on_every_target(short_demo, tmp_path):
    """Ours alone, of two blocks on a few images: enough to see that every file runs and is told of."""
    checkpoint = short_demo
    paths = find_images(demo_evaluation())
    calibrating, judging = (
        load_images(chosen, ImageSize(32, 32), classes=checkpoint.labels) for chosen in (paths[:8], paths[8:16])
    )
    result = fidelity.measure(checkpoint, calibrating, judging, [8], [*INT8_TARGETS], 1)
    assert {(row["weights"], row["name"]) for row in result["rows"]} == {
        (weights, name) for weights in ("original", "hard") for name in INT8_TARGETS
    }
    assert all(row["dense"]["mean"] > 0.99 for row in result["rows"])
    write_result(tmp_path, "fidelity", result)
    section = readme.rendered(tmp_path)
    for target in ("cpu", "jetson", "apple", "android"):
        assert f"| {target} |" in section
    assert len([claim for claim in claims.claims(tmp_path) if " on apple, 8 cores" in claim.text]) == 6


def test_rounds_in_which_the_machine_was_slow_for_all_do_not_count():
    from benchmarks.race import counting_rounds

    rounds = [{"a": [10.0, 10.1], "b": [20.0], "c": [30.0]} for _ in range(8)]
    rounds[3] = {"a": [15.0, 15.0], "b": [30.0], "c": [45.0]}
    rounds[5] = {"a": [10.0, 10.0], "b": [20.0], "c": [90.0]}  # slow for one alone: it has to live with that
    assert counting_rounds(rounds) == [taken for i, taken in enumerate(rounds) if i != 3]
    assert counting_rounds([]) == []


def test_a_model_through_the_npu_s_compiler(demo, tmp_path, monkeypatch):
    """Beside the compiler and its emulation, which `tests/converters/qnn` runs: what is kept of them, and judged."""
    images = load_images(find_images(demo_evaluation())[:8], ImageSize(32, 32))
    asked = []

    def compiled(variants, directory, facts, options):
        asked.append((options.npu, options.npu_precision, [v.precision for v in variants]))
        (soc,), (precision,) = options.npu, options.npu_precision
        made = {
            "path": "x.onnx",
            "soc": soc,
            "precision": precision,
            "bytes": 3_500_000,
            "sdk": "QAIRT 1",
            "package": "q",
        }
        made |= {"placement": {"htp": 9, "cpu": 0}, "compile_s": 2.0, "compile_peak_bytes": 200_000_000}
        return {variants[0].name: [made]}

    likeness = {"cls": 0.9999, "dense": 0.9985}
    monkeypatch.setattr(npu, "compile_contexts", compiled)
    monkeypatch.setattr(npu, "emulated", lambda *given: (likeness, CompilerCost(9.0, 300_000_000)))
    options = npu.SnapdragonOptions(("SM8650", "SM8750"), ("fp16", "a16w8"))
    results = list(npu.measure(demo, images, images.frames[:3], 8, options))
    assert [len(result["rows"]) for result in results] == [1, 2, 3, 4]
    assert asked[0] == (("SM8650",), ("fp16",), ["int8", "fp32"])
    row = results[-1]["rows"][0]
    assert (row["emulation_s_per_frame"], row["emulation_peak_bytes"]) == (3.0, 300_000_000)
    # 0.9985 is enough for a16w8, but not for fp16.
    assert npu.below(results[-1]["rows"]) == [f"{soc} fp16: dense 0.99850, below 0.999" for soc in options.npu]
    write_result(tmp_path, "npu", results[-1])
    section = readme.rendered(tmp_path)
    assert (
        "| `veca_tiny_cifar10`, 32 px, 8 cores: `a16w8`, SM8750 | 0.9999000 | 0.9985000 | 3.5 | 200 | 300 |" in section
    )


def test_the_page_in_a_browser(tmp_path, monkeypatch):
    """The smallest run there is: first frames, interleaved rounds in Chromium, and the tables that come of them."""
    monkeypatch.setattr(web, "LOOKED_AT_S", 0.2)
    monkeypatch.setattr(web, "BROWSERS", browsers.NAMES)
    monkeypatch.setattr(web, "WORDS", browsers.WORDS)
    monkeypatch.setattr(web, "ProfileOptions", partial(web.ProfileOptions, samples=4, warmup_seconds=0.01))
    words = ["--image-size=32", "--cores=8,64", "--loads=1", "--rounds=2", "--seconds=0.05"]
    with ThreadPoolExecutor(1) as another:  # a thread has one Playwright, and this one's may serve the page's tests
        done = another.submit(web.measured, web.parsed([*words, "--family=small"]), tmp_path, TINY).result()
    assert [row["core_counts"] for row in done["first_frames"]] == [[8], [8, 64]]
    assert all(ms > 0 for row in done["first_frames"] for ms in row["first_ms"])
    assert {(row["core_count"], row["precision"]) for row in done["rows"]} == {
        (count, precision) for count in (8, 64) for precision in ("int8", "fp32")
    }
    result = {"benchmark": "web", "family": "small", "image_size": [256, 256], "started_at": "2026-01-01", **done}
    results = tmp_path / "results"
    write_result(results, "web", result)
    section = readme.rendered(results)
    assert "In the browser: `small`" in section
    assert "| 64 cores |" in section
    assert any("the first frame, ms" in claim.text for claim in claims.claims(results))
