"""Train a network on annotated images: AdamW, warm-up and cosine, a moving average, the best average by validation."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medaug_cli.plugin import Run, UsageError
from medaug_plugins.layers import load_moments, load_weights
from medaug_plugins.supervised.settings import TrainingSettings

LOG_EVERY = 10  # steps

Draw = Callable[[np.random.Generator], Any]  # the share of a batch that this process trains on
Losses = Callable[[nn.Module, Any], dict[str, Tensor]]  # network, what `Draw` gave -> the parts of the loss
Predict = Callable[[nn.Module, Iterable[np.ndarray]], Iterator[Any]]


def train(
    network: nn.Module,
    run: Run,
    *,
    settings: TrainingSettings,
    kind: str,
    draw: Draw,
    losses: Losses,
    predict: Predict,
) -> nn.Module:
    """Train `network` until the run's budget is spent; return its best average by validation, ready to predict.

    `kind` is what messages call the network: a detector, a classifier.
    """
    if settings.batch < run.world:
        raise UsageError(f"--set batch={settings.batch}: {run.world} processes need a batch of as many images or more")
    training = Training(network, run, settings=settings, kind=kind, draw=draw, losses=losses, predict=predict)
    done = training.load_state_dict(run.state) if run.state else 0
    while run.fraction(done) < 1 and not training.settled:
        values = training.step(done)
        done += 1
        scores = training.validate(done)
        if done % LOG_EVERY == 0 or scores:
            run.log(done, **{name: float(value) for name, value in values.items()}, **scores)
        run.checkpoint(done, lambda: training.state_dict(done))  # noqa: B023
    if not training.settled:
        training.validate(done, last=True)
    run.checkpoint(done, lambda: training.state_dict(done), force=True)
    return training.best


def mine(batch: Any, run: Run) -> Any:
    """Return this process's share of a batch, which all of them have drawn alike."""
    return batch[run.rank :: run.world]


def chance(seed: int, done: int) -> np.random.Generator:
    """Return the randomness of one step, drawn from the run's seed and the steps done: a resumed run repeats it."""
    return np.random.default_rng(np.random.SeedSequence(abs(seed), spawn_key=(3, done)))


class Training:
    """The network, its moving average, the best average so far, and a step of all of them."""

    def __init__(
        self,
        network: nn.Module,
        run: Run,
        *,
        settings: TrainingSettings,
        kind: str,
        draw: Draw,
        losses: Losses,
        predict: Predict,
    ) -> None:
        self.settings, self.weights, self.run, self.kind = settings, settings.loss_weights(), run, kind
        self.draw, self.losses, self.predict = draw, losses, predict
        self.device = torch.device(run.device)
        self.network = network.to(self.device)
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.best, self.best_score = copy.deepcopy(self.average), -math.inf
        self.validated, self.stale = 0, 0
        fused = self.device.type in ("cpu", "cuda")
        groups = _groups(self.network, settings.weight_decay)
        self.optimiser = torch.optim.AdamW(groups, lr=settings.lr, fused=fused)
        pairs = zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True)
        self._pairs = [(mine, now) for mine, now in pairs if mine.is_floating_point()]

    @property
    def settled(self) -> bool:
        """Tell whether validation has stopped to rise."""
        return 0 < self.settings.patience <= self.stale

    def step(self, done: int) -> dict[str, Tensor]:
        """Train one step; return the losses."""
        rng = chance(self.run.seed, done)
        batch = self.draw(rng)
        self.network.train()
        with torch.random.fork_rng(devices=[]):  # a network that draws at random does it anew from each step's seed
            torch.manual_seed(int(rng.integers(2**62)) + self.run.rank)
            parts = self.losses(self.network, batch)
            loss = torch.stack([self.weights.get(name, 1.0) * part for name, part in parts.items()]).sum()
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate(done)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._share()
        nn.utils.clip_grad_norm_(self.network.parameters(), 10.0)
        self.optimiser.step()
        self._move_average(done + 1)
        return {"loss": loss.detach(), **{name: value.detach() for name, value in parts.items()}}

    def _share(self) -> None:
        """Average gradients, and what batch normalisation has seen, over the processes."""
        if self.run.world == 1:
            return
        trained = [p for p in self.network.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        self.run.average(p.grad for p in trained if p.grad is not None)
        self.run.average(buffer for buffer in self.network.buffers() if buffer.is_floating_point())

    def learning_rate(self, done: int) -> float:
        """Return the step size: a linear warm-up, then half a cosine to zero over the run."""
        warm = min(1.0, (done + 1) / max(1.0, self.settings.warm_up))
        return self.settings.lr * warm * (0.5 + 0.5 * math.cos(math.pi * min(1.0, self.run.fraction(done))))

    @torch.no_grad()
    def _move_average(self, done: int) -> None:
        decay = min(self.settings.ema, (1 + done) / (10 + done))
        mine, now = zip(*self._pairs, strict=True)
        torch._foreach_lerp_(list(mine), list(now), 1 - decay)

    def validate(self, done: int, last: bool = False) -> dict[str, float]:
        """Score the average if a validation is due; keep it if it is the best so far."""
        due = int(self.run.fraction(done) * self.settings.validations)
        if due <= self.validated and not last:
            return {}
        self.validated = due
        scores = self.run.validate(lambda images: self.predict(self.average, images))
        self.stale += 1
        if not scores or scores["score"] >= self.best_score:
            self.stale = 0 if not scores or scores["score"] > self.best_score else self.stale
            self.best.load_state_dict(self.average.state_dict())
            self.best_score = scores.get("score", -math.inf)
        return {f"val_{name}": value for name, value in scores.items() if math.isfinite(value)}

    def state_dict(self, done: int) -> dict[str, Any]:
        """Return everything that a resumed run needs to go on as though it had never stopped."""
        return {
            "done": done,
            "validated": self.validated,
            "stale": self.stale,
            "best_score": self.best_score,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "best": self.best.state_dict(),
            "optimiser": self.optimiser.state_dict()["state"],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> int:
        """Restore `state_dict`; return the steps done."""
        for name in ("network", "average", "best"):
            load_weights(getattr(self, name), state[name], self.kind)
        load_moments(self.optimiser, state["optimiser"])
        self.validated, self.stale = int(state["validated"]), int(state["stale"])
        self.best_score = float(state["best_score"])
        return int(state["done"])


def _groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Return what is trained in two groups: convolutions decay, biases and batch normalisation do not."""
    trained = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
