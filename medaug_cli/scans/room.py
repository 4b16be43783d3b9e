"""Where in an image the body is, on a coarse grid: a whole volume costs a fraction of its memory.

Legend: c channels, *s spatial axes in numpy order, d of them, k cells of the grid along an axis.
"""

from dataclasses import dataclass

import numpy as np

from medaug_cli.blending import DARK

CELLS = 64  # most along an axis


@dataclass(frozen=True)
class Body:
    """What of an image is body, by cells of `step` pixels."""

    cells: np.ndarray  # (k, ...) bool
    step: np.ndarray  # (d,)

    def centres(self, chosen: np.ndarray) -> np.ndarray:
        """Return the middles (n, d), in pixels in numpy axis order, of the body's cells that are chosen (k, ...)."""
        return (np.argwhere(self.cells & chosen) + 0.5) * self.step


def body(image: np.ndarray, mask: np.ndarray | None = None, scale: float = 1.0) -> Body:
    """Return the body in an image (c, *s) from 0 to 1: what is not dark, holes filled; or a mask (*s) where one is.

    `scale` makes the image's values such, where they are not.
    """
    from scipy.ndimage import binary_fill_holes

    spatial = image.shape[1:]
    step = np.array([-(-side // CELLS) for side in spatial])
    middles = tuple(slice(int(s) // 2, None, int(s)) for s in step)
    cells = image[:, *middles].mean(0) * scale > DARK if mask is None else mask[middles] > 0
    return Body(np.asarray(binary_fill_holes(cells)), step.astype(np.float64))


def share_in(rough: Body, sides: np.ndarray) -> np.ndarray:
    """Return the share (k, ...) of a box of `sides` (d,) pixels around each cell that is body."""
    from scipy.ndimage import uniform_filter

    width = np.maximum(1, np.rint(np.asarray(sides) / rough.step)).astype(int)
    return np.asarray(uniform_filter(rough.cells.astype(np.float32), width.tolist(), mode="constant"))
