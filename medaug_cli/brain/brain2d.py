"""Brain extraction from one slice: two independent methods, whose agreement says how far to trust them.

`by_contour` finds the best closed curve around the brain in polar coordinates; `by_erosion` cuts the bridges
between brain and skull. Both work on a grid of 1 mm, (y, x), in a head whose grey values are shares of the brain's.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from medaug_cli.brain.contour import by_contour
from medaug_cli.brain.dents import without_dents
from medaug_cli.brain.head import (
    Spacing,
    close,
    dilate,
    filled,
    head_mask,
    resampled,
    restored,
    unit_range,
)
from medaug_cli.brain.slice import Slice
from medaug_cli.plugin import Capabilities, Extracted, Plane

AGREE = 0.85  # the Dice coefficient of the two methods from which both are right
DARKER = 0.2  # how much more of its rim must be dark that the smaller mask may stand against the curve's
FIELD_OF_VIEW = 240.0  # mm, of a head scan that does not say


@dataclass
class Brain2D:
    """The built-in method for slices: the best closed curve and cut bridges, and how far the two agree."""

    capabilities: ClassVar[Capabilities] = Capabilities(dims=(2,))

    def extract(self, image: np.ndarray, spacing: Spacing | None, plane: Plane | None) -> Extracted:
        """Return the brain of a slice (y, x)."""
        return brain2d(image, spacing, plane)


def brain2d(image: np.ndarray, spacing: Spacing | None = None, plane: Plane | None = None) -> Extracted:
    """Return the brain of a slice (y, x); `agreement` is the Dice coefficient of the two methods.

    Without a spacing, in mm, the picture is taken to be 240 mm wide, or the head 190 mm where that cannot be.
    """
    spacing = tuple(spacing) if spacing is not None else assumed_spacing(image)
    nothing = Extracted(np.zeros(image.shape, bool), {"agreement": 0.0})
    grey = on_millimetres(unit_range(image), spacing)
    slice_ = Slice.of(grey, head_mask(grey), plane)
    if slice_ is None:
        return nothing
    first, second = by_contour(slice_), by_erosion(slice_)
    total = first.sum() + second.sum()
    if total == 0:
        return nothing
    agreement = 2 * float((first & second).sum()) / float(total)
    mask = first | second if agreement >= AGREE else _better(slice_, first, second)
    mask = without_dents(slice_, mask, plane)
    head_share = float(mask.sum() / max(slice_.head.sum(), 1))
    return Extracted(restored(mask, image.shape), {"agreement": agreement, "head_share": head_share})


def assumed_spacing(image: np.ndarray) -> tuple[float, ...]:
    """Return the mm per pixel of a slice that does not say, from its field of view and its head's extent."""
    step = FIELD_OF_VIEW / max(image.shape)
    coarse = on_millimetres(unit_range(image), (step, step))
    head = np.argwhere(head_mask(coarse))
    extent = float((np.ptp(head, axis=0) + 1).max()) if len(head) else 190.0
    if not 120 <= extent <= 235:
        step *= 190 / extent
    return (step, step)


def _better(slice_: Slice, by_curve: np.ndarray, by_bridges: np.ndarray) -> np.ndarray:
    """Return one of two masks that disagree: cut bridges, which may cut off a lesion too, need clear evidence."""
    clearly = dark_rim(slice_, by_bridges) > dark_rim(slice_, by_curve) + DARKER
    return by_bridges if clearly or not by_curve.any() else by_curve


def dark_rim(slice_: Slice, mask: np.ndarray) -> float:
    """Return the share of dark pixels, as of skull and fluid, in the ring 2 to 4 mm outside a mask."""
    if mask.sum() < 50:
        return 0.0
    ring = dilate(mask, 4, (1, 1)) & ~dilate(mask, 1.5, (1, 1))
    low = np.percentile(slice_.grey, 1)
    return float((slice_.grey[ring] < low + 0.62 * (np.median(slice_.grey[mask]) - low)).mean())


def by_erosion(slice_: Slice) -> np.ndarray:
    """Return the deepest large part of the tissue after bridges of several widths are cut, the best of them."""
    best, best_score = np.zeros(slice_.head.shape, bool), -np.inf
    for darkness in (0.62, 0.72, 0.82):
        level = darkness * slice_.contrast
        ceiling = np.where(slice_.depth < 20, 1.6, 2.6)
        tissue = (slice_.grey > level) & (slice_.depth > 6) & (slice_.grey < ceiling)
        if slice_.neck:
            tissue &= slice_.rows < slice_.top + 165
        for region in _cut_free(slice_, tissue):
            score = _plausibility(slice_, region, tissue, level)
            if score > best_score:
                best, best_score = region, score
    return dilate(best, 2, (1, 1)) & slice_.head


def _cut_free(slice_: Slice, tissue: np.ndarray) -> list[np.ndarray]:
    """Return one candidate per width of the bridges that are cut."""
    from scipy import ndimage

    inside, candidates = ndimage.distance_transform_edt(tissue), []
    weight = (slice_.depth > 14) * (np.abs(slice_.grey - 1) < 0.4)
    if slice_.neck:
        weight = weight * np.clip((slice_.top + 150 - slice_.rows) / 60, 0, 1)
    for radius in (2.0, 3.0, 4.5, 6.0):
        labels, count = ndimage.label(inside > radius)
        if not count:
            continue
        mass = ndimage.sum(weight, labels, range(1, count + 1))
        order = np.argsort(mass)[::-1]
        kept = [order[0] + 1]
        if not slice_.neck:  # the two hemispheres
            kept += [other + 1 for other in order[1:3] if mass[other] > 0.25 * mass[order[0]]]
        region = filled(close(dilate(np.isin(labels, kept), radius + 1, (1, 1)) & tissue, 9, (1, 1)))
        if region.sum() >= 400:
            candidates.append(region)
    return candidates


def _plausibility(slice_: Slice, region: np.ndarray, tissue: np.ndarray, level: float) -> float:
    rim = dilate(region, 4, (1, 1)) & ~dilate(region, 1, (1, 1))
    dark = float((slice_.grey[rim] < 1.15 * level).mean())
    solid = float((region & tissue).sum() / region.sum())
    shallow = float((slice_.depth[region] < 9).mean())
    share = float(region.sum() / slice_.head.sum())
    return dark + 0.5 * solid - 1.5 * shallow + 0.5 * min(share / 0.55, 1)


def on_millimetres(image: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Return a slice on a grid of 1 mm."""
    from scipy import ndimage

    if min(spacing) < 0.95:
        image = ndimage.gaussian_filter(image, [0.4 / step for step in spacing])
    return resampled(image, spacing)
