"""Matching rules other than COCO's: against published examples, plain definitions and each other."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import FAR, UNIT, data_of, found_of, numbers_of, scenes, scored_of, sightings
from thoroughness import examples

from medaug_cli.metrics import average_precision, cohort_of, found_boxes, froc, match_detections, true_boxes
from medaug_cli.metrics.analysis import analyse
from medaug_cli.metrics.annotations import Annotated, TrueBoxes
from medaug_cli.metrics.matching import RULES
from medaug_cli.metrics.report import ANY_IOU, Analysis

# x, y, width, height of each image, and score, x, y, width, height: the example of Padilla, Netto and da Silva
# (2020), "A survey on performance metrics for object-detection algorithms", sample 2 of their repository
PADILLA_TRUTH = [
    [(25, 16, 38, 56), (129, 123, 41, 62)],
    [(123, 11, 43, 55), (38, 132, 59, 45)],
    [(16, 14, 35, 48), (123, 30, 49, 44), (99, 139, 47, 47)],
    [(53, 42, 40, 52), (154, 43, 31, 34)],
    [(59, 31, 44, 51), (48, 128, 34, 52)],
    [(36, 89, 52, 76), (62, 58, 44, 67)],
    [(28, 31, 55, 63), (58, 67, 50, 58)],
]
PADILLA_FOUND = [
    [(0.88, 5, 67, 31, 48), (0.70, 119, 111, 40, 67), (0.80, 124, 9, 49, 67)],
    [(0.71, 64, 111, 64, 58), (0.54, 26, 140, 60, 47), (0.74, 19, 18, 43, 35)],
    [(0.18, 109, 15, 77, 39), (0.67, 86, 63, 46, 45), (0.38, 160, 62, 36, 53), (0.91, 105, 131, 47, 47),
     (0.44, 18, 148, 40, 44)],
    [(0.35, 83, 28, 28, 26), (0.78, 28, 68, 42, 67), (0.45, 87, 89, 25, 39), (0.14, 10, 155, 60, 26)],
    [(0.62, 50, 38, 28, 46), (0.44, 95, 11, 53, 28), (0.95, 29, 131, 72, 29), (0.23, 29, 163, 72, 29)],
    [(0.45, 43, 48, 74, 38), (0.84, 17, 155, 29, 35), (0.43, 95, 110, 25, 42)],
    [(0.48, 16, 20, 101, 88), (0.95, 33, 116, 37, 49)],
]  # fmt: skip


def corners(sides):
    """Return half-open corners: the example's high corners are the last pixels of a box."""
    sides = np.array(sides, np.float64)
    return np.hstack([sides[:, :2], sides[:, :2] + sides[:, 2:] + 1])


def scored_by(rule, data, found, ious=(0.5,)):
    return scored_of(data, found, ious, rule)


def test_padillas_example_has_its_published_figures():
    data = data_of([corners(boxes) for boxes in PADILLA_TRUTH], classes=("object",))
    answers = [
        (corners([row[1:] for row in rows]), [row[0] for row in rows], [0] * len(rows)) for rows in PADILLA_FOUND
    ]
    hit = scored_by("voc", data, found_boxes(answers), (0.3,)).column(0.3)
    assert (len(hit), hit.sum(), len(data.truth.images)) == (24, 7, 15)
    assert round(100 * average_precision(hit, 15, "area"), 2) == 24.57  # printed as 24.56
    assert round(100 * average_precision(hit, 15, "voc07"), 2) == 26.84


MONAI_TRUTH = [[2, 0, 4, 1], [0, 1, 2, 2], [1, 2, 4, 4]]  # the boxes of the three labels of its test's mask
MONAI_POINTS = [((3, 0), 1.0), ((0, 2), 0.6), ((1, 3), 0.8)]  # x, y, probability


@pytest.mark.parametrize(("excluded", "targets"), [((1,), 2), ((), 3)])
def test_monais_froc_cases_of_points(excluded, targets):
    """One false positive of .6, true positives of 1 and .8; an excluded label is neither to be found nor counted."""
    boxes = np.array(MONAI_TRUTH, np.float64)
    plain = true_boxes([boxes], [np.zeros(3, np.int64)])
    crowd = np.isin(np.arange(3), excluded)
    truth = TrueBoxes(plain.images, plain.labels, plain.boxes, plain.volumes, plain.areas, crowd)
    data = Annotated(("a",), ("a",), ("tumour",), truth)
    found = found_of(*[(0, [x, y, x + 1, y + 1], p, 0) for (x, y), p in MONAI_POINTS], images=1)
    scored = scored_by("center", data, found)
    assert scored.scores[scored.false(0.5)].tolist() == [0.6]
    assert scored.scores[scored.column(0.5)].tolist() == [1.0, 0.8]
    assert cohort_of(data).box_total == targets


