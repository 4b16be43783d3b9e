"""The measures of detection at one IoU, as functions of how often each patient counts.

Legend: n detections, t IoUs, u patients, r weightings of the patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medaug_cli.metrics.measures import Measure, Measures, Measuring, Numbers
from medaug_cli.metrics.operating import (
    MATCHED_FPS,
    Cohort,
    Scored,
    average_precisions,
    curve_numbers,
    mean_over_classes,
)

DETECTION = Measures()
COMPARED_FPS = (1.0, 4.0)
PRIMARY = "sensitivity_at_1"  # at the first IoU


@dataclass(frozen=True)
class DetectionAnswers:
    """What one detector found on the images of u patients, judged at one IoU."""

    scored: Scored
    cohort: Cohort
    iou: float
    threshold: float  # score from which Table 1 counts a detection
    functions: Sequence[Measuring] = ()  # some of DETECTION's; all where none is named

    def measure(self, weights: np.ndarray) -> Numbers:
        """Return every number (r,) where patients count `weights` (r, u) times."""
        return DETECTION.numbers(self, weights, self.functions)

    def joined(self, other: "DetectionAnswers", patients: int) -> "DetectionAnswers":
        """Return the answers of both, those of the other's patients as patients u, u + 1, ..."""
        one, two = self.cohort, other.cohort
        both = Cohort(
            (*one.patients, *two.patients), np.concatenate([one.slices, two.slices]),
            np.concatenate([one.boxes, two.boxes]), one.patient_of,
        )  # fmt: skip
        merged = merge(self.scored, other.scored, patients)
        return DetectionAnswers(merged, both, self.iou, self.threshold, self.functions)


def merge(first: Scored, second: Scored, patients: int) -> Scored:
    """Join the detections of two detectors, best score first; the second's units follow the first's.

    Equal scores come in the order of images, as they do in each of the two: whatever patients are then exchanged, the
    detections that count lie as those of a single detector would.
    """
    scores, images = (np.concatenate(pair) for pair in ((first.scores, second.scores), (first.images, second.images)))
    order = np.lexsort((images, -scores))
    ignored = None
    if first.ignored is not None or second.ignored is not None:
        each = [np.zeros_like(s.hit) if s.ignored is None else s.ignored for s in (first, second)]
        ignored = np.concatenate(each)
    return Scored(
        scores=scores[order],
        labels=np.concatenate([first.labels, second.labels])[order],
        units=np.concatenate([first.units, second.units + patients])[order],
        images=images[order],
        hit=np.concatenate([first.hit, second.hit])[order],
        ious=first.ious,
        ignored=None if ignored is None else ignored[order],
    )


def _at(fps: float) -> Measure:
    words = f"sensitivity at {fps:g} FP{'' if fps == 1 else 's'}"
    return Measure(f"sensitivity_at_{fps:g}", words, compared=fps in COMPARED_FPS)


@DETECTION.add(
    Measure("sensitivity", "sensitivity", operating=True),
    Measure("fps_per_slice", "FPs per slice", digits=2, larger_is_better=False, bounds=(0.0, np.inf), operating=True),
    *map(_at, MATCHED_FPS),
    Measure("cpm", "CPM", compared=True),
)
def on_the_curve(answers: DetectionAnswers, weights: np.ndarray) -> Numbers:
    """Return sensitivity and false positives at the threshold, sensitivity at matched false positives, and CPM."""
    return curve_numbers(answers.scored, answers.cohort, answers.iou, answers.threshold, weights)


@DETECTION.add(Measure("mAP", "mAP", operating=True, compared=True))
def mean_average_precision(answers: DetectionAnswers, weights: np.ndarray) -> Numbers:
    """Return the mean over classes of average precision."""
    precisions = average_precisions(answers.scored, answers.cohort, answers.iou, weights)
    return {"mAP": mean_over_classes(precisions, answers.cohort)}
