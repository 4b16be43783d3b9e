"""Anchors, and the way from boxes to a network's numbers and back (Redmon and Farhadi 2018, 2.1).

Legend: n boxes, h and w a scale's rows and columns. Boxes are half-open pixel corners of the network's input.
"""

import numpy as np
import torch
from torch import Tensor

from medaug_plugins.detection.backbones import STRIDES
from medaug_plugins.yolov3.networks import ANCHORS

TURNS = 300
PUBLISHED = {  # for COCO at 416 pixels, by how many there are: yolov3 and yolov3-tiny
    9: [[10.0, 13], [16, 30], [33, 23], [30, 61], [62, 45], [59, 119], [116, 90], [156, 198], [373, 326]],
    6: [[10.0, 14], [23, 27], [37, 58], [81, 82], [135, 169], [344, 319]],
}


def shape_iou(sides: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Return the IoU (n, m) of widths and heights (n, 2) and (m, 2) laid corner on corner."""
    both = np.minimum(sides[:, None], anchors[None]).prod(2)
    return both / (sides.prod(1)[:, None] + anchors.prod(1)[None] - both)


def cluster(sides: np.ndarray, seed: int = 0, count: int = 9) -> np.ndarray:
    """Return `count` anchors (count, 2), smallest first, by k-means on 1 - IoU over boxes of these sides (n, 2)."""
    rng = np.random.default_rng(seed)
    sides = np.asarray(sides, np.float64)
    if len(np.unique(sides, axis=0)) < count:  # too few shapes: spread them by scale
        sides = (sides[:, None] * np.geomspace(0.5, 2, count)[None, :, None]).reshape(-1, 2)
    anchors = _spread(sides, rng, count)
    for _ in range(TURNS):
        nearest = shape_iou(sides, anchors).argmax(1)
        moved = np.stack(
            [np.median(sides[nearest == i], 0) if (nearest == i).any() else anchors[i] for i in range(count)]
        )
        if np.allclose(moved, anchors):
            break
        anchors = moved
    return anchors[np.argsort(anchors.prod(1), kind="stable")].astype(np.float32)


def _spread(sides: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    """Choose the first anchors far apart (k-means++)."""
    chosen = [sides[rng.integers(len(sides))]]
    while len(chosen) < count:
        distance = 1 - shape_iou(sides, np.array(chosen)).max(1)
        chance = distance**2 if distance.sum() > 0 else np.ones(len(sides))
        chosen.append(sides[rng.choice(len(sides), p=chance / chance.sum())])
    return np.array(chosen)


def assign(boxes: np.ndarray, anchors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return scale, anchor, row and column (n,) of boxes (n, 4): the anchor of best shape, the cell of the centre."""
    best = shape_iou(boxes[:, 2:] - boxes[:, :2], anchors).argmax(1)
    scale, anchor = best // ANCHORS, best % ANCHORS
    stride = np.asarray(STRIDES[-len(anchors) // ANCHORS :])[scale]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    column, row = (centre / stride[:, None]).astype(np.int64).T
    return scale, anchor, row, column


def decode(raw: Tensor, anchors: Tensor, stride: int, reach: float = 1.0) -> Tensor:
    """Return boxes (b, 3, h, w, 4) for raw numbers (b, 3, h, w, 4 or more) of one scale with anchors (3, 2).

    A centre lies in its cell, or with a `reach` above 1 up to (reach - 1) / 2 cells beyond it.
    """
    h, w = raw.shape[2:4]
    rows = torch.arange(h, device=raw.device, dtype=raw.dtype)
    columns = torch.arange(w, device=raw.device, dtype=raw.dtype)
    offset = (raw[..., :2].sigmoid() - 0.5) * reach + 0.5
    x, y = (offset[..., 0] + columns) * stride, (offset[..., 1] + rows[:, None]) * stride
    sides = raw[..., 2:4].clamp(max=8).exp() * anchors.view(1, 3, 1, 1, 2).to(raw.dtype)
    centre = torch.stack([x, y], -1)
    return torch.cat([centre - sides / 2, centre + sides / 2], -1)


def encode(boxes: Tensor, anchors: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Return what cells should say of boxes (n, 4) with anchors (n, 2): offsets and log sides, (n, 2) each."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 / stride
    return centre - centre.floor(), ((boxes[:, 2:] - boxes[:, :2]) / anchors).log()


def by_scale(anchors: Tensor) -> list[tuple[Tensor, int]]:
    """Return the anchors (3, 2) and the stride of each scale, finest first."""
    shapes = anchors.view(-1, ANCHORS, 2)
    return list(zip(shapes, STRIDES[-len(shapes) :], strict=True))
