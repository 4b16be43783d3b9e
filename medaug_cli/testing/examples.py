"""Small constructed images to check a plugin on: dim noise with bright boxes."""

from collections.abc import Sequence

import numpy as np

from medaug_cli.plugin import Condition, ImageSpec
from medaug_cli.testing.checking import CheckFailed


class ConstructedExamples:
    """`medaug_cli.plugin.Examples` held in memory."""

    def __init__(self, spec: ImageSpec, images: np.ndarray, boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray]):
        self.spec, self.images, self.boxes, self.labels = spec, images, boxes, labels
        self.patients = [f"p{i // 2}" for i in range(len(images))]
        self.classes = np.arange(len(images)) % max(1, len(spec.class_names)) if spec.class_names else self._unknown()
        self.synthetic = np.zeros(len(images), bool)
        self.annotated = np.ones(len(images), bool)
        self.weights = np.linspace(1, 2, len(images)) / np.linspace(1, 2, len(images)).sum()

    def __len__(self) -> int:
        return len(self.images)

    def _unknown(self) -> np.ndarray:
        return np.full(len(self.images), -1, np.int64)

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return images (b, c, *s) as float32 in [0, 1]."""
        return self.images[np.asarray(indices, np.int64)].copy()

    def condition(self, index: int) -> Condition:
        """Return the boxes, labels, mask and class of one image; fail for one that nobody annotated."""
        if not self.annotated[index]:
            raise CheckFailed("fit asks for the condition of an image that nobody annotated (Examples.annotated)")
        mask = np.zeros(self.spec.spatial, np.uint8)
        for box in self.boxes[index]:
            mask[inside(box)] = 1
        return Condition(self.spec.spatial, self.boxes[index], self.labels[index], mask, int(self.classes[index]))


def inside(box: np.ndarray) -> tuple[slice, ...]:
    """Return the pixels that a box (2*d,) touches, as slices in numpy order."""
    d = len(box) // 2
    low, high = np.floor(box[:d]).astype(int), np.ceil(box[d:]).astype(int)
    return tuple(slice(a, b) for a, b in zip(low[::-1], high[::-1], strict=True))


def constructed(spec: ImageSpec, n: int = 12, seed: int = 0) -> ConstructedExamples:
    """Return `n` images: most with one box, every fourth with two, the last with none; patients have two each."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(0.05, 0.25, (n, spec.channels, *spec.spatial)).astype(np.float32)
    size = np.array(spec.spatial[::-1], np.float64)
    boxes, labels = [], []
    for i in range(n):
        count = 0 if i == n - 1 else 2 if i % 4 == 3 else 1
        low = rng.uniform(0, 0.5, (count, len(size))) * size
        high = low + rng.uniform(0.2, 0.45, (count, len(size))) * size
        boxes.append(np.concatenate([low, high], 1).astype(np.float32))
        labels.append(rng.integers(0, len(spec.label_names), count))
        for box in boxes[-1]:
            images[i][:, *inside(box)] += 0.6
    return ConstructedExamples(spec, np.clip(images, 0, 1), boxes, labels)