def test_monais_froc_case_in_3d():
    boxes = np.array([[x0, y0, 0, x1, y1, 2] for x0, y0, x1, y1 in MONAI_TRUTH], np.float64)
    data = Annotated(("a",), ("a",), ("tumour",), true_boxes([boxes], [np.zeros(3, np.int64)], 3), 3)
    points = np.array([[3, 0, 0], [0, 2, 1], [1, 3, 0]], np.float64)
    found = found_boxes([(np.hstack([points, points + 1]), [1.0, 0.6, 0.8], [0, 0, 0])], 3)
    assert scored_by("center", data, found).column(0.5).tolist() == [True, True, False]


def test_monais_froc_score():
    """False positives at .8 and .6, true ones at 1, 1, .8, .8, four tumours, two images: 0.958333 and 0.75."""
    row = [[20.0 * i, 0.0, 20.0 * i + 10, 10.0] for i in range(4)]
    data = data_of([np.array(row[:2]), np.array(row[2:])])
    found = found_of(
        (0, row[0], 1.0, 0), (1, row[2], 1.0, 0), (0, row[1], 0.8, 0), (1, row[3], 0.8, 0), (0, FAR, 0.8, 0),
        (1, FAR, 0.6, 0), images=2,
    )  # fmt: skip
    curve = froc(scored_by("center", data, found), cohort_of(data), 0.5)
    at = np.interp((0.25, 0.5, 1, 2, 4, 8), curve.fps_per_slice, curve.sensitivity)
    assert at.mean() == pytest.approx(0.95833333)
    assert at[0] == pytest.approx(0.75)


def outcomes(rule, data, found, iou=0.5):
    scored = scored_by(rule, data, found, (iou,))
    return list(zip(scored.column(iou).tolist(), scored.false(iou).tolist(), strict=True))


TRUE, FALSE, IGNORED = (True, False), (False, True), (False, False)


@pytest.mark.parametrize(
    ("rule", "expected"), [("coco", FALSE), ("voc", FALSE), ("luna", IGNORED), ("center", IGNORED)]
)
def test_a_duplicate_detection_by_each_rule(rule, expected):
    data = data_of([np.array([UNIT])])
    found = found_of((0, UNIT, 0.9, 0), (0, UNIT, 0.8, 0), (0, FAR, 0.7, 0), images=1)
    assert outcomes(rule, data, found) == [TRUE, expected, FALSE]


def test_voc_takes_no_second_choice():
    """The second detection overlaps the taken box most: COCO gives it the other one, VOC does not."""
    data = data_of([np.array([[0.0, 0, 10, 10], [4.0, 0, 14, 10]])])
    found = found_of((0, [0.0, 0.0, 10.0, 10.0], 0.9, 0), (0, [1.0, 0.0, 11.0, 10.0], 0.8, 0), images=1)
    assert outcomes("coco", data, found) == [TRUE, TRUE]
    assert outcomes("voc", data, found) == [TRUE, FALSE]


@pytest.mark.parametrize("rule", ["voc", "luna", "center"])
def test_difficult_boxes_are_ignored_by_rules_that_ignore(rule):
    boxes = np.array([UNIT, FAR])
    plain = true_boxes([boxes], [np.zeros(2, np.int64)])
    truth = TrueBoxes(*(getattr(plain, name) for name in ("images", "labels", "boxes", "volumes", "areas")),
                      np.array([False, True]))  # fmt: skip
    data = Annotated(("a",), ("a",), ("lesion",), truth)
    found = found_of((0, FAR, 0.9, 0), (0, UNIT, 0.8, 0), (0, FAR, 0.7, 0), (0, [80, 80, 90, 90], 0.6, 0), images=1)
    assert outcomes(rule, data, found) == [IGNORED, TRUE, IGNORED, FALSE]
    assert outcomes("coco", data, found) == [FALSE, TRUE, FALSE, FALSE]
    seen = sightings(data, found, 0.5, 0.65, rule)
    assert (seen.hit.tolist(), seen.false.tolist(), seen.found.tolist()) == (
        [False, True, False, False], [False] * 4, [True],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("box", "luna", "center"),
    [
        ([14.0, 14.0, 16.0, 16.0], True, True),
        ([19.0, 14.0, 20.8, 16.0], True, True),  # centre 19.9
        ([19.0, 14.0, 21.0, 16.0], False, False),  # centre 20: on the rim, and the end of a half-open box
        ([9.0, 14.0, 11.0, 16.0], False, True),  # centre 10: on the rim, and the first of a half-open box
        ([18.0, 18.0, 20.0, 20.0], True, True),  # 5.66 away? no: 4 * sqrt(2)
        ([10.0, 10.0, 11.0, 11.0], False, True),  # in the corner
    ],
)
def test_where_a_centre_must_lie(box, luna, center):
    data, found = data_of([np.array([UNIT])]), found_of((0, box, 0.9, 0), images=1)
    expected = {"luna": luna if box != [18.0, 18.0, 20.0, 20.0] else False, "center": center}
    assert {rule: outcomes(rule, data, found) == [TRUE] for rule in expected} == expected


