"""Where a lesion that is put into a slice begins and ends, and what lies around it.

Legend as in `bank`.
"""

import numpy as np

MARGIN = 0.25  # of a box's sides, over which what is put in fades into its surroundings
DARK = 0.04  # up to here a pixel is background


def window(box: np.ndarray, height: int, width: int, grow: float = 0.0) -> tuple[slice, slice]:
    """Return the rows and columns of a box that is grown by a share of its sides on every side, at least a pixel."""
    x_min, y_min, x_max, y_max = (float(v) for v in box)
    x, y = grow * (x_max - x_min), grow * (y_max - y_min)
    top, left = int(np.clip(np.floor(y_min - y), 0, height - 1)), int(np.clip(np.floor(x_min - x), 0, width - 1))
    bottom, right = int(np.clip(np.ceil(y_max + y), top + 1, height)), int(np.clip(np.ceil(x_max + x), left + 1, width))
    return slice(top, bottom), slice(left, right)


def faded(box: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return how much of a pasted lesion shows (h, w): all of it in its box, nothing beyond MARGIN around it."""
    shares = []
    for axis, length in ((1, height), (0, width)):
        low, high = float(box[axis]), float(box[axis + 2])
        margin = max(1.0, MARGIN * (high - low))
        at = np.arange(length, dtype=np.float32) + 0.5
        outside = np.maximum(np.maximum(low - at, at - high), 0) / margin
        shares.append(0.5 + 0.5 * np.cos(np.pi * np.minimum(outside, 1)))
    return np.multiply.outer(shares[0], shares[1]).astype(np.float32)


def surroundings(image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation (c, 1, 1) of the tissue in a ring around a box."""
    height, width = image.shape[-2:]
    ring = np.zeros((height, width), bool)
    ring[window(box, height, width, 0.6)] = True
    ring[window(box, height, width)] = False
    tissue = ring & (image.mean(0) > DARK)
    chosen = image[:, tissue if tissue.sum() > 4 else np.ones_like(ring)]
    return chosen.mean(1)[:, None, None], chosen.std(1)[:, None, None] + 0.02
