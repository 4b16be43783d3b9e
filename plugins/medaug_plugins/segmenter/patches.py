"""Patches of images that are too large for a network: cut to train on, and answered one by one to be put together.

Legend: c channels, k labels, *s spatial axes of an image, *p those of a patch, which is no larger than the image.
"""

import itertools
import math

import numpy as np
import torch
from torch import Tensor, nn

ON_LESION = 0.5  # share of the patches that are cut around a lesion's pixel; else most would show none
AT_ONCE = 8  # flat patches that are answered together; of volumes one, as a step of training may have no more


def cut(image: np.ndarray, labels: np.ndarray, side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a patch (c, *p) of an image (c, *s) and of its labels (*s): at random, or around a pixel of a lesion."""
    sides = [min(side, length) for length in labels.shape]
    room = [length - own for length, own in zip(labels.shape, sides, strict=True)]
    marked = np.flatnonzero(labels) if rng.random() < ON_LESION else np.zeros(0, np.int64)
    if len(marked):
        middle = np.unravel_index(marked[rng.integers(len(marked))], labels.shape)
        low = [int(np.clip(m - own // 2, 0, left)) for m, own, left in zip(middle, sides, room, strict=True)]
    else:
        low = [int(rng.integers(left + 1)) for left in room]
    where = tuple(slice(start, start + own) for start, own in zip(low, sides, strict=True))
    return image[(slice(None), *where)], labels[where]


def starts(length: int, side: int) -> list[int]:
    """Return where patches start along an axis: they cover it evenly, and overlap by half or more."""
    steps = math.ceil((length - side) / max(1, side // 2))
    return [round(step * (length - side) / max(1, steps)) for step in range(steps + 1)]


def tent(side: int) -> Tensor:
    """Return weights (side,) that fall from the middle of a patch to its ends, where it sees least around itself."""
    at = torch.arange(side) + 0.5
    return torch.minimum(at, side - at) / (side / 2)


def put_together(image: Tensor, side: int, network: nn.Module) -> Tensor:
    """Return what a network says of each pixel, (k, *s), of an image (c, *s): the weighted mean of its patches'."""
    spatial = image.shape[1:]
    sides = [min(side, length) for length in spatial]
    along = [starts(length, own) for length, own in zip(spatial, sides, strict=True)]
    windows = [
        (slice(None), *(slice(start, start + own) for start, own in zip(low, sides, strict=True)))
        for low in itertools.product(*along)
    ]
    weight = _outer([tent(own) for own in sides]).to(image.device)
    total: Tensor | None = None
    left = iter(windows)
    while group := list(itertools.islice(left, AT_ONCE if image.ndim == 3 else 1)):
        with torch.no_grad():
            found = network(torch.stack([image[window] for window in group]))
        if total is None:
            total = found.new_zeros(found.shape[1], *spatial)
        for window, one in zip(group, found, strict=True):
            total[window] += one * weight
    assert total is not None
    for axis, (low, own) in enumerate(zip(along, sides, strict=True)):  # the weights' sum is a product over the axes
        summed = torch.zeros(spatial[axis])
        for start in low:
            summed[start : start + own] += tent(own)
        total /= summed.to(total).reshape(-1, *[1] * (len(spatial) - 1 - axis))
    return total


def _outer(weights: list[Tensor]) -> Tensor:
    """Return the product (*p) of weights along each axis."""
    product = torch.ones(())
    for weight in weights:
        product = product[..., None] * weight
    return product
