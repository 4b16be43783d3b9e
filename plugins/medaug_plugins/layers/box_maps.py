"""Other forms of a box's map than `medaug_cli.plugin.box_map`.

Legend: m boxes, d spatial axes *s in numpy order.
"""

import numpy as np

from medaug_cli.plugin import ImageSpec

MARGIN = 0.25  # of a box's side, over which a soft box fades


def soft_boxes(boxes: np.ndarray, spatial: tuple[int, ...]) -> np.ndarray:
    """Draw boxes (m, 2*d) that fade linearly over MARGIN of their sides beyond their edges, (*s) float32."""
    drawn = np.zeros(spatial, np.float32)
    for low, high in _corners(boxes, len(spatial)):
        cover = np.ones((), np.float32)
        for length, start, stop in zip(spatial, low, high, strict=True):
            at = np.arange(length, dtype=np.float32) + 0.5
            outside = np.maximum(np.maximum(start - at, at - stop), 0)
            cover = np.multiply.outer(cover, np.maximum(0, 1 - outside / max(1.0, MARGIN * (stop - start))))
        np.maximum(drawn, cover, out=drawn)
    return drawn


def ellipses(boxes: np.ndarray, spatial: tuple[int, ...]) -> np.ndarray:
    """Draw an ellipse into every box (m, 2*d), where boxes are asked for and no mask is given, (*s) float32."""
    drawn = np.zeros(spatial, np.float32)
    for low, high in _corners(boxes, len(spatial)):
        distance = np.zeros((), np.float32)
        for length, start, stop in zip(spatial, low, high, strict=True):
            at = np.arange(length, dtype=np.float32) + 0.5
            distance = np.add.outer(distance, ((at - (start + stop) / 2) / max(0.5, (stop - start) / 2)) ** 2)
        drawn[distance <= 1] = 1
    return drawn


def map_of_label(spec: ImageSpec) -> tuple[int, ...]:
    """Return which of the maps of masks each label of boxes is drawn into: that of its name, else the first."""
    names = spec.mask_names
    return tuple(names.index(name) if name in names else 0 for name in spec.label_names)


def _corners(boxes: np.ndarray, d: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the low and the high corner of every box in numpy's order of axes."""
    return [(box[:d][::-1], box[d:][::-1]) for box in np.asarray(boxes, np.float32).reshape(-1, 2 * d)]
