"""Grids of images with their boxes drawn."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medaug_cli.figures.planes import flattened
from medaug_cli.files import new_file

BOX_COLOUR = (255, 196, 0)


def as_picture(image: np.ndarray) -> np.ndarray:
    """Turn an image (c, *s), float in [0, 1] or integer, into (h, w, 3) uint8; 3D shows its middle slice."""
    if image.dtype.kind == "f":
        image = np.rint(np.clip(image, 0, 1) * 255)
    elif image.dtype == np.uint16:
        image = image // 257
    if image.ndim == 4:
        image = image[:, image.shape[1] // 2]
    picture = np.moveaxis(image.astype(np.uint8), 0, -1)  # (h, w, c)
    return np.ascontiguousarray(np.broadcast_to(picture[..., :3], (*picture.shape[:2], 3)))


def flat_boxes(boxes: np.ndarray) -> np.ndarray:
    """Return the x and y corners of boxes of any dimension, (m, 4)."""
    boxes = np.asarray(boxes, np.float32)
    return boxes[:, [0, 1, 3, 4]] if boxes.shape[1] == 6 else boxes.reshape(-1, 4)


def draw_grid(images: Sequence[np.ndarray], boxes: Sequence[np.ndarray], columns: int | None = None, cell: int = 128):
    """Return a PIL picture of images (c, *s) side by side, each `cell` pixels wide, boxes drawn as outlines.

    Of a volume it shows the three planes through the middle, and the boxes that they meet.
    """
    from PIL import Image, ImageDraw

    columns = columns or max(1, int(np.ceil(np.sqrt(len(images)))))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (cell + 2) + 2, rows * (cell + 2) + 2), (40, 40, 40))
    pen = ImageDraw.Draw(sheet)
    for place, (image, image_boxes) in enumerate(zip(images, boxes, strict=True)):
        x, y = 2 + (place % columns) * (cell + 2), 2 + (place // columns) * (cell + 2)
        image, image_boxes = flattened(image, image_boxes)
        picture = as_picture(image)
        height, width = picture.shape[:2]
        factor = cell / max(height, width)
        size = max(1, round(width * factor)), max(1, round(height * factor))
        sheet.paste(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC), (x, y))
        for x_min, y_min, x_max, y_max in image_boxes * factor:
            pen.rectangle(
                (x + x_min, y + y_min, x + max(x_max - 1, x_min), y + max(y_max - 1, y_min)), outline=BOX_COLOUR
            )
    return sheet


def save_grid(
    path: Path, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray], columns: int | None = None, cell: int = 128
) -> None:
    """Publish a grid as PNG."""
    with new_file(path) as temporary:
        # training waits for every grid: a third of the time of level 6 for a file that is a twentieth larger
        draw_grid(images, boxes, columns, cell).save(temporary, format="PNG", compress_level=3)
