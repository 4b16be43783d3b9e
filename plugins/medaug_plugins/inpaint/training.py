"""Train Inpaint: a non-saturating game with lazy R1 over patches, half of them painted into lesion-free places.

Legend as in `networks`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medaug_cli.plugin import Examples, Run, image_seed
from medaug_plugins.hosts import Bank, lesion_weights
from medaug_plugins.inpaint.networks import Architecture, Judge, Painter
from medaug_plugins.inpaint.patches import Told, cut, square_around, told_maps
from medaug_plugins.layers import (
    StepRandomness,
    draw_latents,
    draw_weights,
    laid_out,
    load_moments,
    load_weights,
    mine,
    move_average,
    optimizer_step,
    place,
    whole,
)

KIND = "Inpaint"
HOSTS = 4  # lesion-free places that are used for each lesion


@dataclass(frozen=True)
class Batch:
    """Patches (b, c, p, ...) in [-1, 1] and, of each, what is told of it (b, 2 + k, p, ...); see `told_maps`."""

    patches: Tensor
    where: Tensor


class Lesions:
    """Give patches with lesions, and patches of other slices at the places of these lesions.

    They are drawn for a whole batch; a process gets its share of it.
    """

    def __init__(self, data: Examples, bank: Bank, *, size: Architecture, run: Run) -> None:
        self.data, self.bank, self.size, self.pixels, self.run = data, bank, size, size.patch, run
        self.every = [(i, k) for i, boxes in enumerate(bank.boxes) for k in range(len(boxes))]
        self._hosts: dict[tuple[int, int, int], int] = {}

    def real(self, rng: np.random.Generator, count: int) -> Batch:
        """Return patches of real lesions."""
        return self._batch(rng, [(i, (i, k)) for i, k in self._drawn(rng, count)])

    def places(self, rng: np.random.Generator, count: int) -> Batch:
        """Return patches to paint into: half around real lesions, half where other slices have none."""
        drawn = self._drawn(rng, count)
        chosen = [
            (i if turn % 2 else self._host(i, k, int(rng.integers(HOSTS))), (i, k)) for turn, (i, k) in enumerate(drawn)
        ]
        return self._batch(rng, chosen)

    def _drawn(self, rng: np.random.Generator, count: int) -> list[tuple[int, int]]:
        weights = lesion_weights(self.data)
        if np.ptp(weights):  # external images have a share of their own
            return [self.every[i] for i in rng.choice(len(self.every), count, p=weights)]
        return [self.every[i] for i in rng.integers(len(self.every), size=count)]

    def _host(self, image: int, which: int, turn: int) -> int:
        """Return one of a few hosts of a lesion's box, always the same ones."""
        key = image, which, turn
        if key not in self._hosts:
            rng = np.random.default_rng(key)
            box, label = self.bank.boxes[image][which], self.bank.labels[image][which]
            self._hosts[key] = self.bank.host(box[None], np.array([label]), rng, self._class(image))
        return self._hosts[key]

    def _class(self, image: int) -> int:
        return -1 if self.bank.classes is None or not self.size.classes else int(self.bank.classes[image])

    def _told(self, lesion: tuple[int, int]) -> Told:
        by_mask = self.size.settings.form == "mask"
        return Told(self.bank.mask(*lesion) if by_mask else None, self._class(lesion[0]))

    def _batch(self, rng: np.random.Generator, chosen: list[tuple[int, tuple[int, int]]]) -> Batch:
        """Return patches around the places of lesions (image, box), in the images before these."""
        squares = mine([square_around(self.bank.boxes[i][k], rng) for _, (i, k) in chosen], self.run)
        chosen = mine(chosen, self.run)
        patches = cut([self.bank.image(i) for i, _ in chosen], squares, self.pixels)
        where = told_maps(
            boxes=[self.bank.boxes[i][k] for _, (i, k) in chosen],
            squares=squares,
            told=[self._told(lesion) for _, lesion in chosen],
            pixels=self.pixels,
            by_mask=self.size.settings.form == "mask",
            classes=self.size.classes,
        )
        return Batch((patches * 2 - 1).to(self.run.device), where.to(self.run.device))


def painted(around: Batch, paint: Tensor) -> Tensor:
    """Fade paint (b, c, p, ...) into the patches around it."""
    share = around.where[:, :1]
    return around.patches * (1 - share) + paint * share


def hole(around: Batch) -> Tensor:
    """Return the patches with nothing where paint will show."""
    return around.patches * (1 - around.where[:, :1])


