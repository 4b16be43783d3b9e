"""Train BoxGAN: a relativistic or non-saturating game, lazy R1, wrong boxes, box finding, and variety.

Legend as in `networks`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medaug_cli.plugin import Run, image_seed
from medaug_plugins import layers
from medaug_plugins.boxgan.dataset import RealImages
from medaug_plugins.boxgan.frozen import feature_spreads, features_of
from medaug_plugins.boxgan.networks import Architecture, Discriminator, Generator, Seen
from medaug_plugins.boxgan.start import Start
from medaug_plugins.layers import (
    annealed,
    averaged,
    draw_latents,
    draw_weights,
    load_moments,
    load_weights,
    mine,
    move_average,
    optimizer_step,
    place,
    spread,
    whole,
)
from medaug_plugins.layers.augment import Augmentation, Steering, change, move

Adam = torch.optim.Adam
KIND = "BoxGAN"
RING = 3  # pixels around a lesion that it stands out from
JITTERED = 0.8  # probability of each change of the boxes to draw
WARMING = 0.1  # share of a run over which a generator's step size rises if its discriminator is newly initialised
MEMORY = 0.98  # of the moving average of how well boxes are found in real images


def draw_noise(size: Architecture, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return a latent vector (1, z) and a plane of white noise (1, 1, *s)."""
    latent = draw_latents(str(size.settings.noise), 1, size.settings.latent, generator)
    return latent, torch.randn(1, 1, *size.spatial, generator=generator)


class StepRandomness(layers.StepRandomness):
    """The randomness of one step of BoxGAN, drawn for the whole batch whatever part of it a process takes."""

    def noise(self, size: Architecture, count: int) -> tuple[Tensor, Tensor]:
        """Draw latents (count, z) and noise (count, 1, *s)."""
        latents = draw_latents(str(size.settings.noise), count, size.settings.latent, self.torch)
        return latents, torch.randn(count, 1, *size.spatial, generator=self.torch)


def r1_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """Return the squared norm of the scores' gradient at each image, (b,) (Mescheder et al. 2018, 4.1)."""
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return gradient.float().square().flatten(1).sum(1)


def localisation_loss(found: Tensor, condition: Tensor) -> Tensor:
    """Return cross-entropy + 1 - Dice of found boxes: logits (b, n, *s), condition (b, k, *s) with k > n.

    It is 0 for no images.
    """
    if not len(found):
        return found.sum()
    factor = condition.shape[-1] // found.shape[-1]
    asked = averaged(condition[:, : found.shape[1]], factor)
    found = found.float()
    entropy = F.binary_cross_entropy_with_logits(found, asked)
    share = torch.sigmoid(found)
    axes = tuple(range(2, found.ndim))
    overlap, total = (share * asked).sum(axes), (share + asked).sum(axes)
    present = (asked.amax(axes) > 0).float()  # an absent label has no Dice
    dice = (2 * overlap + 1) / (total + 1)
    return entropy * 4 + ((1 - dice) * present).sum() / present.sum().clamp(min=1)


class Known(NamedTuple):
    """Which images of a batch are annotated; the boxes of the others are never used."""

    every: np.ndarray  # (w * b,) bool, of the whole batch
    mine: Tensor  # (b,) 1 or 0, of this process's share
    weights: Tensor  # (b,), by which a mean over a share is one over the annotated images of the whole batch

    def others(self, conditions: Tensor) -> Tensor:
        """Return the condition of another annotated image for each of a whole batch, (w * b, k, *s)."""
        rows, annotated = np.arange(len(self.every)), np.flatnonzero(self.every)
        rows[annotated] = np.roll(annotated, 1)
        return conditions[torch.from_numpy(rows).to(conditions.device)]

    def alone(self, batch: Tensor) -> Tensor:
        """Return the rows of annotated images out of a whole batch (w * b, ...)."""
        return batch if self.every.all() else batch[torch.from_numpy(np.flatnonzero(self.every)).to(batch.device)]


def contrasts(images: Tensor, lesions: Tensor) -> Tensor:
    """Return how the mean in an image's lesions differs from the mean in a ring around them, (m, c).

    Images are (b, c, *s), lesions (b, n, *s) in [0, 1]; only the m images with a lesion in their condition count.
    """
    axes = tuple(range(2, images.ndim))
    pool = F.max_pool2d if images.ndim == 4 else F.max_pool3d
    inside = lesions.amax(1, keepdim=True)
    around = (pool(inside, 2 * RING + 1, 1, RING) - inside).clamp(min=0)
    means = [(images.float() * part).sum(axes) / part.sum(axes).clamp(min=1e-6) for part in (inside, around)]
    return (means[0] - means[1])[inside.amax(axes)[:, 0] > 0]


