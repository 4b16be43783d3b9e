"""What is asked of a generator that puts lesions into images, and what it answers.

Legend as in `bank`.
"""

from typing import NamedTuple

import numpy as np

from medaug_cli.plugin import Condition, Drawn, window
from medaug_plugins.hosts.bank import Bank

HIDDEN = 0.5  # share of a lesion under an asked one from which it is not seen any more


def boxes_of(condition: Condition) -> np.ndarray:
    """Return the asked boxes, (m, 2*d) float32."""
    return np.asarray(condition.boxes, np.float32).reshape(-1, 2 * len(condition.spatial))


class Asked(NamedTuple):
    """The lesions and the class of one image."""

    boxes: np.ndarray  # (m, 2*d) float32
    labels: np.ndarray  # (m,) int64
    image_class: int = -1


def on_host(asked: Asked, image: np.ndarray, mask: np.ndarray | None, bank: Bank, host: int) -> Drawn:
    """Return an image with the asked lesions and its host's own, but for those that the asked ones hide."""
    own, labels = bank.own_lesions(host)
    seen = np.array([max(_hidden(box, each) for each in asked.boxes) <= HIDDEN for box in own], bool)
    boxes = np.concatenate([asked.boxes, own[seen]])
    return Drawn(image, boxes, np.concatenate([asked.labels, labels[seen]]), mask, asked.image_class)


def _hidden(box: np.ndarray, over: np.ndarray) -> float:
    """Return the share of a box (2*d,) that lies under another one."""
    d = len(box) // 2
    sides = np.minimum(box[d:], over[d:]) - np.maximum(box[:d], over[:d])
    return float(np.clip(sides, 0, None).prod() / max(float((box[d:] - box[:d]).prod()), 1e-6))


def without_lesion(condition: Condition, image: np.ndarray, masked: bool) -> Drawn:
    """Return an image without a lesion; `masked` where such images have masks."""
    mask = np.zeros(condition.spatial, np.uint8) if masked else None
    image, nothing = np.clip(image, 0, 1).astype(np.float32), np.zeros((0, 2 * len(condition.spatial)), np.float32)
    return Drawn(image, nothing, np.zeros(0, np.int64), mask, condition.image_class)


def outline(condition: Condition, box: np.ndarray) -> np.ndarray | None:
    """Return the part (*s) of the asked mask that lies in a box; None without a mask, or where it is empty."""
    if condition.mask is None:
        return None
    own = np.zeros(condition.spatial, np.uint8)
    inside = window(box, condition.spatial)
    own[inside] = np.asarray(condition.mask)[inside]
    return own if own.any() else None


def with_outlines(condition: Condition, bank: Bank, host: int) -> np.ndarray:
    """Return the mask (*s) of the host's own lesions, which must be known, and the asked ones."""
    mask = bank.own_mask(host)
    assert mask is not None
    for box, label in zip(condition.boxes, condition.labels, strict=True):
        own = outline(condition, box)
        own = filled(box, condition.spatial, bank.value_of(int(label))) if own is None else own
        mask = np.where(own > 0, own, mask)
    return mask


def filled(box: np.ndarray, spatial: tuple[int, ...], value: int) -> np.ndarray:
    """Return a mask (*s) uint8 of a whole box: of a lesion whose outline nobody knows."""
    mask = np.zeros(spatial, np.uint8)
    mask[window(box, spatial)] = value
    return mask
