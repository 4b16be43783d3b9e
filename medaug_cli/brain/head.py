"""What every classical brain extraction starts from: the head, its depth, and morphology in millimetres.

Arrays are (y, x) or (z, y, x) with rows running down; `spacing` is millimetres per voxel in that order.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np

Spacing = Sequence[float]


def erode(mask: np.ndarray, radius: float, spacing: Spacing) -> np.ndarray:
    """Return the voxels more than `radius` mm inside a mask; beyond the image nothing is outside."""
    return ~dilate(~mask, radius, spacing)


def dilate(mask: np.ndarray, radius: float, spacing: Spacing) -> np.ndarray:
    """Return the voxels at most `radius` mm from a mask.

    A ball is a stack of rows: a voxel is in reach if, in one of the rows around it, the gap to the mask is at most
    half as wide as the ball is there. For the radii of a head that is ten times as fast as distances.
    """
    mask = np.asarray(mask, bool)
    gaps, result = _row_gaps(mask), np.zeros(mask.shape, bool)
    reach = [int(radius / step + 1e-6) for step in spacing[:-1]]
    for offset in product(*(range(-n, n + 1) for n in reach)):
        left = radius**2 - sum((n * step) ** 2 for n, step in zip(offset, spacing, strict=False))
        if left >= -1e-9:
            width = int(max(left, 0) ** 0.5 / spacing[-1] + 1e-6)
            result[_shifted(offset, 1)] |= gaps[_shifted(offset, -1)] <= width
    return result


def _row_gaps(mask: np.ndarray) -> np.ndarray:
    """Return every voxel's distance, in voxels along the last axis, to the nearest one of the mask."""
    length = mask.shape[-1]
    column = np.arange(length, dtype=np.int16)
    before = np.maximum.accumulate(np.where(mask, column, np.int16(-length)), axis=-1)
    after = np.minimum.accumulate(np.where(mask, column, np.int16(2 * length))[..., ::-1], axis=-1)[..., ::-1]
    return np.minimum(column - before, after - column)


def _shifted(offset: Sequence[int], sign: int) -> tuple[slice, ...]:
    """Return the part of an array that has a neighbour at an offset, and with -1 those neighbours."""
    return tuple(slice(max(0, sign * n), min(0, sign * n) or None) for n in offset)


def close(mask: np.ndarray, radius: float, spacing: Spacing) -> np.ndarray:
    """Return a mask whose gaps narrower than twice `radius` mm are filled, also those at the image's border."""
    width = int(np.ceil(radius / min(spacing))) + 2
    padded = dilate(np.pad(mask, width), radius, spacing)
    closed = ~dilate(~padded, radius, spacing)
    return closed[tuple(slice(width, -width) for _ in mask.shape)] | mask


def largest(mask: np.ndarray) -> np.ndarray:
    """Return the largest connected part of a mask."""
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    if count < 2:
        return mask.astype(bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()


def filled(mask: np.ndarray) -> np.ndarray:
    """Return a mask without holes, a volume plane by plane along every axis."""
    if mask.ndim == 2:
        return _filled(mask, None)
    for axis in range(3):
        mask = _filled(mask, axis)
    return mask


def _filled(mask: np.ndarray, across: int | None) -> np.ndarray:
    """Fill what no path within the planes across an axis joins to their borders."""
    from scipy import ndimage

    steps = ndimage.generate_binary_structure(mask.ndim, 1)
    if across is not None:
        np.moveaxis(steps, across, 0)[[0, 2]] = False
    labels, count = ndimage.label(~mask, steps)
    is_open = np.zeros(count + 1, bool)
    for axis in range(mask.ndim):
        if axis != across:
            is_open[np.take(labels, [0, -1], axis)] = True
    is_open[0] = False
    return ~is_open[labels]


def otsu(values: np.ndarray) -> float:
    """Return the threshold that parts values into two classes best (Otsu 1979)."""
    counts, edges = np.histogram(values, 128)
    centres = (edges[1:] + edges[:-1]) / 2
    weight, total = np.cumsum(counts), np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (total[-1] * weight / weight[-1] - total) ** 2 / (weight * (weight[-1] - weight))
    return float(centres[np.nanargmax(between)]) if np.isfinite(between).any() else float(centres[0])


def unit_range(image: np.ndarray) -> np.ndarray:
    """Return an image from 0 to 1, its 0.5th to its 99.5th percentile."""
    image = np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)
    low, high = np.percentile(image, (0.5, 99.5))
    return np.clip((image - low) / max(high - low, 1e-9), 0, 1).astype(np.float32)


