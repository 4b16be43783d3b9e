"""Pictures and the slices of volumes: each one image of a store, with the boxes that it shows."""

import numpy as np

from medaug_cli.preprocess.records import Outcome, Treated, carried, doubt_cover, record_of, report_of
from medaug_cli.preprocess.report import SliceReport
from medaug_cli.preprocess.strip import Stripped
from medaug_cli.scans.placement import Placement, place
from medaug_cli.store import Record

BLANK = 0.02  # share of a volume's brightness below which a slice is blank


def picture(treated: Treated) -> Outcome:
    """Return the one image of a picture (c, h, w)."""
    recipe, stripped = treated.recipe, treated.stripped
    placement = place(treated.image.shape[1:], stripped.mask, recipe.size, recipe.fit, recipe.margin)
    record, report = _slice(treated, None, stripped, placement)
    report.dropped_boxes[:0] = treated.lesions.dropped
    return Outcome([record], [report])


def slices(treated: Treated) -> Outcome:
    """Return the slices of a volume (c, z, y, x): one crop and one range of grey values for all of them."""
    scan, recipe, stripped, image = treated.scan, treated.recipe, treated.stripped, treated.image
    outcome = Outcome()
    flat = None if stripped.mask is None else np.asarray(stripped.mask.any(0))
    placement = place(image.shape[2:], flat, recipe.size, recipe.fit, recipe.margin)
    for z in range(image.shape[1]):
        blank = image[:, z].mean() < BLANK
        if (blank or recipe.slices == "lesions") and not len(treated.lesions.in_slice(z, recipe.least_area)[0]):
            report = report_of(scan, stripped, z, slice=z, state="blank" if blank else "skipped", doubtful=False)
            report.reason = "" if blank else "no lesion"
            outcome.reports.append(report)
            continue
        own = stripped.in_slice(z)
        if own.refused:
            outcome.reports.append(report_of(scan, own, z, slice=z, state="skipped"))
            continue
        record, report = _slice(treated, z, own, placement)
        outcome.records.append(record)
        outcome.reports.append(report)
    if outcome.reports:
        outcome.reports[0].dropped_boxes[:0] = treated.lesions.dropped
    return outcome


def _slice(treated: Treated, z: int | None, stripped: Stripped, placement: Placement) -> tuple[Record, SliceReport]:
    """Return a picture (z is None), or the slice z of a volume, as it is placed."""
    report = report_of(treated.scan, stripped, z, slice=z)
    boxes, labels = treated.lesions.in_slice(z, treated.recipe.least_area)
    shares, kept = carried(boxes, placement)
    report.dropped_boxes += [
        f"box {box.tolist()}: {share:.0%} of it is left in the frame"
        for box, share in zip(boxes[~kept], shares[~kept], strict=True)
    ]
    doubt_cover(report, boxes, stripped.mask)
    record = record_of(
        report,
        treated.recipe,
        image=treated.image if z is None else treated.image[:, z],
        lesion=treated.lesions.mask(z),
        boxes=boxes[kept],
        labels=[label for label, ok in zip(labels, kept, strict=True) if ok],
        placement=placement,
        spacing=treated.spacing,
        steps=treated.steps if z is None else treated.steps | {"slice": z},
    )
    return record, report
