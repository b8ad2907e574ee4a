import torch

from veca_edge.base.spec import ImageSize
from veca_edge.calibration.activations import CORE_SHARE, collect_activations, sampled
from veca_edge.demo import demo_calibration
from veca_edge.images.folder import find_images, load_images
from veca_edge.model.folding import inference_weights


def test_core_tokens_have_their_share_of_the_rows():
    batch, cores, patches, most = 8, 4, 196, 1000
    rows = sampled((batch, cores + patches), cores, most, torch.Generator().manual_seed(0))
    assert rows.min() >= 0
    assert rows.max() < batch * (cores + patches)
    of_cores = rows % (cores + patches) < cores
    assert CORE_SHARE <= of_cores.float().mean() < CORE_SHARE + 0.05  # and some of those drawn among all
    assert set((rows % (cores + patches))[of_cores].tolist()) == set(range(cores))
    assert set((rows // (cores + patches))[of_cores].tolist()) == set(range(batch))


def test_patches_alone_are_drawn_alike():
    rows = sampled((2, 50), 0, 1000, torch.Generator().manual_seed(0))
    assert len(rows) == 100
    assert 0.35 < (rows < 50).float().mean() < 0.65


def test_every_layer_and_core_count_has_as_many_rows(short_demo):
    weights = inference_weights(short_demo)
    images = load_images(find_images(demo_calibration())[:16], ImageSize(32, 32))
    found = collect_activations(weights, [images.frames], (8, 64), rows=100)
    assert found.keys() == weights.linears.keys()
    for name, layer in weights.linears.items():
        assert {count: tuple(rows.shape) for count, rows in found[name].items()} == {
            8: (100, layer.weight.shape[1]),
            64: (100, layer.weight.shape[1]),
        }
