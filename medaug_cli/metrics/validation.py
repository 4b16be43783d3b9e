"""One number to choose the best checkpoint by."""

from collections.abc import Sequence

import numpy as np

from medaug_cli.metrics.annotations import Annotated, found_boxes, true_boxes
from medaug_cli.metrics.operating import (
    MAP_IOU,
    Cohort,
    Scored,
    average_precisions,
    cohort_of,
    curve_numbers,
    match_detections,
    mean_over_classes,
)
from medaug_cli.plugin import Detections

IOUS = (0.5, 0.25)


def validation_score(
    truth_boxes: Sequence[np.ndarray],
    truth_labels: Sequence[np.ndarray],
    detections: Sequence[Detections],
    patients: Sequence[str] | None = None,
) -> dict[str, float]:
    """Return `score`, `sensitivity_at_1` (IoU 0.5), `sensitivity_at_1_iou25` and `map50` of detections.

    `score` is the mean sensitivity at 1 false positive per slice at IoU 0.5 and 0.25, where Table 1 and
    its matched comparison look, plus mAP / (4 x boxes): sensitivities of a small validation set tie
    often, and the whole ranking then decides; yet all of it weighs half of one lesion found at one IoU.
    Nothing is returned where there is no box to find. `patients` are accepted for symmetry; a mean needs none.
    """
    dims = _dims(truth_boxes, detections)
    truth = true_boxes(truth_boxes, truth_labels, dims)
    found = found_boxes(detections, dims)
    if not len(truth.images):
        return {}
    names = tuple(map(str, range(len(truth_boxes))))
    classes = tuple(map(str, range(int(truth.labels.max()) + 1)))
    data = Annotated(names, tuple(patients or names), classes, truth, dims)
    cohort = cohort_of(data)
    scored = match_detections(data, cohort, found, IOUS).scored
    at_half, at_quarter = (_sensitivity_at_1(scored, cohort, iou) for iou in IOUS)
    ones = np.ones((1, len(cohort.patients)))
    map50 = float(mean_over_classes(average_precisions(scored, cohort, MAP_IOU, ones), cohort)[0])
    score = (at_half + at_quarter) / 2 + map50 / (4 * cohort.box_total)
    return {"score": score, "sensitivity_at_1": at_half, "sensitivity_at_1_iou25": at_quarter, "map50": map50}


def _sensitivity_at_1(scored: Scored, cohort: Cohort, iou: float) -> float:
    ones = np.ones((1, len(cohort.patients)))
    return float(curve_numbers(scored, cohort, iou, 0.0, ones)["sensitivity_at_1"][0])


def _dims(truth_boxes: Sequence[np.ndarray], detections: Sequence[Detections]) -> int:
    for boxes in [*truth_boxes, *(boxes for boxes, _, _ in detections)]:
        if len(boxes):
            return np.shape(boxes)[1] // 2
    return 2
