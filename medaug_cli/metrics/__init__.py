"""Detection metrics: matching, COCO's twelve numbers, sensitivity at false positives per slice, intervals.

annotations -> matching (kernels) -> coco, operating -> resampling -> report (metrics.json) -> table (Table 1).
numba is imported by the first function that matches boxes, not by this package.
"""

from medaug_cli.metrics.annotations import Annotated, FoundBoxes, TrueBoxes, found_boxes, true_boxes
from medaug_cli.metrics.coco import twelve_numbers
from medaug_cli.metrics.matching import iou, match_boxes
from medaug_cli.metrics.operating import Matched, average_precision, cohort_of, froc, match_detections
from medaug_cli.metrics.validation import validation_score

__all__ = [
    "Annotated",
    "FoundBoxes",
    "Matched",
    "TrueBoxes",
    "average_precision",
    "cohort_of",
    "found_boxes",
    "froc",
    "iou",
    "match_boxes",
    "match_detections",
    "true_boxes",
    "twelve_numbers",
    "validation_score",
]
