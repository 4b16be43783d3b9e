"""Grids of images with their boxes drawn."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medaug_cli.figures.planes import flattened
from medaug_cli.files import new_file

BOX_COLOUR, CAPTION_COLOUR = (255, 196, 0), (235, 235, 235)
MASK_COLOURS = ((0, 214, 143), (86, 180, 233), (255, 92, 72), (204, 121, 167))  # of the values 1, 2, ...


def as_picture(image: np.ndarray) -> np.ndarray:
    """Turn an image (c, *s), float in [0, 1] or integer, into (h, w, 3) uint8; 3D shows its middle slice.

    Three channels are colours; of any other number the first is shown.
    """
    if image.dtype.kind == "f":
        image = np.rint(np.clip(image, 0, 1) * 255)
    elif image.dtype == np.uint16:
        image = image // 257
    if image.ndim == 4:
        image = image[:, image.shape[1] // 2]
    shown = image if len(image) == 3 else image[:1]
    picture = np.moveaxis(shown.astype(np.uint8), 0, -1)  # (h, w, 1 or 3)
    return np.ascontiguousarray(np.broadcast_to(picture, (*picture.shape[:2], 3)))


def flat_boxes(boxes: np.ndarray) -> np.ndarray:
    """Return the x and y corners of boxes of any dimension, (m, 4)."""
    boxes = np.asarray(boxes, np.float32)
    return boxes[:, [0, 1, 3, 4]] if boxes.shape[1] == 6 else boxes.reshape(-1, 4)


def draw_grid(
    images: Sequence[np.ndarray],
    boxes: Sequence[np.ndarray],
    columns: int | None = None,
    cell: int = 128,
    masks: Sequence[np.ndarray | None] | None = None,
    captions: Sequence[str] | None = None,
):
    """Return a PIL picture of images (c, *s) side by side, each `cell` pixels wide, boxes drawn as outlines.

    Masks (*s) are outlined too, each value in a colour of its own; captions stand in the corner. Of a volume it shows
    the three planes through its last lesion, and the boxes that they meet.
    """
    from PIL import Image, ImageDraw

    columns = columns or max(1, int(np.ceil(np.sqrt(len(images)))))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (cell + 2) + 2, rows * (cell + 2) + 2), (40, 40, 40))
    pen = ImageDraw.Draw(sheet)
    for place, (image, image_boxes) in enumerate(zip(images, boxes, strict=True)):
        x, y = 2 + (place % columns) * (cell + 2), 2 + (place // columns) * (cell + 2)
        own = None if masks is None else masks[place]
        mask = None if own is None else flattened(own[None], image_boxes)[0][0]
        image, image_boxes = flattened(image, image_boxes)
        picture = as_picture(image)
        height, width = picture.shape[:2]
        factor = cell / max(height, width)
        size = max(1, round(width * factor)), max(1, round(height * factor))
        shown = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
        sheet.paste(Image.fromarray(shown if mask is None else outlined(shown, mask)), (x, y))
        for x_min, y_min, x_max, y_max in image_boxes * factor:
            pen.rectangle(
                (x + x_min, y + y_min, x + max(x_max - 1, x_min), y + max(y_max - 1, y_min)), outline=BOX_COLOUR
            )
        if captions is not None:
            pen.text((x + 3, y + 2), captions[place], fill=CAPTION_COLOUR)
    return sheet


def outlined(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return a picture (h, w, 3) with the outline of each value of a mask (*s), enlarged to its size, drawn on it."""
    height, width = picture.shape[:2]
    rows, columns = (np.arange(n) * old // n for n, old in zip((height, width), mask.shape, strict=True))
    large = np.pad(mask[rows][:, columns], 1)
    inner = large[1:-1, 1:-1]
    edge = (inner > 0) & ((inner != large[:-2, 1:-1]) | (inner != large[2:, 1:-1]))
    edge |= (inner > 0) & ((inner != large[1:-1, :-2]) | (inner != large[1:-1, 2:]))
    found = picture.copy()
    found[edge] = np.array(MASK_COLOURS, np.uint8)[(inner[edge].astype(int) - 1) % len(MASK_COLOURS)]
    return found


def save_grid(
    path: Path,
    images: Sequence[np.ndarray],
    boxes: Sequence[np.ndarray],
    columns: int | None = None,
    cell: int = 128,
    masks: Sequence[np.ndarray | None] | None = None,
    captions: Sequence[str] | None = None,
) -> None:
    """Publish a grid as PNG; see draw_grid."""
    with new_file(path) as temporary:
        # training waits for every grid: a third of the time of level 6 for a file that is a twentieth larger
        draw_grid(images, boxes, columns=columns, cell=cell, masks=masks, captions=captions).save(
            temporary, format="PNG", compress_level=3
        )
