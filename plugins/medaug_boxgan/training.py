"""Train BoxGAN: non-saturating loss with lazy R1, a discriminator that also sees wrong boxes, a locator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medaug_boxgan.augment import Amounts, augment
from medaug_boxgan.networks import Architecture, Discriminator, Generator, Locator, coarse, draw_weights
from medaug_cli.plugin import BadInput, Condition, Examples, Run, box_map, image_seed

softplus = F.softplus
NETWORKS = ("generator", "discriminator", "locator")


@dataclass(frozen=True)
class Recipe:
    """The numbers of a training step."""

    batch: int
    lr: float
    r1_weight: float
    r1_every: int
    mismatch: float
    locate: float
    diversity: float
    ema_images: float
    locator_width: int
    amounts: Amounts


def draw_maps(condition: Condition, labels: int) -> Tensor:
    """Return the box maps (k, *s) of a condition, one channel a label."""
    drawn = [box_map(condition.boxes[condition.labels == k], condition.spatial) for k in range(labels)]
    return torch.from_numpy(np.stack(drawn))


def r1_penalty(discriminator: Callable[[Tensor, Tensor], Tensor], images: Tensor, maps: Tensor) -> Tensor:
    """Return |gradient of the score with respect to the image|**2 (b,) (Mescheder et al. 2018)."""
    images = images.detach().requires_grad_(True)
    scores = discriminator(images, maps)
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.float().flatten(1).square().sum(1)


def mode_seeking(images: Tensor, latents: Tensor) -> Tensor:
    """Return distance of latent vectors / distance of images for pairs i, i + b/2 (Mao et al. 2019)."""
    first, second = images.float().chunk(2)
    z, w = latents.chunk(2)
    return ((z - w).abs().mean(1) / ((first - second).abs().flatten(1).mean(1) + 1e-2)).mean()


class Chance:
    """The randomness of one step, drawn from the run's seed and the images done: a resumed run repeats it."""

    def __init__(self, seed: int, done: int) -> None:
        numpy_seed, torch_seed = np.random.SeedSequence(abs(seed), spawn_key=(2, done)).spawn(2)
        self.numpy = np.random.default_rng(numpy_seed)
        self.torch = torch.Generator().manual_seed(int(torch_seed.generate_state(1, np.uint64)[0] >> 1))


