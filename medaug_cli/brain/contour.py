"""The best closed curve around the brain of a slice, exact in polar coordinates by dynamic programming.

A ray leaves the middle of the head at every angle; the cost of a radius is that of calling brain all that lies
nearer. Neighbouring radii may differ little. A dark band that a ray has crossed near the surface is skull.
"""

import numpy as np

from medaug_cli.brain.head import close, dilate, filled, largest, opened
from medaug_cli.brain.slice import Slice

RAYS, REACH = 240, 150  # angles, and mm
STEP, STIFFNESS = 3, 0.6  # how far neighbouring radii may differ, and the cost of it squared
SURFACE = 7.0  # mm of scalp and skull at least


def by_contour(slice_: Slice) -> np.ndarray:
    """Return the brain mask of a slice (y, x) on its grid of 1 mm."""
    dark = 0.33 + 0.8 * (slice_.contrast - 0.6)
    seat, radius, standing = _seat(slice_)
    cost = _pixel_costs(slice_, dark, seat, radius, standing)
    curves = [_curve(slice_, cost, centre, radius, standing) for centre in _centres(slice_, dark, seat, standing)]
    _, centre, radii = min(curves, key=lambda curve: curve[0])
    return _tidied(slice_, _inside(slice_.head.shape, centre, radii), dark)


def _seat(slice_: Slice) -> tuple[tuple[float, float], float, bool]:
    """Return centre and radius of the largest circle in the vault, and whether the slice stands upright."""
    rows = np.flatnonzero(slice_.head.any(1))
    height, width = float(rows[-1]) - slice_.top, float(np.percentile(slice_.head.sum(1)[rows], 95))
    standing = slice_.neck or height > 1.45 * width
    depth = slice_.depth
    if not standing:
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        return (float(row), float(column)), float(depth.max()), False
    depth = np.where(slice_.rows < slice_.top + 0.62 * min(height, 1.45 * width), depth, 0)
    y = min(int(np.argwhere(depth >= 0.96 * depth.max())[:, 0].min()) + 3, len(depth) - 1)
    return (float(y), float(depth[y].argmax())), float(depth[y].max()), True


def _pixel_costs(slice_: Slice, dark: float, seat: tuple[float, float], radius: float, standing: bool) -> np.ndarray:
    """Return what it costs to call each pixel brain, (y, x); tissue of the brain's grey earns 1."""
    grey = slice_.grey
    cost = np.where(grey < dark, 0.9 * np.clip((dark - grey) / 0.25, 0, 1), -np.clip((grey - dark) / 0.2, 0, 1))
    cost = np.where(grey > 1.5, -1 + 2.3 * np.clip((grey - 1.5) / 0.5, 0, 1), cost)
    cost = cost + 3 * np.clip((SURFACE - slice_.depth) / 3, 0, 1.5)
    cost = np.where(slice_.head, cost, 4.0)
    if standing:  # below the middle of the vault there are face and neck
        away = _distance(grey.shape, seat) / max(radius, 1)
        cost = cost + 2.5 * np.clip((away - 0.93) / 0.12, 0, 2) * (slice_.rows > seat[0])
        cost = cost + 1.2 * np.clip((slice_.rows - (slice_.top + 112)) / 48, 0, 2)
    return cost


def _centres(slice_: Slice, dark: float, seat: tuple[float, float], standing: bool) -> list[tuple[float, float]]:
    """Return where rays may start: the seat, and the middles of the largest smooth parts of tissue."""
    from scipy import ndimage

    grey = slice_.grey
    mean = ndimage.uniform_filter(grey, 5)
    texture = np.sqrt(np.maximum(ndimage.uniform_filter(grey * grey, 5) - mean**2, 0))
    smooth = (grey > 1.15 * dark) & (grey < 1.5) & (texture < 0.16) & (slice_.depth > 14)
    if standing:
        smooth &= slice_.rows < slice_.top + 130
    inner = ndimage.distance_transform_edt(smooth)
    labels, _ = ndimage.label(inner > 3)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    centres = [seat]
    for part in np.argsort(sizes)[::-1][:2]:
        if sizes[part] < max(80, 0.3 * sizes.max()):
            continue
        y, x = ndimage.center_of_mass(labels == part)
        if labels[int(y), int(x)] == 0:
            y, x = np.unravel_index(np.where(labels == part, inner, 0).argmax(), inner.shape)
        if all((y - a) ** 2 + (x - b) ** 2 > 64 for a, b in centres):
            centres.append((float(y), float(x)))
    return centres


