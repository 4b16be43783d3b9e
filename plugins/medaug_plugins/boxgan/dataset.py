"""Real images and their conditions, kept in memory where they fit."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from medaug_cli.plugin import Condition, Examples, ImageSpec, box_map
from medaug_plugins.layers import ellipses, map_of_label

Form = Literal["boxes", "soft", "mask"]
KEPT_NUMBERS = 2**27  # images and conditions that fit into 512 MB of float32 are kept in memory: 680 of 256x256
CHUNK = 64
LEAST_HALO = 1 / 16  # standard deviation of the smallest halo, as a share of the image's side


def halo(boxes: np.ndarray, spatial: tuple[int, ...]) -> np.ndarray:
    """Draw a soft spot around the centre of every box: (m, 2*d) -> (*s) float32, 1 at a centre."""
    drawn = np.zeros(spatial, np.float32)
    d = len(spatial)
    for box in np.asarray(boxes, np.float32).reshape(-1, 2 * d):
        exponent = np.zeros((), np.float32)
        for axis, length in enumerate(spatial):  # numpy axis 0 is the last box coordinate
            low, high = box[d - 1 - axis], box[2 * d - 1 - axis]
            width = max((high - low) / 2, length * LEAST_HALO)
            offset = (np.arange(length, dtype=np.float32) + 0.5 - (low + high) / 2) / width
            exponent = np.add.outer(exponent, offset**2 / 2)
        np.maximum(drawn, np.exp(-exponent), out=drawn)
    return drawn


def lesion_maps(spec: ImageSpec, form: Form) -> int:
    """Return how many maps describe lesions: one per label or, for masks that mark several things, one per thing."""
    return max(1, len(spec.mask_names if form == "mask" and spec.mask_names else spec.label_names))


def value_maps(spec: ImageSpec, form: Form) -> tuple[int, ...]:
    """Return which map each label of boxes is drawn into where maps are of the values of masks, else nothing."""
    return map_of_label(spec) if form == "mask" and spec.mask_names else ()


def shape(condition: Condition, boxes: np.ndarray, form: Form) -> np.ndarray:
    """Draw boxes (m, 2*d) as they are, as soft spots, or as the mask in them (as ellipses where there is none)."""
    if form == "boxes":
        return box_map(boxes, condition.spatial)
    if form == "soft":
        return halo(boxes, condition.spatial)
    if condition.mask is None:
        return ellipses(boxes, condition.spatial)
    return (np.asarray(condition.mask) > 0) * np.ceil(box_map(boxes, condition.spatial))


def draw_condition(
    condition: Condition, labels: int, form: Form = "boxes", classes: int = 0, values: Sequence[int] = ()
) -> Tensor:
    """Return maps of the lesions, a plane of ones for the image's class, and the halo of all boxes, in [0, 1].

    They are (labels + classes + 1, *s), with one map for the boxes of each label or, with the `value_maps` of labels,
    for each mask value.
    """
    boxes = np.asarray(condition.boxes, np.float32).reshape(-1, 2 * len(condition.spatial))
    which = np.asarray(condition.labels, np.int64)
    which = np.asarray(values)[which] if values else which
    if values and condition.mask is not None:
        maps = [np.asarray(condition.mask) == value for value in range(1, labels + 1)]
    else:
        maps = [shape(condition, boxes[which == label], form) for label in range(labels)]
    planes = np.zeros((classes, *condition.spatial), np.float32)
    if 0 <= condition.image_class < classes:
        planes[condition.image_class] = 1
    return torch.from_numpy(np.stack([*maps, *planes, halo(boxes, condition.spatial)]).astype(np.float32))


class RealImages:
    """Give batches of images and conditions; a small set is read only once."""

    def __init__(self, examples: Examples, device: str, form: Form = "boxes", classes: int = 0) -> None:
        self.examples, self.form, self.classes = examples, form, classes
        self.device = torch.device(device)
        self.annotated = np.asarray(examples.annotated, bool)  # (n,)
        self.labels = lesion_maps(examples.spec, form)
        self.values = value_maps(examples.spec, form)
        self.images: Tensor | None = None
        self.maps: Tensor | None = None
        pixels = int(np.prod(examples.spec.spatial))
        if len(examples) * (examples.spec.channels + self.labels + classes + 1) * pixels <= KEPT_NUMBERS:
            chunks = [np.arange(at, min(at + CHUNK, len(examples))) for at in range(0, len(examples), CHUNK)]
            self.images = torch.cat([self._read_images(chunk) for chunk in chunks])
            self.maps = torch.cat([self._read_maps(chunk) for chunk in chunks])

    def batch(self, indices: np.ndarray) -> Tensor:
        """Return images (b, c, *s) in [-1, 1]."""
        images = self._read_images(indices) if self.images is None else self.images[indices]
        return images.to(self.device) * 2 - 1

    def conditions(self, indices: np.ndarray) -> Tensor:
        """Return conditions (b, labels + classes + 1, *s) in [0, 1]; zeros where an image is not annotated."""
        maps = self._read_maps(indices) if self.maps is None else self.maps[indices]
        return maps.to(self.device)

    def _read_images(self, indices: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.examples.read(indices), np.float32))

    def weights_of_conditions(self) -> np.ndarray:
        """Return how often the condition of each image is drawn, (n,): as often as the image, if it is annotated."""
        weights = self.examples.weights * self.annotated
        return weights / weights.sum()

    def _read_maps(self, indices: np.ndarray) -> Tensor:
        return torch.stack([self._read_map(int(index)) for index in indices])

    def _read_map(self, index: int) -> Tensor:
        if not self.annotated[index]:
            return torch.zeros(self.labels + self.classes + 1, *self.examples.spec.spatial)
        return draw_condition(self.examples.condition(index), self.labels, self.form, self.classes, self.values)
