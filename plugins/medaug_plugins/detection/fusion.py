"""Weighted box fusion (Solovyev, Wang and Gabruseva 2021): detections of several views become one list.

Legend: v views, n detections of all views, g groups.
"""

from collections.abc import Sequence

import numpy as np

from medaug_cli.plugin import Detections

SAME = 0.55  # IoU from which two detections mean the same box (the paper's)


def fuse(views: Sequence[Detections], same: float = SAME, least_score: float = 0.0) -> Detections:
    """Return one list, best first, of the detections (boxes (m, 4), scores (m,), labels (m,)) of each view.

    Each detection in turn, best first, joins the group of its label whose box it overlaps most, by more than `same`,
    or founds one. A group's box is the mean of its members weighted by their scores, its score their mean times
    min(members, v) / v: what only some views show counts less (steps 1 to 7 of section 3).
    """
    boxes = np.concatenate([np.asarray(view[0], np.float64).reshape(-1, 4) for view in views])
    scores = np.concatenate([np.asarray(view[1], np.float64) for view in views])
    labels = np.concatenate([np.asarray(view[2], np.int64) for view in views])
    sums, totals = np.zeros_like(boxes), np.zeros(len(boxes))  # of scores x boxes, and of scores, a group
    fused, members, names = np.zeros_like(boxes), np.zeros(len(boxes)), np.zeros(len(boxes), np.int64)
    groups = 0
    for i in np.argsort(-scores, kind="stable"):
        overlap = np.where(names[:groups] == labels[i], _overlap(boxes[i], fused[:groups]), 0.0)
        chosen = int(overlap.argmax()) if groups and overlap.max() > same else groups
        groups = max(groups, chosen + 1)
        sums[chosen] += scores[i] * boxes[i]
        totals[chosen] += scores[i]
        members[chosen] += 1
        names[chosen] = labels[i]
        fused[chosen] = sums[chosen] / max(totals[chosen], 1e-12)
    value = totals[:groups] / np.maximum(members[:groups], 1) * np.minimum(members[:groups], len(views)) / len(views)
    order = np.argsort(-value, kind="stable")
    order = order[value[order] >= least_score]
    return fused[order].astype(np.float32), value[order].astype(np.float32), names[order]


def _overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU (g,) of a box (4,) with others (g, 4)."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    both = np.clip(sides, 0, None).prod(1)
    areas = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1)
    return both / np.maximum(areas - both, 1e-12)
