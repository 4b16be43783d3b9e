"""Regions around the lesions of a picture or volume, all as wide in millimetres, and regions without a lesion."""

from typing import Any

import numpy as np

from medaug_cli.preprocess.records import (
    LEFT_OUT,
    TOO_LARGE,
    Outcome,
    Treated,
    carried,
    doubt,
    doubt_cover,
    record_of,
    report_of,
    too_small,
)
from medaug_cli.preprocess.report import SliceReport
from medaug_cli.preprocess.strip import Stripped
from medaug_cli.scans.placement import Placement, around
from medaug_cli.scans.room import body, share_in
from medaug_cli.store import NORMAL

ROUND = 8  # mm to which the width of a region that would hold a lesion is rounded up
MOST_TRIES = 1000  # places in a scan that are looked at, beside the boxes, for one where no mask reaches
LEAST_BODY = 0.5  # of a region without a lesion that is body, as a share of the most that any region of its scan is


def regions(treated: Treated) -> Outcome:
    """Return a region for each lesion of a scan (c, *s), with the boxes of the others in it, and some without a lesion.

    A lesion that is larger than its region is cut off and flagged, or skipped where less than 30 % of it is left. A
    pixel counts as a millimetre where a picture does not say how wide it is.
    """
    boxes, labels = treated.lesions.whole(treated.recipe.least_area)
    outcome = Outcome()
    for number in range(len(boxes)):
        _add_lesion(outcome, treated, boxes, labels, number)
    _add_normals(outcome, treated, boxes)
    if not outcome.reports:
        outcome.reports.append(report_of(treated.scan, treated.stripped, state="skipped", doubtful=False))
        outcome.reports[0].reason = "no lesion"
    _say_of_all(outcome.reports[0], treated)
    return outcome


def _add_lesion(outcome: Outcome, treated: Treated, boxes: np.ndarray, labels: list[str], number: int) -> None:
    """Add the region around one of the boxes (m, 2*d), or why there is none."""
    box = boxes[number]
    own = _stripped_at(treated, box)
    report = report_of(treated.scan, own, number, lesion=number)
    outcome.reports.append(report)
    d = len(box) // 2
    placement = _placed(treated, (box[:d] + box[d:])[::-1] / 2)
    shares, kept = carried(boxes, placement)
    if own.refused or not kept[number]:
        report.state, report.doubtful = "skipped", False
        report.reason = own.reason if own.refused else _too_large(treated, box)
        report.dropped_boxes = [f"{LEFT_OUT if own.refused else TOO_LARGE} (box {box.tolist()})"]
        return
    if shares[number] < 1 - 1e-4:
        doubt(report, _too_large(treated, box))
    doubt_cover(report, boxes[[number]], own.mask)
    inside = [*(int(i) for i in np.flatnonzero(kept) if i != number), number]  # its own last: pictures cut that
    _add_record(
        outcome, treated, report, placement,
        boxes=boxes[inside], labels=[labels[i] for i in inside], details={"lesion": number},
    )  # fmt: skip
    outcome.records[-1].image_class = treated.recipe.label or labels[number]


def _add_normals(outcome: Outcome, treated: Treated, boxes: np.ndarray) -> None:
    """Add regions without a lesion: as many as the recipe asks for each lesion; a scan without one counts as one."""
    recipe, share = treated.recipe, treated.recipe.normal_regions
    if not share:
        return
    rng = np.random.default_rng([recipe.seed, *treated.scan.id.encode()])
    count = int(share * max(1, len(boxes)) + rng.random())
    places, why = [], "a lesion of its scan was dropped, and may be there"
    if not treated.lesions.dropped:
        places, why = _lesion_free(treated, boxes, count, rng), "there is no more room beside the lesions"
    for k, placement in enumerate(places, start=len(boxes)):
        report = report_of(treated.scan, treated.stripped, k)
        outcome.reports.append(report)
        nothing = np.zeros((0, 2 * len(placement.source)), np.float32)
        _add_record(outcome, treated, report, placement, boxes=nothing, labels=[], details={})
        outcome.records[-1].image_class = NORMAL
    if len(places) == count:
        return
    if not outcome.reports:
        nowhere = report_of(treated.scan, treated.stripped, state="skipped", doubtful=False, reason=why)
        outcome.reports.append(nowhere)
    missing = f"{count - len(places)} of {count} regions without a lesion"
    outcome.reports[0].notes.append(f"{missing} are not taken: {why}")


