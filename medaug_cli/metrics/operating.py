"""Sensitivity, false positives, FROC and average precision of one detector; nothing is capped.

By the default rule a false positive is a detection that is not a true positive: a duplicate too. So, for one
fixed set of detections, sensitivity x boxes + false positives is the same number at every IoU (Table 1 of
Han et al. 2019). Crowd regions are not lesions: they are neither boxes to find nor, by that rule, ignored areas.
Other rules ignore some detections (`matching.RULES`).

Legend of shapes: n detections, t IoU thresholds, u patients, r weightings of the patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from medaug_cli.metrics.annotations import Annotated, FoundBoxes, without_crowds
from medaug_cli.metrics.coco import RECALLS
from medaug_cli.metrics.matching import crowds_are_ignored, match_boxes
from medaug_cli.metrics.outcomes import FALSE_POSITIVE, IGNORED, TRUE_POSITIVE

MATCHED_FPS = (0.5, 1.0, 2.0, 4.0, 8.0)  # false positives per slice
CPM_FPS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # of which the mean sensitivity is the CPM
MAP_IOU = 0.5
OPERATING_FPS = 1.0  # false positives per slice of the score at which errors, sizes, slices and pictures are shown


@dataclass(frozen=True)
class Cohort:
    """The images to evaluate on, counted by patient."""

    patients: tuple[str, ...]  # (u,) names, ascending
    slices: np.ndarray  # (u,) images of each
    boxes: np.ndarray  # (u, classes) boxes of each
    patient_of: np.ndarray  # (images,) index of the patient

    @property
    def box_total(self) -> int:
        """Return how many boxes all patients have together."""
        return int(self.boxes.sum())

    @property
    def slice_total(self) -> int:
        """Return how many slices all patients have together."""
        return int(self.slices.sum())


@dataclass(frozen=True)
class Scored:
    """One detector's detections, best score first (equal scores: in the order of images)."""

    scores: np.ndarray  # (n,)
    labels: np.ndarray  # (n,)
    units: np.ndarray  # (n,) index of the patient
    images: np.ndarray  # (n,) index of the image
    hit: np.ndarray  # (n, t) bool, true positive at each IoU
    ious: tuple[float, ...]  # (t,)
    ignored: np.ndarray | None = None  # (n, t) bool: neither true nor false, where the rule ignores any

    @property
    def ends(self) -> np.ndarray:
        """Tell which rows are the last of their score, (n,) bool."""
        return np.append(self.scores[1:] != self.scores[:-1], True) if len(self.scores) else np.empty(0, bool)

    def column(self, iou: float) -> np.ndarray:
        """Tell which rows are true positives at one IoU, (n,) bool."""
        return np.ascontiguousarray(self.hit[:, self.ious.index(iou)])

    def false(self, iou: float) -> np.ndarray:
        """Tell which rows are false positives at one IoU, (n,) bool."""
        return ~self.column(iou) if self.ignored is None else ~(self.hit | self.ignored)[:, self.ious.index(iou)]

    def outcome(self, iou: float) -> np.ndarray:
        """Return the outcome of each row at one IoU as the kernels name it, (n,) int8."""
        hit, false = self.column(iou), self.false(iou)
        return np.where(hit, TRUE_POSITIVE, np.where(false, FALSE_POSITIVE, IGNORED)).astype(np.int8)


def cohort_of(data: Annotated) -> Cohort:
    """Count slices and boxes by patient."""
    names, patient_of = np.unique(np.array(data.patients, dtype=object), return_inverse=True)
    truth = without_crowds(data.truth)
    boxes = np.zeros((len(names), max(1, len(data.label_names))), np.int64)
    np.add.at(boxes, (patient_of[truth.images], truth.labels), 1)
    return Cohort(tuple(map(str, names)), np.bincount(patient_of, minlength=len(names)), boxes, patient_of)


@dataclass(frozen=True)
class Sightings:
    """What one detector found and missed at one score threshold."""

    kept: np.ndarray  # (n,) bool, detections at or above the threshold that the rule does not ignore
    hit: np.ndarray  # (n,) bool, of those the true positives
    found: np.ndarray  # (m,) bool, boxes that were found, crowds left out

    @property
    def false(self) -> np.ndarray:
        """Tell which detections are false positives, (n,) bool."""
        return self.kept & ~self.hit


