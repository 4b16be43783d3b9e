"""Regions are cut out, drawn and put back without a seam, and beyond their margin a slice stays as it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import laplace
from slices import ShortRun, Slices

from medaug_cli.blending import membrane
from medaug_cli.plugin import MARGIN, Condition, UsageError, image_seed, window
from medaug_plugins.regions import Regions
from medaug_plugins.regions.pasting import cut, put

SMALL = {"side": 16, "latent": 8, "base": 64, "max_maps": 8, "batch": 4}


def smooth(height, width, seed=0):
    a, b, c = np.random.default_rng(seed).uniform(0.1, 0.3, 3)
    y, x = np.mgrid[:height, :width]
    return (0.4 + a * np.sin(b * y) * np.cos(c * x))[None].astype(np.float32)


def test_a_membrane_is_harmonic_and_meets_its_border():
    border = np.random.default_rng(0).random((2, 9, 14))
    whole = border.copy()
    whole[:, 1:-1, 1:-1] = membrane(border)
    inside = np.stack([laplace(part)[1:-1, 1:-1] for part in whole])
    assert np.abs(inside).max() < 1e-5
    assert np.allclose(membrane(np.ones((1, 6, 5))), 1, atol=1e-6)


@pytest.mark.parametrize("poisson", [True, False])
@given(x=st.floats(-3, 50), y=st.floats(-3, 50), w=st.floats(2, 30), h=st.floats(2, 30))
def test_beyond_the_margin_a_slice_stays_bit_for_bit(poisson, x, y, w, h):
    host, box = smooth(48, 48), np.array([x, y, x + w, y + h], np.float32)
    region = np.random.default_rng(1).random((1, 16, 16), np.float32)
    result = put(host, box, region, MARGIN, poisson)
    beyond = np.ones(host.shape[1:], bool)
    grow = max(MARGIN, 1.5 / min(w, h))  # at least a pixel
    beyond[window(box, (48, 48), grow)] = False
    assert np.array_equal(result[:, beyond], host[:, beyond])
    assert result.dtype == np.float32
    assert np.isfinite(result).all()


def test_a_region_that_was_cut_out_is_put_back_where_it_was():
    """But for what two bilinear resamplings lose: a tenth of the slice's waves."""
    host, box = smooth(64, 64), np.array([20, 24, 40, 44], np.float32)
    region = cut(host, box, MARGIN, 64)
    for poisson in (True, False):
        assert np.abs(put(host, box, region, MARGIN, poisson) - host).max() < 0.03


def test_poisson_blending_leaves_no_seam():
    """A region that is brighter all over is put in with its pattern and without its brightness."""
    host, box = smooth(64, 64), np.array([20, 20, 44, 44], np.float32)
    pattern = np.zeros((1, 32, 32), np.float32)
    pattern[:, 12:20, 12:20] = 0.3
    result = put(host, box, pattern + cut(host, box, MARGIN, 32) + 0.2, MARGIN, poisson=True)
    steps = np.abs(np.diff(result - host, axis=2))[0]
    rows, columns = window(box, (64, 64), MARGIN)
    assert steps[rows, columns.start - 1].max() < 0.03
    assert (result - host)[0, 30:34, 30:34].mean() > 0.15


@pytest.mark.parametrize("poisson", [True, False])
def test_nothing_is_drawn_beyond_the_head(poisson):
    """A box that reaches over the head's edge: the background stays, and does not darken what lies in the head."""
    host, box = np.full((1, 64, 64), 0.5, np.float32), np.array([30, 20, 46, 36], np.float32)
    host[:, :, 40:] = 0
    region = np.full((1, 32, 32), 0.4, np.float32)
    region[:, 8:24, 8:24] = 0.6
    result = put(host, box, region, MARGIN, poisson)
    assert np.array_equal(result[:, :, 40:], host[:, :, 40:])
    assert result[0, 24:32, 34:40].min() > 0.45
    assert np.abs(np.diff(result[0, 20:36, :40], axis=1)).max() < 0.25


@pytest.mark.parametrize("blending", ["poisson", "soft"])
def test_it_draws_lesions_into_slices_of_its_own(blending):
    data = Slices((32, 32))
    plugin = Regions(**SMALL, blending=blending)
    plugin.fit(data, ShortRun(80))
    asked = [data.condition(i) for i in range(3)]
    drawn = list(plugin.sample(asked, [image_seed(1, i) for i in range(3)]))
    for each, condition in zip(drawn, asked, strict=True):
        untouched = np.ones((32, 32), bool)
        untouched[window(condition.boxes[0], (32, 32), 0.6)] = False
        assert sum(np.array_equal(each.image[:, untouched], own[:, untouched]) for own in data.images) == 1
        assert len(each.boxes) == 2
    again = Regions(**SMALL, blending=blending)
    again.load_state_dict(plugin.state_dict(), data.spec)
    assert np.array_equal(next(iter(again.sample(asked, [image_seed(1, 0)] * 3))).image, drawn[0].image)
    state = plugin.state_dict()
    assert not any("discriminator" in name or "score" in name for name in state)


def test_what_cannot_be_done_is_said():
    with pytest.raises(UsageError, match="side must be a power of two"):
        Regions(side=24)
    data = Slices((32, 32))
    plugin = Regions(**SMALL)
    with pytest.raises(UsageError, match="regions trains at --precision 32 or bf16"):
        plugin.fit(data, ShortRun(8, precision="16"))
    plugin.fit(data, ShortRun(8))
    with pytest.raises(Exception, match=r"these images are of \(32, 32\)"):
        next(iter(plugin.sample([Condition((16, 16), data.boxes[0], data.labels[0])], [1])))
