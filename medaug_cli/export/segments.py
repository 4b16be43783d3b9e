"""What of a mask belongs to each of its boxes: the segmentations of COCO."""

from collections.abc import Sequence

import numpy as np


def segments_of(mask: np.ndarray, boxes: np.ndarray, values: Sequence[int | None]) -> list[np.ndarray]:
    """Return the pixels (h, w) of each box (m, 4): the connected parts of its value of the mask that lie in it.

    A part belongs to the box that it fills best, of those that hold most of it; None stands for any value but 0. A
    box that no part belongs to gets what of the mask it holds.
    """
    owned = [np.zeros(mask.shape, bool) for _ in boxes]
    for value in dict.fromkeys(values):
        own = mask > 0 if value is None else mask == value
        rivals = [k for k, each in enumerate(values) if each == value]
        for part in _parts(own):
            shares = [_share(part, boxes[k]) for k in rivals]
            best = max(range(len(rivals)), key=lambda k: shares[k])
            if shares[best] > 0:
                owned[rivals[best]] |= part
        for k in rivals:
            if not owned[k].any():
                owned[k] = own & _inside(boxes[k], mask.shape)
    return owned


def _parts(mask: np.ndarray) -> list[np.ndarray]:
    """Return the connected parts of a mask, corners included."""
    from scipy import ndimage

    labels, count = ndimage.label(mask, np.ones((3, 3)))
    return [labels == number for number in range(1, count + 1)]


def _share(part: np.ndarray, box: np.ndarray) -> float:
    """Return the overlap (IoU) of a part's own box and a box; 0 where less than half of the part lies in it."""
    inside = _inside(box, part.shape)
    if 2 * (part & inside).sum() < part.sum():
        return 0.0
    rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
    own = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    sides = np.maximum(np.minimum(own[2:], box[2:]) - np.maximum(own[:2], box[:2]), 0)
    both = float(sides.prod())
    return both / max(float((own[2:] - own[:2]).prod() + (box[2:] - box[:2]).prod()) - both, 1e-9)


def _inside(box: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the pixels that a box reaches into."""
    inside = np.zeros(shape, bool)
    x_min, y_min = np.floor(box[:2]).astype(int).clip(0)
    x_max, y_max = np.ceil(box[2:]).astype(int)
    inside[y_min:y_max, x_min:x_max] = True
    return inside
