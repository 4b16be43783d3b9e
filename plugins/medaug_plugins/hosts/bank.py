"""The real training images that lesions are drawn from and put into, and which of them suits an asked box.

Legend: n images, m boxes of an image, c channels, h and w pixels of the sides. Boxes are half-open pixel corners
(x_min, y_min, x_max, y_max). Pixels lie in [0, 1].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import binary_fill_holes

from medaug_cli.plugin import BadInput, Examples, ImageSpec
from medaug_plugins.hosts.fading import DARK, window

CHUNK = 64
FIELDS = ("images", "boxes", "labels", "counts", "patients")
INSIDE = 0.9  # of an asked box that must lie in the head
COVERED = 0.02  # of an asked box that a lesion of the host may cover
ALIKE = 0.3  # of the images that a lesion fits into, those most like the one that it is asked after
FEWEST_HOSTS = 5
RESIZED = 1.4  # most that a lesion's sides are stretched or shrunk, while there are enough of them
FEWEST_DONORS = 10


@dataclass
class Bank:
    """Images (n, c, h, w), uint8 where that is exact, with boxes (m, 4), labels (m,) and the patient of each."""

    images: np.ndarray
    boxes: list[np.ndarray]
    labels: list[np.ndarray]
    patients: np.ndarray  # (n,) int64, equal for images of one patient
    masks: np.ndarray | None = None  # (n, h, w) uint8

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
        patients = np.unique([data.patients[i] for i in chosen], return_inverse=True)[1].astype(np.int64)
        masks = [data.condition(i).mask for i in chosen]
        kept = None if any(mask is None for mask in masks) else np.stack([np.asarray(m, np.uint8) for m in masks])
        return cls(images, boxes, [np.asarray(data.labels[i], np.int64) for i in chosen], patients, kept)

    def state_dict(self) -> dict[str, Any]:
        """Return the images, their boxes and their masks as arrays."""
        state = {
            "images": self.images, "boxes": np.concatenate(self.boxes), "labels": np.concatenate(self.labels),
            "counts": np.array([len(boxes) for boxes in self.boxes], np.int64), "patients": self.patients,
        }  # fmt: skip
        return state if self.masks is None else state | {"masks": self.masks}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], spec: ImageSpec) -> "Bank":
        """Restore `state_dict`; raise BadInput where it does not fit images of this form."""
        missing = set(FIELDS) - set(state)
        if missing:
            raise BadInput(f"these weights lack {', '.join(sorted(missing))}: they are of another generator")
        images, boxes, labels, counts, patients = (np.asarray(state[name]) for name in FIELDS)
        form = (spec.channels, *spec.spatial)
        if images.ndim != 4 or images.shape[1:] != form:
            raise BadInput(f"these weights hold images of {images.shape[1:]}, expected {form}")
        if not len(counts) == len(images) == len(patients) or not counts.sum() == len(boxes) == len(labels):
            raise BadInput("these weights hold boxes that do not fit their images")
        stops = np.cumsum(counts)[:-1]
        masks = np.asarray(state["masks"]) if "masks" in state else None
        return cls(images, np.split(boxes, stops), np.split(labels, stops), patients, masks)

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> np.ndarray:
        """Return an image (c, h, w) float32."""
        image = self.images[index]
        return image.astype(np.float32) / 255 if image.dtype == np.uint8 else image.astype(np.float32)

    def mask(self, index: int, which: int) -> np.ndarray | None:
        """Return the mask (h, w) float32 of one lesion of an image: what of the image's mask lies in its box."""
        if self.masks is None:
            return None
        own = np.zeros(self.masks.shape[1:], np.float32)
        rows, columns = window(self.boxes[index][which], *self.masks.shape[1:3])
        own[rows, columns] = self.masks[index][rows, columns] > 0
        return own if own.any() else None

    def nearest(self, boxes: np.ndarray, labels: np.ndarray, count: int) -> list[int]:
        """Return the images whose boxes are most like the asked ones: as many, of these labels, in these places."""
        return sorted(range(len(self)), key=lambda i: self.difference(i, boxes, labels))[:count]

    def difference(self, index: int, boxes: np.ndarray, labels: np.ndarray) -> tuple[int, float]:
        """Return how unlike the asked boxes those of an image are: labels first, then pixels between corners."""
        own = self.boxes[index]
        alike = sorted(self.labels[index].tolist()) == sorted(labels.tolist())
        corners = sum(float(np.abs(own - box).sum(1).min()) for box in boxes)
        return (0 if alike else 1 + abs(len(own) - len(boxes)), corners)

    def lesions(self, label: int) -> list[tuple[int, int]]:
        """Return (image, box) of every lesion of a label, of any label where none has it."""
        every = [(i, k) for i, labels in enumerate(self.labels) for k in range(len(labels))]
        return [(i, k) for i, k in every if self.labels[i][k] == label] or every

    def host(self, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> int:
        """Return an image into which lesions in these boxes may be put, beside its own.

        The boxes lie in its head and on none of its lesions; it is of another patient than the image whose boxes are
        most like the asked ones, and among the share that looks most like that image. Where no image is so, the one
        that comes nearest is taken.
        """
        like = self.nearest(boxes, labels, 1)[0]
        inside = np.min([self._inside(box) for box in boxes], 0)
        covered = np.max([self._covered(box) for box in boxes], 0)
        fit = (inside >= INSIDE) & (covered <= COVERED)
        others = fit & (self.patients != self.patients[like])
        chosen = np.flatnonzero(others if others.any() else fit)
        if not len(chosen):
            return int(np.argmax(np.minimum(inside, INSIDE) - covered))
        resemblance = self._looks[chosen] @ self._looks[like]
        count = max(FEWEST_HOSTS, round(ALIKE * len(chosen)))
        chosen = chosen[np.argsort(-resemblance, kind="stable")[:count]]
        return int(chosen[rng.integers(len(chosen))])

    def donor(self, box: np.ndarray, label: int, rng: np.random.Generator) -> tuple[int, int]:
        """Return (image, box) of a lesion of a label whose sides are like those of an asked box."""
        lesions = self.lesions(label)
        sides = np.array([self.boxes[i][k][2:] - self.boxes[i][k][:2] for i, k in lesions])
        difference = np.abs(np.log(np.maximum(sides, 1e-3) / np.maximum(box[2:] - box[:2], 1e-3))).max(1)
        count = max(int((difference <= np.log(RESIZED)).sum()), min(FEWEST_DONORS, len(lesions)))
        return lesions[np.argsort(difference, kind="stable")[int(rng.integers(count))]]

    def _inside(self, box: np.ndarray) -> np.ndarray:
        """Return the share of a box that lies in the head of each image, (n,)."""
        rows, columns = window(box, self.images.shape[2], self.images.shape[3])
        sums, area = self._heads, (rows.stop - rows.start) * (columns.stop - columns.start)
        within = sums[:, rows.stop, columns.stop] - sums[:, rows.start, columns.stop]
        return (within - sums[:, rows.stop, columns.start] + sums[:, rows.start, columns.start]) / area

    def _covered(self, box: np.ndarray) -> np.ndarray:
        """Return the largest share of a box that a lesion of each image covers, (n,)."""
        own = np.concatenate(self.boxes)
        sides = np.minimum(own[:, 2:], box[2:]) - np.maximum(own[:, :2], box[:2])
        share = np.clip(sides, 0, None).prod(1) / max(float((box[2:] - box[:2]).prod()), 1e-6)
        starts = np.cumsum([0, *(len(boxes) for boxes in self.boxes[:-1])])
        return np.maximum.reduceat(share, starts)

    @cached_property
    def _heads(self) -> np.ndarray:
        """Return summed-area tables (n, h + 1, w + 1) of what is head."""
        heads = np.stack([binary_fill_holes(self.image(i).mean(0) > DARK) for i in range(len(self))])
        sums = heads.astype(np.int32).cumsum(1, dtype=np.int32).cumsum(2, dtype=np.int32)
        return np.pad(sums, ((0, 0), (1, 0), (1, 0)))

    @cached_property
    def _looks(self) -> np.ndarray:
        """Return what each image looks like from afar: coarse pixels, of mean 0 and length 1, (n, k)."""
        images = np.stack([self.image(i).mean(0) for i in range(len(self))])
        coarse = F.adaptive_avg_pool2d(torch.from_numpy(images)[:, None], 16).flatten(1).numpy()
        coarse = coarse - coarse.mean(1, keepdims=True)
        return coarse / np.maximum(np.linalg.norm(coarse, axis=1, keepdims=True), 1e-6)


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
