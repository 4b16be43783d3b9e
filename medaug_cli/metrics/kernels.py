"""Compiled loops: IoU, greedy matching, precision at recall, and weighted curves.

Legend of shapes: n detections, m true boxes, g groups (an image and a class), a area ranges,
t IoU thresholds, k classes, u units (patients), r resamples, d dimensions of space.

Importing this module imports numba: import it inside the function that needs it.
"""

from collections.abc import Callable
from typing import Any

import numba  # noqa: TID253
import numpy as np

from medaug_cli.metrics.outcomes import EPSILON, FALSE_POSITIVE, IGNORED, NEAR_ONE, TRUE_POSITIVE


def compiled(function: Callable) -> Any:
    """Compile on first call; keep the machine code where a folder for it can be written.

    numba looks in NUMBA_CACHE_DIR, then beside this file, then in the user's cache folder, and raises
    RuntimeError where none can be written: then each process compiles anew.
    """
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)


@compiled
def overlap(one, one_volume, other, other_volume, crowd):
    """Return the IoU of two boxes (2*d,); over the first box alone where the other is a crowd."""
    d = one.shape[0] // 2
    shared = 1.0
    for axis in range(d):
        length = min(one[d + axis], other[d + axis]) - max(one[axis], other[axis])
        if length <= 0:
            return 0.0
        shared *= length
    union = one_volume if crowd else one_volume + other_volume - shared
    return shared / union if union > 0 else 0.0


@compiled
def iou_matrix(boxes, volumes, others, other_volumes, crowd):
    """Return the IoU of every box (n, 2*d) with every other (m, 2*d): (n, m)."""
    result = np.empty((boxes.shape[0], others.shape[0]))
    for i in range(boxes.shape[0]):
        for j in range(others.shape[0]):
            result[i, j] = overlap(boxes[i], volumes[i], others[j], other_volumes[j], crowd[j])
    return result


@compiled
def counting_sort(items, keys, count):
    """Sort `items` stably by keys[item] in 0..count-1; return them and where each key begins (count + 1,)."""
    begins = np.zeros(count + 1, np.int64)
    for item in items:
        begins[keys[item] + 1] += 1
    for key in range(count):
        begins[key + 1] += begins[key]
    free = begins[:-1].copy()
    ordered = np.empty_like(items)
    for item in items:
        ordered[free[keys[item]]] = item
        free[keys[item]] += 1
    return ordered, begins


@compiled
def match(
    order, begins, boxes, volumes,
    true_order, true_begins, true_boxes, true_volumes, true_areas, crowd,
    thresholds, low, high, cap, outcome, partners,
):  # fmt: skip
    """Match greedily as COCO does, all thresholds and area ranges in one pass, into `outcome` (n, a, t) int8.

    `partners` (n, t) gets the true box that each detection found in the first area range, and stays as it is where it
    found none; it may be empty. `order` holds detections group by group, best score first; `begins` and `true_begins`
    may be those of some of the groups. A detection takes the free box of largest IoU, the last of equals; ignored and
    crowd boxes come after the real ones, and a crowd can be taken again and again. Detections beyond `cap` in their
    group stay as they are.
    """
    areas, levels = low.shape[0], thresholds.shape[0]
    name_partners = partners.shape[0] > 0
    widest = 0
    for group in range(begins.shape[0] - 1):
        widest = max(widest, true_begins[group + 1] - true_begins[group])
    least = min(thresholds.min(), NEAR_ONE)
    taken = np.zeros((widest, areas, levels), np.bool_)
    ignored = np.zeros((widest, areas), np.bool_)
    near = np.empty(widest, np.int64)
    ious = np.empty(widest)
    for group in range(begins.shape[0] - 1):
        first = true_begins[group]
        truths = true_begins[group + 1] - first
        if begins[group] == begins[group + 1]:
            continue
        taken[:truths] = False
        for j in range(truths):
            truth = true_order[first + j]
            for a in range(areas):
                ignored[j, a] = crowd[truth] or true_areas[truth] < low[a] or true_areas[truth] > high[a]
        for place in range(begins[group], min(begins[group + 1], begins[group] + cap)):
            detection = order[place]
            found = 0
            for j in range(truths):
                truth = true_order[first + j]
                iou = overlap(
                    boxes[detection], volumes[detection], true_boxes[truth], true_volumes[truth], crowd[truth]
                )
                if iou >= least:
                    near[found] = j
                    ious[found] = iou
                    found += 1
            for a in range(areas):
                outside = volumes[detection] < low[a] or volumes[detection] > high[a]
                for t in range(levels):
                    outcome[place, a, t] = IGNORED if outside else FALSE_POSITIVE
                    best = -1
                    for wanted in range(2):  # real boxes first, ignored ones only where none of those fits
                        least_now = min(thresholds[t], NEAR_ONE)
                        for i in range(found):
                            j = near[i]
                            if ignored[j, a] != (wanted == 1) or ious[i] < least_now:
                                continue
                            if taken[j, a, t] and not crowd[true_order[first + j]]:
                                continue
                            least_now = ious[i]
                            best = j
                        if best >= 0:
                            taken[best, a, t] = True
                            outcome[place, a, t] = IGNORED if wanted == 1 else TRUE_POSITIVE
                            if name_partners and a == 0:
                                partners[place, t] = true_order[first + best]
                            break


