"""Evaluate detectors, or systems of several seeds, on the same images, and compare each with the first."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from medaug_cli.errors import MedaugError
from medaug_cli.metrics.annotations import Annotated, FoundBoxes
from medaug_cli.metrics.breakdown import break_down
from medaug_cli.metrics.coco import twelve_numbers
from medaug_cli.metrics.operating import (
    AP_DEFINITIONS,
    MATCHED_FPS,
    Cohort,
    Scored,
    average_precision,
    average_precisions,
    cohort_of,
    froc,
    mean_over_classes,
    score_detections,
)
from medaug_cli.metrics.report import (
    AP_RULE,
    Analysis,
    AtIou,
    AveragePrecision,
    Findings,
    Metrics,
    PairedDifference,
    Row,
    hit_words,
    label,
)
from medaug_cli.metrics.resampling import (
    Difference,
    Numbers,
    blanked,
    bootstrap,
    bootstrap_weights,
    compare,
    everything,
    holm,
    interval,
    over_seeds,
    point,
    resampled_over,
    swaps,
    verdict,
)

AT = "1"  # false positives per slice of the score at which errors, sizes and slices are counted
Found = Mapping[str, FoundBoxes | Sequence[FoundBoxes]]


def analyse(
    data: Annotated,
    found: Found,
    how: Analysis,
    split: str | None = None,
    progress: Callable[[str], None] = lambda detector: None,
) -> Findings:
    """Evaluate each detector, or the seeds of each system, and compare it with the first."""
    cohort = cohort_of(data)
    systems = {name: [each] if isinstance(each, FoundBoxes) else list(each) for name, each in found.items()}
    ious = tuple(dict.fromkeys((*how.ious, how.map_iou)))
    weights = bootstrap_weights(len(cohort.patients), how.resamples, how.seed)
    swap = swaps(len(cohort.patients), how.resamples, how.seed) if len(systems) > 1 else None
    scored = {
        name: [score_detections(data, cohort, boxes, ious, how.rule) for boxes in each]
        for name, each in systems.items()
    }
    rows = []
    for name, boxes in systems.items():
        progress(name)
        rows.append(_row(name, scored[name], boxes, cohort, data, how))
    for iou in how.ious:
        measure = everything(cohort, iou, how.threshold)
        over = resampled_over(measure, next(iter(scored.values()))[0], cohort)
        spreads = {
            name: [blanked(bootstrap(measure, one, cohort, weights), over) for one in each]
            for name, each in scored.items()
        }
        for row, (name, each) in zip(rows, scored.items(), strict=True):
            row.iou[label(iou)] = _at_iou(name, each, spreads[name], systems[name][0], cohort, data, iou, how)
        if swap is not None:
            _compare_all(rows, scored, spreads, cohort, iou, how, swap)
    metrics = Metrics(
        rule=how.rule, ap_rule=AP_RULE.format(hit=hit_words(how.rule, label(how.map_iou))),
        threshold=how.threshold, split=split, slices=len(data), boxes=cohort.box_total,
        slices_without_boxes=len(data) - len(np.unique(data.truth.images[~data.truth.crowd])),
        boxes_by_label=dict(zip(data.label_names, cohort.boxes.sum(0).tolist(), strict=False)),
        crowds=int(data.truth.crowd.sum()), patients=len(cohort.patients), resamples=how.resamples, seed=how.seed,
        remarks=_remarks(cohort), rows=rows,
    )  # fmt: skip
    curves = {iou: [[froc(one, cohort, iou) for one in each] for each in scored.values()] for iou in how.ious}
    return Findings(metrics, curves)


def _remarks(cohort: Cohort) -> list[str]:
    """Say where intervals and comparisons cannot be had."""
    if len(cohort.patients) < 2:
        return ["Intervals and comparisons are not available: one patient cannot be resampled"]
    if int((cohort.boxes.sum(1) > 0).sum()) < 2:
        return ["Intervals and comparisons of sensitivity are not available: one patient alone has boxes"]
    return []


def _row(
    name: str, scored: Sequence[Scored], found: Sequence[FoundBoxes], cohort: Cohort, data: Annotated, how: Analysis
) -> Row:
    ones = np.ones((1, len(cohort.patients)))
    precisions = np.mean([average_precisions(one, cohort, how.map_iou, ones) for one in scored], 0)
    twelve = np.mean([twelve_numbers(data, boxes) for boxes in found], 0).tolist() if how.coco else None
    return Row(
        detector=name,
        mAP=_defined(mean_over_classes(precisions)[0]),
        ap={kind: _defined(ap) for kind, ap in zip(data.label_names, precisions[0].tolist(), strict=False)},
        iou={},
        against_first=None,
        coco=twelve,
        seeds=len(scored),
    )


def _at_iou(
    name: str, scored: Sequence[Scored], spread: Sequence[Numbers], first: FoundBoxes, cohort: Cohort,
    data: Annotated, iou: float, how: Analysis,
) -> AtIou:  # fmt: skip
    measure, curves = everything(cohort, iou, how.threshold), [froc(one, cohort, iou) for one in scored]
    seeds = [point(measure, one, cohort) for one in scored]
    for one, values in zip(scored, seeds, strict=True):
        _check_identity(one, cohort, iou, how.threshold, values)
    numbers = {key: _defined(float(np.mean([values[key] for values in seeds]))) for key in seeds[0]}
    thresholds = {label(fps): curves[0].threshold_at(fps) for fps in MATCHED_FPS}
    return AtIou(
        sensitivity=numbers["sensitivity"],
        fps_per_slice=numbers["fps_per_slice"],
        at_fps={label(fps): numbers[f"sensitivity_at_{fps:g}"] for fps in MATCHED_FPS},
        cpm=numbers["cpm"],
        mAP=numbers["mAP"],
        interval={key: interval(over_seeds(spread, key, how.seed, name)) for key in spread[0]},
        thresholds=thresholds,
        curve_ends_at=min(float(curve.fps_per_slice[-1]) for curve in curves),
        average_precision=_precisions(scored, cohort, data.label_names, iou),
        breakdown=break_down(data, cohort, first, iou, how.rule, thresholds[AT], how.threshold, how.sizes),
        seeds=[{key: _defined(value) for key, value in values.items()} for values in seeds] if len(seeds) > 1 else [],
    )


def _precisions(
    scored: Sequence[Scored], cohort: Cohort, names: Sequence[str], iou: float
) -> dict[str, AveragePrecision]:
    """Return average precision by each definition and class, means over seeds."""
    boxes, found = cohort.boxes.sum(0).tolist(), {}
    for definition, rule in AP_DEFINITIONS.items():
        values = np.full((len(scored), len(names)), np.nan)
        for i, one in enumerate(scored):
            hit, counted = one.column(iou), one.column(iou) | one.false(iou)
            for k in range(len(names)):
                values[i, k] = average_precision(hit[counted & (one.labels == k)], boxes[k], rule)
        classes = values.mean(0)
        found[definition] = AveragePrecision(
            mean=_defined(mean_over_classes(classes[None])[0]),
            classes={name: _defined(value) for name, value in zip(names, classes.tolist(), strict=True)},
        )
    return found


def _check_identity(scored: Scored, cohort: Cohort, iou: float, threshold: float, numbers: Mapping[str, float]) -> None:
    """Raise MedaugError unless sensitivity x boxes + false positives is the number of detections (Table 1).

    Detections that the rule ignores are left out.
    """
    found, false = numbers["sensitivity"], numbers["fps_per_slice"]
    if not np.isfinite(found) or not np.isfinite(false):
        return
    kept = scored.scores >= threshold
    detections = int((kept & (scored.column(iou) | scored.false(iou))).sum())
    counted = found * cohort.box_total + false * cohort.slice_total
    if abs(counted - detections) > 1e-6 * max(1, detections):
        raise MedaugError(f"the numbers at IoU {iou:g} count {counted:.6g} detections where there are {detections}")


def _compare_all(
    rows: list[Row], scored: Mapping[str, Sequence[Scored]], spreads: Mapping[str, Sequence[Numbers]],
    cohort: Cohort, iou: float, how: Analysis, swap: np.ndarray,
) -> None:  # fmt: skip
    """Compare every system with the first at one IoU, and correct for their number."""
    measure, (first, *others) = everything(cohort, iou, how.threshold), scored
    arms = [
        compare(
            measure, scored[first], scored[name], cohort, spreads[first], spreads[name], swap, how.seed, (first, name)
        )
        for name in others
    ]
    corrected = {number: holm([arm[number] for arm in arms]) for number in arms[0]}
    for i, (row, arm) in enumerate(zip(rows[1:], arms, strict=True)):
        differences = {number: _paired(arm[number], corrected[number][i], number) for number in arm}
        row.against_first = (row.against_first or {}) | {label(iou): differences}


def _paired(difference: Difference | None, p_holm: float, number: str) -> PairedDifference | None:
    if difference is None:
        return None
    said = verdict(difference.interval, p_holm)
    if number == "fps_per_slice" and said != "inconclusive":  # fewer are better
        said = "worse" if said == "better" else "better"
    return PairedDifference(
        difference=difference.difference, interval=difference.interval,
        p=difference.p, p_bootstrap=difference.p_bootstrap, p_holm=p_holm, verdict=said,
    )  # fmt: skip


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
