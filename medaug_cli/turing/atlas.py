"""Images of a study side by side in large lossless pictures: alike in form, so that no file size or name tells a kind.

Legend: n images, c channels, *s spatial axes, d slices of a volume.
"""

import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medaug_cli.errors import BadInput

FLOOR = 4  # of 255: what is darker is black, so that a background of noise or of zeros tells nothing
SIDE = 1024  # pixels of a picture's side: decoded in a moment, and still many images together


@dataclass(frozen=True)
class Atlas:
    """Pictures in base64, and how cells lie in them: cell k of a picture in row k // per_row."""

    pictures: list[str]  # WebP
    per_row: int
    per_picture: int  # cells
    shape: tuple[int, ...]  # (h, w), or (d, h, w) of volumes, whose slices are d cells one after another


def alike(image: np.ndarray) -> np.ndarray:
    """Return an image (c, *s), of a store, as (*s) or (*s, 3) uint8, dark pixels black."""
    if image.dtype.kind == "f":
        image = np.rint(np.clip(image, 0, 1) * 255)
    elif image.dtype == np.uint16:
        image = np.rint(image / 257)
    values = np.asarray(image, np.uint8)
    values = np.where(values < FLOOR, 0, values).astype(np.uint8)
    return np.moveaxis(values, 0, -1) if len(values) == 3 else values[0]


def atlas(images: Sequence[np.ndarray]) -> Atlas:
    """Return an atlas of images (*s) or (*s, 3) uint8 of one shape; raise BadInput where they differ."""
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise BadInput(f"images of a study must have one size, these have {' and '.join(map(str, sorted(shapes)))}")
    colour = images[0].shape[-1] == 3 and images[0].ndim in (3, 4) and images[0].shape[-2] != 3
    spatial = images[0].shape[:-1] if colour else images[0].shape
    height, width = spatial[-2:]
    cells = [image.reshape(-1, height, width, *((3,) if colour else ())) for image in images]
    flat = np.concatenate(cells)
    per_row, rows = max(1, SIDE // width), max(1, SIDE // height)
    pictures = [
        _encoded(flat[start : start + per_row * rows], per_row) for start in range(0, len(flat), per_row * rows)
    ]
    return Atlas(pictures, per_row, per_row * rows, tuple(spatial))


def _encoded(cells: np.ndarray, per_row: int) -> str:
    from PIL import Image

    height, width = cells.shape[1:3]
    rows = -(-len(cells) // per_row)
    sheet = np.zeros((rows * height, min(per_row, len(cells)) * width, *cells.shape[3:]), np.uint8)
    for k, cell in enumerate(cells):
        y, x = k // per_row * height, k % per_row * width
        sheet[y : y + height, x : x + width] = cell
    target = io.BytesIO()
    Image.fromarray(sheet).convert("RGB").save(target, format="WEBP", lossless=True, quality=60, method=5)
    return b64encode(target.getvalue()).decode()
