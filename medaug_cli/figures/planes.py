"""The three planes through a lesion of a volume, with the boxes that they meet."""

from collections.abc import Sequence

import numpy as np

AXES = ((0, 1), (0, 2), (1, 2))  # of a box, x first, that each plane shows: axial, coronal, sagittal


def planes(image: np.ndarray, boxes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the axial, coronal and sagittal plane of a volume (c, z, y, x): pictures (c, h, w) and boxes (k, 4).

    They cut the middle of the last box, which is that of the newest lesion, or of a volume without one. The head, where
    z grows, is up in the last two.
    """
    boxes = np.asarray(boxes, np.float32).reshape(-1, 6)
    cut = _middle(image.shape[1:], boxes)
    shown = []
    for number, axes in enumerate(AXES):
        across = 2 - number  # the axis, x first, that the plane cuts
        middle = cut[across]
        met = boxes[(boxes[:, across] < middle + 1) & (middle < boxes[:, 3 + across])]
        flat = met[:, [axes[0], axes[1], 3 + axes[0], 3 + axes[1]]]
        picture = np.take(image, middle, 3 - across)
        if number:  # z runs down the rows: turn it
            picture = picture[:, ::-1]
            flat[:, [1, 3]] = picture.shape[1] - flat[:, [3, 1]]
        shown.append((picture, flat))
    return shown


def _middle(spatial: Sequence[int], boxes: np.ndarray) -> list[int]:
    """Return the voxel, x first, through which planes cut."""
    sizes = spatial[::-1]
    if not len(boxes):
        return [size // 2 for size in sizes]
    centre = (boxes[-1, :3] + boxes[-1, 3:]) / 2
    return [int(np.clip(at, 0, size - 1)) for at, size in zip(centre, sizes, strict=True)]


def flattened(image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return an image (c, *s) as a picture (c, h, w) and the boxes (k, 4) in it.

    A volume becomes its axial plane above its coronal one, with the sagittal one beside that.
    """
    if image.ndim == 3:
        return image, np.asarray(boxes, np.float32).reshape(-1, 4)
    (_, height, width), depth = (image.shape[0], *image.shape[2:]), image.shape[1]
    sheet = np.zeros((len(image), height + depth, width + height), image.dtype)
    found = []
    for (picture, met), (y, x) in zip(planes(image, boxes), ((0, 0), (height, 0), (height, width)), strict=True):
        sheet[:, y : y + picture.shape[1], x : x + picture.shape[2]] = picture
        found.append(met + np.array([x, y, x, y], np.float32))
    return sheet, np.concatenate(found)
