"""The real training images that lesions are drawn from and put into, and which of them suits an asked box.

Legend: n images, m boxes of an image, c channels, *s spatial axes in numpy order, d of them. Boxes are half-open pixel
corners (m, 2*d), x first. Pixels lie in [0, 1].
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import binary_fill_holes

from medaug_cli.plugin import DARK, BadInput, Condition, Examples, ImageSpec, window

CHUNK = 64
FIELDS = ("images", "boxes", "labels", "counts", "patients")
OPTIONAL = ("masks", "classes", "normals", "normal_classes")
INSIDE = 0.9  # share of an asked box that must lie in the head
COVERED = 0.02  # share of an asked box that a lesion of the host may cover
ALIKE = 0.3  # share of the images that a lesion fits into: those most like the image with the most similar boxes
FEWEST_HOSTS = 5
RESIZED = 1.4  # largest factor on a lesion's sides, while enough lesions need no larger one
FEWEST_DONORS = 10
COARSE = {2: 16, 3: 8}  # dimensions -> pixels of a side at which looks are compared
MOST_NORMALS = 64  # images without a lesion that are kept at most, or as many as there are with one


@dataclass
class Bank:
    """Images (n, c, *s), uint8 where that is exact, with boxes (m, 2*d), labels (m,) and the patient of each."""

    images: np.ndarray
    boxes: list[np.ndarray]
    labels: list[np.ndarray]
    patients: np.ndarray  # (n,) int64, equal for images of one patient
    masks: np.ndarray | None = None  # (n, *s) uint8
    classes: np.ndarray | None = None  # (n,) int64, where the store names classes
    normals: np.ndarray | None = None  # (k, c, *s), images without a box
    normal_classes: np.ndarray | None = None  # (k,) int64

    @classmethod
    def read(cls, data: Examples, lesions: bool = True) -> "Bank":
        """Read every image that has a box, and some that have none; all, where `lesions` are not needed."""
        chosen = [i for i in range(len(data)) if len(data.boxes[i])]
        if not chosen and lesions:
            raise BadInput("no training image has a box: there is no lesion to draw from")
        normal = [i for i in range(len(data)) if not len(data.boxes[i])]
        if lesions and len(normal) > (most := max(MOST_NORMALS, len(chosen))):
            normal = _some(normal, data.classes, most)
        boxes = [np.asarray(data.boxes[i], np.float32) for i in chosen]
        patients = np.unique([data.patients[i] for i in chosen], return_inverse=True)[1].astype(np.int64)
        masks = [data.condition(i).mask for i in chosen]
        unknown = not masks or any(mask is None for mask in masks)
        named = bool(data.spec.class_names)
        return cls(
            images=_read(data, chosen),
            boxes=boxes,
            labels=[np.asarray(data.labels[i], np.int64) for i in chosen],
            patients=patients,
            masks=None if unknown else np.stack([np.asarray(mask, np.uint8) for mask in masks]),
            classes=np.asarray(data.classes, np.int64)[chosen] if named else None,
            normals=_read(data, normal) if normal else None,
            normal_classes=np.asarray(data.classes, np.int64)[normal] if named and normal else None,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the images, their boxes and what else is known of them as arrays."""
        nothing = [np.zeros((0, 2 * (self.images.ndim - 2)), np.float32)], [np.zeros(0, np.int64)]
        boxes, labels = (self.boxes, self.labels) if len(self) else nothing
        state = {
            "images": self.images, "boxes": np.concatenate(boxes), "labels": np.concatenate(labels),
            "counts": np.array([len(each) for each in self.boxes], np.int64), "patients": self.patients,
        }  # fmt: skip
        return state | {name: own for name in OPTIONAL if (own := getattr(self, name)) is not None}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], spec: ImageSpec) -> "Bank":
        """Restore `state_dict`; raise BadInput where it does not fit images of this form."""
        missing = set(FIELDS) - set(state)
        if missing:
            raise BadInput(f"these weights lack {', '.join(sorted(missing))}: they are of another generator")
        images, boxes, labels, counts, patients = (np.asarray(state[name]) for name in FIELDS)
        form = (spec.channels, *spec.spatial)
        if images.shape[1:] != form:
            raise BadInput(f"these weights hold images of {images.shape[1:]}, expected {form}")
        if not len(counts) == len(images) == len(patients) or not counts.sum() == len(boxes) == len(labels):
            raise BadInput("these weights hold boxes that do not fit their images")
        stops = np.cumsum(counts)[:-1]
        parts = (np.split(boxes, stops), np.split(labels, stops)) if len(images) else ([], [])
        known: dict[str, Any] = {name: np.asarray(state[name]) for name in OPTIONAL if name in state}
        return cls(images, *parts, patients, **known)

    def __len__(self) -> int:
        return len(self.images)

    def check(self, condition: Condition) -> None:
        """Raise BadInput where images of another size are asked for."""
        if tuple(condition.spatial) != self.images.shape[2:]:
            raise BadInput(f"these images are of {self.images.shape[2:]}, not {tuple(condition.spatial)}")

    def image(self, index: int) -> np.ndarray:
        """Return an image (c, *s) float32; after those with lesions come the others."""
        if index >= len(self):
            assert self.normals is not None
            return _as_float(self.normals[index - len(self)])
        return _as_float(self.images[index])

    def own_lesions(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the boxes (m, 2*d) and labels (m,) of an image."""
        if index >= len(self):
            return np.zeros((0, 2 * (self.images.ndim - 2)), np.float32), np.zeros(0, np.int64)
        return self.boxes[index], self.labels[index]

    def own_mask(self, index: int) -> np.ndarray | None:
        """Return the mask (*s) uint8 of an image, which is the caller's to change; None where masks are not known."""
        if self.masks is None:
            return None
        return np.zeros(self.masks.shape[1:], np.uint8) if index >= len(self) else self.masks[index].copy()

    def normal(self, image_class: int, rng: np.random.Generator) -> np.ndarray | None:
        """Return an image (c, *s) float32 without a lesion, of a class where one is asked for; None if none is."""
        if self.normals is None:
            return None
        chosen = np.arange(len(self.normals))
        if image_class >= 0 and self.normal_classes is not None:
            chosen = np.flatnonzero(self.normal_classes == image_class)
        return _as_float(self.normals[chosen[rng.integers(len(chosen))]]) if len(chosen) else None

    def of_class(self, image_class: int) -> np.ndarray:
        """Return which images (n,) bool are of a class; all where none is asked for, or classes are not known."""
        if image_class < 0 or self.classes is None:
            return np.ones(len(self), bool)
        alike = self.classes == image_class
        if not alike.any():
            raise BadInput("no training image with a lesion is of the class that is asked for")
        return alike

    def values(self, index: int, which: int) -> np.ndarray | None:
        """Return the mask (*s) uint8 of one lesion of an image with its values; None where nothing is marked."""
        shape = self.mask(index, which)
        return None if shape is None or self.masks is None else np.where(shape > 0, self.masks[index], 0)

    def value_of(self, label: int) -> int:
        """Return the value that masks have in boxes of a label, in most pixels."""
        return self._values.get(label, 1)

    @cached_property
    def _values(self) -> dict[int, int]:
        counts: dict[int, np.ndarray] = {}
        for i, labels in enumerate(self.labels):
            for which, label in enumerate(labels):
                if (marked := self.values(i, which)) is not None:
                    counts[int(label)] = counts.get(int(label), 0) + np.bincount(marked[marked > 0], minlength=256)
        return {label: int(count.argmax()) for label, count in counts.items()}

    def mask(self, index: int, which: int) -> np.ndarray | None:
        """Return the mask (*s) float32 of one lesion of an image: what of the image's mask lies in its box."""
        if self.masks is None:
            return None
        own = np.zeros(self.masks.shape[1:], np.float32)
        inside = window(self.boxes[index][which], own.shape)
        own[inside] = self.masks[index][inside] > 0
        return own if own.any() else None

    def nearest(self, boxes: np.ndarray, labels: np.ndarray, count: int, image_class: int = -1) -> list[int]:
        """Return the images whose boxes are most like the asked ones: as many, of these labels, in these places."""
        alike = np.flatnonzero(self.of_class(image_class)).tolist()
        return sorted(alike, key=lambda i: self.difference(i, boxes, labels))[:count]

    def difference(self, index: int, boxes: np.ndarray, labels: np.ndarray) -> tuple[int, float]:
        """Return how unlike the asked boxes those of an image are: labels first, then pixels between corners."""
        own = self.boxes[index]
        alike = sorted(self.labels[index].tolist()) == sorted(labels.tolist())
        corners = sum(float(np.abs(own - box).sum(1).min()) for box in boxes)
        return (0 if alike else 1 + abs(len(own) - len(boxes)), corners)

    def lesions(self, label: int, image_class: int = -1) -> list[tuple[int, int]]:
        """Return (image, box) of every lesion of a label, of any label where none has it, in images of a class."""
        alike = self.of_class(image_class)
        every = [(i, k) for i, labels in enumerate(self.labels) if alike[i] for k in range(len(labels))]
        return [(i, k) for i, k in every if self.labels[i][k] == label] or every

    def host(self, boxes: np.ndarray, labels: np.ndarray, rng: np.random.Generator, image_class: int = -1) -> int:
        """Return an image, of a class where one is asked for, into which lesions in these boxes may be put.

        It keeps its own lesions. The boxes lie in its head and on none of its lesions; it is of another patient than
        the image whose boxes are most like the asked ones, and among the share that looks most like that image. Where
        lesions of all images are in the way, as in regions that each have one in the middle, an image without any is
        taken; where no image qualifies, the nearest one.
        """
        like = self.nearest(boxes, labels, 1, image_class)[0]
        inside = np.min([self._inside(box, self._heads) for box in boxes], 0)
        covered = np.max([self._covered(box) for box in boxes], 0)
        alike = self.of_class(image_class)
        fit = (inside >= INSIDE) & (covered <= COVERED) & alike
        others = fit & (self.patients != self.patients[like])
        chosen = np.flatnonzero(others if others.any() else fit)
        if not len(chosen):
            free = self._free(boxes, image_class) if (alike & (inside >= INSIDE)).any() else np.zeros(0, np.int64)
            if len(free):
                return len(self) + int(free[rng.integers(len(free))])
            return int(np.argmax(np.where(alike, np.minimum(inside, INSIDE) - covered, -np.inf)))
        resemblance = self._looks[chosen] @ self._looks[like]
        count = max(FEWEST_HOSTS, round(ALIKE * len(chosen)))
        chosen = chosen[np.argsort(-resemblance, kind="stable")[:count]]
        return int(chosen[rng.integers(len(chosen))])

    def donor(
        self, box: np.ndarray, label: int, rng: np.random.Generator, image_class: int = -1, host: int | None = None
    ) -> tuple[int, int]:
        """Return (image, box) of a lesion of a label, in an image of a class, whose sides are like an asked box's.

        It is of another patient than the image `host`, while there is one of another.
        """
        lesions = self.lesions(label, image_class)
        if host is not None and host < len(self):
            lesions = [(i, k) for i, k in lesions if self.patients[i] != self.patients[host]] or lesions
        d = len(box) // 2
        sides = np.array([self.boxes[i][k][d:] - self.boxes[i][k][:d] for i, k in lesions])
        difference = np.abs(np.log(np.maximum(sides, 1e-3) / np.maximum(box[d:] - box[:d], 1e-3))).max(1)
        count = max(int((difference <= np.log(RESIZED)).sum()), min(FEWEST_DONORS, len(lesions)))
        return lesions[np.argsort(difference, kind="stable")[int(rng.integers(count))]]

    def _free(self, boxes: np.ndarray, image_class: int) -> np.ndarray:
        """Return the images without a lesion, of a class where one is asked for, in whose heads all boxes lie, (k,)."""
        if self.normals is None:
            return np.zeros(0, np.int64)
        inside = np.min([self._inside(box, self._normal_heads) for box in boxes], 0)
        known = image_class >= 0 and self.normal_classes is not None
        return np.flatnonzero((inside >= INSIDE) & (self.normal_classes == image_class if known else True))

    def _inside(self, box: np.ndarray, heads: np.ndarray) -> np.ndarray:
        """Return the share of a box that lies in the head of each image, (n,), by summed-area tables of heads."""
        spans, within = window(box, self.images.shape[2:]), np.zeros(len(heads), np.int64)
        for corner in itertools.product((False, True), repeat=len(spans)):
            place = tuple(span.start if low else span.stop for span, low in zip(spans, corner, strict=True))
            within += (-1) ** sum(corner) * heads[:, *place]
        return np.asarray(within / np.prod([span.stop - span.start for span in spans]))

    def _covered(self, box: np.ndarray) -> np.ndarray:
        """Return the largest share of a box that a lesion of each image covers, (n,)."""
        own, d = np.concatenate(self.boxes), len(box) // 2
        sides = np.minimum(own[:, d:], box[d:]) - np.maximum(own[:, :d], box[:d])
        share = np.clip(sides, 0, None).prod(1) / max(float((box[d:] - box[:d]).prod()), 1e-6)
        starts = np.cumsum([0, *(len(boxes) for boxes in self.boxes[:-1])])
        return np.maximum.reduceat(share, starts)

    @cached_property
    def _heads(self) -> np.ndarray:
        return _summed_heads(self.images)

    @cached_property
    def _normal_heads(self) -> np.ndarray:
        assert self.normals is not None
        return _summed_heads(self.normals)

    @cached_property
    def _looks(self) -> np.ndarray:
        """Return what each image looks like from afar: coarse pixels, of mean 0 and length 1, (n, k)."""
        images = np.stack([self.image(i).mean(0) for i in range(len(self))])
        pool = F.adaptive_avg_pool2d if images.ndim == 3 else F.adaptive_avg_pool3d
        coarse = pool(torch.from_numpy(images)[:, None], COARSE[images.ndim - 1]).flatten(1).numpy()
        coarse = coarse - coarse.mean(1, keepdims=True)
        return coarse / np.maximum(np.linalg.norm(coarse, axis=1, keepdims=True), 1e-6)


def _summed_heads(images: np.ndarray) -> np.ndarray:
    """Return summed-area tables (n, *(s + 1)) of what is head in images (n, c, *s)."""
    heads = np.stack([binary_fill_holes(_as_float(image).mean(0) > DARK) for image in images])
    sums = heads.astype(np.int32)
    for axis in range(1, sums.ndim):
        sums = sums.cumsum(axis, dtype=np.int32)
    return np.pad(sums, [(0, 0)] + [(1, 0)] * (sums.ndim - 1))


def lesion_weights(data: Examples) -> np.ndarray:
    """Return how often each lesion of images with boxes is drawn now, (m,), in their order: as often as its image."""
    weights = np.repeat(data.weights, [len(boxes) for boxes in data.boxes])
    if not weights.any() or not np.ptp(weights):
        return np.full(len(weights), 1 / len(weights))
    return weights / weights.sum()


def _some(normal: list[int], classes: np.ndarray, most: int) -> list[int]:
    """Return `most` of some images, evenly spread, and the first one of each class that has none among them."""
    kept = [normal[k] for k in np.linspace(0, len(normal) - 1, most).round().astype(int)]
    first = {int(classes[i]): i for i in reversed(normal)}
    lacking = set(first) - {int(classes[i]) for i in kept}
    return [*kept, *(first[image_class] for image_class in sorted(lacking))]


def _read(data: Examples, chosen: list[int]) -> np.ndarray:
    """Return some images (n, c, *s), as uint8 where that is exact."""
    if not chosen:
        return np.zeros((0, data.spec.channels, *data.spec.spatial), np.uint8)
    images = np.concatenate([data.read(np.array(chosen[at : at + CHUNK])) for at in range(0, len(chosen), CHUNK)])
    whole = np.rint(images * 255)
    return whole.astype(np.uint8) if np.abs(whole / 255 - images).max() < 1e-6 else images


def _as_float(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) / 255 if image.dtype == np.uint8 else image.astype(np.float32)


def aligned(image: np.ndarray, own: np.ndarray, asked: np.ndarray, values: bool = False) -> np.ndarray:
    """Move an image (c, *s) so that its boxes (m, 2*d) come to lie on asked ones (k, 2*d), each axis on its own.

    The axes are shifted and zoomed by least squares over the corners of each asked box and its nearest own one: exact
    for one box. What comes in from outside repeats the border. With `values` it is a mask, whose values stay and
    which is 0 beyond its border.
    """
    if not len(own) or not len(asked):
        return image
    sizes, d = image.shape[:0:-1], image.ndim - 1  # x first
    partner = np.array([own[np.abs(own - box).sum(1).argmin()] for box in asked])
    move, identity = np.zeros((d, d + 1)), np.eye(d, d + 1)
    for axis, length in enumerate(sizes):
        target = np.concatenate([asked[:, axis], asked[:, axis + d]])
        source = np.concatenate([partner[:, axis], partner[:, axis + d]])
        spread = target - target.mean()
        zoom = float((spread * (source - source.mean())).sum() / max(float((spread**2).sum()), 1e-6))
        zoom = float(np.clip(zoom, 0.25, 4))
        offset = float(source.mean() - zoom * target.mean())  # source = zoom * target + offset
        move[axis, axis], move[axis, d] = zoom, (2 * offset + zoom * length - length) / length
    if np.allclose(move, identity, atol=1e-6):
        return image
    places = torch.tensor(move[None], dtype=torch.float32)
    grid = F.affine_grid(places, [1, 1, *image.shape[1:]], align_corners=False)
    mode, padding = ("nearest", "zeros") if values else ("bilinear", "border")
    pixels = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None]
    return F.grid_sample(pixels, grid, mode=mode, padding_mode=padding, align_corners=False)[0].numpy()
