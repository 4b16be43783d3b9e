"""COCO's twelve numbers: equal to pycocotools on random sets, and defined where pycocotools is not."""

import json
from contextlib import redirect_stdout
from dataclasses import fields
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scenes import scored_of

from medaug_cli.errors import BadInput
from medaug_cli.metrics import arrays, coco, kernels, twelve_numbers
from medaug_cli.metrics.annotations import Annotated, FoundBoxes, TrueBoxes
from medaug_cli.metrics.coco_files import read_detections, read_truth
from medaug_cli.metrics.matching import match_boxes
from medaug_cli.metrics.operating import cohort_of, froc

SETS, GROUPS = 480, 12  # random sets, in groups of one test each


@pytest.fixture
def ours(tmp_path):
    """Return a function that gives our twelve numbers of COCO content, by way of the files."""

    def numbers(truth, detections):
        given = read(tmp_path, truth, detections)
        found = twelve_numbers(*given)
        assert twelve_numbers(*given, arrays) == found, "array operations differ from compiled loops"
        return found

    return numbers


def read(folder, truth, detections):
    (folder / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    (folder / "found.json").write_text(json.dumps(detections), encoding="utf-8")
    data = read_truth(folder / "truth.json")
    return data, read_detections(folder / "found.json", data)[0]


def theirs(truth, detections):
    """Return what pycocotools prints of the same content."""
    with redirect_stdout(StringIO()):
        known = COCO()
        known.dataset = json.loads(json.dumps(truth))
        known.createIndex()
        evaluation = COCOeval(known, known.loadRes(json.loads(json.dumps(detections))), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def truth_of(boxes, images=(1,), categories=(1,)):
    """Return COCO content of (image, category, bbox, further keys) rows."""
    return {
        "images": [{"id": image} for image in images],
        "categories": [{"id": category, "name": f"class {category}"} for category in categories],
        "annotations": [
            {"id": i, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0, "area": box[2] * box[3]}
            | dict(*further)
            for i, (image, category, box, *further) in enumerate(boxes, 1)
        ],
    }


def found_of(rows):
    """Return COCO detections of (image, category, bbox, score) rows."""
    keys = ("image_id", "category_id", "bbox", "score")
    return [dict(zip(keys, row, strict=True)) for row in rows]


def random_set(seed):
    """Return a random truth and detections; the seed also chooses which peculiarities the set has."""
    rng = np.random.default_rng(seed)
    images = rng.permutation(np.arange(1, 40))[: rng.integers(1, 7)].tolist()
    categories = rng.permutation(np.arange(1, 20))[: rng.integers(1, 5)].tolist()
    grid, steps = rng.choice([1, 4, 0.37]), rng.choice([3, 10, 1000])  # coarse: equal IoUs and equal scores
    crowds, own_areas, empty_class = rng.random(3) < 0.4

    def box(size):
        return (grid * rng.integers(0, [20, 20, size, size])).tolist()

    boxes, rows = [], []
    for image in images:
        if rng.random() < 0.2:
            continue
        for _ in range(rng.integers(0, 6)):
            category = int(rng.choice(categories[:-1] if empty_class and len(categories) > 1 else categories))
            own = box(rng.choice([12, 40, 120]))
            further: dict[str, float] = {"iscrowd": int(crowds and rng.random() < 0.3)}
            if own_areas:
                further["area"] = float(rng.choice([0, 32**2, 96**2, own[2] * own[3], rng.uniform(0, 2e4)]))
            boxes.append((image, category, own, further))
            for _ in range(rng.integers(0, 4)):
                near = np.maximum(np.array(own) + grid * rng.integers(-2, 3, 4), 0).tolist()
                rows.append((image, category, near, rng.integers(0, steps) / steps))
        for _ in range(rng.integers(0, 5)):
            rows.append((image, int(rng.choice(categories)), box(40), rng.integers(0, steps) / steps))
    many = 130 if seed % 10 == 0 else 1
    for _ in range(many):
        rows.append((images[0], categories[0], box(30), rng.integers(0, steps) / steps))
    rng.shuffle(rows)
    return truth_of(boxes, images, categories), found_of([(int(i), int(c), list(b), float(s)) for i, c, b, s in rows])


EXAMPLE = Path(__file__).parents[1] / "data/coco-example"
PUBLISHED = (0.505, 0.697, 0.573, 0.586, 0.519, 0.501, 0.387, 0.594, 0.595, 0.640, 0.566, 0.564)


def test_the_official_example(ours):
    truth, detections = (
        json.loads((EXAMPLE / f"{name}.json").read_text(encoding="utf-8")) for name in ("truth", "detections")
    )
    found = ours(truth, detections)
    assert [round(float(value), 3) for value in found] == list(PUBLISHED)
    np.testing.assert_allclose(found, theirs(truth, detections), rtol=0, atol=5e-7)


@pytest.mark.parametrize("group", range(GROUPS))
def test_random_sets_are_as_pycocotools_finds_them(ours, group):
    for seed in range(group, SETS, GROUPS):
        truth, detections = random_set(seed)
        np.testing.assert_allclose(
            ours(truth, detections), theirs(truth, detections), rtol=0, atol=5e-7, err_msg=f"seed {seed}"
        )


def test_the_random_sets_hold_what_makes_matching_hard():
    sets = [random_set(seed) for seed in range(SETS)]
    crowds = sum(any(a["iscrowd"] for a in truth["annotations"]) for truth, _ in sets)
    areas = sum(any(a["area"] != a["bbox"][2] * a["bbox"][3] for a in truth["annotations"]) for truth, _ in sets)
    ties = sum(len({d["score"] for d in found}) < len(found) for _, found in sets)
    empty = sum(len(truth["images"]) > len({a["image_id"] for a in truth["annotations"]}) for truth, _ in sets)
    absent = sum(len(truth["categories"]) > len({a["category_id"] for a in truth["annotations"]}) for truth, _ in sets)
    full = sum(max(np.unique([d["image_id"] for d in found], return_counts=True)[1]) > 100 for _, found in sets)
    several = sum(len(truth["categories"]) > 1 for truth, _ in sets)
    assert min(crowds, areas, ties, empty, absent, full, several) >= 20


def test_array_operations_match_small_sets_and_name_the_boxes_that_were_found(tmp_path):
    for seed in range(40):
        data, found = read(tmp_path, *random_set(seed))
        given = (data.truth, found, len(data), len(data.label_names), np.array([0.3, 0.6]))
        one, other = (match_boxes(*given, name_partners=True, loops=loops) for loops in (kernels, arrays))
        for field in fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), field.name)
        assert arrays.suit(data, found)


