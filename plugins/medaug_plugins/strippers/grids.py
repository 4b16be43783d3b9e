"""Volumes on the grid that a network was trained on, and masks back on the scanner's."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage


def resized(volume: np.ndarray, shape: Sequence[int], order: int = 1) -> np.ndarray:
    """Return a volume (*s) as `shape`: its outer faces stay where they are."""
    factors = [n / m for n, m in zip(shape, volume.shape, strict=True)]
    if all(abs(factor - 1) < 1e-6 for factor in factors):
        return volume
    return ndimage.zoom(volume, factors, order=order, grid_mode=True, mode="nearest")


def nearest(volume: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Return a volume (z, y, x) as `shape`, each voxel the nearest one's value."""
    return torch.nn.functional.interpolate(volume[None, None], tuple(shape), mode="nearest-exact")[0, 0]


def largest_part(mask: np.ndarray, fill: bool = False) -> np.ndarray:
    """Return the largest connected part of a mask, with `fill` without holes."""
    labels, count = ndimage.label(mask)
    if count > 1:
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        mask = labels == sizes.argmax()
    return ndimage.binary_fill_holes(mask) if fill else mask.astype(bool)
