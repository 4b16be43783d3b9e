"""The map that tells both networks what to draw: boxes (Han et al. 2019, 2.2), a mask, or a class.

Legend: k channels, m boxes, d spatial axes *s in numpy order.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from medaug_cli.plugin import Condition, ImageSpec, box_map
from medaug_cpggan.networks import shrink

Form = Literal["boxes", "soft-boxes", "mask", "label", "none"]
MARGIN = 0.25  # of a box's side, over which a soft box fades


def channels(form: Form, spec: ImageSpec) -> int:
    """Return the channels of a condition map."""
    return {"none": 0, "label": max(1, len(spec.label_names))}.get(form, 1)


def draw_map(condition: Condition, form: Form, count: int, times: int = 0) -> Tensor:
    """Return the condition map (k, *s) of `count` channels, halved `times` times by averaging."""
    return shrink(torch.from_numpy(_drawn(condition, form, count))[None], times)[0]


def _drawn(condition: Condition, form: Form, count: int) -> np.ndarray:
    if form == "label":
        planes = np.zeros((count, *condition.spatial), np.float32)
        planes[np.unique(condition.labels)] = 1
        return planes
    if form == "mask":
        own = condition.mask
        return (ellipses(condition.boxes, condition.spatial) if own is None else (own > 0).astype(np.float32))[None]
    draw = soft_boxes if form == "soft-boxes" else box_map
    return draw(condition.boxes, condition.spatial)[None]


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


def _corners(boxes: np.ndarray, d: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the low and the high corner of every box in numpy's order of axes."""
    return [(box[:d][::-1], box[d:][::-1]) for box in np.asarray(boxes, np.float32).reshape(-1, 2 * d)]
