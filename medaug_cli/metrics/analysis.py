"""Evaluate detectors, or systems of several seeds, on the same images, and compare each with the first."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medaug_cli.errors import MedaugError
from medaug_cli.metrics.annotations import Annotated, FoundBoxes
from medaug_cli.metrics.breakdown import break_down
from medaug_cli.metrics.coco import twelve_numbers
from medaug_cli.metrics.detection import DETECTION, DetectionAnswers
from medaug_cli.metrics.differences import Compared, judged
from medaug_cli.metrics.matching import BY_DISTANCE
from medaug_cli.metrics.operating import (
    AP_DEFINITIONS,
    MATCHED_FPS,
    OPERATING_FPS,
    Cohort,
    Froc,
    Matched,
    Scored,
    average_precision,
    average_precisions,
    cohort_of,
    match_detections,
    mean_over_classes,
)
from medaug_cli.metrics.report import (
    AP_RULE,
    Analysis,
    AtIou,
    AveragePrecision,
    Metrics,
    Row,
    hit_words,
    label,
)
from medaug_cli.metrics.resampling import System, bootstrap_weights, compare, resampled_over, swaps

Found = Mapping[str, FoundBoxes | Sequence[FoundBoxes]]


@dataclass(frozen=True)
class Context:
    """What is known of the data besides the detections; it stands in the report as it is."""

    split: str | None = None
    resampled: str = "patients"
    data: Mapping[str, str] = field(default_factory=dict)  # file -> SHA-256
    weights: Mapping[str, str] = field(default_factory=dict)  # system -> SHA-256 of each seed, by commas
    tool_version: str = ""
    note: str | None = None
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class Findings:
    """The numbers of an evaluation, and the detections of each seed of each system, matched once."""

    metrics: Metrics
    systems: Mapping[str, Sequence[Matched]]

    @property
    def curves(self) -> dict[float, list[list[Froc]]]:
        """Return IoU -> a list a system, of one FROC curve a seed."""
        ious = [float(iou) for iou in self.metrics.rows[0].iou]
        return {iou: [[one.froc(iou) for one in each] for each in self.systems.values()] for iou in ious}


def analyse(
    data: Annotated,
    found: Found,
    how: Analysis,
    context: Context | None = None,
    progress: Callable[[str], None] = lambda detector: None,
) -> Findings:
    """Evaluate each detector, or the seeds of each system, and compare it with the first."""
    context, cohort = context or Context(), cohort_of(data)
    ious = tuple(dict.fromkeys((*how.ious, how.map_iou)))
    systems: dict[str, list[Matched]] = {}
    for name, each in found.items():
        progress(name)
        seeds = [each] if isinstance(each, FoundBoxes) else list(each)
        systems[name] = [match_detections(data, cohort, boxes, ious, how.rule) for boxes in seeds]
    weights = bootstrap_weights(len(cohort.patients), how.resamples, how.seed)
    swap = swaps(len(cohort.patients), how.resamples, how.seed) if len(systems) > 1 else None
    measured = {label(iou): _measured(systems, cohort, iou, how, weights) for iou in how.ious}
    against = {iou: _against_first(each, swap) for iou, each in measured.items()}
    rows = [
        _row(matched, {iou: each[i] for iou, each in measured.items()}, how, context)
        | {"against_first": None if i == 0 else {iou: each[i - 1] for iou, each in against.items()}}
        for i, matched in enumerate(systems.values())
    ]
    metrics = Metrics(
        rule=how.rule, ap_rule=AP_RULE.format(hit=hit_words(how.rule, label(how.map_iou))), threshold=how.threshold,
        split=context.split, slices=len(data), boxes=cohort.box_total,
        slices_without_boxes=len(data) - len(np.unique(data.truth.images[~data.truth.crowd])),
        boxes_by_label=dict(zip(data.label_names, cohort.boxes.sum(0).tolist(), strict=False)),
        crowds=int(data.truth.crowd.sum()), patients=len(cohort.patients), resampled=context.resampled,
        resamples=how.resamples, seed=how.seed, data=dict(context.data), tool_version=context.tool_version,
        note=context.note,
        remarks=[*context.remarks, *_remarks(cohort, data.label_names), *_unit(data, how.rule)],
        rows=[Row(**row) for row in rows],
    )  # fmt: skip
    return Findings(metrics, systems)


def _measured(
    systems: Mapping[str, Sequence[Matched]], cohort: Cohort, iou: float, how: Analysis, weights: np.ndarray
) -> list[System]:
    """Measure every system at one IoU, on the patients and on their resamples."""
    answers = {
        name: [DetectionAnswers(one.scored, cohort, iou, how.threshold) for one in each]
        for name, each in systems.items()
    }
    over = resampled_over(next(iter(answers.values()))[0], len(cohort.patients))
    return [System.of(name, each, weights, over, how.seed) for name, each in answers.items()]


def _against_first(systems: Sequence[System], swap: np.ndarray | None) -> list[Compared]:
    """Compare every system with the first, and correct for their number."""
    if swap is None:
        return []
    first, *others = systems
    return judged([compare(first, other, swap) for other in others], DETECTION.__getitem__)


def _remarks(cohort: Cohort, names: Sequence[str]) -> list[str]:
    """Say where intervals and comparisons cannot be had."""
    if len(cohort.patients) < 2:
        return ["Intervals and comparisons are not available: one patient cannot be resampled"]
    if int((cohort.boxes.sum(1) > 0).sum()) < 2:
        return ["Intervals and comparisons of sensitivity are not available: only one patient has boxes"]
    lone = [name for name, own in zip(names, (cohort.boxes > 0).sum(0), strict=False) if own == 1]
    if lone:
        return [f"The mAP has no interval and no comparison: only one patient has boxes of {', '.join(lone)}"]
    return []


def _unit(data: Annotated, rule: str) -> list[str]:
    """Say where a rule of distances has no millimetres."""
    if rule not in BY_DISTANCE or data.spacing is not None:
        return []
    return [f"Distances of the rule {rule} are in pixels: not every image has a known spacing"]


def _row(matched: Sequence[Matched], measured: Mapping[str, System], how: Analysis, context: Context) -> dict:
    """Return what a system's row says, but how it differs from the first."""
    data, cohort = matched[0].data, matched[0].cohort
    ones = np.ones((1, len(cohort.patients)))
    precisions = np.mean([average_precisions(one.scored, cohort, how.map_iou, ones) for one in matched], 0)
    name = next(iter(measured.values())).name
    return {
        "detector": name,
        "mAP": _defined(mean_over_classes(precisions, cohort)[0]),
        "ap": {kind: _defined(ap) for kind, ap in zip(data.label_names, precisions[0].tolist(), strict=False)},
        "iou": {key: _at_iou(matched, system, float(key), how) for key, system in measured.items()},
        "coco": np.mean([twelve_numbers(data, one.found) for one in matched], 0).tolist() if how.coco else None,
        "seeds": len(matched),
        "weights": context.weights.get(name),
    }