class Training:
    """Both networks, the painter's moving average, their optimisers, and a step of all of them."""

    def __init__(self, size: Architecture, lesions: Lesions, run: Run) -> None:
        self.size, self.settings, self.lesions, self.run, self.steps = size, size.settings, lesions, run, 0
        rng = torch.Generator().manual_seed(image_seed(abs(run.seed), 0))
        self.painter, self.judge, self.average = Painter(size), Judge(size, run), Painter(size).requires_grad_(False)
        for network in (self.painter, self.judge):
            draw_weights(network, rng)
        self.average.load_state_dict(self.painter.state_dict())
        for network in (self.painter, self.judge, self.average):
            place(network, run.device)
        adam: dict[str, Any] = {"lr": self.settings.lr, "betas": (0.0, 0.99), "eps": 1e-8}
        self.painter_optimiser = torch.optim.Adam(self.painter.parameters(), **adam)
        self.judge_optimiser = torch.optim.Adam(self.judge.parameters(), **adam)

    def step(self, done: int) -> dict[str, Tensor]:
        """Train both networks on one batch; return the losses."""
        rng = StepRandomness(self.run.seed, done, self.run.device)
        count = self.settings.batch
        real, around = self.lesions.real(rng.numpy, count), self.lesions.places(rng.numpy, count)
        latents = draw_latents(self.settings.noise, count, self.size.latent, rng.torch)
        noise = torch.randn(count, 1, *self.size.shape, generator=rng.torch)
        latents, noise = (mine(x, self.run).to(rng.device) for x in (latents, noise))
        with self.run.autocast():
            paint = self.painter(hole(around), around.where, latents, noise)
        drawn = painted(around, paint)
        losses = self._judge_step(rng, real, around, drawn.detach()) | self._painter_step(rng, real, around, drawn)
        self.steps += 1
        half_life = min(self.settings.ema_kimg * 1000, self.settings.ema_ramp * (done + count))
        move_average(self.average, self.painter, count, half_life)
        return losses

    def _judge_step(self, rng: StepRandomness, real: Batch, around: Batch, drawn: Tensor) -> dict[str, Tensor]:
        penalised = self.settings.gamma > 0 and self.steps % self.settings.r1_every == 0
        seen = self._toned(real.patches, rng).requires_grad_(penalised)
        scores, drawn_scores = self._score(seen, real), self._score(self._toned(drawn, rng), around)
        # The game: non-saturating (Goodfellow et al. 2014); patches of both kinds are toned alike, so that the judge
        # cannot tell them apart by brightness alone (Zhao et al. 2020, DiffAugment).
        loss = F.softplus(drawn_scores).mean() + F.softplus(-scores).mean()
        losses = {"loss_d": loss.detach(), "score_real": scores.detach().mean()}
        losses["score_drawn"] = drawn_scores.detach().mean()
        if penalised:  # R1 (Mescheder et al. 2018, 4.1), lazily: every few steps, that much heavier (StyleGAN2, B)
            (gradient,) = torch.autograd.grad(scores.sum(), seen, create_graph=True)
            penalty = gradient.float().square().flatten(1).sum(1).mean()
            loss = loss + self.settings.gamma / 2 * self.settings.r1_every * penalty
            losses["penalty"] = penalty.detach()
        optimizer_step(self.judge_optimiser, loss, self.run)
        return losses

    def _painter_step(self, rng: StepRandomness, real: Batch, around: Batch, drawn: Tensor) -> dict[str, Tensor]:
        self.judge.requires_grad_(False)
        game = F.softplus(-self._score(self._toned(drawn, rng), around)).mean()
        # Variety: over a batch, painted lesions must stand out from what is around them as much, and as variously, as
        # real ones do, so that they are neither faint nor all alike.
        missing = F.relu(self._contrast(real.patches, real.where) - self._contrast(drawn, around.where)).mean()
        optimizer_step(self.painter_optimiser, game + self.settings.variety * missing, self.run)
        self.judge.requires_grad_(True)
        return {"loss_g": game.detach(), "missing_contrast": missing.detach()}

    def _score(self, patches: Tensor, batch: Batch) -> Tensor:
        with self.run.autocast():
            return self.judge(laid_out(patches), batch.where[:, 1:])

    def _toned(self, patches: Tensor, rng: StepRandomness) -> Tensor:
        """Change contrast and brightness of patches, differentiably (Zhao et al. 2020)."""
        numbers = mine(torch.rand(self.settings.batch, 2, generator=rng.torch) * 2 - 1, self.run).to(patches.device)
        factor, offset = (numbers[:, i].reshape(-1, *[1] * (patches.ndim - 1)) for i in range(2))
        mean = patches.mean(tuple(range(1, patches.ndim)), keepdim=True)
        return (patches - mean) * (1 + factor * self.settings.contrast) + mean + 2 * offset * self.settings.brightness

    def _contrast(self, patches: Tensor, where: Tensor) -> Tensor:
        """Return how the mean in the box less the mean around it is spread over the whole batch, and its size: (2,)."""
        box, axes = where[:, 1:2], tuple(range(1, patches.ndim))
        inside = (patches * box).sum(axes) / box.sum(axes).clamp(min=1)
        outside = (patches * (1 - box)).sum(axes) / (1 - box).sum(axes).clamp(min=1)
        difference = whole(inside - outside, self.run)
        return torch.stack([difference.std(), difference.abs().mean()])

    def state_dict(self, done: int) -> dict[str, Any]:
        """Return everything that a resumed run needs to go on as though it had never stopped."""
        return {
            "done": done, "steps": self.steps, "painter": self.painter.state_dict(),
            "judge": self.judge.state_dict(), "average": self.average.state_dict(),
            "painter_optimiser": self.painter_optimiser.state_dict()["state"],
            "judge_optimiser": self.judge_optimiser.state_dict()["state"],
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> int:
        """Restore `state_dict`; return the patches done."""
        for name in ("painter", "judge", "average"):
            load_weights(getattr(self, name), state[name], KIND)
        for name in ("painter_optimiser", "judge_optimiser"):
            load_moments(getattr(self, name), state[name])
        self.steps = int(state["steps"])
        return int(state["done"])
