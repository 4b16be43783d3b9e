"""metrics.json: what `medaug evaluate` finds, as a file for scripts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from medaug_cli.boxes import Strict
from medaug_cli.errors import MedaugError
from medaug_cli.metrics.annotations import Annotated, FoundBoxes
from medaug_cli.metrics.coco import twelve_numbers
from medaug_cli.metrics.operating import (
    MAP_IOU,
    MATCHED_FPS,
    Cohort,
    Froc,
    Scored,
    average_precisions,
    cohort_of,
    froc,
    mean_over_classes,
    score_detections,
)
from medaug_cli.metrics.resampling import (
    RESAMPLES,
    Difference,
    Measure,
    at_iou,
    bootstrap,
    bootstrap_weights,
    compare,
    holm,
    interval,
    mean_ap,
    point,
    swaps,
)

AP_RULE = "mean precision envelope at 101 recalls, IoU 0.5, no cap, mean over the classes that have boxes"
Interval = tuple[float, float]


class PairedDifference(Strict):
    """This detector less the first one, on the same patients."""

    difference: float
    interval: Interval  # 95 %, paired patient bootstrap
    p: float = Field(ge=0, le=1)  # two-sided, detectors swapped patient by patient
    p_bootstrap: float = Field(ge=0, le=1)
    p_holm: float = Field(ge=0, le=1)  # p, corrected for the number of detectors compared


class AtIou(Strict):
    """One detector at one IoU; null where there is no box to find."""

    sensitivity: float | None  # at the score threshold
    fps_per_slice: float | None
    at_fps: dict[str, float | None]  # false positives per slice -> sensitivity
    cpm: float | None  # mean sensitivity at 1/8 to 8
    mAP: float | None
    interval: dict[str, Interval | None]
    thresholds: dict[str, float | None]  # false positives per slice -> the score behind them
    curve_ends_at: float  # false positives per slice of all detections; beyond, sensitivity is the last one


class Row(Strict):
    """One detector."""

    detector: str
    mAP: float | None
    ap: dict[str, float | None]  # by class
    iou: dict[str, AtIou]
    against_first: dict[str, dict[str, PairedDifference | None]] | None  # IoU -> number -> difference
    coco: list[float] | None  # COCO's twelve numbers in COCO's order
    weights: str | None = None  # SHA-256 of the detector's weights, or of its detections file


class Metrics(Strict):
    """metrics.json."""

    rule: str = "coco"
    ap_rule: str = AP_RULE
    threshold: float
    split: str | None
    slices: int
    slices_without_boxes: int
    boxes: int
    boxes_by_label: dict[str, int]
    crowds: int = 0  # regions that are no single lesion: not among the boxes
    patients: int
    resampled: str = "patients"
    resamples: int
    seed: int
    data: dict[str, str] = {}  # file -> SHA-256
    tool_version: str = ""
    note: str | None = None
    rows: list[Row]


@dataclass(frozen=True)
class Analysis:
    """How to evaluate."""

    ious: tuple[float, ...] = (0.5, 0.25)
    threshold: float = 0.001
    resamples: int = RESAMPLES
    seed: int = 0
    coco: bool = False  # also COCO's twelve numbers


@dataclass(frozen=True)
class Findings:
    """The numbers of an evaluation, and the curves behind them: IoU -> one of each detector."""

    metrics: Metrics
    curves: dict[float, list[Froc]]


def analyse(
    data: Annotated,
    found: Mapping[str, FoundBoxes],
    how: Analysis,
    split: str | None = None,
    progress: Callable[[str], None] = lambda detector: None,
) -> Findings:
    """Evaluate each detector and compare it with the first."""
    cohort = cohort_of(data)
    ious = tuple(dict.fromkeys((*how.ious, MAP_IOU)))
    weights = bootstrap_weights(len(cohort.patients), how.resamples, how.seed)
    scored = {name: score_detections(data, cohort, boxes, ious) for name, boxes in found.items()}
    rows = []
    for name, boxes in found.items():
        progress(name)
        rows.append(_row(name, scored[name], cohort, data, how, weights))
        rows[-1].coco = twelve_numbers(data, boxes) if how.coco else None
    _compare_all(rows, list(scored.values()), cohort, how, weights)
    metrics = Metrics(
        threshold=how.threshold, split=split, slices=len(data), boxes=cohort.box_total,
        slices_without_boxes=len(data) - len(np.unique(data.truth.images[~data.truth.crowd])),
        boxes_by_label=dict(zip(data.label_names, cohort.boxes.sum(0).tolist(), strict=False)),
        crowds=int(data.truth.crowd.sum()), patients=len(cohort.patients), resamples=how.resamples, seed=how.seed,
        rows=rows,
    )  # fmt: skip
    return Findings(metrics, {iou: [froc(each, cohort, iou) for each in scored.values()] for iou in how.ious})


def label(number: float) -> str:
    """Write an IoU or a rate as a key of metrics.json: 0.5, 0.25, 8."""
    return f"{number:g}"


def _row(name: str, scored: Scored, cohort: Cohort, data: Annotated, how: Analysis, weights: np.ndarray) -> Row:
    precisions = average_precisions(scored, cohort, MAP_IOU, np.ones((1, len(cohort.patients))))
    return Row(
        detector=name,
        mAP=_defined(mean_over_classes(precisions)[0]),
        ap={label: _defined(ap) for label, ap in zip(data.label_names, precisions[0].tolist(), strict=False)},
        iou={label(iou): _at_iou(scored, cohort, iou, how, weights) for iou in how.ious},
        against_first=None,
        coco=None,
    )


def _at_iou(scored: Scored, cohort: Cohort, iou: float, how: Analysis, weights: np.ndarray) -> AtIou:
    measure, curve = everything(cohort, iou, how.threshold), froc(scored, cohort, iou)
    numbers = {name: _defined(value) for name, value in point(measure, scored, cohort).items()}
    resampled = bootstrap(measure, scored, cohort, weights)
    _check_identity(scored, cohort, iou, how.threshold, numbers)
    return AtIou(
        sensitivity=numbers["sensitivity"],
        fps_per_slice=numbers["fps_per_slice"],
        at_fps={label(fps): numbers[f"sensitivity_at_{fps:g}"] for fps in MATCHED_FPS},
        cpm=numbers["cpm"],
        mAP=numbers["mAP"],
        interval={name: interval(values) for name, values in resampled.items()},
        thresholds={label(fps): curve.threshold_at(fps) for fps in MATCHED_FPS},
        curve_ends_at=float(curve.fps_per_slice[-1]),
    )


def _check_identity(
    scored: Scored, cohort: Cohort, iou: float, threshold: float, numbers: Mapping[str, float | None]
) -> None:
    """Raise MedaugError unless sensitivity x boxes + false positives is the number of detections (Table 1)."""
    found, false = numbers["sensitivity"], numbers["fps_per_slice"]
    if found is None or false is None:
        return
    counted, detections = found * cohort.box_total + false * cohort.slice_total, (scored.scores >= threshold).sum()
    if abs(counted - detections) > 1e-6 * max(1, detections):
        raise MedaugError(f"the numbers at IoU {iou:g} count {counted:.6g} detections where there are {detections}")


def everything(cohort: Cohort, iou: float, threshold: float) -> Measure:
    """Return the function that measures all numbers of one IoU, mAP included."""
    curve, precision = at_iou(cohort, iou, threshold), mean_ap(cohort, iou)
    return lambda scored, weights, totals: curve(scored, weights, totals) | precision(scored, weights, totals)


def _compare_all(rows: list[Row], scored: Sequence[Scored], cohort: Cohort, how: Analysis, weights: np.ndarray) -> None:
    swap = swaps(len(cohort.patients), how.resamples, how.seed)
    against: list[dict[str, dict[str, PairedDifference | None]]] = [{} for _ in rows[1:]]
    for iou in how.ious if rows[1:] else ():
        measure = everything(cohort, iou, how.threshold)
        arms = [compare(measure, scored[0], other, cohort, weights, swap) for other in scored[1:]]
        corrected = {name: holm([arm[name] for arm in arms]) for name in arms[0]}
        for i, arm in enumerate(arms):
            against[i][label(iou)] = {name: _paired(arm[name], corrected[name][i]) for name in arm}
    for row, differences in zip(rows[1:], against, strict=True):
        row.against_first = differences


def _paired(difference: Difference | None, p_holm: float) -> PairedDifference | None:
    if difference is None:
        return None
    return PairedDifference(
        difference=difference.difference, interval=difference.interval,
        p=difference.p, p_bootstrap=difference.p_bootstrap, p_holm=p_holm,
    )  # fmt: skip


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
