"""Compiled matching by other rules than COCO's, and the overlaps that tell errors apart.

Legend as in `kernels`. Importing this module imports numba: import it inside the function that needs it.
"""

import numpy as np

from medaug_cli.metrics.kernels import compiled, overlap
from medaug_cli.metrics.outcomes import FALSE_POSITIVE, IGNORED, TRUE_POSITIVE

VOC, LUNA, CENTER = 1, 2, 3


@compiled
def distance_if_hit(rule, box, true_box, steps):
    """Return the squared distance of the centres of two boxes (2*d,), or -1 where the first does not hit the second.

    LUNA: the centre is nearer than half the mean side; CENTER: the centre lies in the box. `steps` (d,) are
    mm a pixel, or 1.
    """
    d = box.shape[0] // 2
    distance = sides = 0.0
    inside = True
    for axis in range(d):
        low, high = true_box[axis], true_box[d + axis]
        centre = (box[axis] + box[d + axis]) / 2
        distance += ((centre - (low + high) / 2) * steps[axis]) ** 2
        sides += (high - low) * steps[axis]
        inside = inside and low <= centre < high
    if rule == LUNA:
        inside = distance < (sides / d / 2) ** 2
    return distance if inside else -1.0


@compiled
def match_singly(
    rule, order, begins, boxes, volumes, true_order, true_begins, true_boxes, true_volumes, true_steps, ignored,
    thresholds,
):  # fmt: skip
    """Match by VOC's, LUNA16's or the centre's rule: outcomes (n, 1, t) int8 and the boxes found (n, t) or -1.

    VOC: the box of largest IoU decides, the first of equals, even where it is taken: then the detection is a
    false positive. LUNA and CENTER: a detection takes the nearest free box that it hits; one that hits taken or
    ignored boxes alone is ignored. `true_steps` (m, d): mm a pixel in the image of each box, or 1.
    """
    levels = thresholds.shape[0]
    outcome = np.full((order.shape[0], 1, levels), FALSE_POSITIVE, np.int8)
    partners = np.full((order.shape[0], levels), -1, np.int64)
    taken = np.zeros((true_order.shape[0], levels), np.bool_)
    for group in range(begins.shape[0] - 1):
        for place in range(begins[group], begins[group + 1]):
            detection = order[place]
            best, value, touched = -1, 0.0, False
            for row in range(true_begins[group], true_begins[group + 1]):
                truth = true_order[row]
                if rule == VOC:
                    iou = overlap(boxes[detection], volumes[detection], true_boxes[truth], true_volumes[truth], False)
                    if iou > value:
                        best, value = row, iou
                    continue
                distance = distance_if_hit(rule, boxes[detection], true_boxes[truth], true_steps[truth])
                touched = touched or distance >= 0
                free = not taken[row, 0] and not ignored[truth]
                if distance >= 0 and free and (best < 0 or distance < value):
                    best, value = row, distance
            if rule != VOC:
                if best >= 0:
                    taken[best] = True
                    outcome[place, 0] = TRUE_POSITIVE
                    partners[place] = true_order[best]
                elif touched:
                    outcome[place, 0] = IGNORED
                continue
            for t in range(levels):
                if best < 0 or value < thresholds[t]:
                    continue
                if ignored[true_order[best]]:
                    outcome[place, 0, t] = IGNORED
                elif not taken[best, t]:
                    taken[best, t] = True
                    outcome[place, 0, t] = TRUE_POSITIVE
                    partners[place, t] = true_order[best]
    return outcome, partners


@compiled
def best_overlaps(images, labels, boxes, volumes, true_order, true_begins, true_labels, true_boxes, true_volumes):
    """Return each detection's largest IoU with a box of its class and of another class in its image, and which ones.

    (n, 2) float64 and (n, 2) int64, -1 where it overlaps none.
    """
    values, which = np.zeros((images.shape[0], 2)), np.full((images.shape[0], 2), -1, np.int64)
    for i in range(images.shape[0]):
        for row in range(true_begins[images[i]], true_begins[images[i] + 1]):
            truth = true_order[row]
            iou = overlap(boxes[i], volumes[i], true_boxes[truth], true_volumes[truth], False)
            side = 0 if true_labels[truth] == labels[i] else 1
            if iou > values[i, side]:
                values[i, side] = iou
                which[i, side] = truth
    return values, which
