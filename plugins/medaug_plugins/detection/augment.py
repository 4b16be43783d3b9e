"""Classical augmentation: images and their boxes moved together."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medaug_plugins.supervised.settings import TrainingSettings

LEAST_SHARE = 0.3  # of a box's area that must stay in the frame
LEAST_SIDE = 1.0  # pixels


AnnotatedBatch = tuple[Tensor, list[np.ndarray], list[np.ndarray]]  # images (b, c, h, w), their boxes and labels
Read = Callable[[np.random.Generator, int], AnnotatedBatch]  # draws so many images


def augmented_batch(
    batch: AnnotatedBatch, settings: TrainingSettings, rng: np.random.Generator, *, read: Read, mosaic: float
) -> AnnotatedBatch:
    """Return a batch as a training step sees it; `read` draws what the share `mosaic` of the images is made of."""
    images, boxes, labels = batch
    for i in np.flatnonzero(rng.random(len(boxes)) < mosaic):
        images[i], boxes[i], labels[i] = tiled(*read(rng, 4))
    return augment(batch, settings, rng)


def preview(
    images: np.ndarray,
    boxes: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    *,
    settings: TrainingSettings,
    seed: int,
    mosaic: float = 0.0,
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Return images (b, c, h, w) in [0, 1], their boxes and labels as a training step might see them."""
    whole = torch.from_numpy(np.ascontiguousarray(images, np.float32))

    def read(rng: np.random.Generator, count: int) -> AnnotatedBatch:
        drawn = rng.choice(len(whole), count)
        return whole[drawn], [boxes[i] for i in drawn], [labels[i] for i in drawn]

    batch = whole.clone(), list(boxes), list(labels)
    changed, *rest = augmented_batch(batch, settings, np.random.default_rng(seed), read=read, mosaic=mosaic)
    return changed.numpy(), rest[0], rest[1]


def augment(batch: AnnotatedBatch, settings: TrainingSettings, rng: np.random.Generator) -> AnnotatedBatch:
    """Return images (b, c, h, w) in [0, 1] flipped, moved, turned, zoomed and toned, with the boxes left in them.

    A turned box is that of the ellipse in it, turned: lesions have no corners.
    """
    images, boxes, labels = batch
    b, _, height, width = images.shape
    flips = (rng.random(b) < 0.5) & settings.flip
    zoom = np.exp(rng.uniform(-1, 1, b) * np.log1p(settings.zoom))
    shift = rng.uniform(-settings.shift, settings.shift, (b, 2)) * (width, height)
    tones = 1 + rng.uniform(-settings.contrast, settings.contrast, b), rng.uniform(-1, 1, b) * settings.brightness
    flips_rows = (rng.random(b) < 0.5) & settings.flip_rows
    angle = np.deg2rad(rng.uniform(-1, 1, b) * settings.rotate)
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