@dataclass(frozen=True)
class Matched:
    """One detector's detections, matched once to the lesions at every IoU: all that is said of it comes from here."""

    data: Annotated
    cohort: Cohort
    found: FoundBoxes
    scored: Scored
    order: np.ndarray  # (n,) which detection each row of `scored` is
    partners: np.ndarray  # (n, t) which true box a row found, or -1; boxes as `rule` counts them
    rule: str = "coco"
    _curves: dict[float, "Froc"] = field(default_factory=dict, repr=False)

    def froc(self, iou: float) -> "Froc":
        """Return the FROC curve at one IoU."""
        if iou not in self._curves:
            self._curves[iou] = froc(self.scored, self.cohort, iou)
        return self._curves[iou]

    def score_at(self, iou: float, fps: float = OPERATING_FPS) -> float:
        """Return the lowest score that keeps to `fps` false positives per slice; infinite where no detection does."""
        threshold = self.froc(iou).threshold_at(fps)
        return np.inf if threshold is None else threshold

    def at(self, iou: float, score: float) -> Sightings:
        """Return which boxes the detections of at least `score` find, and which detections find one."""
        column, scored = self.scored.ious.index(iou), self.scored
        partner, ignored = np.empty(len(self.order), np.int64), np.zeros(len(self.order), bool)
        partner[self.order] = self.partners[:, column]
        if scored.ignored is not None:
            ignored[self.order] = scored.ignored[:, column]
        kept = (self.found.scores >= score) & ~ignored
        truth = self.data.truth
        crowd = truth.crowd if crowds_are_ignored(self.rule) else truth.crowd[~truth.crowd]
        seen = np.zeros(len(crowd), bool)
        seen[partner[kept & (partner >= 0)]] = True
        return Sightings(kept, kept & (partner >= 0), seen[~crowd])

    def on(self, images: np.ndarray) -> Scored:
        """Return the detections on some images, (images,) bool, best score first."""
        rows, whole = images[self.found.images[self.order]], self.scored
        ignored = None if whole.ignored is None else whole.ignored[rows]
        return Scored(
            scores=whole.scores[rows], labels=whole.labels[rows], units=whole.units[rows],
            images=whole.images[rows], hit=whole.hit[rows], ious=whole.ious, ignored=ignored,
        )  # fmt: skip


def match_detections(
    data: Annotated, cohort: Cohort, found: FoundBoxes, ious: Sequence[float], rule: str = "coco"
) -> Matched:
    """Match all detections at each IoU, and sort them once by score."""
    classes = max(len(data.label_names), int(found.labels.max(initial=-1)) + 1)
    truth = data.truth if crowds_are_ignored(rule) else without_crowds(data.truth)
    matched = match_boxes(
        truth, found, len(data), classes, np.array(ious), name_partners=True, rule=rule, spacing=data.spacing
    )
    order = matched.order[matched.by_score]
    outcome = matched.outcome[matched.by_score, 0]  # (n, t)
    ignored = outcome == IGNORED
    scored = Scored(
        found.scores[order],
        found.labels[order],
        units=cohort.patient_of[found.images[order]],
        images=found.images[order],
        hit=outcome == TRUE_POSITIVE,
        ious=tuple(ious),
        ignored=ignored if ignored.any() else None,
    )
    return Matched(
        data, cohort, found=found, scored=scored, order=order, partners=matched.partners[matched.by_score], rule=rule
    )


@dataclass(frozen=True)
class Froc:
    """A free-response curve: its points lie where the score changes, after (0, 0)."""

    fps_per_slice: np.ndarray
    sensitivity: np.ndarray
    thresholds: np.ndarray  # the score of each point, +inf at (0, 0)

    def threshold_at(self, fps: float) -> float | None:
        """Return the lowest score with at most `fps` false positives per slice, None for no detection at all."""
        place = int(np.searchsorted(self.fps_per_slice, fps, "right")) - 1
        return float(self.thresholds[place]) if place > 0 else None


def froc(scored: Scored, cohort: Cohort, iou: float) -> Froc:
    """Return the FROC curve at one IoU."""
    ends = scored.ends
    found, false = np.cumsum(scored.column(iou))[ends], np.cumsum(scored.false(iou))[ends]
    boxes = cohort.box_total or np.nan
    return Froc(
        np.concatenate([[0.0], false / cohort.slice_total]),
        np.concatenate([[0.0], found / boxes]),
        np.concatenate([[np.inf], scored.scores[ends]]),
    )


