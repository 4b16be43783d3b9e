"""Dents in the outline of a brain where a dark lesion reaches the skull, which looks like fluid or bone.

A skull is about as thick as it is a little farther on. Where a mask's outline lies much deeper under the head's surface
than on both sides, it has left something out; that comes back, unless much of it is as dark as bone or bright as fat.
"""

import numpy as np

from medaug_cli.scans.brain_slice import Slice

RAYS = 240  # angles around the mask's middle
WIDTH = 75.0  # degrees: the widest dent
DEEP, EDGE = 8.0, 2.0  # mm deeper than on both sides: a dent at its deepest, and where it begins
SMALL = 60  # mm²: what is not worth filling
BONE, FAT = 0.2, 1.4  # grey values of bone and air, and of fat and vessels
STRAY = 0.1  # the share of either that a lesion may have


def without_dents(slice_: Slice, mask: np.ndarray, all_around: bool) -> np.ndarray:
    """Return a brain mask (y, x) with its dents filled; unless `all_around`, those above its middle alone."""
    from scipy import ndimage

    if not mask.any():
        return mask
    middle = np.argwhere(mask).mean(0)
    y, x = np.indices(mask.shape)
    ray = np.floor((np.arctan2(y - middle[0], x - middle[1]) / (2 * np.pi) % 1) * RAYS).astype(int) % RAYS
    distance = np.hypot(y - middle[0], x - middle[1])
    radius, depth = _outline(mask, ray, distance, slice_.depth)
    if not radius.all():
        return mask
    usual = ndimage.grey_opening(depth, int(WIDTH / 360 * RAYS), mode="wrap")  # peaks narrower than WIDTH are cut
    excess = (depth - usual)[ray]
    left_out = (excess > EDGE) & (distance > radius[ray]) & (slice_.depth >= usual[ray]) & slice_.head & ~mask
    if not all_around:  # below there may be a face and a neck
        left_out &= y < middle[0]
    labels, count = ndimage.label(left_out)
    parts = range(1, count + 1)
    deepest = ndimage.maximum(excess, labels, parts)
    filled = [part for part in parts if deepest[part - 1] >= DEEP and _is_tissue(slice_.grey[labels == part])]
    return mask | np.isin(labels, filled)


def _outline(
    mask: np.ndarray, ray: np.ndarray, distance: np.ndarray, depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return how far a mask reaches on every ray (RAYS,), 0 where it does not, and the depth there."""
    order = np.argsort(distance[mask])  # of the pixels of a ray the farthest is written last
    radius, under = np.zeros(RAYS), np.zeros(RAYS)
    radius[ray[mask][order]] = distance[mask][order]
    under[ray[mask][order]] = depth[mask][order]
    return radius, under


def _is_tissue(grey: np.ndarray) -> bool:
    return len(grey) >= SMALL and (grey < BONE).mean() <= STRAY and (grey > FAT).mean() <= STRAY