def standing_out(differences: Tensor) -> Tensor:
    """Return the size and the spread of contrasts (m, c) over images, (2, c)."""
    return torch.stack([differences.abs().mean(0), differences.std(0)])


class Drawn(NamedTuple):
    """Drawn images, the conditions that were asked for, and the latents."""

    images: Tensor
    condition: Tensor
    latents: Tensor


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
            start.carry_into(self.generator, self.discriminator, size)
        self.warming = start is not None and start.discriminator is None
        self.average = Generator(size).requires_grad_(False)
        place(self.average, run.device)
        self.average.load_state_dict(self.generator.state_dict())
        adam: dict[str, Any] = {"lr": self.settings.lr, "betas": (0.0, 0.99), "eps": 1e-8, "fused": True}
        self.generator_optimiser = Adam(self.generator.parameters(), **adam)
        self.discriminator_optimiser = Adam(self.discriminator.parameters(), **adam)
        self.steps = 0
        seen = self._some_real_images()
        self.real_spread = spread(self.data.batch(seen))
        self.steering = Steering(self.settings.augment, self.settings.target, run)
        self.found_real = torch.tensor(float("inf"), device=run.device)  # moving average of the loss
        self.real_contrast = self._real_contrast(seen) if self.settings.contrast_weight else None
        smooth = self.settings.frozen and self.settings.frozen_gamma
        self.feature_spreads = feature_spreads(self.data.batch(seen)) if smooth else []

    def _some_real_images(self) -> np.ndarray:
        """Return at most 512 real images, always the same, with which generated ones are compared."""
        rng = StepRandomness(self.run.seed, 0, self.run.device)
        return rng.indices(self.data.examples.weights, min(512, 4 * len(self.data.examples)))

    def _real_contrast(self, seen: np.ndarray) -> Tensor | None:
        """Return how much lesions stand out in real images; None where fewer than two show any."""
        maps = self.data.conditions(seen)[:, : self.size.labels]
        found = contrasts(self.data.batch(seen), maps)
        return standing_out(found) if len(found) > 1 else None

    def step(self, done: int) -> dict[str, Tensor]:
        """Train both networks on one batch, of which each process takes its share; return the losses."""
        rng = StepRandomness(self.run.seed, done, self.run.device)
        self._anneal(done)
        drawn = self._draw(rng)  # both networks learn from the same images
        losses = self._discriminator_step(rng, drawn) | self._generator_step(rng, drawn)
        self.steps += 1
        half_life = min(self.settings.ema_kimg * 1000, self.settings.ema_ramp * (done + self.settings.batch))
        move_average(self.average, self.generator, self.settings.batch, half_life)  # it grows with the run (ADA, C)
        return losses

    def _anneal(self, done: int) -> None:
        """Let the step size fall to zero at the end of the run."""
        fraction = self.run.fraction(done)
        lr = annealed(self.settings.lr, self.settings.anneal, fraction)
        for optimiser in (self.generator_optimiser, self.discriminator_optimiser):
            optimiser.param_groups[0]["lr"] = lr
        if self.warming:  # a generator that has learnt waits for a discriminator that has not
            self.generator_optimiser.param_groups[0]["lr"] = lr * min(1.0, fraction / WARMING)

    def _look(self, images: Tensor) -> Seen:
        with self.run.autocast():
            return self.discriminator(images)

    def _real_batch(self, rng: StepRandomness) -> tuple[np.ndarray, Known]:
        """Choose real images, and say which of them are annotated."""
        indices = rng.indices(self.data.examples.weights, self.settings.batch)
        every = self.data.annotated[indices]
        own = torch.from_numpy(mine(every, self.run).astype(np.float32)).to(rng.device)
        return mine(indices, self.run), Known(every, own, own / max(float(every.mean()), 1 / len(every)))

    def _changed(self, rng: StepRandomness, images: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor]:
        """Augment images and conditions together."""
        count, augmentation = self.settings.batch, Augmentation.of(self.settings, self.steering.share, self.size.dims)
        moves, tones = augmentation.draw_moves(count, rng.torch), augmentation.draw_tones(count, rng.torch)
        return change(images, conditions, mine(moves, self.run), mine(tones, self.run))

    def _draw(self, rng: StepRandomness) -> Drawn:
        asked = rng.indices(self.data.weights_of_conditions(), self.settings.batch)
        condition = self.data.conditions(mine(asked, self.run))
        settings = self.settings
        jitter = Augmentation(
            share=JITTERED,
            flip=settings.flip,
            flip_rows=settings.flip_rows,
            shift=settings.jitter,
            zoom=settings.jitter,
            dims=self.size.dims,
        )
        condition = move(condition, mine(jitter.draw_moves(self.settings.batch, rng.torch), self.run))
        latents, noise = (mine(x, self.run).to(rng.device) for x in rng.noise(self.size, self.settings.batch))
        with self.run.autocast():
            return Drawn(self.generator(latents, noise, condition), condition, latents)

    def _discriminator_step(self, rng: StepRandomness, drawn: Drawn) -> dict[str, Tensor]:
        settings, look, agree = self.settings, self._look, self.discriminator.agreement
        indices, known = self._real_batch(rng)
        real, asked = self._changed(rng, self.data.batch(indices), self.data.conditions(indices))
        fake, told = self._changed(rng, drawn.images.detach(), drawn.condition)
        every = whole(asked, self.run)
        others = mine(known.others(every), self.run)
        penalised = settings.gamma > 0 and self.steps % settings.r1_every == 0
        real_seen, drawn_seen = look(real.requires_grad_(penalised)), look(fake)
        right, wrong = agree(real_seen, asked), agree(real_seen, others)
        # What an unannotated image should agree with is unknown: it is scored as an image alone, and so is a generated
        # image for each, or else the score would learn to compensate for the missing agreement.
        real_scores = real_seen.score + known.mine * right
        drawn_scores = drawn_seen.score + known.mine * agree(drawn_seen, told)
        # The game: non-saturating (Goodfellow et al. 2014), or relativistic, which pairs drawn with real images and so
        # keeps more modes (Jolicoeur-Martineau 2018).
        if settings.loss == "relativistic":
            game = F.softplus(drawn_scores - real_scores).mean()
        else:
            game = F.softplus(drawn_scores).mean() + F.softplus(-real_scores).mean()
        found = localisation_loss(known.alone(whole(real_seen.found, self.run)), known.alone(every))
        if known.every.any():
            self._remember(found.detach())
        # Mismatch: real images with the boxes of others must score below themselves (matching-aware, Reed et al. 2016);
        # the game alone lets the discriminator ignore the boxes. Finding: it learns on real images where boxes are, to
        # teach the generator obedience (an auxiliary task, as in Odena et al. 2017).
        loss = game + settings.mismatch * (known.weights * F.softplus(wrong - right)).mean() + settings.finding * found
        losses = {"loss_d": game.detach(), "found_real": found.detach()}
        losses["right"] = (known.weights * (right > wrong)).mean()
        losses["augment"] = torch.tensor(self.steering.share)
        losses |= {"score_real": real_scores.detach().mean(), "score_drawn": drawn_scores.detach().mean()}
        penalised_scores = real_scores
        if settings.crop:
            lesion = self.discriminator.lesion
            real_lesions, no_lesions = lesion(real_seen, asked), lesion(real_seen, others)
            # Crop: what is in and around a box must look real on its own (Ouyang et al. 2018, PS-GAN, 3.2); real images
            # at the places of other boxes count as fakes too.
            theirs = known.weights * (F.softplus(-real_lesions) + F.softplus(no_lesions) / 2)
            local = theirs + F.softplus(lesion(drawn_seen, told)) / 2
            loss, penalised_scores = loss + settings.crop * local.mean(), real_scores + known.mine * real_lesions
            losses["lesion_d"] = local.detach().mean()
        if self.discriminator.frozen is not None:
            judge = self.discriminator.frozen  # Frozen: the same game, on features that few images did not teach
            drawn_score, features = judge(fake, self._places(rng)), features_of(real.detach(), self._places(rng))
            projected = (F.softplus(drawn_score) + F.softplus(-judge.score(features))).mean()
            losses["frozen_d"] = projected.detach()
            if settings.frozen_gamma:  # R1: without it the judge soon told all drawings, and they lay closer together
                steepness = judge.steepness(features, self.feature_spreads).mean()
                projected = projected + settings.frozen_gamma / 2 * steepness
                losses["frozen_penalty"] = steepness.detach()
            loss = loss + settings.frozen * projected
        self.steering.observe(real_scores.detach(), settings.batch)
        if settings.reading:  # latent reconstruction (Chen et al. 2016, InfoGAN): against one image for all latents
            loss = loss + settings.reading * F.mse_loss(drawn_seen.latents, drawn.latents)
        if penalised:  # R1 (Mescheder et al. 2018, 4.1), lazily: every few steps, that much heavier (StyleGAN2, B)
            penalty = r1_penalty(penalised_scores, real).mean()
            loss = loss + settings.gamma / 2 * settings.r1_every * penalty
            losses["penalty"] = penalty.detach()
        optimizer_step(self.discriminator_optimiser, loss, self.run)
        return losses

    def _generator_step(self, rng: StepRandomness, drawn: Drawn) -> dict[str, Tensor]:
        settings = self.settings
        changed, moved = self._changed(rng, drawn.images, drawn.condition)
        moved = moved.detach()  # boxes need no gradient
        self.discriminator.requires_grad_(False)
        seen = self._look(changed)
        scores = seen.score + self.discriminator.agreement(seen, moved)
        found = localisation_loss(whole(seen.found, self.run), whole(moved, self.run))
        # Variety: no coarse pixel may vary less over a batch than over real images. Sketches without it obeyed their
        # boxes and drew nearly the same head each time.
        missing = F.relu(self.real_spread - spread(whole(drawn.images, self.run))).mean()
        game = F.softplus(self._rival(rng) - scores).mean()
        hidden = F.relu(found - self.found_real)  # lesions that are found as easily as real ones are good enough
        loss = game + settings.finding * hidden + settings.variety * missing
        losses = {"loss_g": game.detach(), "found_drawn": found.detach(), "missing_spread": missing.detach()}
        if self.real_contrast is not None:  # without it, lesions were so faint that only the discriminator found them
            made = contrasts(whole(drawn.images, self.run), whole(drawn.condition, self.run)[:, : self.size.labels])
            if len(made) > 1:
                unlike = (self.real_contrast - standing_out(made)).abs().mean()
                loss = loss + settings.contrast_weight * unlike
                losses["unlike_contrast"] = unlike.detach()
        if settings.crop:
            local = F.softplus(-self.discriminator.lesion(seen, moved)).mean()
            loss, losses["lesion_g"] = loss + settings.crop * local, local.detach()
        if self.discriminator.frozen is not None:
            projected = F.softplus(-self.discriminator.frozen(changed, self._places(rng))).mean()
            loss, losses["frozen_g"] = loss + settings.frozen * projected, projected.detach()
        if settings.reading:
            read = F.mse_loss(seen.latents, drawn.latents)
            loss, losses["read"] = loss + settings.reading * read, read.detach()
        optimizer_step(self.generator_optimiser, loss, self.run)
        self.discriminator.requires_grad_(True)
        return losses

    def _places(self, rng: StepRandomness) -> Tensor:
        """Return where the frozen features see volumes cut, (b, 3); of pictures they see the whole."""
        return mine(torch.rand(self.settings.batch, 3, generator=rng.torch), self.run)

    def _remember(self, found: Tensor) -> None:
        first = torch.isinf(self.found_real)
        self.found_real = torch.where(first, found, torch.lerp(found, self.found_real, MEMORY))

    @torch.no_grad()
    def _rival(self, rng: StepRandomness) -> Tensor | float:
        """Return what the scores of drawn images are compared with: real ones' (relativistic) or nothing."""
        if self.settings.loss != "relativistic":
            return 0.0
        indices, known = self._real_batch(rng)
        real, asked = self._changed(rng, self.data.batch(indices), self.data.conditions(indices))
        seen = self._look(real)
        return seen.score + known.mine * self.discriminator.agreement(seen, asked)

    def state_dict(self, done: int) -> dict[str, Any]:
        """Return everything that a resumed run needs to go on as though it had never stopped."""
        return {
            "done": done, "steps": self.steps, "found_real": self.found_real,
            **self.steering.state_dict(), "warming": self.warming,
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
        self.steering.load_state_dict(state)
        self.warming = bool(state.get("warming", False))  # which older checkpoints do not know
        self.found_real = state["found_real"].to(self.run.device)
        return int(state["done"])
