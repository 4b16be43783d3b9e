"""Cubes around the lesions of a volume: as wide in millimetres, one for each, whatever the scanner's voxels."""

import numpy as np

from medaug_cli.preprocess.recipe import Recipe
from medaug_cli.preprocess.records import (
    LEFT_OUT,
    TOO_LARGE,
    TOO_SMALL,
    Outcome,
    Treated,
    carried,
    doubt,
    doubt_cover,
    record_of,
    report_of,
)
from medaug_cli.scans.placement import Placement, around

ROUND = 8  # mm to which the width of a cube that would hold a lesion is rounded up


def cubes(treated: Treated) -> Outcome:
    """Return a cube for each lesion of a volume (c, z, y, x), with the boxes of the others that lie in it.

    A lesion that is larger than the cube is cut off and flagged, or skipped where less than 30 % of it is left.
    """
    recipe, stripped, lesions, spacing = treated.recipe, treated.stripped, treated.lesions, treated.spacing or ()
    boxes, labels = lesions.whole(recipe.least_area)
    outcome, lesion = Outcome(), None if lesions.values is None else lesions.values > 0
    for number, box in enumerate(boxes):
        own = stripped.in_slices(range(int(box[2]), int(np.ceil(box[5]))))
        report = report_of(treated.scan, own, number, lesion=number)
        outcome.reports.append(report)
        placement = _cube(box, treated.image.shape[1:], spacing, recipe)
        shares, kept = carried(boxes, placement)
        if own.refused or not kept[number]:
            report.state, report.doubtful = "skipped", False
            report.reason = own.reason if own.refused else _too_large(box, spacing, recipe)
            report.dropped_boxes = [f"{LEFT_OUT if own.refused else TOO_LARGE} (box {box.tolist()})"]
            continue
        if shares[number] < 1 - 1e-4:
            doubt(report, _too_large(box, spacing, recipe))
        doubt_cover(report, boxes[[number]], own.mask)
        outcome.records.append(
            record_of(
                report,
                recipe,
                image=treated.image,
                lesion=lesion,
                boxes=boxes[kept],
                labels=[label for label, ok in zip(labels, kept, strict=True) if ok],
                placement=placement,
                spacing=treated.spacing,
                steps=treated.steps | {"lesion": number, "spacing": [recipe.region_mm / recipe.size] * 3},
            )
        )
    if not len(boxes):
        outcome.reports.append(report_of(treated.scan, stripped, state="skipped", doubtful=False))
        outcome.reports[0].reason = "no lesion"
    small = [f"{TOO_SMALL} {recipe.least_area} ({size} voxels)" for size in lesions.too_small(None, recipe.least_area)]
    outcome.reports[0].dropped_boxes[:0] = [*lesions.dropped, *small]
    outcome.reports[0].repaired = lesions.repaired
    return outcome


def _cube(box: np.ndarray, spatial: tuple[int, ...], spacing: tuple[float, ...], recipe: Recipe) -> Placement:
    centre = (box[:3] + box[3:])[::-1] / 2
    return around(spatial, centre, [recipe.region_mm / step for step in spacing], recipe.size)


def _too_large(box: np.ndarray, spacing: tuple[float, ...], recipe: Recipe) -> str:
    sides = (box[3:] - box[:3]) * np.array(spacing[::-1])
    wanted = int(np.ceil(sides.max() / ROUND) * ROUND)
    words = "x".join(f"{side:.0f}" for side in sides)
    return (
        f"the lesion, {words} mm, does not fit its cube of {recipe.region_mm:g} mm; --region-mm {wanted} would hold it"
    )
