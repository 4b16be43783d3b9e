"""CPGGAN keeps the numbers of Karras et al. 2018 and the promises of a generator plugin."""

import shutil
import zipfile
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_store
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from slices import ShortRun
from thoroughness import examples

from medaug_cli.plugin import BadInput, Condition, ImageSpec, MedaugError, UsageError, as_drawn, image_seed
from medaug_cli.runs import GeneratorMetadata, RunOptions, load_generator, train_generator
from medaug_plugins.cpggan import CPGGAN, PGGAN, ClassPGGAN, training
from medaug_plugins.cpggan.conditions import draw_map as draw_condition
from medaug_plugins.cpggan.dataset import RealImages
from medaug_plugins.cpggan.networks import (
    Architecture,
    Discriminator,
    Generator,
    double,
    pyramid_pooled,
    shrink,
)
from medaug_plugins.cpggan.schedule import Schedule, Stage, phase, read_batches
from medaug_plugins.cpggan.settings import Settings
from medaug_plugins.cpggan.training import StepRandomness, Training, gradient_penalty
from medaug_plugins.layers import (
    EqualizedConv,
    EqualizedDense,
    draw_weights,
    ellipses,
    minibatch_deviation,
    pixel_norm,
    soft_boxes,
    spread,
)

SMALL: dict[str, Any] = {"latent": 8, "base": 64, "max_maps": 8, "batches": "4:8"}


def draw_map(condition: Condition, times: int = 0) -> torch.Tensor:
    return draw_condition(condition, "boxes", 1, times)


@dataclass
class Slices:
    """A few constructed slices, each with a bright rectangle in its box."""

    spatial: tuple[int, ...] = (16, 16)
    count: int = 12
    channels: int = 1

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        self.spec = ImageSpec(self.channels, self.spatial, ("lesion",))
        low = rng.integers(0, min(self.spatial) - 3, (self.count, len(self.spatial)))
        self.boxes = [np.concatenate([corner, corner + 4])[None].astype(np.float32) for corner in low]
        self.labels = [np.zeros(1, np.int64)] * self.count
        self.patients = [str(i) for i in range(self.count)]
        self.weights = np.full(self.count, 1 / max(self.count, 1))
        self.images = rng.random((self.count, self.channels, *self.spatial), np.float32) / 2
        for i in range(self.count):
            self.images[i] += draw_map(self.condition(i), 0).numpy() / 2

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Any) -> np.ndarray:
        return self.images[np.asarray(indices)]

    def condition(self, index: int) -> Condition:
        return Condition(self.spatial, self.boxes[index], self.labels[index])


