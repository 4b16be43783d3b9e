"""Sample images at places along their axes, and resize features, in two and three dimensions.

Legend: b images, c channels or feature maps, *s spatial axes in numpy order, d of them.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LINEAR = {2: "bilinear", 3: "trilinear"}
SPREAD_SIDE = 16  # variety is compared at this side
AVERAGE: dict[int, Callable[..., Tensor]] = {2: F.avg_pool2d, 3: F.avg_pool3d}


def sampled(image: np.ndarray, places: Sequence[np.ndarray]) -> np.ndarray:
    """Return an image (c, *s) at every combination of places (d arrays, x first; -1 and 1 are its borders).

    Linear in between; borders are repeated.
    """
    grid = np.stack(np.meshgrid(*places[::-1], indexing="ij")[::-1], -1).astype(np.float32)
    pixels = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None]
    found = F.grid_sample(pixels, torch.from_numpy(grid)[None], padding_mode="border", align_corners=False)
    return np.asarray(found[0].numpy())


def double(x: Tensor) -> Tensor:
    """Double all sides (b, c, *s), linearly: a transposed convolution would draw checkerboards."""
    return F.interpolate(x, scale_factor=2, mode=LINEAR[x.ndim - 2], align_corners=False)


def averaged(x: Tensor, factor: int = 2) -> Tensor:
    """Divide all sides (b, c, *s) by a factor by averaging."""
    return AVERAGE[x.ndim - 2](x, factor)


def spread(images: Tensor) -> Tensor:
    """Return each coarse pixel's standard deviation over a batch (b, c, *s): (c, *s) with sides of at most 16."""
    factor = max(1, min(images.shape[2:]) // SPREAD_SIDE)
    return torch.sqrt(averaged(images.float(), factor).var(0) + 1e-6)
