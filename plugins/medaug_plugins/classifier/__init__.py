"""Classify whole images by any network of timm, or by a small residual one (Han et al., 2.5)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from medaug_cli.plugin import BadInput, Examples, ImageSpec, setting
from medaug_plugins.supervised.whole_images import WholeImageNetwork, each

__all__ = ["ClassifierNetwork"]

LEVELS = 5  # of the small network


class Network(nn.Module):
    """An encoder, its coarsest features averaged over the image, and a layer of class scores."""

    def __init__(self, body: nn.Module, outputs: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.body, self.dropout, self.head = body, nn.Dropout(dropout), nn.Linear(outputs, classes)

    def features(self, images: Tensor) -> Tensor:
        """Return what the class scores are made of, (b, f)."""
        return self.body(images)[-1].flatten(2).mean(2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.dropout(self.features(images)))


@dataclass
class ClassifierNetwork(WholeImageNetwork):
    """Tell the class of an image by a network of timm, or by a small one that suits a CPU."""

    kind: ClassVar[str] = "classifier"

    dropout: float = setting(0.2, "dropout: share of the features left out in a training step", minimum=0, maximum=0.9)
    label_smoothing: float = setting(
        0.05, "label smoothing: share of the target given to the other classes", minimum=0, maximum=0.5
    )
    balanced: bool = setting(True, "sample every class equally often")

    def build(self, spec: ImageSpec, pretrained: bool = True) -> Network:
        """Return a network for images of this form; raise BadInput where there are fewer than two classes."""
        if len(spec.class_names) < 2:
            raise BadInput(f"expected two classes or more, got {', '.join(spec.class_names) or 'none'}")
        body = self.encoder(spec, LEVELS, pretrained)
        return Network(body, body.outputs[-1], len(spec.class_names), self.dropout)

    def weights(self, data: Examples) -> np.ndarray:
        """Return how often (n,) each image is to be drawn; raise BadInput where one has no class."""
        unknown = int((data.classes < 0).sum())
        if unknown:
            raise BadInput(f"{unknown} training images have no class, or one that the store does not name")
        return class_weights(data) if self.balanced else data.weights

    def truth(self, data: Examples, indices: Sequence[int]) -> np.ndarray:
        """Return the classes (b,)."""
        return data.classes[list(indices)]

    def losses(self, scores: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """Return the cross-entropy of scores (b, k), smoothed so that no class is ever certain."""
        return {"class": F.cross_entropy(scores, truth, label_smoothing=self.label_smoothing)}

    def answer(self, probabilities: Tensor) -> Tensor:
        """Return probabilities (b, k) float64, whose sum is 1 to the last digits."""
        exact = probabilities.double()
        return exact / exact.sum(1, keepdim=True)

    def features(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the features (f,) float32 before the class scores of each image (c, *s)."""
        network = cast(Network, self.trained())
        return each(images, network, lambda batch: network.features(batch).float())


def class_weights(data: Examples) -> np.ndarray:
    """Return weights (n,) that draw every class equally often, and within it as the data's weights say."""
    totals = np.bincount(data.classes, data.weights, minlength=int(data.classes.max()) + 1)
    weights = data.weights / totals[data.classes]
    return weights / weights.sum()
