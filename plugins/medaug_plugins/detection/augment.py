"""Classical augmentation: images and their boxes moved together."""

from collections.abc import Callable, Sequence
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
    flip_rows: bool = False
    rotate: float = 0.0  # degrees


Marked = tuple[Tensor, list[np.ndarray], list[np.ndarray]]  # images (b, c, h, w), their boxes and labels


def changed(
    batch: Marked, amounts: Amounts, rng: np.random.Generator, more: Callable[[np.random.Generator, int], Marked]
) -> Marked:
    """Return a batch as a training step sees it; `more` draws the images that mosaics are made of."""
    images, boxes, labels = batch
    for i in np.flatnonzero(rng.random(len(boxes)) < amounts.mosaic):
        images[i], boxes[i], labels[i] = tiled(*more(rng, 4))
    return augment(images, boxes, labels, amounts, rng)


def shown(
    images: np.ndarray, boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray], amounts: Amounts, seed: int
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Return images (b, c, h, w) in [0, 1], their boxes and labels as a training step might see them."""
    whole = torch.from_numpy(np.ascontiguousarray(images, np.float32))

    def more(rng: np.random.Generator, count: int) -> Marked:
        drawn = rng.choice(len(whole), count)
        return whole[drawn], [boxes[i] for i in drawn], [labels[i] for i in drawn]

    found = changed((whole.clone(), list(boxes), list(labels)), amounts, np.random.default_rng(seed), more)
    return found[0].numpy(), found[1], found[2]


def augment(
    images: Tensor,
    boxes: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    amounts: Amounts,
    rng: np.random.Generator,
) -> Marked:
    """Return images (b, c, h, w) in [0, 1] flipped, moved, turned, zoomed and toned, with the boxes left in them.

    A turned box is that of the ellipse in it, turned: lesions have no corners.
    """
    b, _, height, width = images.shape
    flips = (rng.random(b) < 0.5) & amounts.flip
    zoom = np.exp(rng.uniform(-1, 1, b) * np.log1p(amounts.zoom))
    shift = rng.uniform(-amounts.shift, amounts.shift, (b, 2)) * (width, height)
    tones = 1 + rng.uniform(-amounts.contrast, amounts.contrast, b), rng.uniform(-1, 1, b) * amounts.brightness
    flips_rows = (rng.random(b) < 0.5) & amounts.flip_rows
    angle = np.deg2rad(rng.uniform(-1, 1, b) * amounts.rotate)
    # A pixel p of the image comes to lie at matrix @ (p - centre) + centre + shift
    sides = np.stack([np.where(flips, -zoom, zoom), np.where(flips_rows, -zoom, zoom)], 1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    matrix, centre = turn * sides[:, None, :], np.array([width, height]) / 2  # (b, 2, 2)
    back = np.linalg.inv(matrix) * centre / centre[:, None]  # in shares of half a side
    theta = np.concatenate([back, -back @ (shift / centre)[:, :, None]], 2).astype(np.float32)
    grid = F.affine_grid(torch.from_numpy(theta).to(images.device), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False)
    factor, offset = (torch.from_numpy(t.astype(np.float32)).view(-1, 1, 1, 1).to(images.device) for t in tones)
    moved = (moved * factor + offset * (moved > 0)).clamp(0, 1)
    size = np.array([width, height], np.float64)
    kept = [_carry(boxes[i], matrix[i], centre, shift[i], size) for i in range(b)]
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
    boxes: np.ndarray, matrix: np.ndarray, centre: np.ndarray, shift: np.ndarray, size: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    corners = boxes.reshape(-1, 2, 2).astype(np.float64)  # (m, 2 corners, 2)
    middle = (corners.mean(1) - centre) @ matrix.T + centre + shift
    half = np.sqrt(((corners[:, 1] - corners[:, 0]) / 2) ** 2 @ (matrix**2).T)
    low, high = middle - half, middle + half
    inside_low, inside_high = np.clip(low, 0, size), np.clip(high, 0, size)
    sides = inside_high - inside_low
    chosen = (sides.min(1, initial=np.inf) >= LEAST_SIDE) & (sides.prod(1) >= LEAST_SHARE * (high - low).prod(1))
    return np.concatenate([inside_low, inside_high], 1)[chosen].astype(np.float32), chosen
