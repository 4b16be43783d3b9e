"""The loops of `kernels` that COCO's numbers need, as array operations: bit for bit the same answers.

Compiled code takes half a second of CPU time to load, these take a few hundredths for a small set; for a large one
they are far slower. Legend of shapes as in `kernels`, and: h groups that have a detection of a rank, w boxes of the
group that has the most of them.
"""

import numpy as np

from medaug_cli.metrics.annotations import Annotated, FoundBoxes
from medaug_cli.metrics.outcomes import EPSILON, FALSE_POSITIVE, IGNORED, NEAR_ONE, TRUE_POSITIVE

MOST_PAIRS = 1_000_000  # of a detection and a box, padded: about the time that loading compiled code takes
PAIRS_A_RANK = 1_000  # at least, whose time the calls themselves take


def suit(data: Annotated, found: FoundBoxes) -> bool:
    """Tell whether array operations match a set sooner than compiled code is loaded."""
    images = len(data)
    groups = len(np.unique(found.labels * images + found.images))
    deepest = np.bincount(found.labels * images + found.images).max(initial=0)
    widest = np.bincount(data.truth.labels * images + data.truth.images).max(initial=0)
    return bool(deepest * max(groups * widest, PAIRS_A_RANK) <= MOST_PAIRS)


def counting_sort(items, keys, count):
    """Sort `items` stably by keys[item] in 0..count-1; return them and where each key begins (count + 1,)."""
    own = keys[items]
    begins = np.concatenate([[0], np.cumsum(np.bincount(own, minlength=count))])
    return items[np.argsort(own, kind="stable")], begins


def match(
    order, begins, boxes, volumes,
    true_order, true_begins, true_boxes, true_volumes, true_areas, crowd,
    thresholds, low, high, cap, outcome, partners,
):  # fmt: skip
    """Match greedily as COCO does, as `kernels.match`: all groups at once, one detection of each at a time."""
    counts, truths = np.diff(begins), np.diff(true_begins)
    counted = np.flatnonzero(np.arange(len(order)) - np.repeat(begins[:-1], counts) < cap)
    volume = volumes[order[counted], None]
    outcome[counted] = np.where((volume < low) | (volume > high), IGNORED, FALSE_POSITIVE)[..., None]
    groups = np.flatnonzero((counts > 0) & (truths > 0))
    if not len(groups):
        return
    first, counts, truths = begins[groups], counts[groups], truths[groups]
    slot = np.arange(truths.max())
    there = slot < truths[:, None]  # (g, w)
    own = true_order[np.where(there, true_begins[groups, None] + slot, 0)]
    area, many = true_areas[own][:, None], crowd[own][:, None]
    ignored = many | (area < low[:, None]) | (area > high[:, None])  # (g, a, w)
    taken = np.zeros((len(groups), len(low), len(thresholds), len(slot)), bool)
    least = np.minimum(thresholds, NEAR_ONE)[:, None]
    for rank in range(min(cap, counts.max())):
        here = np.flatnonzero(counts > rank)
        rows, mine = first[here] + rank, own[here]
        found = order[rows]
        ious = overlaps(boxes[found], volumes[found], true_boxes[mine], true_volumes[mine], crowd[mine])
        near = (there[here] & (ious >= least.min())).any(-1)
        here, rows, mine, ious = here[near], rows[near], mine[near], ious[near, None, None]
        free = there[here, None, None] & (~taken[here] | many[here, None])  # (h, a, t, w)
        fits = free & (ious >= least)
        real = fits & ~ignored[here, :, None]
        fits = np.where(real.any(-1, keepdims=True), real, fits)  # ignored boxes only where no real one fits
        h, a, t = np.nonzero(fits.any(-1))
        best = len(slot) - 1 - np.argmax(np.where(fits, ious, -1.0)[h, a, t, ::-1], axis=-1)  # the last of equals
        taken[here[h], a, t, best] = True
        outcome[rows[h], a, t] = np.where(ignored[here[h], a, best], IGNORED, TRUE_POSITIVE)
        if len(partners):
            h, t, best = h[a == 0], t[a == 0], best[a == 0]
            partners[rows[h], t] = mine[h, best]


def overlaps(boxes, volumes, others, other_volumes, crowd):
    """Return the IoU of each box (h, 2*d) with others of its own (h, w, 2*d), as `kernels.overlap`: (h, w)."""
    d = boxes.shape[-1] // 2
    one = boxes[:, None]
    lengths = np.minimum(one[..., d:], others[..., d:]) - np.maximum(one[..., :d], others[..., :d])
    shared = np.where((lengths > 0).all(-1), lengths.prod(-1), 0.0)
    union = np.where(crowd, volumes[:, None], volumes[:, None] + other_volumes - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def count_boxes(labels, areas, crowd, low, high, classes):
    """Return how many true boxes count, for each class and area range: (k, a)."""
    counted = ~crowd[:, None] & (low <= areas[:, None]) & (areas[:, None] <= high)
    return np.stack([np.bincount(labels[inside], minlength=classes) for inside in counted.T], axis=1)


def precision_at_recall(outcome, places, begins, boxes, levels):
    """Return the precision envelope of each class at recall `levels`: (t, levels, k, a), -1 where no box counts."""
    (_, areas, thresholds), classes = outcome.shape, len(begins) - 1
    result = np.full((thresholds, len(levels), classes, areas), -1.0)
    for k, a in zip(*np.nonzero(boxes), strict=True):
        own = outcome[places[begins[k] : begins[k + 1]], a]  # (n, t)
        found, false = own == TRUE_POSITIVE, np.cumsum(own == FALSE_POSITIVE, axis=0)
        hits = np.cumsum(found, axis=0)
        precision = np.where(found, hits / (false + hits + EPSILON), 0.0)
        envelope = np.append(np.maximum.accumulate(precision[::-1], axis=0)[::-1], np.zeros((1, thresholds)), axis=0)
        needed = 1 + np.searchsorted(np.arange(1, boxes[k, a] + 1) / boxes[k, a], levels)  # hits for each recall
        for t in range(thresholds):
            result[t, :, k, a] = envelope[np.searchsorted(hits[:, t], needed), t]
    return result


def count_hits(outcome, labels, ranks, classes, caps):
    """Return true positives among the first `caps` detections of each image: (t, k, a, caps)."""
    hits = np.zeros((outcome.shape[2], classes, outcome.shape[1], len(caps)), np.int64)
    row, a, t = np.nonzero(outcome == TRUE_POSITIVE)
    for c, cap in enumerate(caps):
        first = ranks[row] < cap
        np.add.at(hits, (t[first], labels[row[first]], a[first], c), 1)
    return hits
