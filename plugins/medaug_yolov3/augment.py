"""Classical augmentation: images and their boxes moved together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_SHARE = 0.3  # of a box's area that must stay in the frame
LEAST_SIDE = 1.0  # pixels


@dataclass(frozen=True)
class Amounts:
    """How far images are changed; 0 leaves them alone."""

    flip: bool = True
    shift: float = 0.1  # share of a side
    zoom: float = 0.2
    contrast: float = 0.2
    brightness: float = 0.1
    mosaic: float = 0.0  # share of the images that become a mosaic of four


def augment(
    images: Tensor,
    boxes: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    amounts: Amounts,
    rng: np.random.Generator,
) -> tuple[Tensor, list[np.ndarray], list[np.ndarray]]:
    """Return images (b, c, h, w) in [0, 1] flipped, moved, zoomed and toned, with the boxes that are left in them."""
    b, _, height, width = images.shape
    flips = (rng.random(b) < 0.5) & amounts.flip
    zoom = np.exp(rng.uniform(-1, 1, b) * np.log1p(amounts.zoom))
    shift = rng.uniform(-amounts.shift, amounts.shift, (b, 2)) * (width, height)
    sign = np.where(flips, -1.0, 1.0)
    # A pixel p of the image comes to lie at scale * (p - centre) + centre + shift
    scale, centre = np.stack([sign * zoom, zoom], 1), np.array([width, height]) / 2
    theta = np.zeros((b, 2, 3), np.float32)
    theta[:, [0, 1], [0, 1]] = 1 / scale
    theta[:, :, 2] = -(shift / centre) / scale
    grid = F.affine_grid(torch.from_numpy(theta).to(images.device), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False)
    tones = 1 + rng.uniform(-amounts.contrast, amounts.contrast, b), rng.uniform(-1, 1, b) * amounts.brightness
    factor, offset = (torch.from_numpy(t.astype(np.float32)).view(-1, 1, 1, 1).to(images.device) for t in tones)
    moved = (moved * factor + offset * (moved > 0)).clamp(0, 1)
    kept = [_carry(boxes[i], scale[i], centre, shift[i], np.array([width, height], np.float64)) for i in range(b)]
    return moved, [box for box, _ in kept], [labels[i][chosen] for i, (_, chosen) in enumerate(kept)]


def tiled(
    images: Tensor, boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray]
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Return one image (c, h, w) of four (4, c, h, w) at half their size, two by two, with all their boxes."""
    _, c, height, width = images.shape
    half = F.interpolate(images, size=(height // 2, width // 2), mode="area")
    whole = images.new_zeros(c, height, width)
    moved = []
    for i in range(4):
        top, left = (i // 2) * (height // 2), (i % 2) * (width // 2)
        whole[:, top : top + height // 2, left : left + width // 2] = half[i]
        moved.append(boxes[i].reshape(-1, 4) / 2 + np.array([left, top, left, top], np.float32))
    return whole, np.concatenate(moved).astype(np.float32), np.concatenate(labels)


def _carry(
    boxes: np.ndarray, scale: np.ndarray, centre: np.ndarray, shift: np.ndarray, size: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    corners = (boxes.reshape(-1, 2, 2).astype(np.float64) - centre) * scale + centre + shift  # (m, 2 corners, 2)
    low, high = corners.min(1), corners.max(1)
    inside_low, inside_high = np.clip(low, 0, size), np.clip(high, 0, size)
    sides = inside_high - inside_low
    chosen = (sides.min(1, initial=np.inf) >= LEAST_SIDE) & (sides.prod(1) >= LEAST_SHARE * (high - low).prod(1))
    return np.concatenate([inside_low, inside_high], 1)[chosen].astype(np.float32), chosen
