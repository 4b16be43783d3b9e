"""What stands behind the figures: errors, sizes, slices and patients, against hand-worked scenes and plain counts."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from scenes import FAR, UNIT, data_of, found_of, numbers_of, scenes, sightings
from thoroughness import examples

from medaug_cli.metrics import average_precision, cohort_of, match_detections
from medaug_cli.metrics.analysis import analyse
from medaug_cli.metrics.annotations import TrueBoxes
from medaug_cli.metrics.breakdown import break_down, slice_auc
from medaug_cli.metrics.details import details
from medaug_cli.metrics.operating import AP_DEFINITIONS
from medaug_cli.metrics.report import Analysis
from medaug_cli.metrics.table import markdown


def broken(data, found, score=0.0, iou=0.5, rule="coco", edges=None):
    return break_down(match_detections(data, cohort_of(data), found, (iou,), rule), iou, score, 0.001, edges)


def test_every_kind_of_error_once():
    third, fourth, fifth = [100.0, 0, 110, 10], [200.0, 0, 210, 10], [300.0, 0, 310, 10]
    data = data_of([np.array([UNIT, FAR, third, fourth, fifth])], [[0, 0, 0, 1, 0]])
    found = found_of(
        (0, UNIT, 0.9, 0), (0, UNIT, 0.8, 0),  # correct, duplicate
        (0, FAR, 0.7, 1),  # another class, on a lesion
        (0, [100, 0, 110, 3], 0.6, 0),  # IoU 0.3
        (0, [200, 0, 210, 3], 0.5, 0),  # IoU 0.3 with another class
        (0, [500, 500, 510, 510], 0.4, 0), (0, [300, 0, 310, 0.5], 0.3, 0),  # background; IoU 0.05 is
        images=1,
    )  # fmt: skip
    errors = broken(data, found).errors
    assert errors.model_dump() == {
        "correct": 1, "duplicate": 1, "wrong_class": 1, "poorly_localised": 1, "wrong_class_and_place": 1,
        "background": 2, "missed": 4, "missed_near": 2,
    }  # fmt: skip
    assert broken(data, found, rule="center").errors is None


@examples(60)
@given(scenes(least_boxes=1))
def test_errors_add_up(scene):
    data, [found] = scene
    for score in (0.0, 0.5):
        seen, errors = sightings(data, found, 0.5, score), broken(data, found, score).errors
        counted = errors.model_dump()
        false = sum(counted[key] for key in counted if key not in ("correct", "missed", "missed_near"))
        assert (errors.correct, false) == (seen.hit.sum(), seen.false.sum())
        assert errors.correct + errors.missed == len(data.truth.images)
        assert errors.missed_near <= errors.missed


def sized(sides, areas=None, spacing=None):
    boxes = np.array([[100.0 * i, 0, 100.0 * i + side, side] for i, side in enumerate(sides)])
    data = data_of([boxes])
    if areas is not None:
        truth = data.truth
        changed = TrueBoxes(truth.images, truth.labels, truth.boxes, truth.volumes, np.array(areas, float), truth.crowd)
        data = replace(data, truth=changed)
    return replace(data, spacing=None if spacing is None else np.array([spacing], float)), boxes


def test_sensitivity_by_size_in_pixels_and_mm():
    data, boxes = sized([10.0, 32.0, 60.0, 96.0])
    found = found_of((0, boxes[0], 0.9, 0), (0, boxes[2], 0.8, 0), images=1)
    groups = broken(data, found).sizes
    assert [(g.at_least, g.below, g.unit, g.boxes, g.sensitivity) for g in groups] == [
        (0, 32, "pixels", 1, 1), (32, 96, "pixels", 2, 0.5), (96, None, "pixels", 1, 0),
    ]  # fmt: skip
    data, _ = sized([10.0, 32.0, 60.0, 96.0], spacing=(0.5, 0.125))  # 0.25 mm: 2.5, 8, 15 and 24 mm
    assert [(g.unit, g.boxes) for g in broken(data, found).sizes] == [("mm", 1)] * 4
    assert [g.boxes for g in broken(data, found, edges=(9.0,)).sizes] == [2, 2]
    data, _ = sized([10.0, 32.0, 60.0, 96.0], areas=[1, 1, 1, 10000])
    assert [g.boxes for g in broken(data, found).sizes] == [3, 0, 1]
    assert broken(data, found).sizes[1].sensitivity is None


def test_slices_and_patients():
    """Patient a: two lesions on two slices, one found; b: one lesion, found; c: none, and one false alarm."""
    none = np.empty((0, 4))
    data = data_of([np.array([UNIT]), np.array([UNIT]), np.array([UNIT]), none, none], patients=list("aabcc"))
    found = found_of((0, UNIT, 0.9, 0), (2, UNIT, 0.8, 0), (3, FAR, 0.7, 0), (1, FAR, 0.6, 0), images=5)
    at = broken(data, found)
    assert (at.slice_sensitivity, at.slice_specificity) == (pytest.approx(2 / 3), 0.5)
    assert at.patient_sensitivity == pytest.approx(0.75)
    assert (at.patients_with_lesions, at.patients_wholly_found, at.patients_without_a_find) == (2, 1, 0)
    assert (at.fps_per_slice, at.fps_per_patient) == (pytest.approx(2 / 5), pytest.approx(2 / 3))
    assert at.slice_auc == pytest.approx(5 / 6)  # of 3 x 2 pairs, only that of the second slice and the fourth is wrong
    alone = at.on_lesion_slices
    assert (alone.slices, alone.fps_per_slice) == (3, pytest.approx(1 / 3))
    assert broken(data, found, score=None).sensitivity == 0


@examples(60)
@given(scenes(least_boxes=1))
def test_lesion_slices_alone_are_what_leaving_out_the_others_gives(scene):
    data, [found] = scene
    having = sorted(set(data.truth.images.tolist()))
    part = data_of([data.truth.boxes[data.truth.images == i] for i in having],
                   [data.truth.labels[data.truth.images == i] for i in having],
                   [data.patients[i] for i in having])  # fmt: skip
    rows = [(having.index(i), box, score, label) for i, box, score, label in zip(
        found.images.tolist(), found.boxes, found.scores, found.labels, strict=True) if i in having]  # fmt: skip
    wanted = numbers_of(part, found_of(*rows, images=len(having)))
    alone = broken(data, found).on_lesion_slices
    assert alone.cpm == pytest.approx(wanted["cpm"])
    assert alone.fps_per_slice == pytest.approx(wanted["fps_per_slice"])
    assert alone.at_fps["1"] == pytest.approx(wanted["sensitivity_at_1"])


@examples(60)
@given(scenes())
def test_the_auc_of_slices_is_the_share_of_pairs_in_order(scene):
    data, [found] = scene
    lesion = np.bincount(data.truth.images, minlength=len(data)) > 0
    best = [found.scores[found.images == i].max(initial=-np.inf) for i in range(len(data))]
    pairs = [(best[i] > best[j]) + (best[i] == best[j]) / 2
             for i in np.flatnonzero(lesion) for j in np.flatnonzero(~lesion)]  # fmt: skip
    assert slice_auc(lesion, found) == (pytest.approx(np.mean(pairs)) if pairs else None)


@examples(25)
@given(scenes(least_boxes=1))
def test_average_precision_in_each_definition_and_class(scene):
    data, [found] = scene
    row = analyse(data, {"one": found}, Analysis((0.5, 0.3), resamples=100)).metrics.rows[0]
    for iou in (0.5, 0.3):
        seen = sightings(data, found, iou, -np.inf)
        order = np.lexsort((np.arange(len(found.scores)), found.images))
        order = order[np.argsort(-found.scores[order], kind="stable")]
        for name, rule in AP_DEFINITIONS.items():
            got = row.iou[f"{iou:g}"].average_precision[name]
            for label, kind in enumerate(data.label_names):
                boxes = int((data.truth.labels == label).sum())
                hit = seen.hit[order][found.labels[order] == label]
                assert got.classes[kind] == (pytest.approx(average_precision(hit, boxes, rule)) if boxes else None)
            assert got.mean == pytest.approx(np.mean([v for v in got.classes.values() if v is not None]))
        assert row.iou[f"{iou:g}"].mAP == pytest.approx(row.iou[f"{iou:g}"].average_precision["101-point"].mean)


def test_the_tables_of_details_have_a_row_a_detector():
    data = data_of([np.array([UNIT])])
    found = found_of((0, UNIT, 0.9, 0), images=1)
    for rule, tables in (("coco", 4), ("center", 3)):
        how = Analysis((0.5,) if rule == "coco" else (0.0,), resamples=100, rule=rule)
        metrics = analyse(data, {"one": found, "two": found}, how).metrics
        assert len(details(metrics)) == tables
        for table in details(metrics):
            assert all(len(row) == len(table.header) for row in table.rows)
        assert f"Matching rule: {rule}." in markdown(metrics)


# seeds of one system


def test_a_system_of_seeds_is_the_mean_of_its_seeds():
    data = data_of([np.array([UNIT])] * 4, patients=list("abcd"))
    one = found_of(*[(i, UNIT, 0.9, 0) for i in range(4)], images=4)
    half = found_of(*[(i, UNIT if i < 2 else FAR, 0.9, 0) for i in range(4)], images=4)
    metrics = analyse(data, {"first": [half, half], "second": [one, half]}, Analysis(resamples=400, coco=True)).metrics
    first, second = metrics.rows
    assert (first.seeds, second.seeds) == (2, 2)
    at = second.iou["0.5"]
    assert (at.sensitivity, [seed["sensitivity"] for seed in at.seeds]) == (0.75, [1, 0.5])
    assert at.interval["sensitivity"] == (pytest.approx(0.25), 1)  # both seeds the worse one, and unlucky patients
    assert second.against_first["0.5"]["sensitivity"].difference == 0.25
    assert second.against_first["0.5"]["sensitivity"].verdict == "inconclusive"
    assert second.coco[1] == pytest.approx(np.mean([1, 0.5]), abs=0.01)
    alone = analyse(data, {"first": half}, Analysis(resamples=400, coco=True)).metrics.rows[0]
    assert first.iou["0.5"].interval == alone.iou["0.5"].interval


def test_seeds_need_not_be_as_many():
    data = data_of([np.array([UNIT])] * 30)
    one = found_of(*[(i, UNIT, 0.9, 0) for i in range(30)], images=30)
    none = found_of(*[(i, FAR, 0.9, 0) for i in range(30)], images=30)
    metrics = analyse(data, {"none": none, "all": [one, one, one]}, Analysis(resamples=400)).metrics
    paired = metrics.rows[1].against_first["0.5"]
    assert (paired["sensitivity"].difference, paired["sensitivity"].verdict) == (1, "better")
    assert (paired["fps_per_slice"].difference, paired["fps_per_slice"].verdict) == (-1, "better")
