"""Generators draw volumes by the code that draws slices: lesions in their boxes, and hosts that stay as they are."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch

from medaug_cli.plugin import MARGIN, Condition, Drawn, ImageSpec, UsageError, window
from medaug_cli.testing.contract import Subject, check_other_dims
from medaug_cli.testing.examples import constructed
from medaug_cli.testing.generators import draw
from medaug_cli.testing.trial import TrialRun
from medaug_plugins.boxgan import BoxGAN
from medaug_plugins.boxgan.networks import regions
from medaug_plugins.controls import CopyPaste, Duplicate, Procedural
from medaug_plugins.hosts import Bank, aligned, healed
from medaug_plugins.inpaint import Inpaint
from medaug_plugins.layers.augment import Augmentation, change
from medaug_plugins.regions import Regions

SPEC = ImageSpec(1, (16, 16, 16), ("lesion", "cyst"), masks=True)
BOXGAN = {"latent": 4, "base": 64, "max_maps": 8, "embedding": 4, "batch": 4, "r1_every": 1, "crop": 0.5}
SMALL = {
    CopyPaste: {},
    Procedural: {},
    Duplicate: {},
    Inpaint: {"patch": 16, "latent": 4, "width": 4, "max_maps": 8, "batch": 4, "r1_every": 1},
    Regions: {"side": 16, "latent": 4, "base": 64, "max_maps": 8, "batch": 4},
    BoxGAN: BOXGAN,
}


@pytest.fixture(scope="module")
def data():
    return constructed(SPEC)


@pytest.mark.parametrize("plugin", SMALL, ids=lambda plugin: plugin.__name__)
def test_it_is_fitted_on_volumes_and_draws_them_again_when_loaded(plugin):
    said = check_other_dims(Subject("generator", plugin, SMALL[plugin], plugin), draw)
    assert said == "it also takes 3D images"


def fitted(plugin, data, **changed):
    made = plugin(**SMALL[plugin] | changed)
    made.fit(data, TrialRun(4))
    return made


@pytest.mark.parametrize("plugin", [CopyPaste, Procedural, Inpaint, Regions], ids=lambda plugin: plugin.__name__)
def test_a_host_stays_as_it_is_beyond_the_margin(plugin, data):
    made = fitted(plugin, data)
    conditions = [data.condition(i) for i in range(4)]
    for condition, drawn in zip(conditions, made.sample(conditions, range(4)), strict=True):
        assert isinstance(drawn, Drawn)
        beyond = np.ones(SPEC.spatial, bool)
        for box in condition.boxes:
            beyond[window(box, SPEC.spatial, max(MARGIN, 1.5 / float((box[3:] - box[:3]).min())))] = False
        hosts = [i for i in range(len(data)) if np.abs(drawn.image - data.images[i])[0][beyond].max() < 1e-6]
        assert hosts
        host = hosts[0]
        assert (np.abs(drawn.image - data.images[host])[0][~beyond]).max() > 1e-3
        assert drawn.boxes.shape == (len(condition.boxes) + len(data.boxes[host]), 6)
        if drawn.mask is not None:
            assert (drawn.mask[beyond] == data.condition(host).mask[beyond]).all()
            assert drawn.mask.any()


def test_a_repeated_volume_shows_its_lesion_in_the_asked_box(data):
    made = fitted(Duplicate, data, contrast=0.0, brightness=0.0)
    asked = np.array([[4, 5, 6, 9, 10, 11]], np.float32)
    drawn = next(iter(made.sample([Condition(SPEC.spatial, asked, np.array([0]))], [3])))
    inside = np.zeros(SPEC.spatial, bool)
    inside[6:11, 5:10, 4:9] = True
    assert drawn.image[0][inside].mean() > 0.6 > drawn.image[0][~inside].mean() + 0.2
    assert drawn.mask[inside].mean() > 0.6


def test_boxes_of_a_volume_are_aligned_and_healed():
    image, box = np.full((1, 12, 14, 16), 0.3, np.float32), np.array([3, 2, 4, 7, 8, 9], np.float32)
    image[0, 4:9, 2:8, 3:7] = 0.9
    to = np.array([[6, 5, 2, 12, 9, 6]], np.float32)
    moved = aligned(image, box[None], to)
    assert moved[0, 3:5, 6:8, 7:11].min() > 0.85
    assert aligned(image, box[None], box[None]) is image
    smooth = healed(image, box)
    assert np.abs(smooth - 0.3).max() < 1e-6
    ramp = np.indices((12, 14, 16)).sum(0, dtype=np.float32)[None] / 60
    assert np.abs(healed(ramp, box) - ramp).max() < 1e-5


def test_a_bank_of_volumes_knows_where_there_is_room(data):
    bank = Bank.read(data)
    corner = np.array([0, 0, 0, 3, 3, 3], np.float32)
    assert bank._inside(corner, bank._heads).shape == (len(bank),)
    assert (bank._inside(corner, bank._heads) == 1).all()
    for i, boxes in enumerate(bank.boxes):
        assert bank._covered(boxes[0])[i] == pytest.approx(1)
    assert bank.host(corner[None], np.array([0]), np.random.default_rng(0)) < len(bank)


@pytest.mark.parametrize("form", ["boxes", "mask"])
def test_boxgan_takes_boxes_or_masks_of_volumes(data, form):
    made = fitted(BoxGAN, data, form=form, max_maps=4)
    condition = data.condition(3)
    changed = replace(condition, mask=np.zeros_like(condition.mask)) if form == "mask" else data.condition(0)
    first, other = made.sample([condition, changed], [1, 1])
    assert first.shape == (1, 16, 16, 16)
    assert np.abs(first - other).max() > 1e-4
    assert made.knows(SPEC) == ({"boxes", "mask"} if form == "mask" else {"boxes"})


def test_a_procedural_lesion_that_no_voxel_shows_fills_its_box_of_the_mask(data):
    asked = np.array([[7.75, 7.75, 7.75, 8.25, 8.25, 8.25]], np.float32)
    drawn = next(iter(fitted(Procedural, data).sample([Condition(SPEC.spatial, asked, np.array([0]))], [3])))
    assert drawn.mask.shape == SPEC.spatial
    assert drawn.mask[7:9, 7:9, 7:9].any()
    beyond = np.ones(SPEC.spatial, bool)
    beyond[7:9, 7:9, 7:9] = False
    assert any((drawn.mask[beyond] == data.condition(i).mask[beyond]).all() for i in range(len(data)))


@pytest.mark.parametrize(("dims", "patch", "side"), [(2, 0, 64), (3, 0, 32), (3, 16, 16)])
def test_patches_of_volumes_are_smaller(dims, patch, side):
    size = Inpaint(patch=patch).architecture(ImageSpec(1, (64,) * dims, ("lesion",)))
    assert size.shape == (side,) * dims


@pytest.mark.parametrize("patch", [8, 24, 33])
def test_a_patch_of_another_size_is_refused(patch):
    with pytest.raises(UsageError, match=f"patch={patch}: expected 0 or a power of two from 16 on"):
        Inpaint(patch=patch).architecture(SPEC)


@pytest.mark.parametrize("plugin", [BoxGAN, Inpaint], ids=lambda plugin: plugin.__name__)
def test_a_run_on_volumes_that_was_stopped_goes_on_as_if_it_had_not(plugin, data):
    whole = TrialRun(16)
    made = plugin(**SMALL[plugin])
    made.fit(data, whole)
    done, saved = whole.saved
    assert 0 < done < 16
    again = plugin(**SMALL[plugin])
    again.fit(data, TrialRun(16, state=torch.load(io.BytesIO(saved), weights_only=True)["state"]))
    first, second = made.state_dict(), again.state_dict()
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_crops_of_volumes_are_pooled_over_eighths_and_a_ring():
    boxes = torch.zeros(2, 1, 8, 8, 8)
    boxes[0, 0, 2:6, 1:5, 3:7] = 1
    boxes[1, 0, :2, :2, :2] = 1
    found = regions(boxes)
    assert found.shape == (2, 10, 8, 8, 8)
    assert torch.allclose(found.sum((2, 3, 4)), torch.ones(2, 10), atol=1e-3)
    assert torch.allclose(found[:, 1:9].sum(1) * (boxes.sum((2, 3, 4)) / 8).reshape(2, 1, 1, 1), boxes[:, 0], atol=1e-3)


def test_volumes_move_with_their_conditions():
    rng = torch.Generator().manual_seed(0)
    augmentation = Augmentation(1.0, flip=True, shift=0.2, zoom=0.0, dims=3)
    images = torch.rand(8, 1, 8, 10, 12, generator=rng)
    moves = augmentation.draw_moves(8, rng)
    assert moves.shape == (8, 3, 4)
    tones = torch.tensor([[1.0, 0.0]] * 8)
    moved, told = change(images, images, moves, tones)
    assert torch.allclose(moved, told, atol=1e-5)
    assert (moves[:, 0, 0] < 0).any()
    assert (moves[:, 1, 1] > 0).all()
    assert (moves[:, 2, 2] > 0).all()
    every_way = replace(augmentation, flip_rows=True).draw_moves(64, rng)
    assert len({tuple(torch.sign(torch.diagonal(each[:, :3])).tolist()) for each in every_way}) == 8
