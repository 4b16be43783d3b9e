"""Train BoxGAN: a relativistic or non-saturating game, lazy R1, wrong boxes, box finding, and variety.

Legend as in `networks`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medaug_cli.plugin import Run, image_seed
from medaug_plugins import layers
from medaug_plugins.boxgan.augment import Augmentation, change, move
from medaug_plugins.boxgan.networks import Architecture, Discriminator, Generator, Seen
from medaug_plugins.boxgan.reals import Reals
from medaug_plugins.layers import descend, draw_weights, load_moments, load_weights, mine, move_average, place, whole

Adam = torch.optim.Adam
KIND = "BoxGAN"
SPREAD_SIDE = 16  # variety is compared at this side
ADA_KIMG = 10  # thousand images from no augmentation to all of it
SURE_MEMORY = 0.95
MEMORY = 0.98  # of the moving average of how well boxes are found in real images


@dataclass(frozen=True)
class Recipe:
    """The numbers of a training step."""

    loss: str = "nonsaturating"
    batch: int = 8
    lr: float = 0.006
    anneal: float = 0.5
    gamma: float = 2.0
    r1_every: int = 8
    mismatch: float = 1.0
    finding: float = 1.0
    crop: float = 0.0
    target: float = 0.0
    reading: float = 1.0
    variety: float = 5.0
    jitter: float = 0.05
    ema_kimg: float = 1.0
    ema_ramp: float = 0.05
    augmentation: Augmentation = field(default_factory=Augmentation)


def draw_noise(size: Architecture, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return a latent vector (1, z) and a plane of white noise (1, 1, *s)."""
    latent = torch.randn(1, size.latent, generator=generator)
    return latent, torch.randn(1, 1, *size.spatial, generator=generator)


class Chance(layers.Chance):
    """The randomness of one step of BoxGAN, drawn for the whole batch whatever part of it a process takes."""

    def noise(self, size: Architecture, count: int) -> tuple[Tensor, Tensor]:
        """Draw latents (count, z) and noise (count, 1, *s)."""
        latents = torch.randn(count, size.latent, generator=self.torch)
        return latents, torch.randn(count, 1, *size.spatial, generator=self.torch)


def r1_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """Return the squared norm of the scores' gradient at each image, (b,) (Mescheder et al. 2018, 4.1)."""
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.float().square().flatten(1).sum(1)


def finding_loss(found: Tensor, condition: Tensor) -> Tensor:
    """Return cross-entropy + 1 - Dice of found boxes: logits (b, n, s, s), condition (b, k, *s) with k > n."""
    factor = condition.shape[-1] // found.shape[-1]
    asked = F.avg_pool2d(condition[:, : found.shape[1]], factor)
    found = found.float()
    entropy = F.binary_cross_entropy_with_logits(found, asked)
    share = torch.sigmoid(found)
    overlap, total = (share * asked).sum((2, 3)), (share + asked).sum((2, 3))
    present = (asked.amax((2, 3)) > 0).float()  # an absent label has no Dice
    dice = (2 * overlap + 1) / (total + 1)
    return entropy * 4 + ((1 - dice) * present).sum() / present.sum().clamp(min=1)


