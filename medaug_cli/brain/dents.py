"""Dents in the outline of a brain where a dark lesion reaches the skull, which looks like fluid or bone.

A skull is about as thick as it is a little farther on, and on the other side of the head. Where a mask's outline lies
much deeper under the head's surface than that, it has left something out; that comes back, unless much of it is as
dark as bone or bright as fat. Two sides differ more than neighbours do: what the other side alone asks for also ends
where it grows bright again, as it does behind a bone.
"""

from dataclasses import dataclass

import numpy as np

from medaug_cli.brain.slice import Slice
from medaug_cli.plugin import Plane

RAYS = 240  # angles around a middle
REACH = 150  # mm
WIDTH = 75.0  # degrees: the widest dent between its neighbours
SLACK = 6.0  # degrees that the two sides of a head may be apart
EDGE = 2.0  # mm deeper than usual: where a dent begins
DEEP, DEEP_OPPOSITE = 8.0, 10.0  # mm at its deepest: more than beside it, more than on the other side
SMALL = 60  # mm²: what is not worth filling
NARROW = 2  # mm: half as wide as what is not a dent between two sides
BONE, FAT = 0.2, 1.4  # grey values of bone and air, and of fat and vessels
RISE = 0.4  # how much brighter than the darkest value before it is behind a bone
STRAY = 0.1  # the share of bone or fat that a lesion may have


@dataclass(frozen=True)
class _Rays:
    """Rays from a point: every pixel's ray and distance, (y, x), and how far head and mask reach on each, (RAYS,)."""

    middle: np.ndarray  # y, x
    ray: np.ndarray
    distance: np.ndarray
    head: np.ndarray
    mask: np.ndarray
    depth: np.ndarray  # of the mask's outline under the head's surface

    @classmethod
    def of(cls, slice_: Slice, mask: np.ndarray, middle: np.ndarray) -> "_Rays | None":
        """Return the rays from a point; None where one finds no pixel of the mask.

        The mask does not surround the point then, or its radius is less than about 38 mm: near the vertex, where the
        skull is cut at a slant and says nothing.
        """
        y, x = np.indices(mask.shape)
        ray = np.floor((np.arctan2(y - middle[0], x - middle[1]) / (2 * np.pi) % 1) * RAYS).astype(int) % RAYS
        distance = np.hypot(y - middle[0], x - middle[1])
        head, reach, depth = np.zeros(RAYS), np.zeros(RAYS), np.zeros(RAYS)
        np.maximum.at(head, ray[slice_.head], distance[slice_.head])
        np.maximum.at(reach, ray[mask], distance[mask])
        if not reach.all():
            return None
        outline = mask & (distance == reach[ray])
        depth[ray[outline]] = slice_.depth[outline]
        return cls(middle, ray, distance, head, reach, depth)


def without_dents(slice_: Slice, mask: np.ndarray, plane: Plane | None) -> np.ndarray:
    """Return a brain mask (y, x) with its dents filled; unless the plane is axial, those above its middle alone."""
    if not mask.any():
        return mask
    middle = np.argwhere(mask).mean(0)
    outside = slice_.head & ~mask
    if plane != "axial":  # below there may be a face and a neck
        outside &= np.arange(len(mask))[:, None] < middle[0]
    result = mask
    if rays := _Rays.of(slice_, mask, middle):
        result = result | _beside_neighbours(slice_, rays, outside)
    if plane != "sagittal" and (rays := _Rays.of(slice_, mask, np.argwhere(slice_.head).mean(0))):
        result = result | _beside_the_other_side(slice_, rays, outside)
    return result


def _beside_neighbours(slice_: Slice, rays: _Rays, outside: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    usual = ndimage.grey_opening(rays.depth, int(WIDTH / 360 * RAYS), mode="wrap")  # peaks narrower than WIDTH are cut
    return _dents(slice_, _left_out(slice_, rays, usual, outside), (rays.depth - usual)[rays.ray], DEEP)


def _beside_the_other_side(slice_: Slice, rays: _Rays, outside: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    usual = _opposite(rays)
    before_bone = rays.distance < _second_rise(slice_, rays)[rays.ray]
    left_out = ndimage.binary_opening(_left_out(slice_, rays, usual, outside) & before_bone, iterations=NARROW)
    return _dents(slice_, left_out, (rays.depth - usual)[rays.ray], DEEP_OPPOSITE)


def _left_out(slice_: Slice, rays: _Rays, usual: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Return what lies behind the outline, where that is deeper than usual (RAYS,), and at least as deep as usual."""
    deeper = (rays.depth - usual > EDGE)[rays.ray] & (slice_.depth >= usual[rays.ray])
    return outside & deeper & (rays.distance > rays.mask[rays.ray])


def _opposite(rays: _Rays) -> np.ndarray:
    """Return the depth of the outline on the other side of the head (RAYS,), the deepest within SLACK.

    The head stands upright, within 45 degrees.
    """
    from scipy import ndimage

    spectrum = np.fft.rfft(rays.head - rays.head.mean())
    likeness = np.fft.irfft(spectrum * spectrum, RAYS)  # [n]: of every ray i of the head to ray n - i
    axis = RAYS // 4 + int(likeness[RAYS // 4 : 3 * RAYS // 4 + 1].argmax())
    mirrored = rays.depth[(axis - np.arange(RAYS)) % RAYS]
    return ndimage.maximum_filter1d(mirrored, int(SLACK / 360 * RAYS) * 2 + 1, mode="wrap")


def _second_rise(slice_: Slice, rays: _Rays) -> np.ndarray:
    """Return how far from the middle it is (RAYS,) to what is much brighter than something between it and the mask."""
    from scipy import ndimage

    angle, reach = (np.arange(RAYS) + 0.5) * 2 * np.pi / RAYS, np.arange(REACH)
    points = [rays.middle[0] + np.outer(np.sin(angle), reach), rays.middle[1] + np.outer(np.cos(angle), reach)]
    grey = ndimage.map_coordinates(slice_.grey, points, order=1)  # (rays, mm)
    outside = reach >= rays.mask[:, None] - 1
    darkest = np.minimum.accumulate(np.where(outside, grey, np.inf), axis=1)
    risen = outside & (grey > darkest + RISE)
    return np.where(risen.any(1), risen.argmax(1), REACH)


def _dents(slice_: Slice, left_out: np.ndarray, excess: np.ndarray, deep: float) -> np.ndarray:
    """Return the parts of what was left out that are deep and tissue."""
    from scipy import ndimage

    labels, count = ndimage.label(left_out)
    parts = range(1, count + 1)
    deepest = ndimage.maximum(excess, labels, parts)
    return np.isin(labels, [n for n in parts if deepest[n - 1] >= deep and _is_tissue(slice_.grey[labels == n])])


def _is_tissue(grey: np.ndarray) -> bool:
    return len(grey) >= SMALL and (grey < BONE).mean() <= STRAY and (grey > FAT).mean() <= STRAY
