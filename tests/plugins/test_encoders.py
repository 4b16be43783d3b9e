"""Encoders of classifiers and segmenters: what is frozen stays, what comes out fits, mirror images are answered on."""

import numpy as np
import pytest
import timm
import torch

from medaug_cli.plugin import ImageSpec
from medaug_cli.testing.examples import constructed
from medaug_cli.testing.trial import TrialRun
from medaug_plugins.classifier import ClassifierNetwork
from medaug_plugins.segmenter import SegmenterNetwork
from medaug_plugins.supervised.encoders import TimmEncoder

SPEC = ImageSpec(1, (32, 32), ("lesion",), ("bright", "dark", "normal"))
SMALL = "mobilenetv3_small_050"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Return the file of a small network's weights."""
    path = tmp_path_factory.mktemp("weights") / f"{SMALL}.pth"
    torch.save(timm.create_model(SMALL).state_dict(), path)
    return str(path)


@pytest.mark.parametrize("name", ["resnet10t", SMALL, "convnext_atto"])
@pytest.mark.parametrize("frozen", [0, 2, 9])
def test_so_many_of_the_finest_features_are_frozen(name, frozen, tmp_path):
    torch.save(timm.create_model(name).state_dict(), tmp_path / "weights.pth")
    network = TimmEncoder(name, 1, str(tmp_path / "weights.pth"), frozen).train()
    found = network(torch.rand(2, 1, 64, 64))
    assert [each.requires_grad for each in found] == [place >= frozen for place in range(len(found))]


def test_without_pretrained_weights_all_is_trained():
    network = TimmEncoder(SMALL, 1, "", 2)
    assert all(each.requires_grad for each in network.parameters())


def test_training_leaves_frozen_layers_as_they_were(weights):
    plugin = ClassifierNetwork(network=SMALL, pretrained=weights, frozen=2, batch=4, warm_up=1.0, lr=0.01, ema=0.5)
    before = plugin.build(SPEC)
    frozen = {id(value) for layer in before.body.frozen for value in layer.state_dict(keep_vars=True).values()}
    kept = {name for name, value in before.state_dict(keep_vars=True).items() if id(value) in frozen}
    plugin.fit(constructed(SPEC, n=6), TrialRun(2))
    after = plugin.state_dict()
    same = {name for name, value in before.state_dict().items() if torch.equal(value, after[name])}
    assert kept <= same
    assert {name for name in after if "running_mean" in name} - same
    assert len(kept) < len(after) / 2


@pytest.mark.parametrize(("size", "stem", "first"), [(32, 0, 1), (64, 0, 2), (32, 2, 2), (64, 1, 1)])
def test_large_images_are_halved_at_once(size, stem, first):
    plugin = SegmenterNetwork(width=4, levels=3, stem=stem)
    network = plugin.build(ImageSpec(1, (size, size), ("lesion",)))
    assert network.body.strides == [first, 2 * first, 4 * first]
    assert network.eval()(torch.rand(1, 1, size, size)).shape == (1, 2, size, size)


@pytest.mark.parametrize("make", [ClassifierNetwork, SegmenterNetwork])
@pytest.mark.parametrize("settings", [{}, {"mirror": False}, {"flip": False}])
def test_a_mirror_image_is_answered_on_alike_where_asked(make, settings):
    plugin, images = make(width=4, **settings), np.random.default_rng(0).random((3, 1, 32, 32), np.float32)
    torch.manual_seed(0)
    plugin.load_state_dict(plugin.build(SPEC).state_dict(), SPEC)
    with torch.no_grad():
        both = (images, images[..., ::-1].copy())
        straight, turned = (plugin.graph()(torch.from_numpy(each)).numpy() for each in both)
    back = turned if turned.ndim == 2 else turned[..., ::-1]
    assert np.allclose(straight.sum(1), 1, atol=1e-5)
    assert np.allclose(straight, back, atol=1e-5) == (not settings)