def build(network: type, size: Architecture, seed: int = 0) -> Any:
    made = network(size)
    draw_weights(made, torch.Generator().manual_seed(seed))
    return made


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def same(first: Any, second: Any) -> bool:
    """Tell whether two nested states are equal to the bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


# Networks: Karras et al. 2018, table 2


@pytest.mark.parametrize(
    ("side", "channels", "condition", "generator", "discriminator"),
    [
        (32, 1, "none", 20_715_524, 20_722_689),
        (64, 1, "none", 22_485_765, 22_493_441),
        (128, 1, "none", 22_928_518, 22_936_449),
        (256, 1, "none", 23_039_303, 23_047_361),
        (256, 3, "none", 23_044_309, 23_052_353),
        (1024, 3, "none", 23_079_115, 23_087_249),
        (256, 1, "boxes", 23_061_767, 23_049_857),
    ],
)
def test_parameter_counts(side, channels, condition, generator, discriminator):
    size = (PGGAN() if condition == "none" else CPGGAN(condition=condition)).architecture(
        ImageSpec(channels, (side, side), ())
    )
    with torch.device("meta"):
        networks = Generator(size), Discriminator(size)
    assert [sum(p.numel() for p in n.parameters()) for n in networks] == [generator, discriminator]


def test_feature_maps_of_each_level():
    size = Architecture(Settings(), 1, (1024, 1024))
    assert [size.maps(level) for level in range(size.levels + 1)] == [512, 512, 512, 512, 256, 128, 64, 32, 16]


def test_weights_are_scaled_and_biases_are_not():
    conv, dense = EqualizedConv(5, 7, 3), EqualizedDense(6, 4, gain=1.0)
    for layer in (conv, dense):
        draw_weights(layer, torch.Generator().manual_seed(0))
        layer.bias.data.fill_(3.0)
    assert conv.scale == pytest.approx(np.sqrt(2 / 45))
    assert torch.equal(conv(torch.zeros(1, 5, 4, 4)), torch.full((1, 7, 4, 4), 3.0))
    x = noise(2, 6)
    assert torch.allclose(dense(x), x @ dense.weight.T / np.sqrt(6) + 3)
    assert build(Generator, Architecture(Settings(latent=32), 1, (16, 16))).dense.scale == pytest.approx(0.0625)


def test_weights_are_drawn_from_the_standard_normal():
    network = build(Generator, Architecture(Settings(), 1, (16, 16)))
    weights = torch.cat([p.flatten() for p in network.parameters() if p.ndim > 1])
    assert abs(weights.mean()) < 1e-3
    assert abs(weights.std() - 1) < 1e-3
    assert all(not p.any() for p in network.parameters() if p.ndim == 1)


def test_gains_are_those_of_the_paper():
    size = Architecture(Settings(latent=8, base=64, max_maps=8), 1, (16, 16))
    generator, discriminator = build(Generator, size), build(Discriminator, size)
    assert all(conv.scale == pytest.approx(1 / np.sqrt(size.maps(k))) for k, conv in enumerate(generator.to_image))
    assert generator.conv.scale == pytest.approx(np.sqrt(2 / (9 * 9)))  # 8 feature maps and the box map
    assert discriminator.conv.scale == pytest.approx(np.sqrt(2 / (9 * 9)))  # and the deviation
    assert discriminator.score.scale == pytest.approx(1 / np.sqrt(8))
    assert all(conv.scale == pytest.approx(1.0) for conv in discriminator.from_image)  # sqrt(2 / (image and map))


def test_the_latent_is_normed_and_the_image_is_linear():
    size = Architecture(Settings(latent=8, base=64, max_maps=8), 1, (16, 16))
    generator, latents, told = build(Generator, size), noise(2, 8), torch.zeros(2, 1, 16, 16)
    image = generator(latents, told, 2)
    assert torch.allclose(generator(latents * 7, told, 2), image, atol=1e-4)
    generator.to_image[2].weight.data *= 50  # no tanh bends it
    assert torch.allclose(generator(latents, told, 2), image * 50, rtol=1e-4, atol=1e-4)


def test_only_the_smallest_level_sees_the_deviation_of_a_batch():
    size = Architecture(Settings(latent=8, base=64, max_maps=8), 1, (16, 16))
    discriminator = build(Discriminator, size)
    assert discriminator.conv.weight.shape[1] == size.maps(0) + 1
    discriminator.conv.weight.data[:, -1] = 0
    image, told = noise(8, 1, 16, 16), torch.zeros(8, 1, 16, 16)
    alone = torch.cat([discriminator(image[i : i + 1], told[i : i + 1], 2) for i in range(8)])
    assert torch.allclose(discriminator(image, told, 2), alone, atol=1e-4)


def test_pixel_norm_gives_unit_mean_square():
    assert torch.allclose(pixel_norm(noise(2, 6, 3, 3) * 9).square().mean(1), torch.ones(2, 3, 3))


def test_pixel_norm_follows_the_activation():
    """Signs tell the order: after leaky ReLU and PixelNorm the mean square is one, before it is not."""
    block = build(Generator, Architecture(Settings(latent=8, base=64, max_maps=8), 1, (16, 16))).blocks[0]
    out = block(noise(2, 8, 4, 4), torch.zeros(2, 1, 8, 8))
    assert torch.allclose(out.square().mean(1), torch.ones(2, 8, 8), atol=1e-5)


def test_minibatch_deviation_takes_strided_groups():
    x = torch.cat([torch.zeros(4, 3, 4, 4), torch.ones(4, 3, 4, 4)])
    out = minibatch_deviation(x)
    assert out.shape == (8, 4, 4, 4)
    assert torch.allclose(out[:, 3], torch.full((8, 4, 4), 0.5), atol=1e-6)


@given(batch=st.integers(1, 13))
@examples(13, deadline=None)
def test_minibatch_deviation_takes_any_batch(batch):
    out = minibatch_deviation(noise(batch, 2, 4, 4))
    group = max(size for size in (1, 2, 3, 4) if batch % size == 0)
    assert len(out[:, 2, 0, 0].unique()) <= batch // group


@pytest.mark.parametrize("spatial", [(16, 16), (16, 32), (16, 16, 16)])
@pytest.mark.parametrize("level", [1, 2])
def test_a_fade_begins_as_the_level_below(spatial, level):
    size = Architecture(Settings(latent=8, base=64, max_maps=8), 1, spatial)
    times = size.levels - level
    box_map = shrink((noise(4, 1, *spatial) > 1).float(), times)
    latents, image = noise(4, 8), noise(4, 1, *box_map.shape[2:], seed=2)
    generator, discriminator = build(Generator, size), build(Discriminator, size, 5)
    below = shrink(box_map)
    assert torch.equal(generator(latents, box_map, level, 1.0), double(generator(latents, below, level - 1)))
    assert torch.equal(discriminator(image, box_map, level, 1.0), discriminator(shrink(image), below, level - 1))


@pytest.mark.parametrize("spatial", [(4,), (4, 8), (4, 4, 4)])
def test_shrink_is_average_pooling_with_both_derivatives(spatial):
    x = noise(2, 3, *spatial).double().requires_grad_(True)
    assert torch.equal(shrink(x)[0, 0].flatten()[0], x[(0, 0, *[slice(2)] * len(spatial))].mean())
    assert torch.autograd.gradcheck(shrink, x)
    assert torch.autograd.gradgradcheck(lambda x: shrink(x).square(), x)


def test_a_fade_is_linear_in_the_generator():
    size = Architecture(Settings(latent=8, base=64, max_maps=8), 1, (8, 8))
    generator, latents, box_map = build(Generator, size), noise(2, 8), torch.zeros(2, 1, 8, 8)
    old, new, mixed = (generator(latents, box_map, 1, fade) for fade in (1.0, 0.0, 0.25))
    assert torch.allclose(mixed, 0.25 * old + 0.75 * new, atol=1e-6)


def test_the_box_map_enters_every_scale():
    size = Architecture(Settings(latent=8, base=64, max_maps=8), 1, (16, 16))
    latents, zeros = noise(2, 8), torch.zeros(2, 1, 16, 16)
    for level in range(3):
        generator = build(Generator, size)
        with torch.no_grad():  # deaf to the map everywhere but at one level
            for k, conv in enumerate([generator.conv, *(block.first for block in generator.blocks)]):
                if k != level:
                    conv.weight[:, -1] = 0
        assert not torch.equal(generator(latents, zeros, 2), generator(latents, zeros + 1, 2))
    discriminator, image = build(Discriminator, size), noise(2, 1, 16, 16)
    assert not torch.equal(discriminator(image, zeros, 2), discriminator(image, zeros + 1, 2))


# Schedule


@pytest.mark.parametrize(
    ("kimg", "stage"),
    [
        (0, (6.0, 4, 128)), (600, (6.0, 4, 128)), (900, (5.5, 8, 128)), (1200, (5.0, 8, 128)),
        (3000, (4.0, 16, 128)), (4200, (3.0, 32, 64)), (5400, (2.0, 64, 32)), (6600, (1.0, 128, 16)),
        (6900, (0.5, 256, 8)), (7200, (0.0, 256, 8)), (12000, (0.0, 256, 8)),
    ],
)  # fmt: skip
def test_paper_schedule(kimg, stage):
    schedule = Schedule(256, read_batches(CPGGAN().batches))
    lod = CPGGAN(schedule="paper").scheduled_lod(schedule, ShortRun(1), kimg * 1000)
    assert schedule.at_lod(lod) == stage


def test_scaled_schedule_spans_the_run():
    schedule, run = Schedule(256, {4: 8}), ShortRun(1000)
    plugin = CPGGAN(growing=0.5)
    lods = [plugin.scheduled_lod(schedule, run, done) for done in range(0, 1001, 10)]
    assert lods == sorted(lods, reverse=True)
    assert lods[0] == 6
    assert plugin.scheduled_lod(schedule, run, 250) == pytest.approx(3)
    assert min(lods[:50]) > 0 == max(lods[50:])


def test_phases_change_where_a_fade_begins_and_ends():
    assert [phase(lod) for lod in (2.0, 1.9, 1.1, 1.0)] == [(2, 2), (1, 2), (1, 2), (1, 1)]


@pytest.mark.parametrize("text", ["", "4", "4:", "4:0", "x:3", "4:8;8:8"])
def test_a_bad_batch_table_is_refused(text):
    with pytest.raises(UsageError, match="batches must read like"):
        CPGGAN(batches=text)


def test_batches_of_unlisted_resolutions():
    schedule = Schedule(64, {8: 16, 32: 4})
    assert [schedule.batch(size) for size in (4, 8, 16, 32, 64)] == [16, 16, 16, 4, 4]


# Loss


@given(st.floats(0.1, 5), st.integers(0, 9))
@examples(25, deadline=None)
def test_penalty_of_a_linear_critic(length, seed):
    weights = noise(48, seed=seed)
    weights = weights / weights.norm() * length
    real, fake, share = noise(4, 3, 4, 4), noise(4, 3, 4, 4, seed=2), torch.rand(4, 1, 1, 1)
    penalty = 10 * gradient_penalty(lambda x: x.flatten(1) @ weights, real, fake, share)
    assert torch.allclose(penalty, torch.full((4,), 10 * (length - 1) ** 2), rtol=1e-4, atol=1e-5)


def test_penalty_takes_the_gradient_of_the_image_alone():
    """A critic that only looks at the map has no gradient: the penalty is (0 - 1)**2."""
    maps = torch.rand(4, 1, 4, 4, requires_grad=True)
    real, share = noise(4, 1, 4, 4), torch.rand(4, 1, 1, 1)
    penalty = gradient_penalty(lambda x: (x * 0 + 9 * maps).flatten(1).sum(1), real, real + 1, share)
    assert torch.equal(penalty, torch.ones(4))


def make_training(run: ShortRun | None = None, data: Slices | None = None, **recipe: Any) -> Training:
    data, run = data or Slices(), run or ShortRun(1000)
    size = Architecture(Settings(**{"latent": 8, "base": 64, "max_maps": 8, "flip": False} | recipe), 1, data.spatial)
    return Training(size, RealImages(data, size.levels, "cpu"), run)


def test_losses_are_those_of_the_paper():
    made, stage = make_training(), Schedule(16, {4: 8}).at_lod(0.5)
    losses = make_training().step(0, stage)[1]
    chance = StepRandomness(3, 0, "cpu")
    indices = chance.indices(made.data.examples.weights, 8)
    made.data.turn_to(2)
    real, maps, latents = (
        made.data.batch(indices, 0.5),
        made.data.condition_maps(indices),
        chance.noise("normal", 8, 8),
    )
    fake = made.generator(latents, maps, 2, 0.5).detach()
    chance.happens(0)

    def critic(image):
        return made.discriminator(image, maps, 2, 0.5)

    penalty = gradient_penalty(critic, real, fake, chance.shares(8, 2))
    loss = critic(fake) - critic(real) + 10 * penalty + 0.001 * critic(real) ** 2
    assert losses["loss_d"].item() == pytest.approx(loss.mean().item(), rel=1e-4)


def test_variety_is_missing_where_drawn_images_differ_less_than_real_ones():
    made, stage = make_training(variety=2.0), Schedule(16, {4: 8}).at_lod(0.0)
    missing = make_training(variety=2.0).step(0, stage)[1]["missing_spread"]
    chance = StepRandomness(3, 0, "cpu")
    made.data.turn_to(2)
    chance.indices(made.data.examples.weights, 8)  # the discriminator's batch
    chance.noise("normal", 8, 8)
    chance.happens(0)
    chance.shares(8, 2)
    maps = made.data.condition_maps(chance.indices(made.data.examples.weights, 8))
    drawn = made.generator(chance.noise("normal", 8, 8), maps, 2)
    some = StepRandomness(3, 0, "cpu").indices(made.data.examples.weights, 4 * len(made.data.examples))
    short = spread(made.data.batch(some, 0.0)) - spread(drawn)
    assert missing.item() == pytest.approx(short.clamp(min=0).mean().item(), rel=1e-4)
    assert "missing_spread" not in make_training().step(0, stage)[1]


def test_variety_asks_for_the_same_images_whenever_a_run_is_resumed():
    """External images fade out of a run: their weights are others by then."""
    begun, resumed = make_training(variety=2.0), make_training(variety=2.0)
    resumed.data.examples.weights = np.eye(len(begun.data.examples))[0]
    for made in (begun, resumed):
        made.data.turn_to(made.level)
    assert torch.equal(begun._real_spread(), resumed._real_spread())


def test_variety_makes_images_that_were_alike_differ(training_seed):
    made, stage = make_training(ShortRun(10_000, seed=training_seed), variety=50.0, lr=0.004), Stage(2.0, 4, 8)
    with torch.no_grad():
        made.generator.to_image[0].weight *= 0.01
    missing = [float(made.step(8 * i, stage)[1]["missing_spread"]) for i in range(40)]
    assert np.mean(missing[-10:]) < missing[0] / 2


def test_reading_makes_latent_vectors_readable_from_images(training_seed):
    made, stage = make_training(ShortRun(10_000, seed=training_seed), reading=1.0, lr=0.004), Stage(2.0, 4, 8)
    losses = [float(made.step(8 * k, stage)[1]["read"]) for k in range(150)]
    assert np.mean(losses[-20:]) < 0.97 * np.mean(losses[:20])
    plain = make_training().discriminator
    assert plain.read is None
    assert "read" not in {name.split(".")[0] for name in plain.state_dict()}  # weights of before fit


def test_variety_of_a_batch_of_one_is_refused():
    run = ShortRun(16)
    with pytest.raises(UsageError, match="variety=15 compares the images of a batch, and batches=4:4,16:1 has"):
        CPGGAN(**SMALL | {"batches": "4:4,16:1"}, variety=15.0).fit(Slices(), run)
    assert not run.logged
    CPGGAN(**SMALL | {"batches": "4:1"}).fit(Slices(), ShortRun(4))


def test_label_flips_swap_real_and_fake():
    stage = Schedule(16, {4: 8}).at_lod(0.0)
    plain, flipped = (make_training(label_flips=p, gp_weight=0.0, drift=0.0).step(0, stage)[1] for p in (0, 1))
    assert plain["loss_d"] == -flipped["loss_d"] == -plain["distance"]


def test_a_lazy_penalty_weighs_as_much():
    stage = Schedule(16, {4: 8}).at_lod(0.0)
    one, two = make_training(), make_training(gp_every=2)
    first, lazy = one.step(0, stage)[1], two.step(0, stage)[1]
    extra = lazy["loss_d"] - first["loss_d"]
    assert extra == pytest.approx(10 * lazy["penalty"].item(), rel=1e-3)
    assert "penalty" not in two.step(8, stage)[1]


def test_adam_is_the_papers_and_starts_afresh_at_every_change():
    made, schedule = make_training(), Schedule(16, {4: 8})
    ages = []
    for lod in (2.0, 2.0, 1.5, 1.25, 1.0, 1.0):
        made.step(0, schedule.at_lod(lod))
        ages.append({int(v["step"]) for v in made.optimizers["discriminator"].adam.state.values()})
    assert ages == [{1}, {2}, {1}, {2}, {1}, {2}]
    for optimizer in made.optimizers.values():
        group = optimizer.adam.param_groups[0]
        assert (group["betas"], group["eps"], group["lr"]) == ((0.0, 0.99), 1e-8, 0.001)


def test_the_average_follows_slowly():
    made = make_training(ema_ramp=0.0)
    before = [p.clone() for p in made.average.parameters()]
    assert same(made.average.state_dict(), made.generator.state_dict())
    made.step(0, Schedule(16, {4: 8}).at_lod(0.0))
    for old, now, new in zip(before, made.average.parameters(), made.generator.parameters(), strict=True):
        assert torch.allclose(now, 0.999 * old + 0.001 * new, atol=1e-7)


@pytest.mark.parametrize(("done", "decay"), [(1000, 0.5 ** (8 / 50)), (10_000, 0.5 ** (8 / 500)), (10**6, 0.999)])
def test_the_average_of_a_short_run_does_not_lag_behind(done, decay):
    made = make_training()
    made.lod = 0.0  # its level has been there from the beginning
    before = [p.clone() for p in made.average.parameters()]
    made.step(done - 8, Schedule(16, {4: 8}).at_lod(0.0))
    for old, now, new in zip(before, made.average.parameters(), made.generator.parameters(), strict=True):
        assert torch.allclose(now, decay * old + (1 - decay) * new, atol=1e-6)


def test_the_average_forgets_the_random_weights_that_a_level_begins_with():
    """However long the run was before it: a few images of the last level are enough."""
    made, schedule = make_training(), Schedule(16, {4: 8})
    made.step(10**6, schedule.at_lod(1.0))
    made.step(10**6 + 8, schedule.at_lod(0.5))  # the last level begins
    assert made.begun == 10**6 + 8
    for new, now in zip(made.generator.parameters(), made.average.parameters(), strict=True):
        assert torch.allclose(now, new, atol=1e-4)
    made.step(10**6 + 16, schedule.at_lod(0.0))
    assert made.begun == 10**6 + 8


@pytest.mark.parametrize("spatial", [(16, 16), (16, 32), (16, 16, 16)])
def test_a_spatial_pyramid_sees_the_last_features_whole_and_in_parts(spatial):
    x = noise(2, 3, *[side // 4 for side in spatial])
    cells, pooled = (4, 2, 1), pyramid_pooled(x, (4, 2, 1))
    assert pooled.shape == (2, 3 * sum(each ** len(spatial) for each in cells))
    assert torch.allclose(pooled[:, -3:], x.flatten(2).mean(2), atol=1e-6)
    assert torch.equal(pyramid_pooled(x, ()), x.flatten(1))
    size = Architecture(Settings(latent=8, base=64, max_maps=8, pooling=True), 1, spatial)
    told, image = torch.zeros(2, 1, *spatial), noise(2, 1, *spatial).requires_grad_(True)
    discriminator = build(Discriminator, size)
    (gradient,) = torch.autograd.grad(discriminator(image, told, size.levels).sum(), image, create_graph=True)
    gradient.square().sum().backward()  # as the gradient penalty asks
    assert discriminator.dense.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("spatial", [(16, 16), (16, 16, 16)])
def test_image_and_map_are_augmented_together(spatial):
    """Both are the same picture here, so that they stay it."""
    made = make_training(data=Slices(spatial), flip=True, flip_rows=True, augment=1.0, intensity=0.0, contrast=0.0)
    rng, maps = StepRandomness(3, 0, "cpu"), noise(8, 1, *spatial)
    moves = made._moves(rng, 8)
    images, told = made._changed(rng, maps, maps, moves, 8)
    assert torch.allclose(images, told, atol=1e-5)
    assert float((images - maps).abs().flatten(1).amax(1).min()) > 0.1 or len(images.unique(dim=0)) > 4
    fakes, again = made._changed(rng, 2 * maps, maps, moves, 8)
    assert torch.equal(again, told)
    assert torch.allclose(fakes, 2 * images, atol=1e-5)
    alone, none = made._changed(rng, maps, None, moves, 8)
    assert none is None
    assert torch.allclose(alone, images, atol=1e-5)


@pytest.mark.parametrize(
    ("anneal", "done", "share"), [(0.0, 900, 1.0), (0.5, 400, 1.0), (0.5, 750, 0.5), (1.0, 400, 0.6)]
)
def test_the_step_size_falls_at_the_end_of_the_run_even_where_adam_starts_afresh(anneal, done, share):
    made = make_training(anneal=anneal)
    made.step(done, Schedule(16, {4: 8}).at_lod(0.5))  # a fade begins: the moments are forgotten
    for optimizer in made.optimizers.values():
        assert optimizer.adam.param_groups[0]["lr"] == pytest.approx(0.001 * share)


def test_no_augmentation_draws_nothing():
    made, rng = make_training(), StepRandomness(3, 0, "cpu")
    assert made._moves(rng, 8) is None
    images, maps = noise(8, 1, 16, 16), noise(8, 1, 16, 16)
    changed = made._changed(rng, images, maps, None, 8)
    assert changed[0] is images
    assert changed[1] is maps
    assert torch.equal(torch.rand(3, generator=rng.torch), torch.rand(3, generator=StepRandomness(3, 0, "cpu").torch))


def test_a_critic_steers_from_midway_between_real_and_drawn_scores():
    made = make_training(target=0.6, augment=0.2)
    for _ in range(60):
        made._steer(torch.full((4,), 103.0), torch.full((4,), 99.0), 8)  # all real images above the middle
    grown = made.steering.share
    for _ in range(200):
        made._steer(torch.tensor([99.0, 101, 99, 101]), torch.full((4,), 100.0), 8)
    assert grown > 0.2 > made.steering.share


def test_reals_fade_as_fakes_do():
    data = Slices()
    reals = RealImages(data, 2, "cpu")
    reals.turn_to(2)
    full = torch.from_numpy(data.images[:3]) * 2 - 1
    assert torch.allclose(reals.batch(np.arange(3), 0.25), 0.75 * full + 0.25 * double(shrink(full)), atol=1e-6)
    reals.turn_to(1)
    assert torch.allclose(reals.batch(np.arange(3), 0.0), shrink(full), atol=1e-6)
    assert reals.condition_maps(np.arange(3)).mean().item() == pytest.approx(16 / 256)


def test_reals_are_the_same_kept_or_read(monkeypatch):
    kept = RealImages(Slices(), 2, "cpu")
    kept.turn_to(1)
    monkeypatch.setattr("medaug_plugins.cpggan.dataset.KEPT_NUMBERS", 0)
    read = RealImages(Slices(), 2, "cpu")
    read.turn_to(1)
    indices = np.array([5, 0, 5])
    assert read.images is None is not kept.images
    assert torch.equal(kept.batch(indices, 0.5), read.batch(indices, 0.5))
    assert torch.equal(kept.condition_maps(indices), read.condition_maps(indices))


def test_each_step_draws_reals_and_noise_anew(monkeypatch):
    drawn = []
    original = training.draw_latents
    monkeypatch.setattr(training, "draw_latents", lambda *args: drawn.append(original(*args)) or drawn[-1])
    made, stage = make_training(n_critic=2), Schedule(16, {4: 8}).at_lod(0.0)
    assert [made.step(done, stage)[0] for done in (0, 16)] == [16, 16]
    assert len({tuple(latents.flatten().tolist()) for latents in drawn}) == 6


# The plugin


AUGMENTED: dict[str, Any] = {
    "anneal": 0.5,
    "flip_rows": True,
    "augment": 0.5,
    "target": 0.6,
    "noise": "uniform",
    "pooling": True,
    "variety": 5.0,
    "reading": 1.0,
}


@pytest.mark.parametrize(
    ("stop", "precision", "settings"),
    [(48, "32", {}), (112, "32", AUGMENTED), (48, "bf16", AUGMENTED), (112, "16", {})],
)
def test_a_resumed_run_equals_an_uninterrupted_one(stop, precision, settings):
    """It stops within a fade, or at full size."""
    whole = ShortRun(160, precision=precision)
    CPGGAN(**SMALL, **settings).fit(Slices(), whole)
    first = ShortRun(160, stop, precision=precision)
    CPGGAN(**SMALL, **settings).fit(Slices(), first)
    assert first.state["done"] == stop
    second = ShortRun(160, state=first.state, precision=precision)
    resumed = CPGGAN(**SMALL, **settings)
    resumed.fit(Slices(), second)
    assert whole.state["done"] == second.state["done"] == 160
    assert same(whole.state, second.state)
    assert same({k: v for k, v in resumed.state_dict().items() if k != "lod"}, whole.state["average"])


def test_a_checkpoint_survives_a_weights_only_file(tmp_path):
    run = ShortRun(160, 80)
    CPGGAN(**SMALL).fit(Slices(), run)
    torch.save(run.state, tmp_path / "state.pt")
    assert same(torch.load(tmp_path / "state.pt", weights_only=True), run.state)


def test_a_prolonged_run_stays_at_full_size():
    run = ShortRun(80)
    CPGGAN(**SMALL).fit(Slices(), run)
    longer = ShortRun(320, state=run.state)
    CPGGAN(**SMALL).fit(Slices(), longer)
    assert {values["lod"] for values in longer.logged} == {0.0}


def fitted(images: int = 160, spatial: tuple[int, ...] = (16, 16), **settings: Any) -> CPGGAN:
    plugin = CPGGAN(**{**SMALL, **settings})
    plugin.fit(Slices(spatial), ShortRun(images))
    return plugin


def draw(plugin: CPGGAN, count: int = 7, spatial: tuple[int, ...] = (16, 16)) -> np.ndarray:
    data = Slices(spatial)
    conditions = (data.condition(i) for i in range(count))
    return np.stack(list(plugin.sample(conditions, (image_seed(5, i) for i in range(count)))))


@pytest.mark.parametrize("spatial", [(16, 16), (16, 32), (16, 16, 16)])
def test_samples_have_the_form_of_the_images(spatial):
    images = draw(fitted(40, spatial), spatial=spatial)
    assert images.shape == (7, 1, *spatial)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1


def test_an_image_depends_on_its_seed_alone():
    plugin = fitted()
    together = draw(plugin)
    assert np.abs(together[0] - together[1]).max() > 0.02
    for batch in (1, 3):
        plugin.sample_batch = batch
        assert np.abs(draw(plugin) - together).max() < 1 / 255


def test_sampling_is_lazy_and_wants_a_seed_a_condition():
    plugin, data = fitted(40, sample_batch=2), Slices()
    asked = []
    images = plugin.sample((asked.append(i) or data.condition(i) for i in range(9)), range(9))
    next(images)
    assert len(asked) <= 3
    with pytest.raises(ValueError, match="shorter"):
        list(plugin.sample([data.condition(0)] * 2, [1]))


def test_state_is_the_generator_alone_and_restores_it():
    plugin = fitted()
    state = plugin.state_dict()
    size = plugin.architecture(Slices().spec)
    assert state.keys() == Generator(size).state_dict().keys() | {"lod"}
    other = CPGGAN(**SMALL)
    other.load_state_dict(state, Slices().spec)
    assert np.array_equal(draw(other), draw(plugin))


def test_an_unfinished_run_samples_at_full_size_what_it_has_grown():
    plugin = fitted(8)  # one step, at 4x4
    assert plugin.state_dict()["lod"] == 2
    images = draw(plugin)
    assert np.array_equal(images, images[:, :, ::4, ::4].repeat(4, 2).repeat(4, 3))


def test_a_plain_pggan_ignores_the_boxes_and_names_none():
    plugin, data = PGGAN(**SMALL, noise="uniform"), Slices()
    plugin.fit(data, ShortRun(40))
    first, second = plugin.sample([data.condition(0), data.condition(1)], [4, 4])
    assert np.abs(first.image - second.image).max() < 1e-6
    assert first.boxes.shape == (0, 4)
    assert set(plugin.state_dict()) == set(fitted(8).state_dict())


def test_a_class_is_told_by_a_plane_of_ones():
    data = Slices()
    data.spec = ImageSpec(1, data.spatial, ("glioma", "metastasis", "other"))
    data.labels = [np.array([i % 3]) for i in range(data.count)]
    plugin = ClassPGGAN(**SMALL)
    plugin.fit(data, ShortRun(40))
    told = draw_condition(data.condition(1), "label", 3, 1)
    assert told.amax((1, 2)).tolist() == told.amin((1, 2)).tolist() == [0, 1, 0]
    images = [drawn.image for drawn in plugin.sample([data.condition(i) for i in (0, 1, 3)], [4, 4, 4])]
    assert np.abs(images[0] - images[1]).max() > 1e-4
    assert np.abs(images[0] - images[2]).max() < 1e-6  # other boxes, the same class


def test_soft_boxes_fade_over_a_quarter_of_their_sides():
    drawn = soft_boxes(np.array([[8, 4, 16, 12]]), (16, 32))
    assert drawn[4:12, 8:16].min() == 1
    assert drawn[8, 4:8].tolist() == [0, 0, 0.25, 0.75]
    assert drawn[8, 16:20].tolist() == [0.75, 0.25, 0, 0]


@pytest.mark.parametrize("spatial", [(16, 16), (8, 16, 16)])
def test_ellipses_fill_their_boxes(spatial):
    d = len(spatial)
    drawn = ellipses(np.array([[2.0] * d + [8.0] * d]), spatial)
    inside = drawn[tuple([slice(2, 8)] * d)]
    assert drawn.sum() == inside.sum()
    assert all(inside.any(tuple(set(range(d)) - {axis})).all() for axis in range(d))
    assert abs(inside.mean() - {2: np.pi / 4, 3: np.pi / 6}[d]) < 0.12


@pytest.mark.parametrize("form", ["soft-boxes", "mask"])
def test_every_form_of_condition_is_trained_and_drawn(form):
    data = Slices()
    with_masks = Slices()
    with_masks.condition = lambda i: replace(data.condition(i), mask=(draw_map(data.condition(i))[0].numpy() > 0) * 2)
    plugin = CPGGAN(**SMALL, condition=form)
    plugin.fit(with_masks, ShortRun(80))
    own, other = plugin.sample([data.condition(0), data.condition(1)], [4, 4])  # boxes alone
    assert np.abs(own - other).max() > 1e-4
    if form == "mask":
        with pytest.raises(BadInput, match=r"have no mask, such as .*, and condition=mask"):
            CPGGAN(**SMALL, condition=form).fit(data, ShortRun(8))


def test_boxes_alone_are_told_in_the_mask_of_their_name():
    data, whole = Slices(), Slices()
    data.spec = ImageSpec(1, data.spatial, ("cyst", "oedema", "tumour"), mask_names=("oedema", "tumour"), masks=True)
    data.condition = lambda i: replace(whole.condition(i), mask=np.full(data.spatial, 1 + i % 2, np.uint8))
    plugin = CPGGAN(**SMALL, condition="mask")
    plugin.fit(data, ShortRun(80))
    loaded = CPGGAN(**SMALL, condition="mask")
    loaded.load_state_dict(plugin.state_dict(), data.spec)
    box = whole.boxes[0]
    told = {label: Condition(data.spatial, box, np.array([label])) for label in range(3)}
    masks = {value: Condition(data.spatial, box, np.array([0]), ellipses(box, data.spatial).astype(np.uint8) * value)
             for value in (1, 2)}  # fmt: skip
    for each in (plugin, loaded):
        drawn = list(each.sample([*told.values(), *masks.values()], [4] * 5))
        assert np.allclose(drawn[1], drawn[3], atol=1e-5)  # oedema
        assert np.allclose(drawn[2], drawn[4], atol=1e-5)  # tumour
        assert np.allclose(drawn[0], drawn[3], atol=1e-5)  # cysts, which masks do not name, are drawn as the first
        assert np.abs(drawn[1] - drawn[2]).max() > 1e-4


def test_presets_fill_in_what_is_left_alone():
    small = CPGGAN(preset="small", latent=32)
    assert CPGGAN(preset="small", gp_every=1).gp_every == 1  # what is set is not left alone, be it to the default
    assert (small.latent, small.base, small.max_maps, small.batches) == (32, 512, 128, "4:4")
    assert (small.lr, small.anneal, small.growing, small.variety) == (0.003, 0.5, 0.1, 15)
    assert CPGGAN(preset="paper") == CPGGAN(preset="paper", schedule="paper")
    assert (CPGGAN(preset="companion").lr, CPGGAN(preset="companion").label_flips) == (2e-4, 1 / 3)
    for name in ("default", "paper", "companion", "small"):
        settings = asdict(CPGGAN(preset=name))
        assert asdict(CPGGAN(**settings)) == settings  # as a folder that is loaded does it


def test_bf16_trains_sanely_and_samples_in_float32():
    """The gradient penalty goes through autocast twice and stays near that of float32."""
    exact, rough = ShortRun(240), ShortRun(240, precision="bf16")
    plugin = CPGGAN(**SMALL)
    CPGGAN(**SMALL).fit(Slices(), exact)
    plugin.fit(Slices(), rough)
    assert all(np.isfinite(list(values.values())).all() for values in rough.logged)
    assert rough.logged[0]["penalty"] == pytest.approx(exact.logged[0]["penalty"], rel=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = draw(plugin)
    assert np.array_equal(inside, draw(plugin))


def test_what_cannot_be_done_is_said():
    data = Slices()
    with pytest.raises(UsageError, match="powers of two, 4 or more, not 12×16"):
        CPGGAN().architecture(ImageSpec(1, (12, 16), ()))
    with pytest.raises(MedaugError, match="neither fitted nor loaded"):
        next(CPGGAN().sample([data.condition(0)], [1]))
    with pytest.raises(UsageError, match=r"draws images of \(16, 16\)"):
        draw(fitted(8), spatial=(32, 32))
    with pytest.raises(BadInput, match="no training image"):
        CPGGAN(**SMALL).fit(Slices(count=0), ShortRun(8))


def test_weights_of_another_network_are_refused():
    state = fitted(8).state_dict()
    with pytest.raises(BadInput, match=r"holds \(8,\), expected \(4,\)"):
        CPGGAN(**{**SMALL, "max_maps": 4}).load_state_dict(state, Slices().spec)
    with pytest.raises(BadInput, match=r"blocks\.2"):
        CPGGAN(**SMALL).load_state_dict(state, ImageSpec(1, (32, 32), ()))
    for lod in (torch.tensor(7.0), torch.tensor(float("nan")), torch.zeros(2)):
        with pytest.raises(BadInput, match="lod must be 0 to 2"):
            CPGGAN(**SMALL).load_state_dict({**state, "lod": lod}, Slices().spec)


def test_it_learns_to_draw_where_the_box_is(training_seed):
    """After 200 small steps what is drawn is bright in its own box, and not in another image's."""
    plugin = CPGGAN(latent=8, base=128, max_maps=16, batches="4:8", growing=0.2, ema=0.98, lr=0.004)
    data = Slices((8, 8), 64)
    own = np.stack([draw_map(data.condition(i), 0).numpy() for i in range(64)])
    data.images = np.random.default_rng(1).random((64, 1, 1, 1), np.float32) * 0.4 + 0.5 * own
    plugin.fit(data, ShortRun(1600, seed=3 + training_seed))
    images = np.stack(list(plugin.sample([data.condition(i) for i in range(64)], range(64))))

    def contrast(maps):
        return images[maps > 0].mean() - images[maps == 0].mean()

    assert contrast(own) > contrast(np.roll(own, 1, axis=0)) + 0.1


