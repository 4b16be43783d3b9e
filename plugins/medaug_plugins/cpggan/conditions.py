"""The map that tells both networks what to draw: boxes (Han et al. 2019, 2.2), a mask, or a class.

Legend: k channels, *s spatial axes in numpy order.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from medaug_cli.plugin import Condition, ImageSpec, box_map
from medaug_plugins.cpggan.networks import shrink
from medaug_plugins.layers import ellipses, soft_boxes

Form = Literal["boxes", "soft-boxes", "mask", "label", "none"]


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
