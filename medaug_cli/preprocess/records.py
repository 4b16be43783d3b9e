"""A picture, slice, region or volume as a record of a store: placed, in bits, with its boxes and its report."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from medaug_cli.blending import window
from medaug_cli.forms.lesions import Lesions
from medaug_cli.preprocess.histograms import Histogram
from medaug_cli.preprocess.recipe import Recipe
from medaug_cli.preprocess.report import SliceReport
from medaug_cli.preprocess.strip import Stripped
from medaug_cli.scans.placement import Placement
from medaug_cli.scans.reading import Scan
from medaug_cli.store import Record
from medaug_cli.words import percent

Cut = Callable[[np.ndarray], np.ndarray]
LEAST_SHARE = 0.3  # of a box that must stay in the frame
TOO_SMALL, TOO_LARGE = "smaller than --min-area", "larger than its region"  # why lesions are dropped
CUT_OFF, LEFT_OUT = "cut off by the crop, less than 30% left", "left out with its scan or slice"
LEAST_COVER = 0.5  # of a box that the brain mask should cover


@dataclass(frozen=True)
class Treated:
    """A scan that was read, stripped and scaled: ready to be cut into images."""

    scan: Scan
    recipe: Recipe
    image: np.ndarray  # (c, *s), from 0 to 1
    lesions: Lesions
    stripped: Stripped
    spacing: tuple[float, ...] | None  # mm in numpy axis order
    steps: dict[str, Any]  # what was done to it, for the record
    annotated: bool = True  # False: nobody looked for lesions


@dataclass
class Outcome:
    """What one file became: records without patient and split, and a report a slice or region."""

    records: list[Record] = field(default_factory=list)
    reports: list[SliceReport] = field(default_factory=list)
    histograms: dict[str, Histogram] = field(default_factory=dict)  # before and after


def report_of(scan: Scan, stripped: Stripped, part: int | None = None, **changes: Any) -> SliceReport:
    """Return what there is to say of a scan, or of its slice or lesion `part`, before it is placed."""
    said: dict[str, Any] = {
        "id": scan.id if part is None else f"{scan.id}-{part:03d}",
        "file": scan.shown,
        "state": "kept",
        "strip": stripped.name,
        "doubtful": stripped.doubtful,
        "reason": stripped.reason,
        "measures": dict(stripped.measures),
    }
    return SliceReport(**said | {name: value for name, value in changes.items() if value != ""})


def too_small(sizes: Iterable[int], least: int, unit: str = "pixels") -> list[str]:
    """Say of lesions of so many pixels or voxels why they are dropped."""
    return [f"{TOO_SMALL} {least} ({size} {unit})" for size in sizes]


def doubt(report: SliceReport, reason: str) -> None:
    """Flag a slice or region for one reason more."""
    report.doubtful = True
    report.reason = f"{report.reason}; {reason}" if report.reason else reason


def carried(boxes: np.ndarray, placement: Placement) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of each box (m, 2*d) that is left in the frame, and which boxes are kept, both (m,)."""
    whole, cut = placement.boxes(boxes, clip=False), placement.boxes(boxes)
    d = whole.shape[1] // 2
    sides = cut[:, d:] - cut[:, :d]
    share = sides.prod(1) / np.maximum((whole[:, d:] - whole[:, :d]).prod(1), 1e-12)
    return share, (share >= LEAST_SHARE) & (sides.min(1, initial=np.inf) > 0)


