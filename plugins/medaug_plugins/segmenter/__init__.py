"""Segment lesions by a U-Net (Ronneberger et al. 2015) on any encoder of timm, or on a small one (Han et al., 2.7)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medaug_cli.plugin import BadInput, Examples, ImageSpec, UsageError, setting
from medaug_plugins.segmenter.networks import UNet
from medaug_plugins.segmenter.patches import cut, put_together
from medaug_plugins.supervised.whole_images import WholeImageNetwork

__all__ = ["SegmenterNetwork"]


@dataclass
class SegmenterNetwork(WholeImageNetwork):
    """Outline lesions by a U-Net, trained with Dice and cross-entropy."""

    kind: ClassVar[str] = "segmenter"

    batch: int = setting(8, "images per step", minimum=1)
    lr: float = setting(0.002, "learning rate of AdamW after the warm-up", minimum=0)
    levels: int = setting(
        5, "levels of network 'small', each at half the resolution of the one before", minimum=2, maximum=7
    )
    patch: int = setting(
        0, "side of the patches that images are trained on and answered in, for volumes that are too large; 0: whole",
        minimum=0,
    )  # fmt: skip
    dice_weight: float = setting(1.0, "weight of the Dice loss added to the cross-entropy", minimum=0)
    threshold: float = setting(
        0.35, "probability of any label from which a pixel is marked; Dice is highest at half of itself", minimum=0,
        maximum=1,
    )  # fmt: skip

    def build(self, spec: ImageSpec, pretrained: bool = True) -> UNet:
        """Return a network for images of this form; raise UsageError for a patch too small to be halved so often."""
        least = 2**self.levels
        if 0 < self.patch < least:
            raise UsageError(f"--set patch={self.patch}: expected 0 or at least {least} with {self.levels} levels")
        seen = tuple(min(self.patch or side, side) for side in spec.spatial)
        body = self.encoder(replace(spec, spatial=seen), self.levels, pretrained)
        return UNet(spec.dims, body, 1 + max(1, len(spec.mask_names)))

    def truth(self, data: Examples, indices: Sequence[int]) -> np.ndarray:
        """Return label maps (b, *s)."""
        return np.stack([label_map(data, index) for index in indices])

    def examples(self, data: Examples, indices: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return images (b, c, *s) of a step with their label maps (b, *s), or patches of them, read one by one."""
        if not self.patch:
            return super().examples(data, indices, rng)
        patches = [cut(data.read([i])[0], label_map(data, i), self.patch, rng) for i in indices.tolist()]
        images, labels = zip(*patches, strict=True)
        return np.stack(images), np.stack(labels)

    def losses(self, scores: Tensor, truth: Tensor) -> dict[str, Tensor]:
        """Return cross-entropy and Dice loss; see segmentation_losses."""
        return segmentation_losses(scores, truth)

    def loss_weights(self) -> Mapping[str, float]:
        """Return the weight of the Dice loss."""
        return {"dice": self.dice_weight}

    def _answers(self, network: nn.Module, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        if not self.patch:
            yield from super()._answers(network, images)
            return
        probabilities = self._probabilities(network)
        device = next(network.parameters()).device
        for image in images:
            whole = put_together(torch.from_numpy(np.asarray(image, np.float32)).to(device), self.patch, probabilities)
            yield self.answer(whole[None])[0].cpu().numpy()

    def answer(self, probabilities: Tensor) -> Tensor:
        """Return label maps (b, *s) uint8: where any label is likely enough, the likeliest.

        Whoever is unsure gains by marking more: the threshold that is best for Dice is half of the Dice that is
        reached (Lipton et al. 2014, theorem 1), of .7 here.
        """
        labels = 1 + probabilities[:, 1:].argmax(1)
        return torch.where(1 - probabilities[:, 0] >= self.threshold, labels, 0).to(torch.uint8)


def label_map(data: Examples, index: int) -> np.ndarray:
    """Return the mask (*s) int64 of an image; without names of its values all but 0 is one lesion."""
    mask = data.condition(index).mask
    if mask is None:
        raise BadInput("a training image has no mask; a segmenter learns from masks (preprocess --masks)")
    return (np.asarray(mask) if data.spec.mask_names else np.asarray(mask) > 0).astype(np.int64)


def segmentation_losses(scores: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Return cross-entropy and the soft Dice loss, image by image (Milletari et al. 2016), of scores (b, k, *s).

    Dice counts what is rare as much as what is common, and the lesion of each image as much as a larger one beside
    it; cross-entropy keeps the gradient where nothing overlaps yet.
    """
    shares = torch.softmax(scores, 1)
    wanted = F.one_hot(truth, scores.shape[1]).movedim(-1, 1).to(shares.dtype)
    axes = tuple(range(2, scores.ndim))
    both, size = (shares * wanted).sum(axes), (shares + wanted).sum(axes)
    dice = (2 * both + 1) / (size + 1)
    return {"cross_entropy": F.cross_entropy(scores, truth), "dice": 1 - dice[:, 1:].mean()}
