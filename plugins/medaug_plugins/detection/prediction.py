"""From a network's boxes and scores to detections, as one view of an image or as several.

Legend: b images, n boxes of an image, k classes.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from medaug_cli.plugin import Detections
from medaug_plugins.detection.fusion import fuse

MOST = 300  # detections an image
LEAST_SCORE = 0.001

Find = Callable[[np.ndarray], list[Detections]]  # images (b, c, h, w) -> b detections


@torch.no_grad()
def predict(find: Find, images: Iterable[np.ndarray], views: int = 1, batch: int = 16) -> Iterator[Detections]:
    """Yield the detections of each image (c, h, w), best first.

    Several `views` are fused: 2 adds the image mirrored left to right, 4 also top to bottom.
    """
    for group in batches(images, batch):
        seen = [find(group)]
        for axes in ((3,), (2,), (2, 3))[: views - 1]:
            mirrored = find(np.ascontiguousarray(np.flip(group, axes)))
            seen.append([(_mirrored(one[0], axes, group.shape), *one[1:]) for one in mirrored])
        for each in zip(*seen, strict=True):
            yield each[0] if views == 1 else _first(fuse(each, least_score=LEAST_SCORE))


def best(boxes: Tensor, scores: Tensor, overlap: float) -> Detections:
    """Return what greedy non-maximum suppression a class leaves (boxes (n, 4), scores (n, k))."""
    place, label = (scores >= LEAST_SCORE).nonzero(as_tuple=True)
    boxes, values = boxes[place], scores[place, label]
    whole = (boxes[:, 2:] > boxes[:, :2]).all(1)
    boxes, values, label = boxes[whole], values[whole], label[whole]
    kept = batched_nms(boxes, values, label, overlap)[:MOST]
    found = (boxes[kept], values[kept], label[kept])
    return tuple(x.cpu().numpy() for x in found)  # type: ignore[return-value]


def batches(images: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Yield images (c, h, w) in arrays of up to `size`."""
    group: list[np.ndarray] = []
    for image in images:
        group.append(image)
        if len(group) == size:
            yield np.stack(group)
            group = []
    if group:
        yield np.stack(group)


def _mirrored(boxes: np.ndarray, axes: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    moved = boxes.copy()
    for axis in axes:
        low, high = (0, 2) if axis == 3 else (1, 3)
        moved[:, low], moved[:, high] = shape[axis] - boxes[:, high], shape[axis] - boxes[:, low]
    return moved


def _first(found: Detections) -> Detections:
    return found[0][:MOST], found[1][:MOST], found[2][:MOST]