def curve_numbers(
    scored: Scored, cohort: Cohort, iou: float, threshold: float, weights: np.ndarray, totals: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Return every number of one IoU for each weighting of the units (r, u), each as (r,).

    Sensitivity and false positives per slice at `threshold`, sensitivity at matched false positives
    and CPM. `totals` (r, 1 + classes) are the weighted slices and boxes, by default those of `weights`.
    """
    from medaug_cli.metrics.kernels import weighted_froc

    totals = weigh(cohort, weights) if totals is None else totals
    slices, boxes = totals[:, 0], totals[:, 1:].sum(1)
    kept, units = scored.scores >= threshold, weights.shape[1]
    hits = weights @ np.bincount(scored.units[kept & scored.column(iou)], minlength=units)
    false = weights @ np.bincount(scored.units[kept & scored.false(iou)], minlength=units)
    rates = sorted({*MATCHED_FPS, *CPM_FPS})
    at = weighted_froc(scored.units, scored.outcome(iou), scored.ends, weights, boxes, slices, np.array(rates))
    with np.errstate(divide="ignore", invalid="ignore"):
        numbers = {"sensitivity": hits / boxes, "fps_per_slice": false / slices}
    numbers |= {f"sensitivity_at_{fps:g}": at[:, rates.index(fps)] for fps in MATCHED_FPS}
    return numbers | {"cpm": at[:, [rates.index(fps) for fps in CPM_FPS]].mean(1)}


def average_precisions(
    scored: Scored, cohort: Cohort, iou: float, weights: np.ndarray, totals: np.ndarray | None = None
) -> np.ndarray:
    """Return each class's AP (mean precision envelope at COCO's 101 recalls), (r, classes); NaN without boxes."""
    from medaug_cli.metrics.kernels import weighted_precision

    totals = weigh(cohort, weights) if totals is None else totals
    outcome, result = scored.outcome(iou), np.full((len(weights), totals.shape[1] - 1), np.nan)
    for label in range(result.shape[1]):
        own = scored.labels == label
        boxes = np.ascontiguousarray(totals[:, 1 + label])
        result[:, label] = weighted_precision(scored.units[own], outcome[own], weights, boxes, RECALLS)
    return result


def mean_over_classes(precisions: np.ndarray, cohort: Cohort) -> np.ndarray:
    """Return the mean over the classes that have boxes in a cohort, (r, classes) -> (r,); NaN where none has.

    It is not known of weights without one of them: the mean of fewer classes would be another number.
    """
    there = cohort.boxes.sum(0) > 0
    return precisions[:, there].mean(1) if there.any() else np.full(len(precisions), np.nan)


def weigh(cohort: Cohort, weights: np.ndarray) -> np.ndarray:
    """Return the slices and the boxes of each class under each weighting of the patients, (r, 1 + classes)."""
    return weights @ np.hstack([cohort.slices[:, None], cohort.boxes]).astype(np.float64)


AP_DEFINITIONS = {"101-point": "coco", "11-point": "voc07", "all-point": "area"}  # as printed -> rule


def average_precision(hit: np.ndarray, boxes: int, rule: str = "coco") -> float:
    """Return the average precision of one class whose detections (n,) come best score first, ignored ones left out.

    `rule` is `coco` (mean at 101 recalls), `voc07` (at 11 recalls) or `area` (all points, as VOC
    since 2010 and darknet). NaN without boxes, 0 without detections.
    """
    if boxes == 0:
        return float("nan")
    hit = np.asarray(hit, bool)
    recall = np.concatenate([[0.0], np.cumsum(hit) / boxes])
    precision = np.concatenate([np.cumsum(hit) / np.arange(1, len(hit) + 1), [0.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]  # (n + 1,), the last for recalls never reached
    if rule == "area":
        return float(np.sum(np.diff(recall) * envelope[:-1]))
    levels = {"coco": RECALLS, "voc07": np.linspace(0, 1, 11)}[rule]
    return float(envelope[np.searchsorted(recall[1:], levels, "left")].mean())
