"""Train a detector: images with boxes, classical augmentation, and the loop that all tasks share."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from medaug_cli.plugin import Detections, Examples, Run
from medaug_plugins.detection.augment import AnnotatedBatch, augmented_batch
from medaug_plugins.detection.settings import DetectorSettings
from medaug_plugins.supervised import training as supervised
from medaug_plugins.supervised.training import mine

KIND = "detector"

Losses = Callable[[nn.Module, Tensor, Sequence[np.ndarray], Sequence[np.ndarray]], dict[str, Tensor]]
Predict = Callable[[nn.Module, Iterable[np.ndarray]], Iterator[Detections]]


def train(
    network: nn.Module,
    data: Examples,
    run: Run,
    *,
    settings: DetectorSettings,
    losses: Losses,
    predict: Predict,
    mosaic: float = 0.0,
) -> nn.Module:
    """Train `network` until the run's budget is spent; return its best average by validation, ready to predict.

    `mosaic` is the share of the images that become a mosaic of four.
    """

    def read(rng: np.random.Generator, count: int) -> AnnotatedBatch:
        indices = rng.choice(len(data), count, p=data.weights)
        images = torch.from_numpy(np.ascontiguousarray(data.read(indices), np.float32)).to(run.device)
        return images, [data.boxes[i] for i in indices], [data.labels[i] for i in indices]

    def draw(rng: np.random.Generator) -> AnnotatedBatch:
        batch = augmented_batch(read(rng, settings.batch), settings, rng, read=read, mosaic=mosaic)
        images, boxes, labels = (mine(part, run) for part in batch)
        return images, boxes, labels

    return supervised.train(
        network,
        run,
        settings=settings,
        kind=KIND,
        draw=draw,
        losses=lambda net, batch: losses(net, *batch),
        predict=predict,
    )
