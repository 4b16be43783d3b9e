"""Pictures, whole volumes and their slices: each one image of a store, with the boxes that it shows."""

import numpy as np

from medaug_cli.preprocess.records import (
    CUT_OFF,
    LEFT_OUT,
    Outcome,
    Treated,
    carried,
    doubt_cover,
    record_of,
    report_of,
    too_small,
)
from medaug_cli.preprocess.report import SliceReport
from medaug_cli.preprocess.strip import Stripped
from medaug_cli.scans.placement import Placement, place, place_volume
from medaug_cli.words import percent

LEAST_LIGHT = 0.02  # of a slice's brightness on average; others are blank
BLANK = "blank"


def picture(treated: Treated) -> Outcome:
    """Return the one image of a picture (c, h, w); none where all of its lesions are dropped."""
    recipe, stripped = treated.recipe, treated.stripped
    placement = place(treated.image.shape[1:], stripped.mask, recipe.size, recipe.fit, recipe.margin)
    return _slice(treated, None, stripped, placement)


def whole_volume(treated: Treated) -> Outcome:
    """Return the one 3D image of a volume (c, z, y, x); none where all of its lesions are dropped."""
    recipe, stripped = treated.recipe, treated.stripped
    assert recipe.volume is not None
    placement = place_volume(
        treated.image.shape[1:],
        stripped.mask,
        treated.spacing or (1.0, 1.0, 1.0),
        frame=recipe.volume,
        fit=recipe.fit,
        margin=recipe.margin,
        mm=recipe.volume_mm,
    )
    return _slice(treated, None, stripped, placement)


def slices(treated: Treated) -> Outcome:
    """Return the slices of a volume (c, z, y, x): one crop and one range of grey values for all of them."""
    recipe, stripped = treated.recipe, treated.stripped
    flat = None if stripped.mask is None else np.asarray(stripped.mask.any(0))
    placement = place(treated.image.shape[2:], flat, recipe.size, recipe.fit, recipe.margin)
    outcome = Outcome()
    for z in range(treated.image.shape[1]):
        own = _slice(treated, z, stripped.in_slice(z), placement)
        outcome.records += own.records
        outcome.reports += own.reports
    return outcome


def _slice(treated: Treated, z: int | None, stripped: Stripped, placement: Placement) -> Outcome:
    """Return all of a scan (z is None), or the slice z of a volume, as it is placed; or its report alone.

    An image that shows a lesion but has no box is left out: it would pass for a normal one.
    """
    recipe, lesions = treated.recipe, treated.lesions
    report = report_of(treated.scan, stripped, z, slice=z, annotated=treated.annotated)
    image = treated.image if z is None else treated.image[:, z]
    boxes, labels = lesions.in_slice(z, recipe.least_area)
    shares, kept = carried(boxes, placement)
    small, cut = lesions.too_small(z, recipe.least_area), zip(boxes[~kept], shares[~kept], strict=True)
    report.dropped_boxes = [
        *(lesions.dropped if not z else ()),
        *too_small(small, recipe.least_area),
        *(f"{CUT_OFF} (box {box.tolist()}: {percent(share)})" for box, share in cut),
    ]
    report.repaired = lesions.repaired if not z else []
    why = "" if kept.any() else _no_normal(treated, z, image, report)
    if stripped.refused and why != BLANK:
        report.state = "skipped"
        report.dropped_boxes += [f"{LEFT_OUT} (box {box.tolist()})" for box in boxes[kept]]
        return Outcome(reports=[report])
    if why:
        report.state, report.doubtful = "blank" if why == BLANK else "skipped", False
        report.reason = "" if why == BLANK else why
        return Outcome(reports=[report])
    doubt_cover(report, boxes, stripped.mask)
    record = record_of(
        report,
        recipe,
        image=image,
        lesion=lesions.marks(recipe.mask_names, z),
        boxes=boxes[kept],
        labels=[label for label, ok in zip(labels, kept, strict=True) if ok],
        placement=placement,
        spacing=treated.spacing,
        steps=treated.steps if z is None else treated.steps | {"slice": z},
    )
    return Outcome([record], [report])


def _no_normal(treated: Treated, z: int | None, image: np.ndarray, report: SliceReport) -> str:
    """Return why an image without a box is not stored as a normal one; nothing where it is."""
    if report.dropped_boxes:
        return "its lesions were dropped"
    if z is None:
        return ""
    if treated.lesions.grazes(z):
        return "the end of a lesion, less than half a slice of it"
    if image.mean() < LEAST_LIGHT:
        return BLANK
    if treated.lesions.dropped:
        return "a lesion of its volume was dropped, and may be here"
    return "no lesion" if treated.recipe.slices == "lesions" and treated.annotated else ""