def record_of(
    report: SliceReport,
    recipe: Recipe,
    *,
    image: np.ndarray,
    lesion: np.ndarray | None,
    boxes: np.ndarray,
    labels: list[str],
    placement: Placement,
    spacing: tuple[float, ...] | None,
    steps: dict[str, Any],
) -> Record:
    """Return the record of an image (c, *s) from 0 to 1 with the boxes (m, 2*d) that are kept; count them.

    `lesion` (*s) uint8, 0 outside, becomes its mask, where the recipe wants one; `spacing` is mm between the scan's
    pixels or voxels.
    """
    moved = placement.boxes(boxes)
    d = moved.shape[1] // 2
    report.boxes = len(moved)
    report.box_sizes = [[round(float(side), 1) for side in box[d:] - box[:d]] for box in moved]
    between = bool(recipe.region_mm) or d == 3  # pixels
    cut = placement.sample if between else placement.apply
    kind: Any = np.uint16 if recipe.bits == 16 else np.uint8
    mask = None
    if recipe.with_masks:
        full = np.zeros(image.shape[1:], np.uint8) if lesion is None else lesion
        whole = partial(placement.sample, order="area", beyond=True) if between else partial(cut, order="area")
        values = [recipe.mask_names.index(name) + 1 if name in recipe.mask_names else 0 for name in labels]
        mask = cut_mask(
            full, partial(cut, order="area"), whole, names=len(recipe.mask_names), boxes=moved, values=values
        )
    if (np.array(report.box_sizes) < 1).any():
        doubt(report, "a lesion is less than a pixel wide at this size")
    return Record(
        id=report.id,
        image=np.rint(np.clip(cut(image, "linear"), 0, 1) * np.iinfo(kind).max).astype(kind),
        boxes=moved,
        labels=[recipe.label or label for label in labels],
        patient="",
        split="",
        mask=mask,
        spacing=None if spacing is None else placed_spacing(spacing, placement),
        annotated=report.annotated,
        details={"file": report.file, "placement": placement.details(), "strip": report.strip, **steps},
    )


def cut_mask(
    marks: np.ndarray, cut: Cut, whole: Cut, *, names: int, boxes: np.ndarray, values: Sequence[int]
) -> np.ndarray:
    """Return marks (*s) uint8 as they are in a crop: where half of a pixel is marked, by what marks most of it.

    `cut` takes the share (1, *s) of each pixel that is marked to that in the crop, and so does `whole` with the pixels
    that the border of the scan divides; there are marks from 1 to `names`, or 1 alone where there are no names. Of a
    lesion in `boxes` (m, 2*d) that is too small its fullest pixel is marked, with its mark of `values` (0: unknown).
    """
    marked = _marked(marks, cut, whole, boxes)
    if names < 2:
        return marked.astype(np.uint8)
    shares = np.stack([whole((marks == value)[None])[0] for value in range(1, names + 1)])
    found = np.where(marked, shares.argmax(0) + 1, 0).astype(np.uint8)
    for box, value in zip(boxes, values, strict=True):
        place = window(box, found.shape)
        share = shares[value - 1][place]
        if value and share.any() and not (found[place] == value).any():  # within a lesion of another kind
            found[place][share == share.max()] = value
    return found


def _marked(marks: np.ndarray, cut: Cut, whole: Cut, boxes: np.ndarray) -> np.ndarray:
    """Return the pixels (*s) bool half of which are marked; of a lesion too small for that, its fullest pixel.

    `boxes` (m, 2*d) say where lesions are: none that has a box is lost from the mask, at the scan's border neither.
    """
    marked = cut((marks > 0)[None])[0] >= 0.5  # a crop alone becomes floats
    lost = [place for box in boxes if not marked[place := window(box, marked.shape)].any()]
    share = whole((marks > 0)[None])[0] if lost else marked
    for place in lost:
        if share[place].any() and not marked[place].any():
            marked[place] |= share[place] == share[place].max()
    return marked


def placed_spacing(spacing: tuple[float, ...], placement: Placement) -> tuple[float, ...]:
    """Return mm between the pixels of a placed image (d,) from those of its scan, of which a slice has the last two."""
    scale = placement.scale
    return tuple((np.array(spacing[-len(scale) :], np.float64) / scale).tolist())


def doubt_cover(report: SliceReport, boxes: np.ndarray, brain: np.ndarray | None) -> None:
    """Note how much of the boxes (m, 2*d) a brain mask (*s) covers, the least of them; flag too little."""
    if brain is None or not len(boxes):
        return
    least = min(cover(box, brain) for box in boxes)
    report.measures["lesion_cover"] = round(least, 4)
    if least < LEAST_COVER:
        doubt(report, f"the brain mask covers {percent(least)} of a lesion")


def cover(box: np.ndarray, mask: np.ndarray) -> float:
    """Return the share of a box (2*d,) that a mask (*s) covers."""
    d = mask.ndim
    sides = zip(np.floor(box[:d]).astype(int), np.ceil(box[d:]).astype(int), strict=True)
    part = mask[tuple(slice(low, high) for low, high in sides)[::-1]]
    return float(part.mean()) if part.size else 0.0