@compiled
def count_boxes(labels, areas, crowd, low, high, classes):
    """Return how many true boxes count, for each class and area range: (k, a)."""
    counts = np.zeros((classes, low.shape[0]), np.int64)
    for i in range(labels.shape[0]):
        for a in range(low.shape[0]):
            if not crowd[i] and low[a] <= areas[i] <= high[a]:
                counts[labels[i], a] += 1
    return counts


@compiled
def precision_at_recall(outcome, places, begins, boxes, levels):
    """Return the precision envelope of each class at recall `levels`: (t, levels, k, a), -1 where no box counts.

    `places` are the rows of `outcome` (n, a, t) class by class, best score first.
    """
    areas, thresholds = outcome.shape[1], outcome.shape[2]
    classes = begins.shape[0] - 1
    result = np.full((thresholds, levels.shape[0], classes, areas), -1.0)
    most = max(1, boxes.max()) if boxes.size else 1
    precision = np.empty((areas, thresholds, most))
    hits = np.empty((areas, thresholds), np.int64)
    misses = np.empty((areas, thresholds), np.int64)
    for k in range(classes):
        hits[:] = 0
        misses[:] = 0
        for i in range(begins[k], begins[k + 1]):
            row = outcome[places[i]]
            for a in range(areas):
                for t in range(thresholds):
                    if row[a, t] == TRUE_POSITIVE:
                        hits[a, t] += 1
                        precision[a, t, hits[a, t] - 1] = hits[a, t] / (misses[a, t] + hits[a, t] + EPSILON)
                    elif row[a, t] == FALSE_POSITIVE:
                        misses[a, t] += 1
        for a in range(areas):
            if boxes[k, a] == 0:
                continue
            for t in range(thresholds):
                curve = precision[a, t]
                count = hits[a, t]
                for i in range(count - 2, -1, -1):
                    curve[i] = max(curve[i], curve[i + 1])
                i = 0
                for level in range(levels.shape[0]):
                    while i < count and (i + 1) / boxes[k, a] < levels[level]:
                        i += 1
                    result[t, level, k, a] = curve[i] if i < count else 0.0
    return result


@compiled
def count_hits(outcome, labels, ranks, classes, caps):
    """Return true positives among the first `caps` detections of each image: (t, k, a, caps)."""
    hits = np.zeros((outcome.shape[2], classes, outcome.shape[1], caps.shape[0]), np.int64)
    for i in range(outcome.shape[0]):
        for a in range(outcome.shape[1]):
            for t in range(outcome.shape[2]):
                if outcome[i, a, t] == TRUE_POSITIVE:
                    for c in range(caps.shape[0]):
                        if ranks[i] < caps[c]:
                            hits[t, labels[i], a, c] += 1
    return hits


@compiled
def weighted_froc(units, outcome, ends, weights, boxes, slices, targets):
    """Return the sensitivity at each false-positive rate of `targets` for each weighting of the units: (r, targets).

    `outcome` (n,) is one of the four of this module. Detections come best score first; `ends` marks the last of
    equal scores. Straight lines join the points where the score changes, beginning at (0, 0); past its end a
    curve stays as it is.
    """
    result = np.empty((weights.shape[0], targets.shape[0]))
    for r in range(weights.shape[0]):
        if boxes[r] <= 0 or slices[r] <= 0:
            result[r] = np.nan
            continue
        found = false = last_found = last_false = 0.0
        done = 0
        for i in range(units.shape[0]):
            weight = weights[r, units[i]]
            if outcome[i] == TRUE_POSITIVE:
                found += weight
            elif outcome[i] == FALSE_POSITIVE:
                false += weight
            if not ends[i]:
                continue
            while done < targets.shape[0] and false / slices[r] > targets[done]:
                share = (targets[done] * slices[r] - last_false) / (false - last_false)
                result[r, done] = (last_found + share * (found - last_found)) / boxes[r]
                done += 1
            if done == targets.shape[0]:
                break
            last_found = found
            last_false = false
        result[r, done:] = last_found / boxes[r]
    return result


@compiled
def weighted_precision(units, outcome, weights, boxes, levels):
    """Return average precision (mean of the envelope at recall `levels`) for each weighting of the units: (r,).

    Detections of one class, best score first; `boxes` (r,) are its weighted boxes. NaN without boxes.
    """
    result = np.empty(weights.shape[0])
    found = np.empty(units.shape[0])
    precision = np.empty(units.shape[0])
    for r in range(weights.shape[0]):
        if boxes[r] <= 0:
            result[r] = np.nan
            continue
        hits = misses = 0.0
        count = 0
        for i in range(units.shape[0]):
            weight = weights[r, units[i]]
            if weight == 0:
                continue
            if outcome[i] == TRUE_POSITIVE:
                hits += weight
                found[count] = hits
                precision[count] = hits / (misses + hits + EPSILON)
                count += 1
            elif outcome[i] == FALSE_POSITIVE:
                misses += weight
        best = total = 0.0
        i = count - 1
        for level in range(levels.shape[0] - 1, -1, -1):
            while i >= 0 and found[i] / boxes[r] >= levels[level]:
                best = max(best, precision[i])
                i -= 1
            total += best
        result[r] = total / levels.shape[0]
    return result
