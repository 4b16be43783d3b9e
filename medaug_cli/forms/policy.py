"""The one policy for broken boxes: repaired or left out, and reported, or refused; never dropped in silence.

Corners in the wrong order are put right. A box without extent is left out, and its image is not a normal one. Of two
boxes of one image with the same corners and label one is kept: no detector could find the other. A box that reaches
over the border by up to SLACK is cut off there; one that reaches further belongs to another image or another size, and
is refused.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.forms.annotations import Annotation, Note

LESION = "lesion"  # what has no label of its own
SLACK = 1.0  # pixels that a box may reach over the border; they are cut off
DUST = 0.1  # pixels over the border that are rounding, and not worth a note
SWAPPED = "corners in the wrong order, put right"
EMPTY = "a box without extent, left out"
CUT = "a box cut off at the border"
PIXEL = "a box of a single pixel, kept"  # a slip of the mouse rather than a lesion
TWICE = "a box given twice, kept once"
CROWD = "a crowd region, left out"
NO_OUTLINE = "a box without an outline, kept; the mask marks nothing there"
UNMET = "a region of a mask that leaves no voxel on its scan"
UNLABELLED = "a box without a label, where others have one, kept as lesion"
UNNAMED = (
    "a mask of several values or colours without names: all count as one kind of lesion (a labels.json can name values)"
)


def add_box(
    item: Annotation,
    box: Sequence[float],
    label: str | None,
    place: str,
    last_inside: bool = False,
    outlined: bool = False,
) -> bool:
    """Add a box, low corner and high corner, to an annotation, or note why not; tell whether it was added.

    Without a label, None or blank, it is a lesion. `last_inside`: corners are whole pixels from 1 on, both inside the
    box, as in Pascal VOC. `outlined`: its outline may be another one than that of a box with the same corners. Raises
    BadInput for a corner that is not finite.
    """
    if not np.isfinite(box).all():
        raise BadInput(f"{place}: the box {list(box)} has a corner that is not a finite number")
    d = len(box) // 2
    pairs = list(zip(box[:d], box[d:], strict=True))
    apart = 1 if last_inside else 0  # a side of half a pixel from 50.5 on is written as 51.5, 51
    turned = [first > second and first - second >= apart for first, second in pairs]
    pairs = [pair[::-1] if swap else pair for pair, swap in zip(pairs, turned, strict=True)]
    low, high = [first for first, _ in pairs], [second for _, second in pairs]
    if any(turned):
        item.notes.append(Note(SWAPPED, place, f"box {list(box)}"))
    if last_inside:
        low = [value - 1 for value in low]
    if any(end <= start for start, end in zip(low, high, strict=True)):
        item.notes.append(Note(EMPTY, place, f"box {list(box)}", lost=True))
        return False
    corners, name = (*low, *high), label or LESION
    if not outlined and (corners, name) in zip(item.boxes, item.labels, strict=True):
        item.notes.append(Note(TWICE, place, f"box {list(box)}"))
        return False
    if not item.millimetres and all(end - start <= 1 for start, end in zip(low, high, strict=True)):
        item.notes.append(Note(PIXEL, place, f"box {list(box)}"))
    item.boxes.append(corners)
    item.labels.append(name)
    item.places.append(place)
    if not label:
        item.unlabelled.append(place)
    return True


def note_unlabelled(annotations: Iterable[Annotation]) -> None:
    """Note each box without a label where other boxes have one: its class was left open rather than alike."""
    every = list(annotations)
    if any(len(one.unlabelled) < len(one.boxes) for one in every):
        for one in every:
            one.notes += [Note(UNLABELLED, place) for place in one.unlabelled]


def cut_off(
    boxes: np.ndarray, size: Sequence[int], places: Sequence[str], scan: str
) -> tuple[np.ndarray, np.ndarray, list[Note]]:
    """Return boxes (m, 2*d) cut off at the border of an image of `size` (x first), which are left, and notes.

    Raises BadInput for a box that reaches further out than SLACK, with its place and the name of the scan.
    """
    d, notes = len(size), []
    cut = np.clip(boxes, 0, np.tile(np.array(size, np.float32), 2))
    over = np.abs(cut - boxes).max(1, initial=0)
    stored = cut.astype(np.float32)  # in which a box may be empty that is not in float64
    kept = (stored[:, d:] > stored[:, :d]).all(1)
    for box, far, whole, place in zip(boxes, over, kept, _named(places, len(boxes), scan), strict=True):
        if far > SLACK:
            shape = "x".join(map(str, size))
            raise BadInput(f"{place}: the box {_plain(box)} lies outside its image {scan} of {shape} pixels")
        if not whole:
            notes.append(Note(EMPTY, place, f"box {_plain(box)}", lost=True))
        elif far > DUST:
            notes.append(Note(CUT, place, f"box {_plain(box)}"))
    return cut, kept, notes


def _named(places: Sequence[str], count: int, scan: str) -> Sequence[str]:
    return places if len(places) == count else [scan] * count


def _plain(box: Any) -> list[float]:
    return [round(float(value), 3) for value in box]
