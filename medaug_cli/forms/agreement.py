"""Boxes and a mask of one scan: the box gives a lesion its label and corners, the mask its outline.

Where they disagree both are kept and it is said: a box without a marked pixel, a marked lesion without a box, a box of
another extent or class than what is marked in it.
"""

import numpy as np

from medaug_cli.forms.annotations import Note
from medaug_cli.scans.masks import Labels, labelled_components

LEAST_SHARE = 0.3  # of the smaller of two boxes that lies in the other, from which they are of one lesion
LEAST_OVERLAP = 0.5  # intersection over union, below which a box and its outline differ in extent
NO_PIXEL = "a box without a marked pixel in the mask, kept"
NO_BOX = "a lesion of the mask without a box, taken from the mask"
OTHER_EXTENT = "a box and its mask differ in extent, the box is kept"
OTHER_LABEL = "a box and its mask differ in class, that of the box is kept"
PLAIN = "lesion"  # the only name of a mask that tells no classes apart
SMALL = "smaller than --min-area"


def agree(
    boxes: np.ndarray, labels: list[str], *, values: np.ndarray, names: Labels | None, least: int, place: str
) -> tuple[np.ndarray, list[str], list[Note]]:
    """Return boxes (m, 2*d) and labels, those of lesions that the mask alone marks behind them, and where they differ.

    `values` (*s) is the mask. A component of fewer than `least` pixels or voxels that lies in no box is dropped.
    """
    boxes = boxes.reshape(-1, 2 * values.ndim)
    found, kinds = labelled_components(values, names, 1)
    sure, _ = labelled_components(values, names, least)
    large = {tuple(box) for box in sure.tolist()}
    shared = np.array([[_shared(box, one) / min(_size(box), _size(one)) for one in found] for box in boxes]).reshape(
        len(boxes), len(found)
    )
    shared[shared < LEAST_SHARE] = 0
    notes, plain = [], set((names or {}).values()) == {PLAIN}
    for box, label, own in zip(boxes, labels, shared, strict=True):
        said = f"box {_plain(box)}"
        if not _any_marked(values, box):
            notes.append(Note(NO_PIXEL, place, said))
        elif own.any() and _overlap(box, found[own > 0]) < LEAST_OVERLAP:
            notes.append(Note(OTHER_EXTENT, place, said))
        if names is not None and not plain and own.any() and kinds[int(own.argmax())] != label:
            notes.append(Note(OTHER_LABEL, place, f"{said}, {label} and {kinds[int(own.argmax())]}"))
    added = []
    for i in np.flatnonzero(~shared.any(0)).tolist():
        keep = tuple(found[i].tolist()) in large
        notes.append(Note(NO_BOX if keep else f"{SMALL} {least}", place, f"box {_plain(found[i])}", lost=not keep))
        added += [i] if keep else []
    return np.concatenate([boxes, found[added]]), [*labels, *(kinds[i] for i in added)], notes


def _plain(box: np.ndarray) -> list[float]:
    return [round(float(value), 1) for value in box]


def _shared(box: np.ndarray, other: np.ndarray) -> float:
    """Return the area or volume that two boxes share."""
    d = len(box) // 2
    return float(np.clip(np.minimum(box[d:], other[d:]) - np.maximum(box[:d], other[:d]), 0, None).prod())


def _size(box: np.ndarray) -> float:
    return float((box[len(box) // 2 :] - box[: len(box) // 2]).prod())


def _overlap(box: np.ndarray, parts: np.ndarray) -> float:
    """Return the intersection over union of a box and the box around some others."""
    d = len(box) // 2
    around = np.concatenate([parts[:, :d].min(0), parts[:, d:].max(0)])
    shared = _shared(box, around)
    return shared / (_size(box) + _size(around) - shared)


def _any_marked(values: np.ndarray, box: np.ndarray) -> bool:
    d = values.ndim
    sides = zip(np.floor(box[:d]).astype(int), np.ceil(box[d:]).astype(int), strict=True)
    return bool((values[tuple(slice(max(0, low), high) for low, high in sides)[::-1]] > 0).any())