@pytest.mark.parametrize(
    ("box", "spacing", "expected"),
    [
        ([0, 0, 3, 10, 10, 5], [1, 1, 5], False),  # 15 mm off along z, of a radius of 5 mm
        ([4.5, 0, 0, 14.5, 10, 2], [1, 1, 5], True),
        ([0, 0, 3, 10, 10, 5], None, True),
        ([4.5, 0, 0, 14.5, 10, 2], None, False),  # 4.5 pixels, of a radius of 3.67
    ],
)
def test_lunas_radius_is_in_millimetres_where_the_spacing_is_known(box, spacing, expected):
    known = None if spacing is None else np.array([spacing], np.float64)
    truth = true_boxes([np.array([[0, 0, 0, 10, 10, 2]])], [np.zeros(1, np.int64)], 3)
    data = Annotated(("a",), ("a",), ("nodule",), truth, 3, known)
    found = found_boxes([(np.array([box]), [0.9], [0])], 3)
    assert outcomes("luna", data, found) == [TRUE if expected else FALSE]
    remarks = analyse(data, {"a": found}, Analysis(ious=(ANY_IOU,), rule="luna", resamples=2)).metrics.remarks
    assert any("in pixels" in remark for remark in remarks) == (spacing is None)


def test_the_nearest_box_is_so_in_millimetres():
    """The centre is 2 pixels off the first's along x, and 1 along x and 2 along y off the second's."""
    data = data_of([np.array([[0.0, 0, 20, 20], [3.0, 2, 23, 22]])])
    found = found_of((0, [2.0, 0.0, 22.0, 20.0], 0.9, 0), images=1)
    for spacing, expected in ((None, 0), (np.array([[1.0, 1.0]]), 0), (np.array([[1.0, 0.1]]), 1)):
        matched = match_detections(replace(data, spacing=spacing), cohort_of(data), found, (0.5,), "center")
        assert matched.partners.tolist() == [[expected]]


def plain_voc(data, found, least):
    taken, hits = set(), set()
    for i in np.argsort(-found.scores, kind="stable"):
        own = [j for j in range(len(data.truth.images))
               if (data.truth.images[j], data.truth.labels[j]) == (found.images[i], found.labels[i])]  # fmt: skip
        values = [plain_iou(found.boxes[i], data.truth.boxes[j]) for j in own]
        if own and max(values) >= least:
            best = own[int(np.argmax(values))]
            if best not in taken:
                taken.add(best)
                hits.add(int(i))
    return hits


def plain_iou(one, other):
    shared = np.prod(np.maximum(0, np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])))
    union = sum(np.prod(b[2:] - b[:2]) for b in (one, other)) - shared
    return shared / union if union > 0 else 0.0


@examples(150)
@given(scenes(), st.sampled_from([0.1, 0.3, 0.5, 1.0]))
def test_voc_is_its_plain_rule(scene, least):
    data, [found] = scene
    assert set(np.flatnonzero(sightings(data, found, least, -np.inf, "voc").hit)) == plain_voc(data, found, least)


@examples(100)
@given(scenes(least_boxes=1), st.sampled_from(list(RULES)))
def test_every_rule_counts_every_detection_once_and_no_box_twice(scene, rule):
    data, [found] = scene
    scored = scored_by(rule, data, found)
    assert not (scored.column(0.5) & scored.false(0.5)).any()
    seen = sightings(data, found, 0.5, -np.inf, rule)
    assert seen.found.sum() == seen.hit.sum() == scored.column(0.5).sum() <= len(data.truth.images)
    assert seen.false.sum() == scored.false(0.5).sum()
    assert numbers_of(data, found)["sensitivity"] <= 1
