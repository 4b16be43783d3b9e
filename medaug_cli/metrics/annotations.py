"""Boxes of many images as flat arrays: what is true, and what a detector says."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.plugin import Detections


@dataclass(frozen=True)
class TrueBoxes:
    """The m annotated boxes of a set of images, in the order of their file."""

    images: np.ndarray  # (m,) int64, index of the image
    labels: np.ndarray  # (m,) int64, index of the class
    boxes: np.ndarray  # (m, 2*d) float64 corners
    volumes: np.ndarray  # (m,) float64, product of the box's sides
    areas: np.ndarray  # (m,) float64, as annotated (of a mask, say)
    crowd: np.ndarray  # (m,) bool: a region of many lesions, not one


@dataclass(frozen=True)
class FoundBoxes:
    """The n detections of one detector on the same images, in any order."""

    images: np.ndarray  # (n,) int64
    labels: np.ndarray  # (n,) int64
    boxes: np.ndarray  # (n, 2*d) float64
    volumes: np.ndarray  # (n,) float64
    scores: np.ndarray  # (n,) float64


@dataclass(frozen=True)
class Annotated:
    """A set of images whose lesions are known."""

    image_names: tuple[str, ...]
    patients: tuple[str, ...]  # of each image
    label_names: tuple[str, ...]
    truth: TrueBoxes
    dims: int = 2
    spacing: np.ndarray | None = None  # (images, d) mm a pixel, x first, where it is known of every image

    def __len__(self) -> int:
        return len(self.image_names)


def true_boxes(boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray], dims: int = 2) -> TrueBoxes:
    """Flatten n of (m, 2*d) corner boxes and n of (m,) labels."""
    corners = _stacked(boxes, dims)
    volumes = _volumes(corners)
    return TrueBoxes(
        _image_of(boxes),
        _flat(labels, np.int64),
        boxes=corners,
        volumes=volumes,
        areas=volumes,
        crowd=np.zeros(len(corners), bool),
    )


def found_boxes(detections: Sequence[Detections], dims: int = 2, names: Sequence[str] = ()) -> FoundBoxes:
    """Flatten n of (boxes (m, 2*d), scores (m,), labels (m,)); raise BadInput at NaN or a negative size."""
    for i, (boxes, scores, labels) in enumerate(detections):
        if not len(boxes) == len(scores) == len(labels):
            where = names[i] if names else f"number {i}"
            raise BadInput(
                f"image {where} has {len(boxes)} boxes, {len(scores)} scores and {len(labels)} labels; "
                "expected one of each"
            )
    images = _image_of([scores for _, scores, _ in detections])
    corners = _stacked([boxes for boxes, _, _ in detections], dims)
    scores = _flat([scores for _, scores, _ in detections], np.float64)
    bad = ~np.isfinite(scores) | ~np.isfinite(corners).all(1) | (corners[:, dims:] < corners[:, :dims]).any(1)
    if bad.any():
        row = int(np.argmax(bad))
        where = names[images[row]] if names else f"number {images[row]}"
        raise BadInput(
            f"a detection on image {where} is not a box with a score: box {corners[row].tolist()}, score {scores[row]}"
        )
    labels_flat = _flat([labels for _, _, labels in detections], np.int64)
    return FoundBoxes(images, labels_flat, corners, _volumes(corners), scores)


def of_classes(found: FoundBoxes, classes: int) -> FoundBoxes:
    """Return the detections whose label is below `classes`."""
    if not len(found.labels) or found.labels.max() < classes:
        return found
    return chosen(found, found.labels < classes)


def chosen(found: FoundBoxes, rows: np.ndarray) -> FoundBoxes:
    """Return some of the detections, those that `rows` (n,) bool says."""
    return FoundBoxes(*(getattr(found, field.name)[rows] for field in fields(found)))


def without_crowds(truth: TrueBoxes) -> TrueBoxes:
    """Return the boxes that are single lesions."""
    if not truth.crowd.any():
        return truth
    return TrueBoxes(*(getattr(truth, field.name)[~truth.crowd] for field in fields(truth)))


def _image_of(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.repeat(np.arange(len(parts), dtype=np.int64), [len(part) for part in parts])


def _stacked(boxes: Sequence[np.ndarray], dims: int) -> np.ndarray:
    rows = [np.asarray(part, np.float64).reshape(-1, 2 * dims) for part in boxes]
    return np.concatenate(rows) if rows else np.empty((0, 2 * dims))


def _flat(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    rows: list[np.ndarray] = [np.asarray(part, dtype).reshape(-1) for part in parts]
    return np.concatenate(rows) if rows else np.empty(0, dtype)


def _volumes(corners: np.ndarray) -> np.ndarray:
    d = corners.shape[1] // 2
    return np.prod(corners[:, d:] - corners[:, :d], axis=1)