def resampled(image: np.ndarray, factors: Sequence[float]) -> np.ndarray:
    """Return an image scaled by a factor per axis, to one voxel at least."""
    from scipy import ndimage

    factors = [max(factor, 1 / n) for factor, n in zip(factors, image.shape, strict=True)]
    if all(abs(factor - 1) < 0.02 for factor in factors):
        return image
    return ndimage.zoom(image, factors, order=1, grid_mode=True, mode="nearest")


def restored(mask: np.ndarray, shape: tuple[int, ...], smooth: float = 0.7) -> np.ndarray:
    """Return a working mask on the grid of the image that it was made from."""
    from scipy import ndimage

    soft = ndimage.gaussian_filter(mask.astype(np.float32), smooth)
    factors = [n / m for n, m in zip(shape, mask.shape, strict=True)]
    grown = ndimage.zoom(soft, factors, order=1, grid_mode=True, mode="nearest") > 0.5
    result = np.zeros(shape, bool)
    overlap = tuple(slice(0, min(n, m)) for n, m in zip(shape, grown.shape, strict=True))
    result[overlap] = grown[overlap]
    return result


def head_mask(image: np.ndarray, spacing: Spacing | None = None) -> np.ndarray:
    """Return the head with everything in it: tissue above the air, closed and filled; empty for an empty image.

    The last row of a slice counts as cut through: a neck that leaves the picture does not open the head.
    """
    from scipy import ndimage

    spacing = tuple(spacing) if spacing is not None else (1.0,) * image.ndim
    if image.ndim == 3 and min(spacing) < 1.5:  # a head needs no finer grid
        factors = [min(1.0, step / 2) for step in spacing]
        coarse = resampled(np.asarray(image, np.float32), factors)
        if coarse.shape != image.shape:  # else a side is a voxel wide
            step = [s * n / m for s, n, m in zip(spacing, image.shape, coarse.shape, strict=True)]
            return restored(head_mask(coarse, step), image.shape, 0.5)
    smooth = ndimage.gaussian_filter(unit_range(image), [1.0 / step for step in spacing])
    lit = smooth[smooth > 0.01 * smooth.max()] if smooth.max() > 0 else smooth[:0]
    if lit.size < 50:
        return np.zeros(image.shape, bool)
    tissue = smooth > 0.45 * otsu(lit)
    if image.ndim == 3:
        return filled(close(_main_parts(tissue), 8, spacing))
    tissue = _main_parts(opened(tissue, 2, spacing))
    width = int(np.ceil(14 / min(spacing)))
    padded = np.pad(np.pad(tissue, ((width, 0), (width, width))), ((0, width), (0, 0)), mode="edge")
    head = filled(close(padded, 12, spacing))[width:-width, width:-width]
    return largest(filled(np.pad(head, ((0, 1), (0, 0)), constant_values=True))[:-1])


def _main_parts(mask: np.ndarray) -> np.ndarray:
    """Return the connected parts at least 5 % as large as the largest: a scalp may not touch its brain."""
    from scipy import ndimage

    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.isin(labels, np.flatnonzero(sizes >= 0.05 * sizes.max()))


def opened(mask: np.ndarray, radius: float, spacing: Spacing) -> np.ndarray:
    """Return a mask without its parts thinner than twice `radius` mm."""
    width = int(np.ceil(radius / min(spacing))) + 1
    padded = np.pad(mask, width, mode="edge")
    kept = dilate(erode(padded, radius, spacing), radius, spacing)
    return kept[tuple(slice(width, -width) for _ in mask.shape)]


def head_depth(head: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Return the distance in mm of every voxel of the head from its surface; a cut neck is not surface."""
    from scipy import ndimage

    padded = np.pad(head, 1)
    if head.ndim == 2:
        padded[-1] = padded[-2]
    inner = tuple(slice(1, -1) for _ in head.shape)
    return ndimage.distance_transform_edt(padded, sampling=spacing)[inner]