def _at_iou(matched: Sequence[Matched], system: System, iou: float, how: Analysis) -> AtIou:
    for one, values in zip(matched, system.points, strict=True):
        _check_identity(one.scored, one.cohort, iou, how.threshold, values)
    numbers = {measure.name: _defined(system.mean(measure.name)) for measure in DETECTION}
    thresholds = {label(fps): matched[0].froc(iou).threshold_at(fps) for fps in MATCHED_FPS}
    score = thresholds[label(OPERATING_FPS)]
    seeds = [{key: _defined(value) for key, value in values.items()} for values in system.points]
    return AtIou(
        sensitivity=numbers["sensitivity"],
        fps_per_slice=numbers["fps_per_slice"],
        at_fps={label(fps): numbers[f"sensitivity_at_{fps:g}"] for fps in MATCHED_FPS},
        cpm=numbers["cpm"],
        mAP=numbers["mAP"],
        interval={measure.name: system.interval(measure.name) for measure in DETECTION},
        thresholds=thresholds,
        curve_ends_at=min(float(one.froc(iou).fps_per_slice[-1]) for one in matched),
        average_precision=_precisions(matched, iou),
        breakdown=break_down(matched[0], iou, score, how.threshold, how.sizes),
        seeds=seeds if len(seeds) > 1 else [],
    )


def _precisions(matched: Sequence[Matched], iou: float) -> dict[str, AveragePrecision]:
    """Return average precision by each definition and class, means over seeds."""
    names = matched[0].data.label_names
    boxes, found = matched[0].cohort.boxes.sum(0).tolist(), {}
    for definition, rule in AP_DEFINITIONS.items():
        values = np.full((len(matched), len(names)), np.nan)
        for i, scored in enumerate(one.scored for one in matched):
            hit, counted = scored.column(iou), scored.column(iou) | scored.false(iou)
            for k in range(len(names)):
                values[i, k] = average_precision(hit[counted & (scored.labels == k)], boxes[k], rule)
        classes = values.mean(0)
        found[definition] = AveragePrecision(
            mean=_defined(mean_over_classes(classes[None], matched[0].cohort)[0]),
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


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
