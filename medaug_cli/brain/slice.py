"""One slice of a head on a grid of 1 mm, with what the two methods of `brain2d` share."""

from dataclasses import dataclass

import numpy as np

from medaug_cli.brain.head import head_depth
from medaug_cli.plugin import Plane


@dataclass(frozen=True)
class Slice:
    """A head in a slice (y, x): grey values with the brain's typical one at 1, and where it lies."""

    grey: np.ndarray
    head: np.ndarray
    depth: np.ndarray  # mm to the head's surface
    contrast: float  # the 20th percentile of tissue, as a share of the typical value
    top: int  # the head's first row
    neck: bool  # the head leaves the picture below: a coronal or sagittal slice

    @property
    def rows(self) -> np.ndarray:
        """Return every row's number, (y, 1)."""
        return np.arange(self.grey.shape[0])[:, None]

    @classmethod
    def of(cls, grey: np.ndarray, head: np.ndarray, plane: Plane | None = None) -> "Slice | None":
        """Return the slice of an image from 0 to 1 and its head mask; None where there is no head, or a hollow one.

        An axial slice has no neck; of one whose plane is not known the head's outline decides.
        """
        from scipy import ndimage

        if head.mean() < 0.02:
            return None
        depth = head_depth(head, (1, 1))
        smooth = ndimage.gaussian_filter(grey, 0.7)
        deep = smooth[depth > min(22, 0.35 * depth.max())]
        if deep.size < 100 or not deep.any():
            return None
        deep = deep[deep > 0.6 * np.median(deep)]
        typical = 0.5 * (_mode(deep) + float(np.median(deep)))
        tissue = deep[deep > 0.45 * typical] / typical
        contrast = float(np.clip(np.percentile(tissue, 20), 0.55, 0.95))
        top = int(np.flatnonzero(head.any(1))[0])
        return cls(smooth / typical, head, depth, contrast, top, plane != "axial" and _has_neck(head))


def _mode(values: np.ndarray) -> float:
    from scipy import ndimage

    counts, edges = np.histogram(values, 64)
    peak = int(ndimage.gaussian_filter1d(counts.astype(float), 1.5).argmax())
    return float(edges[peak] + edges[peak + 1]) / 2


def _has_neck(head: np.ndarray) -> bool:
    width = head.sum(1)
    row = max(len(width) - 5, 0)
    return bool(width[row] > 30 and width[row] > 0.8 * width[max(row - 22, 0)])
