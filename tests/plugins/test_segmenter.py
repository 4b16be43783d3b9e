"""The segmenter: it learns outlines in two and three dimensions, and moves masks as it moves images."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.metrics.segmentation import dice
from medaug_cli.plugin import Condition, ImageSpec, Segmenter
from medaug_cli.testing.examples import constructed
from medaug_cli.testing.trial import TrialRun, thawed
from medaug_plugins.segmenter import SegmenterNetwork, label_map, segmentation_losses
from medaug_plugins.segmenter.patches import cut, put_together, starts
from medaug_plugins.supervised.augment import augment
from medaug_plugins.supervised.settings import TrainingSettings
from medaug_plugins.supervised.whole_images import each

TINY: dict[str, Any] = {"width": 4, "levels": 3, "batch": 6, "warm_up": 1.0, "lr": 0.01, "ema": 0.8}
SPEC = ImageSpec(1, (32, 32), ("lesion",))


def fitted(data, budget, seed=0, state=None, **settings):
    plugin, run = SegmenterNetwork(**TINY | settings), TrialRun(budget, seed=seed, state=state)
    plugin.fit(data, run)
    return plugin, run


@pytest.mark.parametrize(("spatial", "batch"), [((32, 32), 6), ((16, 16, 16), 4)])
def test_it_learns_the_outlines_it_sees(spatial, batch, training_seed):
    data = constructed(replace(SPEC, spatial=spatial), seed=training_seed)
    plugin, _ = fitted(data, budget=50, seed=training_seed, batch=batch, levels=2, lr=0.02)
    answers = np.stack(list(plugin.predict(data.images))) > 0
    truth = np.stack([label_map(data, i) for i in range(len(data))]) > 0
    assert dice(truth.sum(), answers.sum(), (truth & answers).sum()) > 0.6
    assert torch.is_grad_enabled()


def test_it_can_be_fitted_further():
    data = constructed(SPEC)
    plugin, _ = fitted(data, budget=2)
    before = {name: value.clone() for name, value in plugin.state_dict().items()}
    plugin.fit(data, TrialRun(2, seed=1))
    assert any(not torch.equal(value, before[name]) for name, value in plugin.state_dict().items())


def test_it_keeps_the_protocol():
    assert isinstance(SegmenterNetwork(), Segmenter)


def test_a_resumed_run_ends_in_the_same_weights():
    data = constructed(SPEC)
    whole, run = fitted(data, budget=6)
    assert run.saved is not None
    resumed, _ = fitted(data, budget=6, state=thawed(run.saved[1]))
    assert all(torch.equal(a, b) for a, b in zip(
        whole.state_dict().values(), resumed.state_dict().values(), strict=True
    ))  # fmt: skip


def test_several_labels_are_told_apart():
    data = constructed(replace(SPEC, mask_names=("lesion", "cyst")))
    plain = data.condition

    def condition(index):
        found = plain(index)
        mask = np.where(np.arange(32) < 16, 1, 2) * (found.mask > 0)  # left of the middle a lesion, right of it a cyst
        return Condition(found.spatial, found.boxes, found.labels, mask.astype(np.uint8))

    data.condition = condition
    plugin, _ = fitted(data, budget=1)
    assert plugin.state_dict()["head.weight"].shape[0] == 3
    answers = np.stack(list(plugin.predict(data.images)))
    assert answers.dtype == np.uint8
    assert answers.max() <= 2


def test_pixels_are_marked_from_the_threshold_on():
    shares = torch.tensor([[0.9, 0.06, 0.04], [0.6, 0.1, 0.3], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])
    shares = shares.T[None, :, :, None]  # (1, 3, 4, 1)
    for threshold, expected in [(0.35, [0, 2, 1, 2]), (0.5, [0, 0, 0, 2]), (0.0, [1, 2, 1, 2])]:
        answer = SegmenterNetwork(threshold=threshold).answer(shares)
        assert answer.dtype == torch.uint8
        assert answer.flatten().tolist() == expected


def test_images_without_masks_are_refused():
    data = constructed(SPEC)
    data.condition = lambda index: Condition(SPEC.spatial, data.boxes[index], data.labels[index])
    with pytest.raises(BadInput, match="has no mask"):
        fitted(data, budget=1)


def test_losses_of_a_perfect_and_of_a_wrong_answer():
    truth = torch.zeros(1, 8, 8, dtype=torch.int64)
    truth[:, 2:5, 2:5] = 1
    sure = torch.nn.functional.one_hot(truth, 2).movedim(-1, 1).float() * 40 - 20
    right, wrong = segmentation_losses(sure, truth), segmentation_losses(-sure, truth)
    assert right["dice"] < 0.01
    assert right["cross_entropy"] < 0.01
    assert wrong["dice"] > 0.9
    assert wrong["cross_entropy"] > 10


def test_a_missed_small_lesion_weighs_as_much_as_a_missed_large_one():
    truth = torch.zeros(2, 32, 32, dtype=torch.int64)
    truth[0, 2:30, 2:30] = 1
    truth[1, 9:14, 9:14] = 1
    for missed in (0, 1):
        said = truth.clone()
        said[missed] = 0
        scores = torch.nn.functional.one_hot(said, 2).movedim(-1, 1).float() * 40 - 20
        assert segmentation_losses(scores, truth)["dice"].item() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("spatial", [(24, 32), (12, 16, 20)])
@pytest.mark.parametrize("seed", range(4))
def test_masks_move_as_images_do(spatial, seed):
    """A disc that is moved, turned and mirrored covers what its mask covers."""
    rng = np.random.default_rng(seed)
    places = np.indices(spatial) - np.array(spatial).reshape(-1, *(1,) * len(spatial)) * rng.uniform(0.35, 0.65)
    mask = torch.from_numpy(((places**2).sum(0) < (min(spatial) / 4) ** 2).astype(np.int64))[None]
    image = mask[:, None].float()
    settings = TrainingSettings(flip_rows=True, rotate=40, contrast=0, brightness=0)
    moved, covered = augment(image, mask, np.ones(1, bool), settings, rng)
    assert ((moved[:, 0] > 0.5) == (covered > 0)).float().mean() > 0.97
    assert not torch.equal(covered, mask)
    same, kept = augment(image, mask, np.zeros(1, bool), settings, rng)
    assert torch.equal(same, image)
    assert torch.equal(kept, mask)


@pytest.mark.parametrize("spatial", [(24, 40), (20, 12, 16)])
def test_a_patch_shows_the_same_pixels_and_labels_half_of_them_a_lesion(spatial):
    labels = np.zeros(spatial, np.int64)
    labels[tuple(slice(0, 2) for _ in spatial)] = 1  # in a corner, where few patches fall by chance
    image = np.stack([labels, np.arange(labels.size).reshape(spatial)]).astype(np.float32)
    rng, shown = np.random.default_rng(0), []
    for _ in range(200):
        patch, own = cut(image, labels, 16, rng)
        assert own.shape == tuple(min(16, side) for side in spatial)
        assert np.array_equal(patch[0], own)
        assert np.isin(patch[1], image[1]).all()
        shown.append(own.any())
    assert 0.4 < np.mean(shown) < 0.8


@pytest.mark.parametrize("length", [1, 7, 16, 17, 24, 31, 100])
@pytest.mark.parametrize("side", [1, 5, 16])
def test_patches_cover_an_axis_and_overlap(length, side):
    own = min(side, length)
    at = starts(length, own)
    assert (at[0], at[-1] + own) == (0, length)
    assert all(0 < later - one <= max(1, own // 2) for one, later in itertools.pairwise(at))


@pytest.mark.parametrize(("spatial", "most"), [((16, 16), 16), ((16, 16, 16), 1)])
def test_no_more_volumes_are_answered_at_once_than_a_step_of_training_may_have(spatial, most):
    network, seen = torch.nn.Conv2d(1, 1, 1) if len(spatial) == 2 else torch.nn.Conv3d(1, 1, 1), []

    def doubled(batch):
        seen.append(len(batch))
        return 2 * batch

    images = np.random.default_rng(0).random((20, 1, *spatial)).astype(np.float32)
    np.testing.assert_array_equal(list(each(iter(images), network, doubled)), 2 * images)
    assert (max(seen), sum(seen)) == (most, 20)
    seen.clear()
    put_together(torch.zeros(1, *spatial), 8, doubled)
    assert max(seen) == min(most, 8)


@pytest.mark.parametrize("spatial", [(30, 41), (20, 9, 33)])
def test_what_depends_on_one_pixel_alone_is_the_same_in_patches(spatial):
    image = torch.rand(2, *spatial, generator=torch.Generator().manual_seed(0))
    network = torch.nn.Sigmoid()
    assert torch.allclose(put_together(image, 16, network), network(image), atol=1e-6)


def test_it_learns_from_patches_and_answers_whole_images(training_seed):
    data = constructed(replace(SPEC, spatial=(32, 48)), seed=training_seed)
    plugin, _ = fitted(data, budget=40, seed=training_seed, batch=4, levels=2, lr=0.02, patch=16)
    answers = np.stack(list(plugin.predict(data.images))) > 0
    truth = np.stack([label_map(data, i) for i in range(len(data))]) > 0
    assert answers.shape == truth.shape
    assert dice(truth.sum(), answers.sum(), (truth & answers).sum()) > 0.5


def test_a_patch_too_small_to_be_halved_is_refused():
    with pytest.raises(UsageError, match="patch=4: expected 0 or at least 8 with 3 levels"):
        fitted(constructed(SPEC), budget=1, patch=4)
