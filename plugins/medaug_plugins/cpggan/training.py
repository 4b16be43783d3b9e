"""Train CPGGAN: WGAN-GP with drift (Karras et al. 2018, A.1), condition maps beside every image."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medaug_cli.plugin import Run, image_seed
from medaug_plugins import layers
from medaug_plugins.cpggan.dataset import RealImages
from medaug_plugins.cpggan.networks import Architecture, Discriminator, Generator, Judged
from medaug_plugins.cpggan.schedule import Stage, phase
from medaug_plugins.layers import (
    ScaledAdam,
    Slots,
    annealed,
    carry,
    draw_latents,
    draw_weights,
    load_weights,
    mine,
    place,
    spread,
    whole,
)
from medaug_plugins.layers.augment import Augmentation, Steering, change

KIND = "CPGGAN"
SEES_GENERATOR = re.compile(r"(conv|blocks\.\d+\.first)\.weight")  # weights of the convolutions that see the map
SEES_DISCRIMINATOR = re.compile(r"from_image\.\d+\.weight")


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, share: Tensor, scale: Tensor | float = 1.0
) -> Tensor:
    """Return (norm of the gradient - 1)**2 (b,) at `share` of the way from fake to real images.

    The gradient is taken with respect to the image alone (Gulrajani et al. 2017, algorithm 1). On its way it is
    multiplied by `scale`, so that it survives in half precision.
    """
    mixed = torch.lerp(fake, real, share).requires_grad_(True)
    scores = critic(mixed)
    (gradient,) = torch.autograd.grad((scores * scale).sum(), mixed, create_graph=True)
    return ((gradient.float() / scale).flatten(1).norm(dim=1) - 1).square()


class StepRandomness(layers.StepRandomness):
    """The randomness of one step of CPGGAN, drawn for the whole batch whatever part of it a process takes."""

    def noise(self, kind: str, count: int, numbers: int) -> Tensor:
        """Draw latent numbers (count, numbers) of a kind."""
        return draw_latents(kind, count, numbers, self.torch)

    def shares(self, count: int, dims: int) -> Tensor:
        """Draw shares in [0, 1), one per image, that broadcast over its channels and axes."""
        return torch.rand(count, *[1] * (dims + 1), generator=self.torch)

    def happens(self, probability: float) -> bool:
        """Return True with this probability."""
        return bool(self.numpy.random() < probability)


@dataclass(frozen=True)
class Start:
    """What the networks of a new run begin with."""

    told: Slots  # the channels of the condition map, which joins the other inputs of a convolution as the last of them

    generator: Mapping[str, Any]
    discriminator: Mapping[str, Any] | None  # None if it is not available
    lod: float

    def carry_into(self, generator: nn.Module, discriminator: nn.Module) -> dict[str, list[str]]:
        """Copy what matches into both networks; return the names of what does not match, for each."""
        anew = {"generator": carry(generator, self.generator, self._slots(generator))}
        if self.discriminator is None:
            return anew | {"discriminator": ["all of it, since it is not available"]}
        return anew | {"discriminator": carry(discriminator, self.discriminator, self._slots(discriminator))}

    def _slots(self, network: nn.Module) -> dict[str, Slots]:
        """Return the channels of the condition map in every weight of a network that sees it."""
        sees = SEES_GENERATOR if isinstance(network, Generator) else SEES_DISCRIMINATOR
        return {name: self.told for name, _ in network.named_parameters() if sees.fullmatch(name)}


class Training:
    """Both networks, the moving average of the generator, their optimisers, and a step of all of them."""

    def __init__(self, size: Architecture, data: RealImages, run: Run, start: Start | None = None) -> None:
        self.size, self.settings, self.data, self.run = size, size.settings, data, run
        rng = torch.Generator().manual_seed(image_seed(abs(run.seed), 0))
        self.generator, self.discriminator = Generator(size), Discriminator(size, run)
        for network in (self.generator, self.discriminator):
            draw_weights(network, rng)
            place(network, run.device)
        if start is not None:
            start.carry_into(self.generator, self.discriminator)
        self.average = Generator(size).requires_grad_(False)
        place(self.average, run.device)
        self.average.load_state_dict(self.generator.state_dict())
        self.lod, self.steps = float(size.levels) if start is None else start.lod, 0
        self.begun = 0  # images done when the level that is trained now began
        self.weights = np.array(data.examples.weights)  # as they begin: external images may fade out of the run
        self.real_spread: dict[int, Tensor] = {}  # of real images at a level that is trained
        self.steering = Steering(self.settings.augment, self.settings.target, run)
        self.optimizers = {
            "generator": ScaledAdam(self.generator, run, size.settings.lr),
            "discriminator": ScaledAdam(self.discriminator, run, size.settings.lr),
        }

    def step(self, done: int, stage: Stage) -> tuple[int, dict[str, Tensor]]:
        """Train one step; return the real images that the discriminator saw and the losses."""
        if int(stage.lod) != int(self.lod):
            self.begun = done
        if phase(stage.lod) != phase(self.lod):
            for optimizer in self.optimizers.values():
                optimizer.restart()
        lr = annealed(self.settings.lr, self.settings.anneal, self.run.fraction(done))
        for optimizer in self.optimizers.values():
            optimizer.set_lr(lr)
        self.lod = stage.lod
        self.data.turn_to(self.level)
        rng = StepRandomness(self.run.seed, done, self.run.device)
        for _ in range(self.settings.n_critic):
            losses = self._discriminator_step(rng, stage.batch)
        losses |= self._generator_step(rng, stage.batch)
        self.steps += 1
        images = stage.batch * self.settings.n_critic
        self._move_average(done + images - self.begun, images)
        return images, losses

    @property
    def level(self) -> int:
        """Return the level that is trained now."""
        return self.size.levels - int(self.lod)

    @property
    def fade(self) -> float:
        """Return how much of the level before still shows, in [0, 1)."""
        return self.lod % 1

    def _judge(self, image: Tensor, condition: Tensor | None) -> Judged:
        with self.run.autocast():
            return self.discriminator.judge(image, condition, self.level, self.fade)

    def _critic(self, condition: Tensor | None) -> Callable[[Tensor], Tensor]:
        """Return the scores as a function of the image; its gradient is then taken outside autocast."""
        return lambda image: self._judge(image, condition).scores

    def _fake(self, latents: Tensor, condition: Tensor | None) -> Tensor:
        with self.run.autocast():
            return self.generator(latents, condition, self.level, self.fade)

    def _indices(self, rng: StepRandomness, batch: int) -> np.ndarray:
        return mine(rng.indices(self.data.examples.weights, batch), self.run)

    def _latents(self, rng: StepRandomness, batch: int) -> Tensor:
        return mine(rng.noise(self.settings.noise, batch, self.size.latent), self.run).to(self.run.device)

    def _augmentation(self) -> Augmentation:
        return Augmentation.of(self.settings, self.steering.share, self.size.dims)

    def _moves(self, rng: StepRandomness, batch: int) -> Tensor | None:
        """Draw how the images of a batch are moved, each with its map; None where none is changed."""
        settings = self.settings
        if not (settings.flip or settings.flip_rows or settings.augment or settings.target):
            return None
        return mine(self._augmentation().draw_moves(batch, rng.torch), self.run)

    def _changed(
        self, rng: StepRandomness, images: Tensor, maps: Tensor | None, moves: Tensor | None, batch: int
    ) -> tuple[Tensor, Tensor | None]:
        """Augment images and maps together, drawn images as real ones are (Zhao et al. 2020)."""
        if moves is None:
            return images, maps
        tones = mine(self._augmentation().draw_tones(batch, rng.torch), self.run)
        changed, told = change(images, images[:, :0] if maps is None else maps, moves, tones)
        return changed, None if maps is None else told

    def _discriminator_step(self, rng: StepRandomness, batch: int) -> dict[str, Tensor]:
        settings, optimizer = self.settings, self.optimizers["discriminator"]
        indices = self._indices(rng, batch)
        real, maps = self.data.batch(indices, self.fade), self.data.condition_maps(indices)
        latents, moves = self._latents(rng, batch), self._moves(rng, batch)
        with torch.no_grad():
            fake = self._changed(rng, self._fake(latents, maps), maps, moves, batch)[0]
        real, maps = self._changed(rng, real, maps, moves, batch)
        critic = self._critic(maps)
        real_scores, of_fake = critic(real), self._judge(fake, maps)
        fake_scores = of_fake.scores
        # Real and fake are swapped now and then, in the preset "companion".
        sign = -1.0 if rng.happens(settings.label_flips) else 1.0
        # Distance: the critic's estimate of how far drawn images are from real ones (Arjovsky et al. 2017, WGAN).
        distance = (real_scores - fake_scores).mean()
        # Drift: the distance leaves the scores' level open; real ones are held near zero (Karras et al. 2018, A.1).
        drift = real_scores.square().mean()
        loss = -sign * distance + settings.drift * drift
        losses = {"loss_d": loss.detach(), "distance": distance.detach()}
        if of_fake.latents is not None:
            loss = loss + settings.reading * F.mse_loss(of_fake.latents, latents)
        self._steer(real_scores.detach(), fake_scores.detach(), batch)
        # Gradient penalty: keeps the critic's slope near one between real and generated images, without which the
        # distance is not one (Gulrajani et al. 2017, WGAN-GP, 4); lazily, with more weight (as R1 in StyleGAN2, B).
        if self.steps % settings.gp_every == 0:
            shares = mine(rng.shares(batch, self.size.dims), self.run).to(real.device)
            penalty = gradient_penalty(critic, real, fake, shares, optimizer.scale()).mean()
            loss = loss + settings.gp_weight * settings.gp_every * penalty
            losses |= {"loss_d": loss.detach(), "penalty": penalty.detach()}
        optimizer.step(loss)
        return losses

    def _steer(self, real: Tensor, fake: Tensor, batch: int) -> None:
        """Steer augmentation by real scores, less the midpoint of real and generated ones: a critic's have no zero."""
        if self.settings.target:
            middle = (whole(real, self.run).mean() + whole(fake, self.run).mean()) / 2
            self.steering.observe(real - middle, batch)

    def _generator_step(self, rng: StepRandomness, batch: int) -> dict[str, Tensor]:
        maps = self.data.condition_maps(self._indices(rng, batch))
        latents, moves = self._latents(rng, batch), self._moves(rng, batch)
        self.discriminator.requires_grad_(False)
        drawn = self._fake(latents, maps)
        fake, told = self._changed(rng, drawn, maps, moves, batch)
        judged = self._judge(fake, told)
        loss = -judged.scores.mean()
        losses = {"loss_g": loss.detach()}
        # Reading (Chen et al. 2016, InfoGAN): a head that many latent vectors lead to does not tell which it was.
        if judged.latents is not None:
            read = F.mse_loss(judged.latents, latents)
            loss, losses["read"] = loss + self.settings.reading * read, read.detach()
        # Variety: with the few steps that a CPU takes the critic alone lets images become alike, from 4x4 on.
        if self.settings.variety:
            missing = F.relu(self._real_spread() - spread(whole(drawn, self.run))).mean()
            loss, losses["missing_spread"] = loss + self.settings.variety * missing, missing.detach()
        self.optimizers["generator"].step(loss)
        self.discriminator.requires_grad_(True)
        return losses

    def _real_spread(self) -> Tensor:
        """Return how much real images of this level differ, of at most 512, always the same."""
        if self.level not in self.real_spread:
            rng, data = StepRandomness(self.run.seed, 0, self.run.device), self.data
            some = rng.indices(self.weights, min(512, 4 * len(data.examples)))
            self.real_spread = {self.level: spread(data.batch(some, 0.0))}
        return self.real_spread[self.level]

    @torch.no_grad()
    def _move_average(self, since: int, images: int) -> None:
        """Move the average by a step of so many images, `since` the level began.

        A level begins with random weights. Where it gets few images, an average of the paper's length still holds
        them when the run ends, and draws one bright grid whatever the generator has learnt.
        """
        ramp = self.settings.ema_ramp * since
        decay = min(self.settings.ema, 0.5 ** (images / ramp)) if ramp else self.settings.ema
        averages: list[Tensor] = list(self.average.parameters())
        weights: list[Tensor] = list(self.generator.parameters())
        torch._foreach_lerp_(averages, weights, 1 - decay)

    def state_dict(self, done: int) -> dict[str, Any]:
        """Return everything that a resumed run needs to go on as though it had never stopped."""
        return {
            "done": done, "steps": self.steps, "lod": self.lod, "begun": self.begun, **self.steering.state_dict(),
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": self.average.state_dict(),
            "descents": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> int:
        """Restore `state_dict`; return the images done."""
        for name in ("generator", "discriminator", "average"):
            load_weights(getattr(self, name), state[name], KIND)
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["descents"][name])
        if "begun" in state:  # older versions wrote neither
            self.steering.load_state_dict(state)
            self.begun = int(state["begun"])
        self.steps, self.lod = int(state["steps"]), float(state["lod"])
        return int(state["done"])
