"""The map that tells both networks what to draw: boxes (Han et al. 2019, 2.2), a mask, or a class.

Legend: k channels, *s spatial axes in numpy order.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from medaug_cli.plugin import Condition, ImageSpec, box_map
from medaug_plugins.cpggan.networks import shrink
from medaug_plugins.layers import ellipses, soft_boxes

Form = Literal["boxes", "soft-boxes", "mask", "class", "label", "none"]
LESIONS = ("lesions",)  # what the one channel stands for where lesions are not told apart


def resolved(form: Form, spec: ImageSpec) -> Form:
    """Return the form of the map for a store: where it names no classes, the labels of lesions stand for them."""
    return "label" if form == "class" and not spec.class_names else form


def channel_names(form: Form, spec: ImageSpec) -> tuple[str, ...]:
    """Return what each channel of a condition map stands for."""
    several: dict[Form, tuple[str, ...]] = {
        "none": (), "label": spec.label_names or LESIONS, "class": spec.class_names, "mask": spec.mask_names or LESIONS,
    }  # fmt: skip
    return several.get(form, LESIONS)


def channels(form: Form, spec: ImageSpec) -> int:
    """Return the channels of a condition map."""
    return len(channel_names(form, spec))


def draw_map(condition: Condition, form: Form, count: int, times: int = 0, values: Sequence[int] = (0,)) -> Tensor:
    """Return the condition map (k, *s) of `count` channels, halved `times` times by averaging.

    `values` tells which channel of a mask each label of boxes is drawn into where there are boxes alone.
    """
    return shrink(torch.from_numpy(_drawn(condition, form, count, values))[None], times)[0]


def _drawn(condition: Condition, form: Form, count: int, values: Sequence[int]) -> np.ndarray:
    if form == "label":
        planes = np.zeros((count, *condition.spatial), np.float32)
        planes[np.unique(condition.labels)] = 1
        return planes
    if form == "class":
        planes = np.zeros((count, *condition.spatial), np.float32)
        if condition.image_class >= 0:
            planes[condition.image_class] = 1
        return planes
    if form == "mask":
        return _masks(condition, count, values)
    draw = soft_boxes if form == "soft-boxes" else box_map
    return draw(condition.boxes, condition.spatial)[None]


def _masks(condition: Condition, count: int, values: Sequence[int]) -> np.ndarray:
    """Return the mask of each value (k, *s), or an ellipse in each box of its label where boxes alone are given."""
    own = condition.mask
    if own is not None:
        parts = [own > 0] if count == 1 else [own == value for value in range(1, count + 1)]
        return np.stack(parts).astype(np.float32)
    which = np.zeros(len(condition.boxes)) if count == 1 else np.asarray(values)[np.asarray(condition.labels, np.int64)]
    return np.stack([ellipses(condition.boxes[which == value], condition.spatial) for value in range(count)])
