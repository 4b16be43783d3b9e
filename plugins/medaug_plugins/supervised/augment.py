"""Classical augmentation of whole images, and of their masks with them, in two and three dimensions.

Legend: b images, c channels, *s spatial axes in numpy order, d = len(s).
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medaug_plugins.supervised.settings import TrainingSettings


def augment(
    images: Tensor, masks: Tensor | None, chosen: np.ndarray, settings: TrainingSettings, rng: np.random.Generator
) -> tuple[Tensor, Tensor | None]:
    """Return images (b, c, *s) and masks (b, *s) with the chosen ones (b,) flipped, moved, turned, zoomed and toned.

    They turn in the plane of the last two axes. What comes in from outside is black, and belongs to no lesion.
    """
    b, d = len(images), images.ndim - 2
    shape = (b,) + (1,) * (images.ndim - 1)
    theta = torch.from_numpy(_back(b, d, chosen, settings, rng)).to(images.device)
    factor = 1 + rng.uniform(-settings.contrast, settings.contrast, b) * chosen
    offset = rng.uniform(-settings.brightness, settings.brightness, b) * chosen
    if not chosen.any():
        return images, masks
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False)
    tones = [torch.from_numpy(tone.astype(np.float32)).view(shape).to(images.device) for tone in (factor, offset)]
    toned = (moved * tones[0] + tones[1] * (moved > 0)).clamp(0, 1)
    if masks is None:
        return toned, None
    sampled = F.grid_sample(masks[:, None].float(), grid, mode="nearest", align_corners=False)
    return toned, sampled[:, 0].to(masks.dtype)


def _back(b: int, d: int, chosen: np.ndarray, settings: TrainingSettings, rng: np.random.Generator) -> np.ndarray:
    """Return the affine maps (b, d, d + 1) from a changed image to where its pixels come from, x first, in [-1, 1]."""
    scale = np.exp(rng.uniform(-1, 1, b) * np.log1p(settings.zoom))
    shift = rng.uniform(-2 * settings.shift, 2 * settings.shift, (b, d))
    angle = np.deg2rad(rng.uniform(-1, 1, b) * settings.rotate)
    flips = rng.random((b, 2)) < 0.5
    signs = np.ones((b, d))
    signs[:, 0] = np.where(flips[:, 0] & settings.flip, -1, 1)
    signs[:, 1] = np.where(flips[:, 1] & settings.flip_rows, -1, 1)
    turn = np.tile(np.eye(d), (b, 1, 1))
    turn[:, 0, 0], turn[:, 0, 1] = np.cos(angle), -np.sin(angle)
    turn[:, 1, 0], turn[:, 1, 1] = np.sin(angle), np.cos(angle)
    theta = np.concatenate([turn * (signs / scale[:, None])[:, None, :], shift[:, :, None]], 2)
    still = np.concatenate([np.eye(d), np.zeros((d, 1))], 1)
    return np.where(chosen[:, None, None], theta, still).astype(np.float32)