# Folders to share


@pytest.mark.parametrize("plugin", [CPGGAN(**SMALL, condition="mask"), PGGAN(**SMALL), ClassPGGAN(**SMALL)])
def test_what_is_shared_is_the_generator_alone(plugin, tmp_path):
    """Of a folder the two files that a generator is loaded from: no discriminator, no training image, no code."""
    store = make_store(tmp_path / "real.h5", masks=True)
    name = {"CPGGAN": "cpggan", "PGGAN": "pggan", "ClassPGGAN": "pggan-class"}[type(plugin).__name__]
    folder = train_generator(store.path, name, RunOptions(tmp_path / "gan", asdict(plugin), device="cpu"), kimg=0.064)
    shared = tmp_path / "shared"
    shared.mkdir()
    for file in ("generator.safetensors", "generator.json"):
        shutil.copy(folder / file, shared)
    assert not any(zipfile.is_zipfile(file) for file in shared.iterdir())  # as a pickled checkpoint is
    weights = load_file(shared / "generator.safetensors")
    size = plugin.architecture(store.spec)
    assert {key: value.shape for key, value in weights.items() if key != "lod"} == {
        key: value.shape for key, value in Generator(size).state_dict().items()
    }
    generator, metadata = load_generator(shared)
    assert set(metadata.model_dump()) == set(GeneratorMetadata.model_fields)
    assert metadata.condition == plugin.capabilities.condition
    condition = Condition(store.spec.spatial, store.boxes[0], store.labels[0])
    ours, theirs = (next(iter(g.sample([condition], [1]))) for g in (generator, load_generator(folder)[0]))
    assert np.array_equal(as_drawn(ours, condition).image, as_drawn(theirs, condition).image)
