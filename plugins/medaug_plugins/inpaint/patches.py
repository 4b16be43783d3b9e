"""Squares and cubes around boxes, cut out of images at one size and put back.

Legend: b patches, c image channels, p pixels of a patch's side, *s spatial axes of an image in numpy order, d of them.
Boxes are half-open pixel corners (2*d,), x first. Pixels lie in [0, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medaug_cli.plugin import box_map, faded
from medaug_plugins.layers import averaged, ellipses, sampled

AROUND = 2.0  # side of a square, as a multiple of its box's longer side
LEAST = 16.0  # pixels of a square's side, at least


@dataclass(frozen=True)
class Square:
    """A square or cube of an image by its centre (x first) and side in pixels, mirrored left to right if asked."""

    centre: tuple[float, ...]
    side: float
    mirrored: bool = False

    def inside(self, boxes: np.ndarray, pixels: int) -> np.ndarray:
        """Return boxes (m, 2*d) in the pixels of the patch."""
        corner = np.array([*self.centre] * 2, np.float32) - self.side / 2
        moved = (np.asarray(boxes, np.float32) - corner) * (pixels / self.side)
        if self.mirrored:
            ends = [0, len(self.centre)]
            moved[:, ends] = pixels - moved[:, ends[::-1]]
        return moved


def square_around(box: np.ndarray, rng: np.random.Generator | None = None) -> Square:
    """Return the square or cube around a box, with `rng` shifted, resized and mirrored a little."""
    d = len(box) // 2
    centre = tuple(float(v) for v in (box[:d] + box[d:]) / 2)
    side = max(AROUND * float((box[d:] - box[:d]).max()), LEAST)
    if rng is None:
        return Square(centre, side)
    centre = tuple(middle + side * rng.uniform(-0.06, 0.06) for middle in centre)
    return Square(centre, side * float(np.exp(rng.uniform(-0.1, 0.15))), bool(rng.random() < 0.5))


def cut(images: Sequence[np.ndarray], squares: Sequence[Square], pixels: int) -> Tensor:
    """Cut a square out of each image (c, *s): (b, c, p, ...), the border repeated; no detail is skipped."""
    patches = []
    for image, square in zip(images, squares, strict=True):
        fine = pixels * max(1, round(square.side / pixels))
        at = (np.arange(fine, dtype=np.float32) + 0.5) / fine - 0.5
        places = []
        for axis, (middle, length) in enumerate(zip(square.centre, image.shape[:0:-1], strict=True)):
            along = -at if square.mirrored and axis == 0 else at
            places.append((middle + along * square.side) * 2 / length - 1)
        patch = torch.from_numpy(sampled(image, places))[None]
        patches.append(averaged(patch, fine // pixels) if fine > pixels else patch)
    return torch.cat(patches)


@dataclass(frozen=True)
class Told:
    """What the networks are told of a lesion besides its box."""

    outline: np.ndarray | None = None  # (*s), where masks are told; an ellipse stands for one that is not known
    image_class: int = -1


def told_maps(
    boxes: Sequence[np.ndarray],
    squares: Sequence[Square],
    told: Sequence[Told],
    pixels: int,
    by_mask: bool,
    classes: int,
) -> Tensor:
    """Return, for a box (2*d,) of each image, what is told of it in its patch: (b, 2 + classes, p, ...).

    That is how much of what is painted shows, the map of the box or `by_mask` of the lesion, and planes of classes.
    """
    drawn, spatial = [], (pixels,) * (len(boxes[0]) // 2)
    for box, square, one in zip(boxes, squares, told, strict=True):
        inside = square.inside(box[None], pixels)
        lesion = _outlined(inside, square, one, pixels) if by_mask else box_map(inside, spatial)
        planes = np.zeros((classes, *spatial), np.float32)
        if 0 <= one.image_class < classes:
            planes[one.image_class] = 1
        drawn.append(np.stack([faded(inside[0], spatial), lesion, *planes]))
    return torch.from_numpy(np.stack(drawn))


def _outlined(inside: np.ndarray, square: Square, told: Told, pixels: int) -> np.ndarray:
    if told.outline is None:
        return ellipses(inside, (pixels,) * len(square.centre))
    return cut([(told.outline > 0).astype(np.float32)[None]], [square], pixels)[0, 0].numpy()


def put_back(image: np.ndarray, patch: np.ndarray, square: Square, box: np.ndarray) -> np.ndarray:
    """Return an image (c, *s) with a patch (c, p, ...) faded in around a box; untouched beyond its margin."""
    share = faded(box, image.shape[1:])
    axes = range(share.ndim)
    seen_at = [np.flatnonzero(share.any(tuple(other for other in axes if other != axis))) for axis in axes]
    if not all(len(places) for places in seen_at):
        return image
    inner = tuple(slice(int(places[0]), int(places[-1]) + 1) for places in seen_at)
    places = [
        (np.arange(span.start, span.stop, dtype=np.float32) + 0.5 - middle) * 2 / square.side
        for span, middle in zip(inner[::-1], square.centre, strict=True)
    ]
    shrink = patch.shape[-1] / square.side
    if shrink > 1.5:  # a patch finer than the image is smoothed before it is sampled
        side, factor = patch.shape[-1], round(shrink)
        patch = averaged(torch.from_numpy(np.ascontiguousarray(patch))[None], factor)[0].numpy()
        covered = patch.shape[-1] * factor / side  # what does not fill a pixel at the far end is left out
        places = [(at + 1) / covered - 1 for at in places]
    paint = sampled(patch, places)
    whole = image.copy()
    seen = share[inner]
    whole[:, *inner] = np.where(seen > 0, whole[:, *inner] * (1 - seen) + paint * seen, whole[:, *inner])
    return whole
