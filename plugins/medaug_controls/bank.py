"""The real training images that the controls draw from, and how one is moved so that its lesion lies in an asked box.

Legend: n images, m boxes of an image, c channels, h and w pixels of the sides. Boxes are half-open pixel corners
(x_min, y_min, x_max, y_max). Pixels lie in [0, 1].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from medaug_cli.plugin import BadInput, Examples, ImageSpec

CHUNK = 64


@dataclass
class Bank:
    """Images (n, c, h, w), uint8 where that is exact, with boxes (m, 4) and labels (m,) of each."""

    images: np.ndarray
    boxes: list[np.ndarray]
    labels: list[np.ndarray]

    @classmethod
    def read(cls, data: Examples) -> "Bank":
        """Read every image that has a box."""
        chosen = [i for i in range(len(data)) if len(data.boxes[i])]
        if not chosen:
            raise BadInput("no training image has a box: there is no lesion to draw from")
        parts = [data.read(np.array(chosen[at : at + CHUNK])) for at in range(0, len(chosen), CHUNK)]
        images = np.concatenate(parts)
        whole = np.rint(images * 255)
        if np.abs(whole / 255 - images).max() < 1e-6:
            images = whole.astype(np.uint8)
        boxes = [np.asarray(data.boxes[i], np.float32) for i in chosen]
        return cls(images, boxes, [np.asarray(data.labels[i], np.int64) for i in chosen])

    def state_dict(self) -> dict[str, Any]:
        """Return the images and their boxes as arrays."""
        return {
            "images": self.images, "boxes": np.concatenate(self.boxes), "labels": np.concatenate(self.labels),
            "counts": np.array([len(boxes) for boxes in self.boxes], np.int64),
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: Mapping[str, Any], spec: ImageSpec) -> "Bank":
        """Restore `state_dict`; raise BadInput where it does not fit images of this form."""
        missing = {"images", "boxes", "labels", "counts"} - set(state)
        if missing:
            raise BadInput(f"these weights lack {', '.join(sorted(missing))}: they are of another generator")
        images, boxes, labels, counts = (np.asarray(state[name]) for name in ("images", "boxes", "labels", "counts"))
        form = (spec.channels, *spec.spatial)
        if images.ndim != 4 or images.shape[1:] != form:
            raise BadInput(f"these weights hold images of {images.shape[1:]}, expected {form}")
        if len(counts) != len(images) or counts.sum() != len(boxes) or len(boxes) != len(labels):
            raise BadInput("these weights hold boxes that do not fit their images")
        stops = np.cumsum(counts)[:-1]
        return cls(images, np.split(boxes, stops), np.split(labels, stops))

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> np.ndarray:
        """Return an image (c, h, w) float32."""
        image = self.images[index]
        return image.astype(np.float32) / 255 if image.dtype == np.uint8 else image.astype(np.float32)

    def nearest(self, boxes: np.ndarray, labels: np.ndarray, count: int) -> list[int]:
        """Return the images whose boxes are most like the asked ones: as many, of these labels, in these places."""
        return sorted(range(len(self)), key=lambda i: self._difference(i, boxes, labels))[:count]

    def _difference(self, index: int, boxes: np.ndarray, labels: np.ndarray) -> tuple[int, float]:
        own = self.boxes[index]
        alike = sorted(self.labels[index].tolist()) == sorted(labels.tolist())
        corners = sum(float(np.abs(own - box).sum(1).min()) for box in boxes)
        return (0 if alike else 1 + abs(len(own) - len(boxes)), corners)

    def lesions(self, label: int) -> list[tuple[int, int]]:
        """Return (image, box) of every lesion of a label, of any label where none has it."""
        every = [(i, k) for i, labels in enumerate(self.labels) for k in range(len(labels))]
        return [(i, k) for i, k in every if self.labels[i][k] == label] or every


def aligned(image: np.ndarray, own: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Move an image (c, h, w) so that its boxes (m, 4) come to lie on asked ones (k, 4), each axis on its own.

    The axes are shifted and zoomed by least squares over the corners of each asked box and its nearest own one: exact
    for one box. What comes in from outside prolongs the border.
    """
    if not len(own) or not len(asked):
        return image
    height, width = image.shape[-2:]
    partner = np.array([own[np.abs(own - box).sum(1).argmin()] for box in asked])
    rows = []
    for axis, length in ((0, width), (1, height)):
        target = np.concatenate([asked[:, axis], asked[:, axis + 2]])
        source = np.concatenate([partner[:, axis], partner[:, axis + 2]])
        spread = target - target.mean()
        zoom = float((spread * (source - source.mean())).sum() / max(float((spread**2).sum()), 1e-6))
        zoom = float(np.clip(zoom, 0.25, 4))
        offset = float(source.mean() - zoom * target.mean())  # source = zoom * target + offset
        rows.append((zoom, (2 * offset + zoom * length - length) / length))
    (zoom_x, shift_x), (zoom_y, shift_y) = rows
    if np.allclose((zoom_x, zoom_y, shift_x, shift_y), (1, 1, 0, 0), atol=1e-6):
        return image
    move = torch.tensor([[[zoom_x, 0, shift_x], [0, zoom_y, shift_y]]], dtype=torch.float32)
    grid = F.affine_grid(move, [1, 1, height, width], align_corners=False)
    moved = F.grid_sample(torch.from_numpy(image)[None], grid, padding_mode="border", align_corners=False)
    return moved[0].numpy()
