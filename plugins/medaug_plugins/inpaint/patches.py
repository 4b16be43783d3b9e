"""Squares around boxes, cut out of slices at one size and put back.

Legend: b patches, c image channels, p pixels of a patch's side, h and w those of a slice. Boxes are half-open pixel
corners (x_min, y_min, x_max, y_max). Pixels lie in [0, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medaug_cli.plugin import box_map
from medaug_plugins.hosts import faded
from medaug_plugins.layers import ellipses

AROUND = 2.0  # sides of a square, of its box's longer one
LEAST = 16.0  # pixels of a square's side


@dataclass(frozen=True)
class Square:
    """A square of a slice by its centre and side in pixels, mirrored left to right where a lesion is."""

    x: float
    y: float
    side: float
    mirrored: bool = False

    def inside(self, boxes: np.ndarray, pixels: int) -> np.ndarray:
        """Return boxes (m, 4) in the pixels of the patch."""
        corner = np.array([self.x, self.y] * 2, np.float32) - self.side / 2
        moved = (np.asarray(boxes, np.float32) - corner) * (pixels / self.side)
        if self.mirrored:
            moved[:, [0, 2]] = pixels - moved[:, [2, 0]]
        return moved


def square_around(box: np.ndarray, rng: np.random.Generator | None = None) -> Square:
    """Return the square around a box, with `rng` shifted, resized and mirrored a little."""
    x, y = (float(v) for v in (box[:2] + box[2:]) / 2)
    side = max(AROUND * float((box[2:] - box[:2]).max()), LEAST)
    if rng is None:
        return Square(x, y, side)
    x, y = x + side * rng.uniform(-0.06, 0.06), y + side * rng.uniform(-0.06, 0.06)
    return Square(x, y, side * float(np.exp(rng.uniform(-0.1, 0.15))), bool(rng.random() < 0.5))


def cut(images: Sequence[np.ndarray], squares: Sequence[Square], pixels: int) -> Tensor:
    """Cut a square out of each image (c, h, w): (b, c, p, p), the border prolonged; no detail is skipped."""
    patches = []
    for image, square in zip(images, squares, strict=True):
        height, width = image.shape[-2:]
        fine = pixels * max(1, round(square.side / pixels))
        at = (np.arange(fine, dtype=np.float32) + 0.5) / fine - 0.5
        x = square.x + (-at if square.mirrored else at) * square.side
        y = square.y + at * square.side
        grid = np.stack(np.meshgrid(x * 2 / width - 1, y * 2 / height - 1), -1).astype(np.float32)
        whole = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None]
        patch = F.grid_sample(whole, torch.from_numpy(grid)[None], padding_mode="border", align_corners=False)
        patches.append(F.avg_pool2d(patch, fine // pixels) if fine > pixels else patch)
    return torch.cat(patches)


@dataclass(frozen=True)
class Told:
    """What the networks are told of a lesion besides its box."""

    outline: np.ndarray | None = None  # (h, w), where masks are told; an ellipse stands for one that is not known
    image_class: int = -1


def told_maps(
    boxes: Sequence[np.ndarray],
    squares: Sequence[Square],
    told: Sequence[Told],
    pixels: int,
    by_mask: bool,
    classes: int,
) -> Tensor:
    """Return, for a box (4,) of each slice, what is told of it in its patch: (b, 2 + classes, p, p).

    That is how much of what is painted shows, the map of the box or `by_mask` of the lesion, and planes of classes.
    """
    drawn = []
    for box, square, one in zip(boxes, squares, told, strict=True):
        inside = square.inside(box[None], pixels)
        lesion = _outlined(inside, square, one, pixels) if by_mask else box_map(inside, (pixels, pixels))
        planes = np.zeros((classes, pixels, pixels), np.float32)
        if 0 <= one.image_class < classes:
            planes[one.image_class] = 1
        drawn.append(np.stack([faded(inside[0], pixels, pixels), lesion, *planes]))
    return torch.from_numpy(np.stack(drawn))


def _outlined(inside: np.ndarray, square: Square, told: Told, pixels: int) -> np.ndarray:
    if told.outline is None:
        return ellipses(inside, (pixels, pixels))
    return cut([(told.outline > 0).astype(np.float32)[None]], [square], pixels)[0, 0].numpy()


def put_back(image: np.ndarray, patch: np.ndarray, square: Square, box: np.ndarray) -> np.ndarray:
    """Return an image (c, h, w) with a patch (c, p, p) faded in around a box; untouched beyond its margin."""
    height, width = image.shape[-2:]
    share = faded(box, height, width)
    rows, columns = np.flatnonzero(share.any(1)), np.flatnonzero(share.any(0))
    if not len(rows):
        return image
    inner = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    x = (np.arange(columns[0], columns[-1] + 1, dtype=np.float32) + 0.5 - square.x) * 2 / square.side
    y = (np.arange(rows[0], rows[-1] + 1, dtype=np.float32) + 0.5 - square.y) * 2 / square.side
    grid = torch.from_numpy(np.stack(np.meshgrid(x, y), -1).astype(np.float32))[None]
    painted = torch.from_numpy(np.ascontiguousarray(patch))[None]
    shrink = patch.shape[-1] / square.side
    if shrink > 1.5:  # a patch finer than the slice is smoothed before it is sampled
        painted = F.avg_pool2d(painted, round(shrink))
    paint = F.grid_sample(painted, grid, padding_mode="border", align_corners=False)[0].numpy()
    whole = image.copy()
    seen = share[inner]
    whole[:, *inner] = np.where(seen > 0, whole[:, *inner] * (1 - seen) + paint * seen, whole[:, *inner])
    return whole
