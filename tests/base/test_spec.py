"""The plain types: what can be asked for, and what is said about what can't."""

from __future__ import annotations

import dataclasses

import pytest

from veca_edge.base.errors import EdgeError, GateError, MissingDependency, unknown_name
from veca_edge.base.spec import OUTPUTS, ExportSpec, GraphSpec, ImageSize
from veca_edge.model.config import FAMILIES, FAMILY_ROPE_ZERO, ModelConfig
from veca_edge.targets.table import TARGETS, target_named


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("256", ImageSize(256, 256)),
        ("256x384", ImageSize(256, 384)),
        ("256X384", ImageSize(256, 384)),
        ("1x1", ImageSize(1, 1)),
    ],
)
def test_image_size_reads(text, size):
    assert ImageSize.parse(text) == size
    assert ImageSize.parse(str(size)) == size


@pytest.mark.parametrize(
    "text", ["", "x", "256x", "x256", "0", "0x16", "-16", "16.5", "1x2x3", "big", "²", "٣", "9" * 9, "9" * 9999]
)
def test_image_size_refuses(text):
    with pytest.raises(EdgeError, match="not an image size"):
        ImageSize.parse(text)


def test_outputs_keep_the_order_of_the_format():
    assert GraphSpec(8, ImageSize(16, 16), outputs=("logits", "cls", "cls")).outputs == ("cls", "logits")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("outputs", ("class",), f"Unknown output 'class'.\nKnown: {', '.join(OUTPUTS)}."),
        ("outputs", (), "No output was asked for."),
        ("input", "jpeg", "Unknown input 'jpeg'.\nKnown: image, tensor, planar."),
        ("batch", 0, "Batch is 0."),
    ],
)
def test_graph_spec_refuses(field, value, message):
    with pytest.raises(EdgeError) as caught:
        dataclasses.replace(GraphSpec(8, ImageSize(16, 16)), **{field: value})
    assert str(caught.value).startswith(message)


def export_spec(**changes) -> ExportSpec:
    return dataclasses.replace(ExportSpec("cpu", (8,), ("int8",), (ImageSize(16, 16),)), **changes)


def test_export_spec_drops_repetitions():
    assert export_spec(core_counts=(16, 8, 16)).core_counts == (16, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"core_counts": ()}, "names no core counts"),
        ({"precisions": ()}, "names no precisions"),
        ({"image_sizes": ()}, "names no image sizes"),
        ({"min_cosine": 1.01}, "between -1 and 1"),
        ({"min_cosine": float("nan")}, "between -1 and 1"),
        ({"outputs": ("x",)}, "Unknown output"),
    ],
)
def test_export_spec_refuses(changes, message):
    with pytest.raises(EdgeError, match=message):
        export_spec(**changes)


def test_specs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        export_spec().batch = 2


def test_core_counts_of_a_model():
    config = FAMILIES["small"].config()
    assert config.core_counts == (8, 16, 24, 32, 40, 48, 56, 64)
    for count in (0, -8, 12, 72):
        with pytest.raises(EdgeError, match=rf"cannot run with {count} cores.*\nPossible: 8, 16"):
            config.check_core_count(count)


def test_grid_names_the_nearest_size():
    config = FAMILIES["small"].config()
    assert config.grid(256, 384) == (16, 24)
    with pytest.raises(EdgeError, match="256x256"):
        config.grid(250, 260)
    with pytest.raises(EdgeError, match="16x16"):
        config.grid(1, 7)


def test_families_rotate_as_they_were_trained():
    assert {family.config().rope_zero_fraction for family in FAMILIES.values()} == {FAMILY_ROPE_ZERO}


@pytest.mark.parametrize(
    "change",
    [
        {"heads": 3},
        {"heads": 0},
        {"heads": -1},
        {"heads": 32},
        {"hidden": 0},
        {"layers": 0},
        {"core_bank": 0},
        {"patch_size": 0},
        {"rope_zero_fraction": 1.5},
        {"rope_zero_fraction": float("nan")},
        {"rope_zero_from": "middle"},
    ],
)
def test_impossible_models_are_refused(change):
    with pytest.raises(EdgeError):
        dataclasses.replace(ModelConfig(64, 2, 3, 100, 8, 32, 8, 64), **change)


def test_unknown_names_list_the_known():
    with pytest.raises(EdgeError, match=r"Unknown target 'tpu'.\nKnown: cpu, jetson, apple."):
        target_named("tpu")
    with pytest.raises(EdgeError, match=r"'cpu' has no precision 'fp16'.\nKnown: int8, fp32."):
        target_named("cpu").check_precision("fp16")


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
def test_target_table_is_consistent(target):
    assert target.default_precision in target.precisions
    assert TARGETS[target.name] is target


def test_errors_by_type():
    assert EdgeError("x").exit_code == 2
    assert GateError("x").exit_code == 1
    missing = MissingDependency("coremltools", "apple", "Export for Apple")
    assert missing.exit_code == 2
    assert missing.hint == "Install it with: pip install 'veca-edge[apple]'"
    assert str(unknown_name("colour", "blue", ["red"])) == "Unknown colour 'blue'.\nKnown: red."
    assert str(EdgeError("Only this.")) == "Only this."
