"""Drawn and constructed scenes: annotated images of a few patients, and detections on them."""

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from medaug_cli.metrics import Annotated, cohort_of, found_boxes, match_detections, true_boxes
from medaug_cli.metrics.detection import DetectionAnswers
from medaug_cli.metrics.resampling import point

CLASSES = ("glioma", "meningioma", "never seen")
UNIT = [10.0, 10.0, 20.0, 20.0]  # a box, and one that is far from it
FAR = [50.0, 50.0, 60.0, 60.0]


@st.composite
def corner_boxes(draw, most=6):
    """Draw (m, 4) corners on a coarse grid, so that equal IoUs and touching and empty boxes are common."""
    rows = draw(st.lists(st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(0, 8)] * 2), max_size=most))
    return np.array([[x, y, x + w, y + h] for x, y, w, h in rows], np.float64).reshape(-1, 4)


@st.composite
def scenes(draw, detectors=1, least_boxes=0):
    """Draw annotated images of a few patients and the detections of some detectors on them."""
    patients = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=5))
    boxes = [draw(corner_boxes(4)) for _ in patients]
    labels = [draw(st.lists(st.integers(0, 1), min_size=len(b), max_size=len(b))) for b in boxes]
    assume(sum(map(len, boxes)) >= least_boxes)
    answers = [[_answer(draw) for _ in patients] for _ in range(detectors)]
    return data_of(boxes, labels, patients), [found_boxes(answer) for answer in answers]


def _answer(draw):
    boxes = draw(corner_boxes())
    scores = draw(st.lists(st.integers(1, 9), min_size=len(boxes), max_size=len(boxes)))
    labels = draw(st.lists(st.integers(0, 1), min_size=len(boxes), max_size=len(boxes)))
    return boxes, np.array(scores) / 10, np.array(labels, np.int64)


def data_of(boxes, labels=None, patients=None, classes=CLASSES):
    labels = [np.zeros(len(b), np.int64) for b in boxes] if labels is None else labels
    names = tuple(f"i{i}" for i in range(len(boxes)))
    return Annotated(names, tuple(patients or names), classes, true_boxes(boxes, labels))


def found_of(*rows, images):
    """Return the detections (image, box, score, label) of `images` images."""
    parts = [[row for row in rows if row[0] == image] for image in range(images)]
    return found_boxes(
        [
            (np.array([r[1] for r in part]).reshape(-1, 4), np.array([r[2] for r in part]), [r[3] for r in part])
            for part in parts
        ]
    )


def scored_of(data, found, ious=(0.5, 0.25), rule="coco"):
    return match_detections(data, cohort_of(data), found, ious, rule).scored


def answers_of(data, found, threshold=0.001, at=0.5):
    return DetectionAnswers(scored_of(data, found), cohort_of(data), at, threshold)


def sightings(data, found, iou, threshold, rule="coco"):
    return match_detections(data, cohort_of(data), found, (iou,), rule).at(iou, threshold)


def numbers_of(data, found, threshold=0.001, at=0.5):
    return point(answers_of(data, found, threshold, at), len(cohort_of(data).patients))


def worked_example():
    """Return 2 slices with 4 boxes; hits at .9, .7 and .5, misses at .8, .5, .5 and .3."""
    row = np.array([[20.0 * i, 0, 20.0 * i + 10, 10] for i in range(4)])
    data = data_of([row[:3], row[3:]])
    found = found_of(
        (0, row[0], 0.9, 0), (1, FAR, 0.8, 0), (1, row[3], 0.7, 0), (0, FAR, 0.5, 0), (0, row[1], 0.5, 0),
        (1, FAR, 0.5, 0), (0, FAR, 0.3, 0), images=2,
    )  # fmt: skip
    return data, found
