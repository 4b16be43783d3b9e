"""Cut regions around boxes out of slices, and put drawn ones back so that no seam shows.

Legend: c channels, h and w pixels of a slice's sides, s pixels of a region's side. A region is a box that is grown by
`margin` of its sides on every side, resized to a square. Boxes are half-open pixel corners, x first.
"""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.fft import dstn, idstn
from scipy.ndimage import binary_fill_holes

from medaug_plugins.hosts import faded, window

DARK = 0.04  # up to here a pixel is background
CONTRAST = (0.5, 2.0)  # by which a drawn lesion's contrast may be changed


def grown(box: np.ndarray, margin: float) -> np.ndarray:
    """Return a box (4,) with `margin` of its sides more on every side."""
    more = margin * (box[2:] - box[:2])
    return np.concatenate([box[:2] - more, box[2:] + more])


def cut(image: np.ndarray, box: np.ndarray, margin: float, side: int) -> np.ndarray:
    """Return the region (c, s, s) around a box of a slice (c, h, w)."""
    low, high = np.split(grown(box, margin), 2)
    return _moved(image, low, high - low, (side, side), np.zeros(2), np.full(2, float(side)))


def put(host: np.ndarray, box: np.ndarray, region: np.ndarray, margin: float, poisson: bool) -> np.ndarray:
    """Return a slice (c, h, w) with a region (c, s, s) put into its box, bit for bit the same beyond the margin.

    Contrast and brightness are matched to what lies around the box. Then the region's gradients are kept and its border
    takes the slice's values (Perez et al. 2003, *Poisson image editing*), or it fades in over the margin. Beyond the
    head nothing is drawn.
    """
    height, width = host.shape[-2:]
    low, high = np.split(grown(box, margin), 2)
    side = np.array(region.shape[:0:-1], float)
    drawn = _moved(region, np.zeros(2), side, (height, width), low, high - low)
    ring = around(host, box, margin)
    (mean, spread), (own_mean, own_spread) = _level(host, ring), _level(drawn, ring)
    drawn = (drawn - own_mean) * np.clip(spread / own_spread, *CONTRAST) + mean
    head = binary_fill_holes(host.mean(0) > DARK)
    head = head if head[window(box, height, width)].any() else np.ones_like(head)
    if not poisson:
        share = faded(box, height, width) * head
        return np.where(share > 0, host * (1 - share) + drawn * share, host).astype(np.float32)
    rows, columns = window(box, height, width, margin)
    result = host.copy()
    framed = slice(rows.start, rows.stop + 2), slice(columns.start, columns.stop + 2)
    around_it = ((0, 0), (1, 1), (1, 1))
    apart = np.pad(host - drawn, around_it, mode="edge")[:, *framed]
    in_head = np.pad(head[None], around_it, mode="edge")[0, *framed]
    patch = drawn[:, rows, columns] + membrane(_without_background(apart, in_head))
    result[:, rows, columns] = np.where(head[rows, columns], patch, host[:, rows, columns])
    return result


def _without_background(border: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Return (c, h, w) whose outermost pixels beyond the head (h, w) ask what those in the head ask in the middle."""
    edge = np.ones_like(head)
    edge[1:-1, 1:-1] = False
    if (edge & head).any():
        border[:, edge & ~head] = np.median(border[:, edge & head], axis=1)[:, None]
    return border


def around(host: np.ndarray, box: np.ndarray, margin: float) -> np.ndarray:
    """Return the tissue (h, w) in the margin around a box, all of the slice where there is nearly none."""
    height, width = host.shape[-2:]
    ring = np.zeros((height, width), bool)
    ring[window(box, height, width, margin)] = True
    ring[window(box, height, width)] = False
    ring &= host.mean(0) > DARK
    return ring if ring.sum() > 4 else np.ones_like(ring)


def _level(image: np.ndarray, ring: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and spread (c, 1, 1) of the pixels of a ring."""
    chosen = image[:, ring]
    return chosen.mean(1)[:, None, None], chosen.std(1)[:, None, None] + 0.02


def membrane(border: np.ndarray) -> np.ndarray:
    """Return the harmonic function (c, h, w) whose values around it are the outermost pixels of (c, h + 2, w + 2).

    The five-point Laplacian is diagonal in sines (the fast Poisson solver of Buzbee et al. 1970).
    """
    source = np.zeros((len(border), border.shape[1] - 2, border.shape[2] - 2))
    source[:, 0] -= border[:, 0, 1:-1]
    source[:, -1] -= border[:, -1, 1:-1]
    source[:, :, 0] -= border[:, 1:-1, 0]
    source[:, :, -1] -= border[:, 1:-1, -1]
    waves = [2 * np.cos(np.pi * np.arange(1, n + 1) / (n + 1)) - 2 for n in source.shape[1:]]
    return idstn(dstn(source, 1, axes=(1, 2)) / np.add.outer(*waves), 1, axes=(1, 2)).astype(np.float32)


def _moved(
    image: np.ndarray, low: np.ndarray, sides: np.ndarray, shape: tuple[int, int], to: np.ndarray, to_sides: np.ndarray
) -> np.ndarray:
    """Resample the rectangle at `low` of an image so that it lies at `to` of an image (c, *shape); borders go on."""
    sizes = np.array(image.shape[:0:-1], float)
    places = []
    for axis, length in enumerate(shape[::-1]):  # x, then y
        at = (np.arange(length) + 0.5 - to[axis]) / max(to_sides[axis], 1e-3)
        places.append((low[axis] + at * sides[axis]) * 2 / sizes[axis] - 1)
    grid = torch.from_numpy(np.stack(np.meshgrid(*places), -1).astype(np.float32))
    pixels = torch.from_numpy(np.ascontiguousarray(image))
    return F.grid_sample(pixels[None], grid[None], padding_mode="border", align_corners=False)[0].numpy()
