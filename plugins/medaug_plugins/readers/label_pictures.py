"""Pictures that are masks: what a palette numbers and what is transparent counts, not how it looks."""

from pathlib import Path

import numpy as np

OPAQUE = 128  # of 255, from which a pixel is seen


def label_pixels(path: Path) -> np.ndarray | None:
    """Return the values (h, w) or (h, w, 3) float32 of a picture with a palette or transparency; None for another.

    Of a palette these are its numbers, but for one of black and white alone, whose colours say which is which. What is
    transparent is outside; where what is seen is black, seen is what counts, as 255.
    """
    from PIL import Image

    with Image.open(path) as picture:
        if picture.mode == "P":
            return _numbered(picture)
        if picture.mode not in ("LA", "La", "PA", "RGBA", "RGBa") and "transparency" not in picture.info:
            return None
        pixels = np.asarray(picture.convert("RGBA"), np.float32)
    seen = pixels[..., 3] >= OPAQUE
    colours = pixels[..., :3] * seen[..., None]
    return np.where(seen, np.float32(255), np.float32(0)) if seen.any() and not colours.any() else colours


def _numbered(picture) -> np.ndarray:  # type: ignore[no-untyped-def]
    numbers = np.asarray(picture)
    used = np.unique(numbers)
    colours = np.asarray(picture.convert("RGBA")).reshape(-1, 4)
    shown = {int(number): colours[np.argmax(numbers.ravel() == number)] for number in used}
    black_and_white = all(tuple(colour[:3]) in ((0, 0, 0), (255, 255, 255)) for colour in shown.values())
    if black_and_white and len({tuple(colour) for colour in shown.values()}) == 2:
        table = {number: int(colour[0]) if colour[3] >= OPAQUE else 0 for number, colour in shown.items()}
    else:
        table = {number: number if colour[3] >= OPAQUE else 0 for number, colour in shown.items()}
    return np.vectorize(table.__getitem__, otypes=[np.float32])(numbers)
