import pytest

from veca_edge.profiles.jetson.layers import ModelPart, model_part


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("blocks.3.fc1.gate.MatMul + blocks.3.fc1.gate.Add", "blocks.3.fc1"),
        ("blocks.3.q.MatMul || blocks.3.k.MatMul || blocks.3.v.MatMul", "blocks.3.qkv"),
        ("{ForeignNode[blocks.0.LayerNormalization...blocks.11.Add_3]}", "blocks.0 to blocks.11"),
        ("__myl_SoftDiv_blocks.2.Softmax", "blocks.2 attention and the rest"),
        ("patch_embed.Conv", "patch_embed"),
        ("Reformatting CopyNode for Input Tensor 0", "outside the blocks"),
        ("blocks.1.coordinates.Tanh", "blocks.1.coordinates"),
    ],
)
def test_parts_of_the_model(name, part):
    assert model_part(name).name == part


def test_blocks_of_a_part():
    assert model_part("{ForeignNode[blocks.0.a...blocks.5.b]}") == ModelPart(0, 5)
    assert model_part("blocks." + "9" * 5000) == ModelPart(9999, 9999)
