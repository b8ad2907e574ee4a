"""Task heads in the files of every target, each executed, against the float32 reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from heads import layouts

from veca_edge.base.spec import GraphSpec, ImageSize
from veca_edge.base.tasks import HeadFile
from veca_edge.converters.coreml.options import CoremlOptions
from veca_edge.converters.tensorrt.options import TensorrtOptions
from veca_edge.converters.tensorrt.rtx import rtx_is_installed
from veca_edge.images.preprocessing import normalised
from veca_edge.model.checkpoint import random_checkpoint
from veca_edge.model.config import ModelConfig
from veca_edge.model.folding import inference_weights
from veca_edge.model.head_files import read_head
from veca_edge.model.plan import Variant
from veca_edge.model.reference import reference_model, reference_outputs

SIZE = ImageSize(32, 48)
CONFIG = ModelConfig(32, 2, 4, 48, 8, 16, 8, 32, 0.25)
# Together they read every kind of token, several blocks, and tokens before and behind the final norm.
TOGETHER = (
    ("DINOv2 classifiers", "DINOv2 segmentation, four blocks", "DINOv2 depth"),
    ("linear probe", "DINOv3 segmentation", "DINOv3 depth"),
    ("bare, with the mean of the patches", "bare convolution", "depth by regression"),
)
OUTPUTS = (
    ("cls", "dense", "logits", "segmentation", "segmentation_logits", "depth", "attention"),
    ("segmentation",),
    ("depth",),
    ("logits",),
    ("attention",),
)


@pytest.fixture(scope="module", params=TOGETHER, ids=lambda names: names[0])
def checkpoint(request, tmp_path_factory):
    directory, heads = tmp_path_factory.mktemp("heads"), []
    for layout in layouts(CONFIG.output_dim, CONFIG.hidden, CONFIG.layers):
        if layout.name in request.param:
            torch.save(layout.content, directory / "head.pth")
            heads.append(read_head(HeadFile(directory / "head.pth", name=layout.choose.lstrip("#") or None), CONFIG))
    return replace(random_checkpoint(CONFIG), heads=tuple(heads))


def frames_and_reference(checkpoint, spec: GraphSpec) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    frames = np.random.default_rng(0).integers(0, 256, (spec.batch, *SIZE, 3)).astype(np.uint8)
    pixels = torch.from_numpy(normalised(frames))
    expected = reference_outputs(reference_model(checkpoint), checkpoint, pixels, spec.core_count, spec.map_stride)
    return frames, {name: expected[name].numpy() for name in spec.outputs}


def assert_alike(made, expected, half: bool) -> None:
    """Within 1e-4, or what FP16 costs: labels on 98% of these random pixels, depth within 0.5%."""
    assert set(made) == set(expected)
    for name, value in made.items():
        assert value.shape == expected[name].shape
        if name == "segmentation":
            assert (value == expected[name]).mean() >= (0.98 if half else 0.999)
        elif name == "attention":
            assert np.abs(value / expected[name] - 1).max() < (1e-2 if half else 1e-4)
        elif name == "depth":
            assert (np.abs(value - expected[name]) / np.maximum(expected[name], 0.5)).max() < (5e-3 if half else 1e-3)
        else:
            assert np.abs(value - expected[name]).max() < (2e-2 if half else 1e-4) * max(1, np.abs(value).max())


# What is left out is the same whatever the precision: single outputs are asked of one.
@pytest.mark.parametrize(
    ("precision", "tensorrt", "outputs"),
    [*(("fp32", "10.3", outputs) for outputs in OUTPUTS), ("fp16", "10.3", OUTPUTS[0]), ("fp32", "8.5", OUTPUTS[0])],
)
def test_tensorrt(checkpoint, tmp_path, precision, tensorrt, outputs):
    """The lint is clean (else nothing is written), and ONNX Runtime computes what the reference says."""
    import onnxruntime

    from veca_edge.converters.tensorrt.dialects import tensorrt_models_from_variants

    spec = GraphSpec(8, SIZE, 2, outputs=outputs)
    variant = Variant(spec, precision, inference_weights(checkpoint))
    options = TensorrtOptions(tensorrt, compile=False)
    (artifact,) = tensorrt_models_from_variants([variant], tmp_path, {}, options)
    session = onnxruntime.InferenceSession(tmp_path / artifact.path)
    frames, expected = frames_and_reference(checkpoint, spec)
    assert [o.type for o in session.get_outputs() if o.name == "segmentation"] in ([], ["tensor(int32)"])
    made = dict(zip(spec.outputs, session.run(list(spec.outputs), {"image": frames}), strict=True))
    assert_alike(made, expected, half=precision == "fp16")


@pytest.mark.skipif(not rtx_is_installed(), reason="tensorrt-rtx is not installed")
def test_tensorrt_rtx_builds_it(checkpoint, tmp_path):
    from veca_edge.converters.tensorrt.dialects import tensorrt_models_from_variants

    spec = GraphSpec(8, SIZE, outputs=OUTPUTS[0])
    variant = Variant(spec, "fp16", inference_weights(checkpoint))
    (artifact,) = tensorrt_models_from_variants([variant], tmp_path, {})
    assert artifact.details["compile"]["plan_bytes"] > 0
    assert not artifact.details["compile"]["warnings"]


@pytest.mark.parametrize(("layout", "outputs"), [("tokens", OUTPUTS[0]), *(("ane", outputs) for outputs in OUTPUTS)])
def test_coreml(checkpoint, tmp_path, layout, outputs):
    from veca_edge.converters.coreml.packages import mlpackages_from_variants
    from veca_edge.rules.coreml import lint_mlpackage
    from veca_edge.runtime.program import open_mlpackage

    spec = GraphSpec(8, SIZE, outputs=outputs)
    variant = Variant(spec, "fp16", inference_weights(checkpoint))
    (artifact,) = mlpackages_from_variants([variant], tmp_path, {}, CoremlOptions(layout=layout))
    assert lint_mlpackage(tmp_path / artifact.path) == []
    frames, expected = frames_and_reference(checkpoint, spec)
    made = open_mlpackage(tmp_path / artifact.path, artifact.function)(frames)
    assert_alike(made, expected, half=True)


@pytest.mark.parametrize(("precision", "outputs"), [*(("fp32", outputs) for outputs in OUTPUTS), ("fp16", OUTPUTS[0])])
def test_litert(checkpoint, tmp_path, precision, outputs):
    """XNNPACK takes all but the ARG_MAX, and no other rule is broken."""
    pytest.importorskip("ai_edge_litert")
    from veca_edge.converters.litert.files import tflite_files_from_variants
    from veca_edge.rules.litert import lint_tflite
    from veca_edge.runtime.litert import check_partitions, open_tflite

    spec = GraphSpec(8, SIZE, 2, outputs=outputs)
    variant = Variant(spec, precision, inference_weights(checkpoint))
    artifacts = tflite_files_from_variants([variant], tmp_path, {})
    check_partitions(tmp_path, artifacts)
    for delegate in ("xnnpack", "gpu"):
        left = {f.message for f in lint_tflite(tmp_path / artifacts[0].path, delegate)}
        assert left == ({"the operator ARG_MAX"} if "segmentation" in outputs else set())
    frames, expected = frames_and_reference(checkpoint, spec)
    assert_alike(open_tflite(tmp_path, artifacts[0])(frames), expected, half=precision == "fp16")
