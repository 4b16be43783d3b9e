"""Measures of segmentation: overlap, distances of surfaces, and lesions found, by image and by patient.

Legend: n images, *s spatial axes, u patients, r resamples. A number that cannot be had is NaN. Where both masks are
empty Dice is 1, where one is it is 0: a missed structure is the worst case and no gap in the data.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

Counts = np.ndarray | int  # of pixels


@dataclass(frozen=True)
class Overlap:
    """Numbers of one label in one image."""

    true: int  # pixels of the truth
    found: int  # pixels of the answer
    both: int
    hausdorff95: float  # mm where the spacing is known, else pixels; NaN where a mask is empty
    surface_distance: float
    lesions: int  # components of the truth
    lesions_found: int  # of them, those that the answer touches
    false_lesions: int  # components of the answer that touch no lesion

    def without_distances(self) -> "Overlap":
        """Return the numbers as though a mask were empty, of which there is no distance."""
        return replace(self, hausdorff95=float("nan"), surface_distance=float("nan"))


def overlap(truth: np.ndarray, answer: np.ndarray, spacing: Sequence[float] | None = None) -> Overlap:
    """Compare two masks (*s) bool; `spacing` is mm in numpy axis order, None for pixels."""
    if truth.shape != answer.shape:
        raise ValueError(f"expected an answer of shape {truth.shape}, got {answer.shape}")
    hausdorff, mean = surface_distances(truth, answer, spacing)
    lesions, lesions_found = _touched(truth, answer)
    found, found_true = _touched(answer, truth)
    return Overlap(
        true=int(truth.sum()),
        found=int(answer.sum()),
        both=int((truth & answer).sum()),
        hausdorff95=hausdorff,
        surface_distance=mean,
        lesions=lesions,
        lesions_found=lesions_found,
        false_lesions=found - found_true,
    )


def dice(true: Counts, found: Counts, both: Counts) -> np.ndarray:
    """Return Dice coefficients of counts of pixels, 1 where truth and answer are both empty."""
    size = np.asarray(true, float) + found
    return np.where(size > 0, 2 * np.asarray(both, float) / np.maximum(size, 1), 1.0)


def iou(true: Counts, found: Counts, both: Counts) -> np.ndarray:
    """Return the Jaccard index of counts of pixels, 1 where truth and answer are both empty."""
    union = np.asarray(true, float) + found - both
    return np.where(union > 0, np.asarray(both, float) / np.maximum(union, 1), 1.0)


def surface_distances(
    truth: np.ndarray, answer: np.ndarray, spacing: Sequence[float] | None = None
) -> tuple[float, float]:
    """Return the 95 % Hausdorff distance and the mean surface distance, both symmetric; NaN where a mask is empty.

    The surface is made of the pixels of a mask that touch its outside by a face, the image's border included. The
    95 % distance is the larger of the two directed percentiles, as MONAI has it; the mean is over the pixels of
    both surfaces.
    """
    from scipy import ndimage

    if not truth.any() or not answer.any():
        return float("nan"), float("nan")
    box = ndimage.find_objects((truth | answer).astype(np.uint8))[0]
    window = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
    truth, answer = truth[window], answer[window]
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (truth, answer)]
    step = (1.0,) * truth.ndim if spacing is None else tuple(spacing)
    away = [ndimage.distance_transform_edt(~edge, sampling=step) for edge in edges]
    there, back = away[1][edges[0]], away[0][edges[1]]
    farthest = max(np.percentile(there, 95), np.percentile(back, 95))
    return float(farthest), float(np.concatenate([there, back]).mean())


def _touched(mask: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    """Return how many components of a mask there are, and how many of them share a pixel with another mask."""
    from scipy import ndimage

    numbered, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return count, len(set(np.unique(numbered[other]).tolist()) - {0})


def measures(rows: Sequence[Overlap], patients: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return every number (r,) by name of one label, of images (n) whose patient (n,) counts weights (r, u) times.

    `dice` and `iou` are means over patients whose pixels are pooled; those that end in `_image` are means over images.
    """
    true, found, both = (np.array([getattr(row, name) for row in rows], float) for name in ("true", "found", "both"))
    lesions, hits, false = (
        np.array([getattr(row, name) for row in rows], float) for name in ("lesions", "lesions_found", "false_lesions")
    )
    u = weights.shape[1]
    pooled = [np.bincount(patients, part, minlength=u) for part in (true, found, both)]
    there = np.bincount(patients, minlength=u) > 0
    by_image = weights[:, patients]
    hausdorff, surface = (
        np.array([getattr(row, name) for row in rows], float) for name in ("hausdorff95", "surface_distance")
    )
    return {
        "dice": _weighted(dice(*pooled), weights * there),
        "iou": _weighted(iou(*pooled), weights * there),
        "dice_image": _weighted(dice(true, found, both), by_image),
        "iou_image": _weighted(iou(true, found, both), by_image),
        "hausdorff95": _weighted(hausdorff, by_image),
        "surface_distance": _weighted(surface, by_image),
        "lesion_sensitivity": _ratio(by_image @ hits, by_image @ lesions),
        "false_lesions_per_image": _ratio(by_image @ false, by_image.sum(1)),
        "volume_error": _weighted(_ratio(np.abs(pooled[1] - pooled[0]), pooled[0]), weights * there),
    }


def _weighted(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return means (r,) of what is known of values (n,)."""
    known = np.isfinite(values)
    return _ratio(weights[:, known] @ values[known], weights[:, known].sum(1))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
