"""Which images are one and the same, whatever their brightness: by small pictures of them.

Legend: n and m images, k pixels of a thumbnail.
"""

from typing import NamedTuple

import numpy as np

from medaug_cli.store.reading import Store

SIDE = 32  # pixels of the thumbnails that are compared
SAME = 0.995  # correlation from which two slices are one
ROWS = 256
AT_ONCE = 1 << 24  # pixels that are read together, 64 MB: of large volumes a few


class Pair(NamedTuple):
    """Two images, by their rows, that are nearly the same."""

    first: int
    second: int
    correlation: float


def nearly_the_same(ours: np.ndarray, theirs: np.ndarray) -> Pair | None:
    """Return two images that are nearly the same, by thumbnails (n, k) and (m, k); None where there are none."""
    for at in range(0, len(ours) if len(theirs) else 0, ROWS):
        alike = ours[at : at + ROWS] @ theirs.T
        row, column = np.unravel_index(int(alike.argmax()), alike.shape)
        if alike[row, column] >= SAME:
            return Pair(int(at + row), int(column), float(alike[row, column]))
    return None


def thumbnails(store: Store, indices: np.ndarray) -> np.ndarray:
    """Return small pictures of images as vectors of mean 0 and length 1, (n, k); zero where an image is flat."""
    vectors = []
    rows = max(1, min(ROWS, AT_ONCE // int(np.prod(store.images.shape[1:]))))
    for at in range(0, len(indices), rows):
        small = store.read(indices[at : at + rows])
        for axis in range(2, small.ndim):
            blocks = np.array_split(np.arange(small.shape[axis]), min(SIDE, small.shape[axis]))
            small = np.stack([small.take(block, axis).mean(axis) for block in blocks], axis)
        vectors.append(small.reshape(len(small), -1))
    flat = np.concatenate(vectors).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.where(length > 1e-3, flat / np.maximum(length, 1e-3), 0)
