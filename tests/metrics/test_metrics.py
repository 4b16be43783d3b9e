"""Matching, Table 1, FROC and AP: against hand-worked figures and slow, plain definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import (
    CLASSES,
    FAR,
    UNIT,
    corner_boxes,
    data_of,
    found_of,
    numbers_of,
    scenes,
    scored_of,
    sightings,
    worked_example,
)
from thoroughness import examples

from medaug_cli.errors import BadInput
from medaug_cli.metrics import (
    average_precision,
    cohort_of,
    found_boxes,
    froc,
    iou,
    matching,
    twelve_numbers,
    validation_score,
)
from medaug_cli.metrics.operating import CPM_FPS, MATCHED_FPS, average_precisions, mean_over_classes


def plain_iou(one, other):
    sides = [max(0.0, min(one[k + 2], other[k + 2]) - max(one[k], other[k])) for k in (0, 1)]
    shared = sides[0] * sides[1]
    union = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)) - shared
    return shared / union if union > 0 else 0.0


def plain_hits(data, found, least):
    """Return which detection finds which box, {detection: box}: the rule in its plainest form."""
    taken, truth = {}, data.truth
    for i in np.argsort(-found.scores, kind="stable"):
        best, best_iou = None, least
        for j in range(len(truth.images)):
            same = truth.images[j] == found.images[i] and truth.labels[j] == found.labels[i]
            if same and j not in taken.values() and (value := plain_iou(found.boxes[i], truth.boxes[j])) >= best_iou:
                best, best_iou = j, value
        if best is not None:
            taken[int(i)] = best
    return taken


# IoU


@examples(60)
@given(corner_boxes(), corner_boxes())
def test_iou_is_symmetric_and_between_0_and_1(one, other):
    values = iou(one, other)
    assert values.shape == (len(one), len(other))
    assert ((values >= 0) & (values <= 1)).all()
    assert (values == iou(other, one).T).all()
    assert values.tolist() == [[plain_iou(a, b) for b in other] for a in one]


@examples(60)
@given(corner_boxes())
def test_a_box_overlaps_itself_wholly_unless_it_is_empty(boxes):
    whole = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) > 0
    assert np.diag(iou(boxes, boxes)).tolist() == whole.astype(float).tolist()


def test_iou_of_volumes():
    one, other = np.array([[0, 0, 0, 2, 2, 2]]), np.array([[1, 0, 0, 3, 2, 2], [0, 0, 2, 2, 2, 4]])
    assert iou(one, other).tolist() == [[1 / 3, 0.0]]


# the matching rule


@examples(60)
@given(scenes(), st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0]))
def test_matching_is_the_plain_rule(scene, least):
    data, [found] = scene
    wanted = plain_hits(data, found, least)
    seen = sightings(data, found, least, -np.inf)
    assert set(np.flatnonzero(seen.hit)) == set(wanted)
    assert set(np.flatnonzero(seen.found)) == set(wanted.values())
    scored = scored_of(data, found, (least,))
    assert scored.hit.sum() == len(wanted)
    assert (np.diff(scored.scores) <= 0).all()


@examples(60)
@given(scenes())
def test_a_lower_iou_loses_no_found_box(scene):
    data, [found] = scene
    strict, loose = (sightings(data, found, least, -np.inf).found for least in (0.5, 0.25))
    assert (loose >= strict).all()


def test_a_better_score_chooses_first_and_takes_the_largest_iou():
    left, right = [0.0, 0.0, 10.0, 10.0], [4.0, 0.0, 14.0, 10.0]
    data = data_of([np.array([left, right])])
    found = found_of((0, left, 0.5, 0), (0, [1.0, 0.0, 11.0, 10.0], 0.9, 0), images=1)
    seen = sightings(data, found, 0.3, 0.6)
    assert seen.hit.tolist() == [False, True]
    assert seen.found.tolist() == [True, False]
    both = sightings(data, found, 0.3, 0.0)  # the first choice is gone; the other box is near enough
    assert both.found.tolist() == [True, True]
    assert sightings(data, found, 0.5, 0.0).hit.tolist() == [False, True]


@pytest.mark.parametrize(("length", "hit"), [(5.0, True), (4.999, False)])
def test_an_iou_exactly_at_the_threshold_is_a_hit(length, hit):
    data = data_of([np.array([[0.0, 0, 10, 10]])])
    found = found_of((0, [0.0, 0.0, 10.0, length], 0.9, 0), images=1)
    assert scored_of(data, found).column(0.5).tolist() == [hit]


def test_a_duplicate_detection_is_a_false_positive_and_a_duplicate_box_is_found_by_the_second():
    twice = found_of((0, UNIT, 0.9, 0), (0, UNIT, 0.8, 0), images=1)
    once = numbers_of(data_of([np.array([UNIT])]), twice)
    assert (once["sensitivity"], once["fps_per_slice"]) == (1, 1)
    both = numbers_of(data_of([np.array([UNIT, UNIT])]), twice)
    assert (both["sensitivity"], both["fps_per_slice"]) == (1, 0)


def test_a_class_that_is_only_detected_counts_as_false_positives_and_leaves_map_alone():
    data = data_of([np.array([UNIT])])
    found = found_of((0, UNIT, 0.9, 0), (0, UNIT, 0.95, 1), (0, UNIT, 0.95, 5), images=1)
    numbers = numbers_of(data, found)
    assert (numbers["sensitivity"], numbers["fps_per_slice"], numbers["mAP"]) == (1, 2, pytest.approx(1))


# Table 1


@examples(60)
@given(scenes(least_boxes=1), st.sampled_from([0.001, 0.3, 0.5, 0.95]))
def test_table_1s_identity(scene, threshold):
    data, [found] = scene
    half, quarter = (numbers_of(data, found, threshold, at) for at in (0.5, 0.25))
    boxes_per_slice = len(data.truth.images) / len(data)
    gained = (quarter["sensitivity"] - half["sensitivity"]) * boxes_per_slice
    assert quarter["fps_per_slice"] == pytest.approx(half["fps_per_slice"] - gained)
    counted = half["sensitivity"] * boxes_per_slice + half["fps_per_slice"]
    assert counted == pytest.approx((found.scores >= threshold).sum() / len(data))


@examples(60)
@given(scenes(least_boxes=1), st.sampled_from([0.2, 0.5, 0.9]))
def test_sensitivity_at_a_threshold_is_that_of_the_detections_kept(scene, threshold):
    data, [found] = scene
    kept = found.scores >= threshold
    hits = plain_hits(data, type(found)(*(getattr(found, name)[kept] for name in vars(found))), 0.5)
    numbers = numbers_of(data, found, threshold)
    assert numbers["sensitivity"] == pytest.approx(len(hits) / len(data.truth.images))
    assert numbers["fps_per_slice"] == pytest.approx((kept.sum() - len(hits)) / len(data))


def test_the_threshold_counts_what_lies_on_it_and_nothing_below():
    data = data_of([np.array([UNIT]), np.empty((0, 4))])
    found = found_of((0, UNIT, 0.001, 0), (1, UNIT, 0.000999, 0), (1, FAR, 0.001, 0), images=2)
    numbers = numbers_of(data, found, 0.001)
    assert (numbers["sensitivity"], numbers["fps_per_slice"]) == (1, 0.5)


def test_slices_without_lesions_count_as_slices():
    found = [found_of((0, UNIT, 0.9, 0), (0, FAR, 0.8, 0), images=n) for n in (1, 4)]
    alone = numbers_of(data_of([np.array([UNIT])]), found[0])
    among = numbers_of(data_of([np.array([UNIT]), *[np.empty((0, 4))] * 3]), found[1])
    assert (alone["fps_per_slice"], among["fps_per_slice"]) == (1, 0.25)
    assert alone["sensitivity"] == among["sensitivity"] == 1


def test_no_cap_holds_for_false_positives():
    data = data_of([np.array([UNIT])])
    found = found_of(*[(0, FAR, 0.9, 0)] * 500, (0, UNIT, 0.5, 0), images=1)
    numbers = numbers_of(data, found)
    assert (numbers["sensitivity"], numbers["fps_per_slice"]) == (1, 500)


def test_nothing_to_find_is_undefined_and_nothing_found_is_zero():
    none, empty = np.empty((0, 4)), found_of(images=1)
    assert np.isnan(numbers_of(data_of([none]), empty)["sensitivity"])
    assert np.isnan(numbers_of(data_of([none]), empty)["mAP"])
    assert numbers_of(data_of([none]), found_of((0, UNIT, 0.9, 0), images=1))["fps_per_slice"] == 1
    assert set(numbers_of(data_of([np.array([UNIT])]), empty).values()) == {0}


# FROC


def test_froc_points_lie_where_the_score_changes():
    data, found = worked_example()
    curve = froc(scored_of(data, found), cohort_of(data), 0.5)
    assert curve.fps_per_slice.tolist() == [0, 0, 0.5, 0.5, 1.5, 2]
    assert curve.sensitivity.tolist() == [0, 0.25, 0.25, 0.5, 0.75, 0.75]
    assert curve.thresholds.tolist() == [np.inf, 0.9, 0.8, 0.7, 0.5, 0.3]
    assert [curve.threshold_at(fps) for fps in (0, 0.5, 1, 1.5, 8)] == [0.9, 0.7, 0.7, 0.5, 0.3]


def test_sensitivity_at_matched_false_positives_is_read_off_straight_lines():
    data, found = worked_example()
    numbers = numbers_of(data, found)
    at = [numbers[f"sensitivity_at_{fps:g}"] for fps in MATCHED_FPS]
    assert at == pytest.approx([0.5, 0.625, 0.75, 0.75, 0.75])  # 1 lies halfway from .5 to 1.5; the curve ends at 2
    assert numbers["cpm"] == pytest.approx((0.25 + 0.25 + 0.5 + 0.625 + 3 * 0.75) / 7)


def test_no_threshold_keeps_to_a_rate_that_the_best_score_exceeds():
    data = data_of([np.array([UNIT])])
    found = found_of((0, FAR, 0.9, 0), (0, FAR, 0.9, 0), (0, UNIT, 0.9, 0), images=1)
    curve = froc(scored_of(data, found), cohort_of(data), 0.5)
    assert curve.threshold_at(1) is None
    assert curve.threshold_at(2) == 0.9
    assert numbers_of(data, found)["sensitivity_at_1"] == 0.5  # on the line from (0, 0) to (2, 1)


@examples(60)
@given(scenes(least_boxes=1))
def test_curves_rise_and_are_what_every_threshold_gives(scene):
    data, [found] = scene
    curve = froc(scored_of(data, found), cohort_of(data), 0.5)
    assert (np.diff(curve.sensitivity) >= 0).all()
    assert (np.diff(curve.fps_per_slice) >= 0).all()
    assert (np.diff(curve.thresholds) < 0).all()
    for threshold, sensitivity, fps in zip(
        curve.thresholds[1:], curve.sensitivity[1:], curve.fps_per_slice[1:], strict=True
    ):
        numbers = numbers_of(data, found, threshold)
        assert (numbers["sensitivity"], numbers["fps_per_slice"]) == (pytest.approx(sensitivity), pytest.approx(fps))
    numbers = numbers_of(data, found)
    at = [numbers[f"sensitivity_at_{fps:g}"] for fps in MATCHED_FPS]
    assert (np.diff(at) >= 0).all()
    assert at == pytest.approx(np.interp(MATCHED_FPS, curve.fps_per_slice, curve.sensitivity).tolist())
    assert numbers["cpm"] == pytest.approx(np.interp(CPM_FPS, curve.fps_per_slice, curve.sensitivity).mean())


# average precision


@pytest.mark.parametrize(("rule", "value"), [("area", 0.625), ("voc07", 6.75 / 11), ("coco", (26 + 50 * 0.75) / 101)])
def test_average_precision_by_hand(rule, value):
    """Precisions 1, 1/2, 2/3, 3/4, 3/5 at recalls 1/4, 1/4, 1/2, 3/4, 3/4."""
    assert average_precision(np.array([1, 0, 1, 1, 0]), 4, rule) == pytest.approx(value)


@pytest.mark.parametrize("rule", ["area", "voc07", "coco"])
def test_average_precision_at_its_ends(rule):
    assert average_precision(np.ones(3), 3, rule) == pytest.approx(1)
    assert average_precision(np.zeros(3), 3, rule) == 0
    assert average_precision(np.empty(0), 3, rule) == 0
    assert np.isnan(average_precision(np.zeros(3), 0, rule))


@examples(60)
@given(scenes(least_boxes=1))
def test_the_three_ways_to_map_agree(scene):
    data, [found] = scene
    scored, cohort = scored_of(data, found), cohort_of(data)
    precisions = average_precisions(scored, cohort, 0.5, np.ones((1, len(cohort.patients))))
    plain = [
        average_precision(scored.column(0.5)[scored.labels == label], int(cohort.boxes[:, label].sum()))
        for label in range(len(CLASSES))
    ]
    assert precisions[0].tolist() == pytest.approx(plain, nan_ok=True)
    assert np.isnan(precisions[0, 2])
    assert float(mean_over_classes(precisions, cohort)[0]) == pytest.approx(np.nanmean(plain))
    assert twelve_numbers(data, found)[1] == pytest.approx(np.nanmean(plain), abs=1e-9)


# what is refused


@pytest.mark.parametrize(
    ("box", "score"),
    [
        ([0, 0, np.nan, 4], 0.5),
        ([0, -np.inf, 4, 4], 0.5),
        ([0, 0, 4, np.inf], 0.5),
        ([0, 0, 4, 4], np.nan),
        ([0, 0, 4, 4], np.inf),
        ([4, 0, 0, 4], 0.5),
        ([0, 4, 4, 0], 0.5),
    ],
)
def test_detections_that_are_no_boxes_are_refused(box, score):
    good = (np.array([UNIT]), np.array([0.5]), np.array([0]))
    bad = (np.array([UNIT, box]), np.array([0.5, score]), np.array([0, 0]))
    with pytest.raises(BadInput, match="image scan-7 is not a box with a score"):
        found_boxes([good, bad], names=["scan-6", "scan-7"])


def test_detections_of_unequal_number_are_refused():
    with pytest.raises(BadInput, match="scan-6 has 1 boxes, 2 scores and 1 labels"):
        found_boxes([(np.array([UNIT]), np.array([0.5, 0.4]), np.array([0]))], names=["scan-6"])


# one number for training


def test_the_validation_score_ranks_by_sensitivity_then_by_map():
    boxes, labels = [np.array([UNIT])] * 4, [np.zeros(1, np.int64)] * 4
    hit, miss = (np.array([UNIT]), [0.9], [0]), (np.array([FAR]), [0.95], [0])
    near = (np.array([[10.0, 10.0, 20.0, 14.0]]), [0.9], [0])  # IoU 0.4
    three, two, loose = ([hit] * 3 + [miss], [hit] * 2 + [miss] * 2, [hit] * 2 + [near] * 2)
    scores = [validation_score(boxes, labels, answer)["score"] for answer in (three, loose, two)]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 3
    found = validation_score(boxes, labels, three)
    assert (found["sensitivity_at_1"], found["sensitivity_at_1_iou25"]) == (0.75, 0.75)
    assert found["score"] == pytest.approx(0.75 + found["map50"] / 16)
    later = [(np.array([UNIT]), [0.5 if i < 3 else 0.9], [0]) for i in range(3)] + [(np.array([FAR]), [0.1], [0])]
    assert validation_score(boxes, labels, later)["score"] > found["score"]  # as many found, ranked better


def test_the_validation_score_of_nothing():
    empty = (np.empty((0, 4)), [], [])
    zeros = {"score": 0, "sensitivity_at_1": 0, "sensitivity_at_1_iou25": 0, "map50": 0}
    assert validation_score([np.array([UNIT])], [[0]], [empty]) == zeros
    assert validation_score([np.empty((0, 4))], [[]], [empty]) == {}  # nothing to find: nothing is measured
    assert validation_score([], [], []) == {}


@examples(50)
@given(scene=scenes(), threads=st.integers(2, 5))
def test_threads_change_nothing(scene, threads):
    data, (found,) = scene
    arguments = (data.truth, found, len(data), len(CLASSES), np.array([0.5, 0.25]))
    alone = matching.match_boxes(*arguments, name_partners=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "DETECTIONS_A_THREAD", 1)
        patch.setattr("numba.config.NUMBA_NUM_THREADS", threads)
        together = matching.match_boxes(*arguments, name_partners=True)
    assert (alone.outcome == together.outcome).all()
    assert (alone.partners == together.partners).all()