SUITED = [(10, 1, True), (2_000, 1, False), (900, 900, True), (900, 2_000, False)]


@pytest.mark.parametrize(("n", "m", "suited"), SUITED)
def test_array_operations_suit_sets_that_are_small_in_all_respects(n, m, suited):
    """n detections and m boxes in one image are n rounds over m pairs."""
    box, where, none = np.array([[0.0, 0.0, 1.0, 1.0]]), np.zeros(max(n, m), np.int64), np.zeros(m, bool)
    ones = np.ones(max(n, m))
    truth = TrueBoxes(where[:m], where[:m], box.repeat(m, 0), ones[:m], ones[:m], none)
    found = FoundBoxes(where[:n], where[:n], box.repeat(n, 0), ones[:n], ones[:n])
    assert arrays.suit(Annotated(("a",), ("a",), ("lesion",), truth), found) == suited


BOX, AWAY = [10, 10, 20, 20], [200, 200, 20, 20]
EDGES = {
    "exactly at IoU 0.5": ([(1, 1, [0, 0, 10, 10])], [(1, 1, [0, 0, 10, 5], 0.9)]),
    "exactly at IoU 0.75": ([(1, 1, [0, 0, 10, 10])], [(1, 1, [0, 0, 10, 7.5], 0.9)]),
    "duplicate detection": ([(1, 1, BOX)], [(1, 1, BOX, 0.9), (1, 1, BOX, 0.9)]),
    "duplicate box": ([(1, 1, BOX), (1, 1, BOX)], [(1, 1, BOX, 0.9), (1, 1, BOX, 0.8)]),
    "zero-area box": ([(1, 1, BOX), (1, 1, [5, 5, 0, 0])], [(1, 1, [5, 5, 3, 3], 0.9), (1, 1, BOX, 0.8)]),
    "zero-area detection": ([(1, 1, BOX)], [(1, 1, [12, 12, 0, 4], 0.9), (1, 1, BOX, 0.8)]),
    "ties across images": (
        [(1, 1, BOX), (2, 1, BOX)],
        [(2, 1, AWAY, 0.5), (1, 1, BOX, 0.5), (2, 1, BOX, 0.5), (1, 1, AWAY, 0.5)],
    ),
    "class only in detections": ([(1, 1, BOX)], [(1, 1, BOX, 0.5), (1, 2, BOX, 0.9)]),
    "category unknown to the truth": ([(1, 1, BOX)], [(1, 1, BOX, 0.5), (1, 7, BOX, 0.9)]),
    "crowd takes many": (
        [(1, 1, [0, 0, 100, 100], {"iscrowd": 1}), (1, 1, BOX)],
        [(1, 1, [50, 50, 9, 9], 0.9), (1, 1, [60, 60, 9, 9], 0.8), (1, 1, BOX, 0.7), (1, 1, BOX, 0.6)],
    ),
    "area given, at the end of a range": ([(1, 1, BOX, {"area": 32**2})], [(1, 1, BOX, 0.9)]),
    "only crowds": ([(1, 1, BOX, {"iscrowd": 1})], [(1, 1, BOX, 0.9)]),
    "no true box at all": ([], [(1, 1, BOX, 0.9)]),
    "last of two equal IoUs": (
        [(1, 1, [0, 0, 10, 10]), (1, 1, [10, 0, 10, 10])],
        [(1, 1, [5, 0, 10, 10], 0.9), (1, 1, [0, 0, 10, 10], 0.8), (1, 1, [10, 0, 10, 10], 0.7)],
    ),
}


