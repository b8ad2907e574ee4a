"""Head files in every public layout, against their published mathematics on the reference's features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from heads import features_of, layouts

from veca_edge.base.errors import EdgeError
from veca_edge.base.spec import GraphSpec, ImageSize
from veca_edge.base.tasks import HeadFile, Task
from veca_edge.images.preprocessing import normalised
from veca_edge.model.checkpoint import load_checkpoint, random_checkpoint, save_safetensors
from veca_edge.model.config import FAMILIES, ModelConfig
from veca_edge.model.folding import inference_weights
from veca_edge.model.head_files import read_head
from veca_edge.model.heads import bilinear_matrix
from veca_edge.model.reference import reference_model, reference_outputs
from veca_edge.model.torch_graph import InferenceModel
from veca_edge.runtime.onnxruntime import session_from_file, session_options

SIZE = ImageSize(32, 48)
PLAIN = ModelConfig(32, 2, 8, 48, 8, 16, 8, 32, 0.25)
PROJECTED = replace(PLAIN, output_dim=24)
NAMES = [layout.name for layout in layouts(32, 32, 8)]


@pytest.fixture(scope="module", params=[PLAIN, PROJECTED], ids=["plain", "projected"])
def checkpoint(request):
    return random_checkpoint(request.param)


def saved(tmp_path: Path, content: object, name: str = "head.pth") -> Path:
    torch.save(content, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("core_count", "map_stride"), [(8, 4), (16, 1)])
def test_public_layouts(checkpoint, tmp_path, name, core_count, map_stride):
    config = checkpoint.config
    (layout,) = (x for x in layouts(config.output_dim, config.hidden, config.layers) if x.name == name)
    head = read_head(HeadFile(saved(tmp_path, layout.content), name=layout.choose.lstrip("#") or None), config)
    assert head.task == layout.task
    with_head = replace(checkpoint, heads=(head,))
    frames = np.random.default_rng(1).integers(0, 256, (3, *SIZE, 3)).astype(np.uint8)
    image, output = torch.from_numpy(normalised(frames)), head.task.outputs[0]
    spec = GraphSpec(core_count, SIZE, 3, "image", (output,), map_stride)
    model = reference_model(checkpoint)
    expected = layout.output(features_of(model, image, core_count), spec.map_size).numpy()
    reference = reference_outputs(model, with_head, image, core_count, map_stride)[output].numpy()
    weights = inference_weights(with_head)
    with torch.inference_mode():
        (ours,) = InferenceModel(weights, spec).eval()(torch.from_numpy(frames))
    for made in (reference, ours.numpy(), by_onnxruntime(weights, spec, frames, tmp_path)):
        assert made.shape == expected.shape
        if output == "segmentation":
            assert (made == expected).mean() >= 0.999
        elif output == "depth":
            assert (np.abs(made - expected) / expected).max() < 1e-3
        else:
            assert np.abs(made - expected).max() < 1e-4


def by_onnxruntime(weights, spec, frames, tmp_path) -> np.ndarray:
    import onnx_ir as ir

    from veca_edge.converters.cpu import CpuDialect
    from veca_edge.converters.onnx.graph import onnx_from_veca

    ir.save(onnx_from_veca(weights, spec, CpuDialect, {}), tmp_path / "model.onnx")
    (made,) = session_from_file(tmp_path / "model.onnx", session_options(1)).run(None, {"image": frames})
    return np.asarray(made)


@pytest.mark.parametrize(("source", "target"), [(4, 16), (5, 7), (7, 5), (3, 3), (1, 4), (8, 2)])
def test_bilinear_matrix_is_what_pytorch_does(source, target):
    x = torch.randn(1, 2, source, 3)
    expected = F.interpolate(x, (target, 3), mode="bilinear", align_corners=False)
    torch.testing.assert_close(torch.from_numpy(bilinear_matrix(source, target)) @ x, expected)


def test_outputs_that_are_not_asked_for_cost_nothing(checkpoint):
    """A head for depth adds no operation to a graph of features alone."""
    from veca_edge.converters.onnx.dialect import Dialect
    from veca_edge.converters.onnx.graph import onnx_from_veca

    config = checkpoint.config
    head = by_task(config, Task.DEPTH)
    spec = GraphSpec(8, SIZE)
    plain = onnx_from_veca(inference_weights(checkpoint), spec, Dialect, {})
    with_head = onnx_from_veca(inference_weights(replace(checkpoint, heads=(head,))), spec, Dialect, {})
    assert [n.op_type for n in plain.graph] == [n.op_type for n in with_head.graph]


def by_task(config: ModelConfig, task: Task):
    """A plain head in memory."""
    from veca_edge.model.heads import DEPTH_RANGE, Head, Term, Tokens

    rng = np.random.default_rng(0)
    term = Term(config.layers - 1, Tokens.PATCHES, rng.normal(size=(256, config.output_dim)).astype(np.float32))
    return Head(task, (term,), np.zeros(256, np.float32), depth_range=DEPTH_RANGE if task == Task.DEPTH else None)


# --------------------------------------------------------------------------------------- bad files


def refused(tmp_path: Path, content: object, *said: str, config: ModelConfig = PLAIN, **options) -> None:
    path = saved(tmp_path, content)
    with pytest.raises(EdgeError) as caught:
        read_head(HeadFile(path, **options), config)
    for text in said:
        assert text in str(caught.value)
    assert caught.value.exit_code == 2


def layer(*shape: int, prefix: str = "") -> dict[str, torch.Tensor]:
    return {f"{prefix}weight": torch.zeros(shape), f"{prefix}bias": torch.zeros(shape[0])}


def test_heads_that_do_not_fit(tmp_path):
    refused(tmp_path, layer(5, 33), "takes 33 features", "gives 32")
    refused(tmp_path, layer(5, 9 * 32, prefix="decode_head.conv_seg."), "the last 9 blocks", "has 8")
    refused(tmp_path, layer(5, 10 * 32), "the last 9 blocks")
    refused(tmp_path, layer(256, 32, 1, 1, prefix="conv_depth."), "head for depth", task=Task.SEGMENT)
    refused(tmp_path, layer(9, 32), "256 bins", "9 scores", task=Task.DEPTH)
    refused(tmp_path, layer(1, 32, 1, 1), "separates nothing", task=Task.SEGMENT)
    refused(tmp_path, layer(256, 32, 1, 1, prefix="conv_depth."), "0 to 10 metres", depth_range=(0.0, 10.0))
    refused(tmp_path, layer(5, 32), "--depth-range is for", depth_range=(0.1, 10.0))
    refused(tmp_path, layer(5, 32), "has no name", name="one")
    refused(tmp_path, layer(256, 3 * 32, 1, 1, prefix="decode_head.conv_depth."), "joins each patch with cls")


def test_files_that_are_not_heads(tmp_path):
    refused(tmp_path, {"a": torch.zeros(3, 3)}, "'a' [3, 3]", "Known heads")
    refused(
        tmp_path, {"mlp.0.weight": torch.zeros(5, 32), "mlp.2.weight": torch.zeros(5, 5)}, "not a head that is known"
    )
    refused(tmp_path, {**layer(5, 32, prefix="linear."), "extra.weight": torch.zeros(5)}, "more than a linear head")
    refused(tmp_path, {}, "holds no head")
    refused(tmp_path, {"model": {"backbone.x": torch.zeros(3)}}, "holds no head")
    refused(tmp_path, {**layer(5, 32), "bn.running_var": torch.ones(32)}, "BatchNorm lacks")
    norm = {f"bn.{key}": torch.ones(31) for key in ("weight", "bias", "running_mean", "running_var")}
    refused(tmp_path, {**layer(5, 32), **norm}, "does not fit its layer")
    refused(tmp_path, layer(5, 32, 3, 3), "[5, 32, 3, 3]")


def test_a_file_with_several_classifiers_asks_which(tmp_path):
    names = [f"classifier_1_blocks_avgpool_{pool}_lr_0_1" for pool in ("False", "True")]
    content = {}
    for name, width in zip(names, (32, 64), strict=True):
        content |= layer(5, width, prefix=f"classifiers_dict.{name}.linear.")
    refused(tmp_path, content, "2 classifiers", names[0], f"#{names[0]}")
    refused(tmp_path, content, "classifier", "other", names[1], name="other")
    assert len(read_head(HeadFile(tmp_path / "head.pth", name=names[1]), PLAIN).terms) == 2


def test_two_heads_of_a_task_are_refused(tmp_path, checkpoint):
    save_safetensors(checkpoint, tmp_path / "model.safetensors")
    path = saved(tmp_path, layer(5, checkpoint.config.output_dim))
    options = {"heads": checkpoint.config.heads, "rope_zero": 0.25}
    with pytest.raises(EdgeError, match="Two heads for classify"):
        load_checkpoint(tmp_path / "model.safetensors", head_files=[HeadFile(path)] * 2, **options)


def test_labels_go_to_the_head_they_are_for(tmp_path, checkpoint):
    save_safetensors(checkpoint, tmp_path / "model.safetensors")
    width = checkpoint.config.output_dim
    heads = [
        HeadFile(saved(tmp_path, layer(2, width), "classify.pth")),
        HeadFile(saved(tmp_path, layer(3, width, 1, 1), "segment.pth")),
    ]
    two, three = tmp_path / "two.txt", tmp_path / "three.txt"
    two.write_text("a\nb\n")
    three.write_text("x\ny\nz\n")

    def load(labels):
        return load_checkpoint(tmp_path / "model.safetensors", head_files=heads, labels=labels)

    loaded = load({Task.CLASSIFY: two, Task.SEGMENT: three})
    assert [head.labels for head in loaded.heads] == [("a", "b"), ("x", "y", "z")]
    with pytest.raises(EdgeError, match="could name the classes of classify, segment"):
        load({None: two})
    with pytest.raises(EdgeError, match="has 2 labels for a head of 3 classes"):
        load({Task.SEGMENT: two})
    with pytest.raises(EdgeError, match="no head for depth"):
        load({Task.DEPTH: two})


def test_families_have_room_for_every_layout():
    assert all(family.layers >= 4 for family in FAMILIES.values())
