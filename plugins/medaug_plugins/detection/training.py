"""Train a detector: images with boxes, classical augmentation, and the loop that all tasks share."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from medaug_cli.plugin import Detections, Examples, Run
from medaug_plugins.detection.augment import Amounts, Marked, changed
from medaug_plugins.supervised import training as supervised
from medaug_plugins.supervised.training import Optimization, mine

KIND = "detector"

Losses = Callable[[nn.Module, Tensor, Sequence[np.ndarray], Sequence[np.ndarray]], dict[str, Tensor]]
Predict = Callable[[nn.Module, Iterable[np.ndarray]], Iterator[Detections]]


@dataclass(frozen=True)
class Recipe:
    """The numbers of a training step."""

    batch: int = 16
    lr: float = 0.001
    weight_decay: float = 0.0005
    warm_up: float = 100.0
    ema: float = 0.998
    validations: int = 10
    patience: int = 0  # validations without a better one after which training stops; 0: it never does
    amounts: Amounts = field(default_factory=Amounts)
    weights: Mapping[str, float] = field(default_factory=dict)  # of parts of the loss, 1 where none is named

    def optimization(self) -> Optimization:
        """Return the numbers that are not about boxes."""
        return Optimization(
            batch=self.batch,
            lr=self.lr,
            weight_decay=self.weight_decay,
            warm_up=self.warm_up,
            ema=self.ema,
            validations=self.validations,
            patience=self.patience,
            weights=self.weights,
        )


def train(network: nn.Module, losses: Losses, predict: Predict, recipe: Recipe, data: Examples, run: Run) -> nn.Module:
    """Train `network` until the run's budget is spent; return its best average by validation, ready to predict."""

    def read(rng: np.random.Generator, count: int) -> Marked:
        indices = rng.choice(len(data), count, p=data.weights)
        images = torch.from_numpy(np.ascontiguousarray(data.read(indices), np.float32)).to(run.device)
        return images, [data.boxes[i] for i in indices], [data.labels[i] for i in indices]

    def draw(rng: np.random.Generator) -> Marked:
        images, boxes, labels = changed(read(rng, recipe.batch), recipe.amounts, rng, read)
        return mine(images, run), mine(boxes, run), mine(labels, run)

    return supervised.train(
        network, draw, lambda net, batch: losses(net, *batch), predict, recipe.optimization(), run, KIND
    )