class Training:
    """The networks, the moving average of the generator, their optimisers, and a step of all of them."""

    def __init__(self, size: Architecture, recipe: Recipe, data: Examples, run: Run) -> None:
        self.size, self.recipe, self.data, self.run = size, recipe, data, run
        self.device = torch.device(run.device)
        chance = torch.Generator().manual_seed(image_seed(abs(run.seed), 0))
        self.generator, self.discriminator = Generator(size), Discriminator(size)
        self.locator = Locator(size, recipe.locator_width)
        for network in (self.generator, self.discriminator, self.locator):
            draw_weights(network, chance)
            place(network, run.device, size.dims)
        self.average = Generator(size).requires_grad_(False)
        place(self.average, run.device, size.dims)
        self.average.load_state_dict(self.generator.state_dict())
        self.steps = 0
        settings: dict[str, Any] = {"lr": recipe.lr, "betas": (0.0, 0.99), "eps": 1e-8}
        self.optimisers = {name: torch.optim.Adam(getattr(self, name).parameters(), **settings) for name in NETWORKS}

    def step(self, done: int) -> tuple[int, dict[str, Tensor]]:
        """Train one step; return the real images that the discriminator saw and the losses."""
        chance = Chance(self.run.seed, done)
        images, maps = self._reals(chance)
        asked = self._asked(chance)
        latents = self._latents(chance)
        losses = self._discriminator_step(images, maps, latents, asked, chance)
        if self.recipe.locate:
            losses["loss_locator"] = self._locator_step(images, maps, chance)
        losses |= self._generator_step(done, chance)
        self.steps += 1
        return self.recipe.batch, losses

    def _reals(self, chance: Chance) -> tuple[Tensor, Tensor]:
        indices = chance.numpy.choice(len(self.data), self.recipe.batch, p=self.data.weights)
        images = torch.from_numpy(np.ascontiguousarray(self.data.read(indices), np.float32))
        maps = torch.stack([draw_maps(self.data.condition(int(i)), self.size.labels) for i in indices])
        return images.to(self.device) * 2 - 1, maps.to(self.device)

    def _asked(self, chance: Chance, twice: bool = False) -> Tensor:
        """Return box maps to draw images for; with `twice` the second half repeats the first."""
        count = self.recipe.batch // 2 if twice else self.recipe.batch
        indices = chance.numpy.choice(len(self.data), count, p=self.data.weights)
        maps = torch.stack([draw_maps(self.data.condition(int(i)), self.size.labels) for i in indices])
        return torch.cat([maps, maps] if twice else [maps]).to(self.device)

    def _latents(self, chance: Chance) -> Tensor:
        return torch.randn(self.recipe.batch, self.size.latent, generator=chance.torch).to(self.device)

    def _judge(self, images: Tensor, maps: Tensor) -> Tensor:
        with self.run.autocast():
            return self.discriminator(compact(images), compact(maps)).float()

    def _fake(self, latents: Tensor, maps: Tensor) -> Tensor:
        with self.run.autocast():
            return self.generator(latents, maps).float()

    def _locate(self, images: Tensor) -> Tensor:
        with self.run.autocast():
            return self.locator(compact(images)).float()

    def _discriminator_step(
        self, images: Tensor, maps: Tensor, latents: Tensor, asked: Tensor, chance: Chance
    ) -> dict[str, Tensor]:
        recipe = self.recipe
        with torch.no_grad():
            drawn = self._fake(latents, asked)
            real, real_maps = augment(images, maps, recipe.amounts, chance.numpy)
            fake, fake_maps = augment(drawn, asked, recipe.amounts, chance.numpy)
        on_real, on_fake = self._judge(real, real_maps), self._judge(fake, fake_maps)
        loss = softplus(-on_real).mean() + softplus(on_fake).mean()
        losses = {"score_real": on_real.detach().mean(), "score_fake": on_fake.detach().mean()}
        if recipe.mismatch:
            wrong = self._judge(real, real_maps.roll(1, 0))
            loss = loss + recipe.mismatch * softplus(wrong).mean()
            losses["score_wrong"] = wrong.detach().mean()
        losses["loss_d"] = loss.detach()
        if recipe.r1_weight and self.steps % recipe.r1_every == 0:
            penalty = r1_penalty(self._judge, real, real_maps).mean()
            loss = loss + recipe.r1_weight / 2 * recipe.r1_every * penalty
            losses["r1"] = penalty.detach()
        self._move("discriminator", loss)
        return losses

    def _locator_step(self, images: Tensor, maps: Tensor, chance: Chance) -> Tensor:
        with torch.no_grad():
            real, real_maps = augment(images, maps, self.recipe.amounts, chance.numpy)
        loss = F.binary_cross_entropy_with_logits(self._locate(real), coarse(real_maps))
        self._move("locator", loss)
        return loss.detach()

    def _generator_step(self, done: int, chance: Chance) -> dict[str, Tensor]:
        recipe = self.recipe
        asked, latents = self._asked(chance, twice=recipe.diversity > 0), self._latents(chance)
        self.discriminator.requires_grad_(False)
        self.locator.requires_grad_(False)
        drawn = self._fake(latents, asked)
        fake, maps = augment(drawn, asked, recipe.amounts, chance.numpy)
        loss = softplus(-self._judge(fake, maps)).mean()
        losses = {"loss_g": loss.detach()}
        if recipe.locate:
            missed = F.binary_cross_entropy_with_logits(self._locate(fake), coarse(maps))
            loss = loss + recipe.locate * missed
            losses["missed"] = missed.detach()
        if recipe.diversity:
            alike = mode_seeking(drawn, latents)
            loss = loss + recipe.diversity * alike
            losses["alike"] = alike.detach()
        self._move("generator", loss)
        self.discriminator.requires_grad_(True)
        self.locator.requires_grad_(True)
        self._move_average(done + recipe.batch)
        return losses

    def _move(self, name: str, loss: Tensor) -> None:
        optimiser = self.optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    @torch.no_grad()
    def _move_average(self, done: int) -> None:
        """Follow the weights with a half life that grows with the run (ramp of Karras et al. 2020, ADA)."""
        half_life = min(self.recipe.ema_images, 0.05 * done)
        decay = 0.5 ** (self.recipe.batch / max(half_life, 1e-8))
        averages: list[Tensor] = list(self.average.parameters())
        torch._foreach_lerp_(averages, list(self.generator.parameters()), 1 - decay)

    def state_dict(self, done: int) -> dict[str, Any]:
        """Return everything that a resumed run needs to go on as if it had never stopped."""
        weights = {name: getattr(self, name).state_dict() for name in (*NETWORKS, "average")}
        moments = {name: optimiser.state_dict()["state"] for name, optimiser in self.optimisers.items()}
        return {"done": done, "steps": self.steps, **weights, "optimisers": moments}

    def load_state_dict(self, state: Mapping[str, Any]) -> int:
        """Restore `state_dict`; return the images done."""
        for name in (*NETWORKS, "average"):
            load_weights(getattr(self, name), state[name])
        for name, optimiser in self.optimisers.items():
            moments = {int(index): value for index, value in state["optimisers"][name].items()}
            optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
        self.steps = int(state["steps"])
        return int(state["done"])


def compact(x: Tensor) -> Tensor:
    """Lay 2D images out channels last, which the convolutions like best."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def place(network: nn.Module, device: str, dims: int) -> None:
    """Move a network to a device, channels last where its images are."""
    network.to(device)
    if dims == 2:
        network.to(memory_format=torch.channels_last)


def load_weights(network: nn.Module, state: Mapping[str, Any]) -> None:
    """Copy weights into a network; raise BadInput naming the first that does not fit."""
    own = network.state_dict()
    for name in sorted(own.keys() | state.keys()):
        found = tuple(state[name].shape) if name in state else "nothing"
        asked = tuple(own[name].shape) if name in own else "nothing"
        if found != asked:
            raise BadInput(
                f"these weights do not fit a BoxGAN of these settings and image size: {name} holds {found}, "
                f"expected {asked}"
            )
    network.load_state_dict(dict(state))
