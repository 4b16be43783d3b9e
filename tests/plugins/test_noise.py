"""Latent numbers, normal or uniform, in every generator that is drawn from them."""

import numpy as np
import pytest
import torch
from slices import ShortRun, Slices

from medaug_cli.plugin import UsageError, as_drawn
from medaug_cli.registry import build
from medaug_plugins.layers import draw_latents

TINY = {
    "cpggan": {"latent": 8, "base": 64, "max_maps": 8, "batches": "4:4"},
    "boxgan": {"latent": 8, "base": 64, "max_maps": 8, "embedding": 4, "batch": 4},
    "inpaint": {"latent": 8, "width": 4, "max_maps": 8, "patch": 16, "batch": 4},
    "regions": {"latent": 8, "base": 64, "max_maps": 8, "side": 16, "batch": 4},
}
TINY["pggan"] = TINY["pggan-class"] = TINY["cpggan"]


@pytest.mark.parametrize(("kind", "spread", "most"), [("normal", 1.0, 6.0), ("uniform", 3**-0.5, 1.0)])
def test_latents_have_the_range_and_spread_of_their_kind(kind, spread, most):
    latents = draw_latents(kind, 2000, 16, torch.Generator().manual_seed(0))
    assert latents.shape == (2000, 16)
    assert float(latents.abs().max()) <= most
    assert float(latents.std()) == pytest.approx(spread, rel=0.02)
    assert float(latents.mean()) == pytest.approx(0, abs=0.03)
    assert torch.equal(latents, draw_latents(kind, 2000, 16, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("name", sorted(TINY))
def test_every_generator_that_is_drawn_from_numbers_takes_either_kind(name):
    data, images = Slices(), {}
    for kind in ("normal", "uniform"):
        plugin = build("generator", name, TINY[name] | {"noise": kind})
        plugin.fit(data, ShortRun(4))
        loaded = build("generator", name, TINY[name] | {"noise": kind})
        loaded.load_state_dict(plugin.state_dict(), data.spec)
        images[kind] = [
            as_drawn(next(iter(one.sample([data.condition(0)], [7]))), data.condition(0)).image
            for one in (plugin, loaded)
        ]
        np.testing.assert_array_equal(*images[kind])
    assert np.abs(images["normal"][0] - images["uniform"][0]).max() > 1e-6
    with pytest.raises(UsageError, match="noise=pink"):
        build("generator", name, {"noise": "pink"})


@pytest.mark.parametrize(("written", "grain"), [(True, True), (False, False), ("false", False)])
def test_boxgan_reads_files_whose_noise_said_whether_there_is_grain(written, grain):
    plugin = build("generator", "boxgan", {"noise": written})
    assert (plugin.noise, plugin.grain) == ("normal", grain)