@pytest.mark.parametrize("case", EDGES)
def test_edge_cases_are_as_pycocotools_has_them(ours, case):
    boxes, rows = EDGES[case]
    truth, detections = truth_of(boxes, (1, 2), (1, 2)), found_of(rows)
    np.testing.assert_allclose(ours(truth, detections), theirs(truth, detections), rtol=0, atol=5e-7)


def test_edge_cases_have_the_values_that_the_rule_says(ours):
    def numbers(case):
        boxes, rows = EDGES[case]
        return dict(zip(coco.NAMES, ours(truth_of(boxes, (1, 2), (1, 2)), found_of(rows)), strict=True))

    assert numbers("exactly at IoU 0.5")["AP50"] == pytest.approx(1)
    assert numbers("exactly at IoU 0.5")["AP"] == pytest.approx(0.1)
    assert numbers("exactly at IoU 0.75")["AP75"] == pytest.approx(1)
    assert numbers("duplicate box")["AR100"] == 1
    assert numbers("duplicate detection")["AR100"] == 1
    assert numbers("class only in detections")["AP"] == pytest.approx(1)
    assert set(numbers("no true box at all").values()) == {-1}
    assert set(numbers("only crowds").values()) == {-1}


def test_no_detections_are_zeros_where_there_are_boxes(ours):
    assert ours(truth_of([(1, 1, BOX)]), []) == [0, 0, 0, 0, -1, -1, 0, 0, 0, 0, -1, -1]
    assert ours(truth_of([]), []) == [-1] * 12


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((1, 1, BOX, float("nan")), "score"),
        ((1, 1, BOX, float("inf")), "score"),
        ((1, 1, [0, 0, float("nan"), 4], 0.5), "bbox"),
        ((9, 1, BOX, 0.5), "9 is not among"),
        ((1, 1, [10, 10, -4, 4], 0.5), "negative size"),
        ((1, 1, [10, 10, 4], 0.5), "4 numbers"),
    ],
)
def test_detections_that_mean_nothing_are_refused(ours, row, reason):
    with pytest.raises(BadInput, match=reason) as refused:
        ours(truth_of([(1, 1, BOX)]), found_of([(1, 1, BOX, 0.5), row]))
    assert "found.json: 1." in str(refused.value)


def test_a_zero_area_box_is_never_found(ours, tmp_path):
    data, found = read(tmp_path, truth_of([(1, 1, [5, 5, 0, 0])]), found_of([(1, 1, [5, 5, 0, 0], 0.9)]))
    assert not scored_of(data, found, [0.25]).hit.any()
    assert twelve_numbers(data, found)[0] == 0


def test_the_cap_of_100_holds_for_the_twelve_numbers_alone(tmp_path):
    rows = [(1, 1, AWAY, 0.9)] * 100 + [(1, 1, BOX, 0.5)]
    data, found = read(tmp_path, truth_of([(1, 1, BOX)]), found_of(rows))
    assert twelve_numbers(data, found)[:1] == [0]
    curve = froc(scored_of(data, found, [0.5]), cohort_of(data), 0.5)
    assert curve.sensitivity[-1] == 1
    assert curve.fps_per_slice[-1] == 100


def test_recall_levels_and_ious_are_cocos_to_the_last_bit():
    params = COCOeval(iouType="bbox").params
    assert (params.recThrs == coco.RECALLS).all()
    assert (params.iouThrs == coco.IOUS).all()
    assert [list(area) for area in coco.AREAS] == [[float(a) for a in each] for each in params.areaRng]
    assert list(coco.CAPS) == params.maxDets


def test_volumes_are_matched_as_slices_are(tmp_path):
    """Boxes of unit depth in 3D give the numbers that the same boxes give in 2D."""
    truth, detections = random_set(3)
    flat_data, flat = read(tmp_path, truth, detections)
    for row in [*truth["annotations"], *detections]:
        x, y, w, h = row["bbox"]
        row["bbox"] = [x, y, 0, w, h, 1]
    data, found = read(tmp_path, truth, detections)
    assert data.dims == 3
    assert twelve_numbers(data, found) == twelve_numbers(flat_data, flat)


def test_annotations_may_leave_out_area_and_crowd(tmp_path):
    truth = truth_of([(1, 1, BOX)])
    for row in truth["annotations"]:
        del row["area"], row["iscrowd"], row["id"]
    data, _ = read(tmp_path, truth, [])
    assert isinstance(data, Annotated)
    assert isinstance(data.truth, TrueBoxes)
    assert data.truth.areas.tolist() == [400]
    assert data.truth.crowd.tolist() == [False]
