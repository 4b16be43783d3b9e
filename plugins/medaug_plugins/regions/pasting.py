"""Cut regions around boxes out of images, and put drawn ones back so that no seam shows.

Legend: c channels, *s spatial axes in numpy order, d of them, p pixels of a region's side. A region is a box that is
grown by `margin` of its sides on every side, resized to a square or cube. Boxes are half-open pixel corners, x first.
"""

import numpy as np

from medaug_cli.plugin import blended
from medaug_plugins.layers import sampled


def grown(box: np.ndarray, margin: float) -> np.ndarray:
    """Return a box (2*d,) with `margin` of its sides more on every side."""
    d = len(box) // 2
    more = margin * (box[d:] - box[:d])
    return np.concatenate([box[:d] - more, box[d:] + more])


def cut(image: np.ndarray, box: np.ndarray, margin: float, side: int) -> np.ndarray:
    """Return the region (c, p, ...) around a box of an image (c, *s)."""
    low, high = np.split(grown(box, margin), 2)
    d = len(low)
    return _moved(image, low, high - low, shape=(side,) * d, to=np.zeros(d), to_sides=np.full(d, float(side)))


def put(host: np.ndarray, box: np.ndarray, region: np.ndarray, margin: float, poisson: bool) -> np.ndarray:
    """Return an image (c, *s) with a region (c, p, ...) put into its box; see `medaug_cli.plugin.blended`."""
    low, high = np.split(grown(box, margin), 2)
    side = np.array(region.shape[:0:-1], float)
    drawn = _moved(region, np.zeros(len(low)), side, shape=host.shape[1:], to=low, to_sides=high - low)
    return blended(host, drawn, box, margin, poisson)


def _moved(
    image: np.ndarray,
    low: np.ndarray,
    sides: np.ndarray,
    *,
    shape: tuple[int, ...],
    to: np.ndarray,
    to_sides: np.ndarray,
) -> np.ndarray:
    """Resample the box at `low` of an image so that it lies at `to` of an image (c, *shape); borders repeat."""
    sizes = np.array(image.shape[:0:-1], float)
    places = []
    for axis, length in enumerate(shape[::-1]):  # x first
        at = (np.arange(length) + 0.5 - to[axis]) / max(to_sides[axis], 1e-3)
        places.append((low[axis] + at * sides[axis]) * 2 / sizes[axis] - 1)
    return sampled(image, places)
