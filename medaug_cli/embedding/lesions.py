"""What lesions look like in numbers, one a lesion: contrast, extent and texture, as distributions.

Legend of shapes: c channels, *s spatial axes in numpy order, d of them, m boxes of an image, n lesions.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from medaug_cli.boxes import Strict

MEASURES = ("contrast", "extent", "texture")
RING = 0.5  # of a box's sides: what counts as its surroundings
LEAST_RING = 2  # pixels
TAILS = (0.05, 0.5, 0.95)


class Distribution(Strict):
    """One number of the lesions of a set, beside that of the real training lesions."""

    low: float  # 5 % lie below
    median: float
    high: float  # 5 % lie above
    distance: float  # Kolmogorov-Smirnov: largest difference of the two cumulative distributions, 0 to 1


class LesionNumbers(Strict):
    """How lesions of a set look, each at the box that was annotated or asked for.

    Extent is the side of a square (cube) as large as what is nearer to the box's core than to its surroundings.
    """

    boxes: int
    contrast: Distribution  # mean in the box less that around it, of the full range
    extent: Distribution  # in pixels
    texture: Distribution  # standard deviation in the box of what its 3x3 (x3) mean leaves, of the full range


class Lesion(NamedTuple):
    """What one lesion looks like."""

    contrast: float
    extent: float
    texture: float


def lesions_of(images: Iterable[np.ndarray], boxes: Sequence[np.ndarray]) -> np.ndarray:
    """Return contrast, extent and texture (n, 3) of every lesion of images (c, *s) with boxes (m, 2*d)."""
    found = [lesion(np.asarray(image).mean(0), box) for image, own in zip(images, boxes, strict=True) for box in own]
    return np.array(found, float).reshape(-1, len(MEASURES))


def lesion(image: np.ndarray, box: np.ndarray) -> Lesion:
    """Return what an image (*s) in [0, 1] shows in a box (2*d)."""
    from scipy.ndimage import uniform_filter

    d = image.ndim
    low, high = np.floor(box[:d][::-1]).astype(int), np.ceil(box[d:][::-1]).astype(int)
    low, high = np.clip(low, 0, np.array(image.shape) - 1), np.clip(high, 1, image.shape)
    ring, core = np.maximum(LEAST_RING, RING * (high - low)).astype(int), (high - low - 1) // 4
    corner = np.maximum(low - ring, 0)
    around = image[_slices(corner, high + ring)]
    inside = np.zeros(around.shape, bool)
    inside[_slices(low - corner, high - corner)] = True
    outside = around[~inside].mean() if not inside.all() else 0.0
    middle = image[_slices(low + core, high - core)].mean()
    detail = around - uniform_filter(around, 3, mode="nearest")
    mine = np.abs(around[inside] - middle) < np.abs(around[inside] - outside)
    return Lesion(
        contrast=float(around[inside].mean() - outside),
        extent=float(mine.sum() ** (1 / d)),
        texture=float(detail[inside].std()),
    )


def _slices(low: np.ndarray, high: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def lesion_numbers(found: np.ndarray, real: np.ndarray) -> LesionNumbers | None:
    """Return the distributions of lesions (n, 3) beside those of real ones (m, 3); None where either has none."""
    if not len(found) or not len(real):
        return None
    measured = {}
    for k, name in enumerate(MEASURES):
        low, median, high = np.quantile(found[:, k], TAILS).tolist()
        distance = cumulative_distance(found[:, k], real[:, k])
        measured[name] = Distribution(low=low, median=median, high=high, distance=distance)
    return LesionNumbers(boxes=len(found), **measured)


def cumulative_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Return the largest difference of the cumulative distributions of two samples (Kolmogorov and Smirnov)."""
    at = np.concatenate([x, y])
    shares = [np.searchsorted(np.sort(own), at, "right") / len(own) for own in (x, y)]
    return float(np.abs(shares[0] - shares[1]).max())
