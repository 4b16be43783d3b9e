"""Constructed images that a detector learns in seconds."""

import numpy as np

from medaug_cli.plugin import ImageSpec
from medaug_cli.testing.examples import ConstructedExamples

SPEC = ImageSpec(1, (64, 64), ("lesion",))


def rectangles(n: int, seed: int = 0, spec: ImageSpec = SPEC) -> ConstructedExamples:
    """Return dim noise with one or two bright rectangles of 10 to 24 pixels that do not touch."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(0.05, 0.25, (n, spec.channels, *spec.spatial)).astype(np.float32)
    boxes, labels = [], []
    for i in range(n):
        found = []
        for half in rng.permutation(2)[: 1 + i % 2]:
            w, h = rng.integers(10, 25, 2)
            x, y = rng.integers(0, 64 - w), half * 32 + rng.integers(0, 32 - h)
            found.append([x, y, x + w, y + h])
            images[i, :, y : y + h, x : x + w] += 0.6
        boxes.append(np.array(found, np.float32))
        labels.append(np.zeros(len(found), np.int64))
    return ConstructedExamples(spec, images, boxes, labels)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    both = sides.prod()
    return float(both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both))


def found_and_false(detector, images: ConstructedExamples) -> tuple[float, int]:
    """Return the share of the boxes that the best detections hit at IoU 0.25, and how many of those miss."""
    hits, false = 0, 0
    for truth, (boxes, scores, _) in zip(images.boxes, detector.predict(images.images), strict=True):
        best = boxes[: len(truth)]
        assert (np.diff(scores) <= 0).all()
        found = [max((overlap(b, t) for b in best), default=0) >= 0.25 for t in truth]
        hits, false = hits + sum(found), false + len(best) - sum(found)
    return hits / sum(map(len, images.boxes)), false
