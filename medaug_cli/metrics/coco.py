"""COCO's twelve numbers, equal to pycocotools."""

from types import ModuleType

import numpy as np

from medaug_cli.metrics.annotations import Annotated, FoundBoxes, of_classes
from medaug_cli.metrics.matching import compiled_loops, match_boxes

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)  # r / 100 differs in the sixth decimal
AREAS = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
CAPS = np.array([1, 10, 100])
NAMES = (
    "AP",
    "AP50",
    "AP75",
    "APsmall",
    "APmedium",
    "APlarge",
    "AR1",
    "AR10",
    "AR100",
    "ARsmall",
    "ARmedium",
    "ARlarge",
)


def twelve_numbers(data: Annotated, found: FoundBoxes, loops: ModuleType | None = None) -> list[float]:
    """Return COCO's twelve numbers in COCO's order (`NAMES`); -1 where nothing is to be found.

    At most 100 detections of an image and class count, the best by score. `loops` does the work: `kernels`, which is
    the default, or `arrays`.
    """
    loops = loops or compiled_loops()
    classes = len(data.label_names)
    found = of_classes(found, classes)
    matched = match_boxes(
        data.truth, found, images=len(data), classes=classes, ious=IOUS, areas=AREAS, cap=int(CAPS[-1]), loops=loops
    )
    low, high = (np.array(side) for side in zip(*AREAS, strict=True))
    boxes = loops.count_boxes(data.truth.labels, data.truth.areas, data.truth.crowd, low, high, classes)
    precision = loops.precision_at_recall(matched.outcome, matched.by_class, matched.class_begins, boxes, RECALLS)
    hits = loops.count_hits(matched.outcome, found.labels[matched.order], matched.ranks, classes, CAPS)
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = np.where(boxes[..., None] > 0, hits / boxes[..., None], -1.0)  # (t, k, a, caps)
    averages = [precision[..., 0], precision[0, ..., 0], precision[5, ..., 0], *(precision[..., a] for a in (1, 2, 3))]
    recalls = [recall[..., 0, cap] for cap in range(3)] + [recall[..., a, 2] for a in (1, 2, 3)]
    return [_mean(values) for values in averages + recalls]


def _mean(values: np.ndarray) -> float:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0