def _add_record(
    outcome: Outcome,
    treated: Treated,
    report: SliceReport,
    placement: Placement,
    *,
    boxes: np.ndarray,
    labels: list[str],
    details: dict[str, Any],
) -> None:
    recipe = treated.recipe
    if treated.spacing is not None:
        details = details | {"spacing": [recipe.region_mm / recipe.size] * len(placement.source)}
    outcome.records.append(
        record_of(
            report,
            recipe,
            image=treated.image,
            lesion=treated.lesions.marks(recipe.mask_names),
            boxes=boxes,
            labels=labels,
            placement=placement,
            spacing=treated.spacing,
            steps=treated.steps | details,
        )
    )


def _lesion_free(treated: Treated, boxes: np.ndarray, count: int, rng: np.random.Generator) -> list[Placement]:
    """Return up to `count` regions in the body that no lesion reaches into, as far apart as they happen to be.

    They lie within a scan that is large enough: black beyond its border would tell them from regions of lesions.
    """
    rough = body(treated.image, treated.stripped.mask)
    sides = _sides(treated)
    shares = share_in(rough, sides)
    centres = rough.centres(shares >= max(LEAST_BODY * float(shares.max()), 1e-6))
    centres = centres + rng.uniform(-0.5, 0.5, centres.shape) * rough.step
    spatial = np.array(treated.image.shape[1:])
    centres = np.where(sides <= spatial, np.clip(centres, sides / 2, spatial - sides / 2), centres)
    centres = rng.permutation(centres[_free(centres, sides, boxes)])
    values = treated.lesions.values
    found: list[Placement] = []
    tries = 0
    while len(centres) and len(found) < count and tries < MOST_TRIES:
        placement, centre = _placed(treated, centres[0]), centres[0]
        tries += 1
        taken = values is None or not values[_inside(placement)].any()
        found += [placement] * taken
        apart = (np.abs(centres - centre) >= sides / 2).any(1) if taken else np.arange(len(centres)) > 0
        centres = centres[apart]
    return found


def _free(centres: np.ndarray, sides: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return which regions (n,) of `sides` (d,) around centres (n, d), in numpy axis order, meet none of the boxes."""
    d, free = len(sides), np.ones(len(centres), bool)
    for box in boxes:
        low, high = box[:d][::-1], box[d:][::-1]
        free &= ((centres + sides / 2 <= low) | (centres - sides / 2 >= high)).any(1)
    return free


def _inside(placement: Placement) -> tuple[slice, ...]:
    """Return the pixels of a scan that a region touches."""
    bounds = zip(placement.low, placement.high, strict=True)
    return tuple(slice(max(0, int(np.floor(low))), max(0, int(np.ceil(high)))) for low, high in bounds)


def _say_of_all(report: SliceReport, treated: Treated) -> None:
    """Note at the first region of a scan what is lost or put right in all of it."""
    recipe, lesions = treated.recipe, treated.lesions
    sizes = lesions.too_small(None, recipe.least_area)
    unit = "voxels" if treated.scan.volume else "pixels"
    report.dropped_boxes[:0] = [*lesions.dropped, *too_small(sizes, recipe.least_area, unit)]
    report.repaired = lesions.repaired
    spatial, sides = treated.image.shape[1:], _sides(treated)
    if (sides > spatial).any():
        unit = "mm" if treated.spacing is not None else "pixels"
        wide = "x".join(f"{n * step:.0f}" for n, step in zip(spatial[::-1], _spacing(treated)[::-1], strict=True))
        whole = f"smaller than a region of {recipe.region_mm:g} {unit}"
        report.notes.append(f"at {wide} {unit} it is {whole}: what lies outside is 0")


def _stripped_at(treated: Treated, box: np.ndarray) -> Stripped:
    """Return how a scan was stripped, with the doubts about the slices that a box reaches through."""
    if not treated.scan.volume:
        return treated.stripped
    return treated.stripped.in_slices(range(int(box[2]), int(np.ceil(box[5]))))


def _spacing(treated: Treated) -> tuple[float, ...]:
    return treated.spacing or (1.0,) * (treated.image.ndim - 1)


def _sides(treated: Treated) -> np.ndarray:
    """Return the sides (d,) of a region in pixels or voxels of its scan."""
    return treated.recipe.region_mm / np.array(_spacing(treated))


def _placed(treated: Treated, centre: np.ndarray) -> Placement:
    return around(treated.image.shape[1:], centre.tolist(), _sides(treated).tolist(), treated.recipe.size)


def _too_large(treated: Treated, box: np.ndarray) -> str:
    d, recipe = len(box) // 2, treated.recipe
    sides = (box[d:] - box[:d]) * np.array(_spacing(treated)[::-1])
    wanted = int(np.ceil(sides.max() / ROUND) * ROUND)
    words, unit = "x".join(f"{side:.0f}" for side in sides), "mm" if treated.spacing is not None else "pixels"
    return (
        f"the lesion, {words} {unit}, does not fit its region of {recipe.region_mm:g} {unit}; "
        f"--region-mm {wanted} would hold it"
    )