def spread(images: Tensor) -> Tensor:
    """Return each coarse pixel's standard deviation over a batch, (c, s, s)."""
    factor = max(1, min(images.shape[-2:]) // SPREAD_SIDE)
    return torch.sqrt(F.avg_pool2d(images.float(), factor).var(0) + 1e-6)


class Drawn(NamedTuple):
    """Drawn images, the conditions that were asked for, and the latents."""

    images: Tensor
    condition: Tensor
    latents: Tensor


class Training:
    """Both networks, the moving average of the generator, their optimisers, and a step of all of them."""

    def __init__(self, size: Architecture, recipe: Recipe, reals: Reals, run: Run) -> None:
        self.size, self.recipe, self.reals, self.run = size, recipe, reals, run
        chance = torch.Generator().manual_seed(image_seed(abs(run.seed), 0))
        self.generator, self.discriminator = Generator(size), Discriminator(size, run)
        for network in (self.generator, self.discriminator):
            draw_weights(network, chance)
            place(network, run.device)
        self.average = Generator(size).requires_grad_(False)
        place(self.average, run.device)
        self.average.load_state_dict(self.generator.state_dict())
        settings: dict[str, Any] = {"lr": recipe.lr, "betas": (0.0, 0.99), "eps": 1e-8, "fused": True}
        self.generator_optimiser = Adam(self.generator.parameters(), **settings)
        self.discriminator_optimiser = Adam(self.discriminator.parameters(), **settings)
        self.steps = 0
        self.real_spread = self._real_spread()
        self.sure = recipe.target  # moving average of the signs of real images' scores
        self.augment = recipe.augmentation.share
        self.found_real = torch.tensor(float("inf"), device=run.device)  # moving average of the loss

    def _real_spread(self) -> Tensor:
        """Return the spread of at most 512 real images, always the same ones."""
        chance = Chance(self.run.seed, 0, self.run.device)
        indices = chance.indices(self.reals.data.weights, min(512, 4 * len(self.reals.data)))
        return spread(self.reals.batch(indices))

    def step(self, done: int) -> dict[str, Tensor]:
        """Train both networks on one batch, of which each process takes its share; return the losses."""
        chance = Chance(self.run.seed, done, self.run.device)
        self._anneal(done)
        drawn = self._draw(chance)  # both networks learn from the same drawing
        losses = self._discriminator_step(chance, drawn) | self._generator_step(chance, drawn)
        self.steps += 1
        half_life = min(self.recipe.ema_kimg * 1000, self.recipe.ema_ramp * (done + self.recipe.batch))
        move_average(self.average, self.generator, self.recipe.batch, half_life)  # it grows with the run (ADA, C)
        return losses

    def _anneal(self, done: int) -> None:
        """Let the step size fall to zero at the end of the run."""
        left = 1 - self.run.fraction(done)
        lr = self.recipe.lr * (min(1.0, left / self.recipe.anneal) if self.recipe.anneal else 1.0)
        for optimiser in (self.generator_optimiser, self.discriminator_optimiser):
            optimiser.param_groups[0]["lr"] = lr

    def _look(self, images: Tensor) -> Seen:
        with self.run.autocast():
            return self.discriminator(images)

    def _indices(self, chance: Chance) -> np.ndarray:
        return mine(chance.indices(self.reals.data.weights, self.recipe.batch), self.run)

    def _changed(self, chance: Chance, images: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor]:
        """Augment images and conditions together."""
        augmentation, count = replace(self.recipe.augmentation, share=self.augment), self.recipe.batch
        moves, tones = augmentation.draw_moves(count, chance.torch), augmentation.draw_tones(count, chance.torch)
        return change(images, conditions, mine(moves, self.run), mine(tones, self.run))

    def _draw(self, chance: Chance) -> Drawn:
        condition = self.reals.conditions(self._indices(chance))
        jitter = Augmentation(flip=self.recipe.augmentation.flip, shift=self.recipe.jitter, zoom=self.recipe.jitter)
        condition = move(condition, mine(jitter.draw_moves(self.recipe.batch, chance.torch), self.run))
        latents, noise = (mine(x, self.run).to(chance.device) for x in chance.noise(self.size, self.recipe.batch))
        with self.run.autocast():
            return Drawn(self.generator(latents, noise, condition), condition, latents)

    def _discriminator_step(self, chance: Chance, drawn: Drawn) -> dict[str, Tensor]:
        recipe, look, agree = self.recipe, self._look, self.discriminator.agreement
        indices = self._indices(chance)
        real, asked = self._changed(chance, self.reals.batch(indices), self.reals.conditions(indices))
        fake, told = self._changed(chance, drawn.images.detach(), drawn.condition)
        every = whole(asked, self.run)
        others = mine(every.roll(1, 0), self.run)
        penalised = recipe.gamma > 0 and self.steps % recipe.r1_every == 0
        real_seen, drawn_seen = look(real.requires_grad_(penalised)), look(fake)
        right, wrong = agree(real_seen, asked), agree(real_seen, others)
        real_scores, drawn_scores = real_seen.score + right, drawn_seen.score + agree(drawn_seen, told)
        if recipe.loss == "relativistic":
            game = F.softplus(drawn_scores - real_scores).mean()
        else:
            game = F.softplus(drawn_scores).mean() + F.softplus(-real_scores).mean()
        found = finding_loss(whole(real_seen.found, self.run), every)
        self._remember(found.detach())
        loss = game + recipe.mismatch * F.softplus(wrong - right).mean() + recipe.finding * found
        losses = {"loss_d": game.detach(), "found_real": found.detach(), "right": (right > wrong).float().mean()}
        losses["augment"] = torch.tensor(self.augment)
        losses |= {"score_real": real_scores.detach().mean(), "score_drawn": drawn_scores.detach().mean()}
        penalised_scores = real_scores
        if recipe.crop:
            lesion = self.discriminator.lesion
            real_lesions, no_lesions = lesion(real_seen, asked), lesion(real_seen, others)
            local = F.softplus(-real_lesions) + (F.softplus(lesion(drawn_seen, told)) + F.softplus(no_lesions)) / 2
            loss, penalised_scores = loss + recipe.crop * local.mean(), real_scores + real_lesions
            losses["lesion_d"] = local.detach().mean()
        self._steer(real_scores.detach())
        if recipe.reading:
            loss = loss + recipe.reading * F.mse_loss(drawn_seen.latents, drawn.latents)
        if penalised:
            penalty = r1_penalty(penalised_scores, real).mean()
            loss = loss + recipe.gamma / 2 * recipe.r1_every * penalty
            losses["penalty"] = penalty.detach()
        descend(self.discriminator_optimiser, loss, self.run)
        return losses

    def _generator_step(self, chance: Chance, drawn: Drawn) -> dict[str, Tensor]:
        recipe = self.recipe
        changed, moved = self._changed(chance, drawn.images, drawn.condition)
        moved = moved.detach()  # nobody asks for the gradient of a box
        self.discriminator.requires_grad_(False)
        seen = self._look(changed)
        scores = seen.score + self.discriminator.agreement(seen, moved)
        found = finding_loss(whole(seen.found, self.run), whole(moved, self.run))
        missing = F.relu(self.real_spread - spread(whole(drawn.images, self.run))).mean()
        game = F.softplus(self._rival(chance) - scores).mean()
        hidden = F.relu(found - self.found_real)  # lesions that are found as easily as real ones are good enough
        loss = game + recipe.finding * hidden + recipe.variety * missing
        losses = {"loss_g": game.detach(), "found_drawn": found.detach(), "missing_spread": missing.detach()}
        if recipe.crop:
            local = F.softplus(-self.discriminator.lesion(seen, moved)).mean()
            loss, losses["lesion_g"] = loss + recipe.crop * local, local.detach()
        if recipe.reading:
            read = F.mse_loss(seen.latents, drawn.latents)
            loss, losses["read"] = loss + recipe.reading * read, read.detach()
        descend(self.generator_optimiser, loss, self.run)
        self.discriminator.requires_grad_(True)
        return losses

    def _steer(self, scores: Tensor) -> None:
        """Augment more where the discriminator is sure of real images (Karras et al. 2020, ADA, 3)."""
        if not self.recipe.target:
            return
        self.sure = SURE_MEMORY * self.sure + (1 - SURE_MEMORY) * float(whole(scores.sign(), self.run).mean())
        step = self.recipe.batch / (1000 * ADA_KIMG) * (1 if self.sure > self.recipe.target else -1)
        self.augment = min(max(self.augment + step, 0.0), 0.95)

    def _remember(self, found: Tensor) -> None:
        first = torch.isinf(self.found_real)
        self.found_real = torch.where(first, found, torch.lerp(found, self.found_real, MEMORY))

    @torch.no_grad()
    def _rival(self, chance: Chance) -> Tensor | float:
        """Return what the scores of drawn images are compared with: real ones' (relativistic) or nothing."""
        if self.recipe.loss != "relativistic":
            return 0.0
        indices = self._indices(chance)
        real, asked = self._changed(chance, self.reals.batch(indices), self.reals.conditions(indices))
        seen = self._look(real)
        return seen.score + self.discriminator.agreement(seen, asked)

    def state_dict(self, done: int) -> dict[str, Any]:
        """Return everything that a resumed run needs to go on as if it had never stopped."""
        return {
            "done": done, "steps": self.steps, "found_real": self.found_real,
            "augment": self.augment, "sure": self.sure,
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": self.average.state_dict(),
            "generator_optimiser": self.generator_optimiser.state_dict()["state"],
            "discriminator_optimiser": self.discriminator_optimiser.state_dict()["state"],
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> int:
        """Restore `state_dict`; return the images done."""
        for name in ("generator", "discriminator", "average"):
            load_weights(getattr(self, name), state[name], KIND)
        for name in ("generator_optimiser", "discriminator_optimiser"):
            load_moments(getattr(self, name), state[name])
        self.steps = int(state["steps"])
        self.augment, self.sure = float(state["augment"]), float(state["sure"])
        self.found_real = state["found_real"].to(self.run.device)
        return int(state["done"])