def _curve(
    slice_: Slice, cost: np.ndarray, centre: tuple[float, float], radius: float, standing: bool
) -> tuple[float, tuple[float, float], np.ndarray]:
    """Return the energy of the best curve around a centre, the centre, and the curve's radii (RAYS,)."""
    from scipy import ndimage

    angle, reach = np.arange(RAYS) * 2 * np.pi / RAYS, np.arange(min(max(cost.shape), REACH)) + 0.5
    points = [centre[0] + np.outer(np.sin(angle), reach), centre[1] + np.outer(np.cos(angle), reach)]
    on_rays = ndimage.map_coordinates(cost, points, order=1, cval=4.0)  # (rays, radii)
    grey = ndimage.map_coordinates(slice_.grey, points, order=1)
    depth = ndimage.map_coordinates(slice_.depth, points, order=1)
    near = np.clip((30 - depth) / 8, 0, 1) * (depth > 0)
    if standing:
        near = np.maximum(near, np.clip((points[0] - (centre[0] + 0.15 * radius)) / 10, 0, 1))
    skull = 0.42 + 1.1 * (slice_.contrast - 0.6)
    crossed = np.cumsum(np.clip((skull - grey) / 0.25, 0, 1) * near, axis=1)
    on_rays = on_rays + 0.8 * np.clip(crossed - 0.3, 0, 4)
    energy = np.cumsum(on_rays, axis=1) - on_rays[:, :1]
    radii = closed_path(energy - energy.min(axis=1, keepdims=True))
    total = float(np.cumsum(on_rays * reach, axis=1)[np.arange(RAYS), radii].sum())
    return total, centre, ndimage.gaussian_filter1d(reach[radii], 1.5, mode="wrap")


def closed_path(energy: np.ndarray, step: int = STEP, stiffness: float = STIFFNESS) -> np.ndarray:
    """Return the column of every row of `energy` (n, r) on the cheapest closed path.

    Neighbours differ by at most `step` columns at `stiffness` times the difference squared. The rows are gone
    through twice, and the middle of that run, where it has forgotten its start, is kept.
    """
    rays, count = energy.shape
    shifts = np.arange(-step, step + 1)
    penalty = (stiffness * shifts**2)[:, None]
    padded = np.full(count + 2 * step, np.inf)
    best, came = padded[step : step + count], np.zeros((2 * rays, count), np.int64)
    best[:] = energy[0]
    shifted = np.lib.stride_tricks.sliding_window_view(padded, count)  # (shifts, r), of `best` as it is
    for row in range(1, 2 * rays):
        before = shifted + penalty
        choice = before.argmin(axis=0)
        came[row] = np.arange(count) + shifts[choice]
        best[:] = before[choice, np.arange(count)] + energy[row % rays]
    path, column = np.zeros(rays, np.int64), int(best.argmin())
    for row in range(2 * rays - 1, -1, -1):
        if rays // 2 <= row < rays // 2 + rays:
            path[row % rays] = column
        column = int(came[row, column])
    return path


def _inside(shape: tuple[int, ...], centre: tuple[float, float], radii: np.ndarray) -> np.ndarray:
    y, x = np.ogrid[: shape[0], : shape[1]]
    ray = (np.arctan2(y - centre[0], x - centre[1]) % (2 * np.pi)) / (2 * np.pi) * RAYS
    border = np.interp(ray.ravel(), np.arange(RAYS + 1), np.append(radii, radii[0])).reshape(shape)
    return _distance(shape, centre) <= border


def _distance(shape: tuple[int, ...], centre: tuple[float, float]) -> np.ndarray:
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.sqrt((y - centre[0]) ** 2 + (x - centre[1]) ** 2)


def _tidied(slice_: Slice, region: np.ndarray, dark: float) -> np.ndarray:
    """Return a region cut to tissue, without specks, closed again and smooth."""
    from scipy import ndimage

    millimetre = (1, 1)
    reach = dilate(region, 1, millimetre)
    tissue = opened((slice_.grey > dark) & reach & (slice_.depth > SURFACE - 2), 1.5, millimetre)
    labels, count = ndimage.label(tissue)
    if not count:
        return np.zeros(region.shape, bool)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = np.isin(labels, np.flatnonzero(sizes > max(60, 0.02 * sizes.max())))
    mask = filled(close(kept, 10, millimetre) & reach)
    return largest(opened(mask, 4, millimetre)) if mask.sum() > 2000 else largest(mask)
