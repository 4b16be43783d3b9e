"""What detectors share: fusion of views, turned boxes, and training that stops when validation has stopped to rise."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from together import start

from medaug_cli.plugin import ImageSpec, UsageError
from medaug_cli.processes import joined
from medaug_cli.testing.examples import constructed
from medaug_cli.testing.trial import TrialRun
from medaug_plugins.detection.augment import augment
from medaug_plugins.detection.fusion import fuse
from medaug_plugins.detection.prediction import predict
from medaug_plugins.supervised.settings import TrainingSettings
from medaug_plugins.yolov3 import YOLOv3

SPEC = ImageSpec(1, (32, 64), ("lesion", "cyst"))
TINY: dict[str, Any] = {"backbone": "small", "width": 4, "head_width": 16, "batch": 2, "warm_up": 1.0}


def found(*rows):
    """Return detections out of rows (x, y, x, y, score, label)."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return table[:, :4], table[:, 4], table[:, 5].astype(np.int64)


def test_fusion_by_hand():
    one = found((0, 0, 10, 10, 0.8, 0), (40, 40, 50, 50, 0.6, 0))
    two = found((2, 0, 12, 10, 0.4, 0), (40, 40, 50, 50, 0.5, 1))
    boxes, scores, labels = fuse([one, two])
    assert np.allclose(boxes[0], [2 / 3, 0, 10 + 2 / 3, 10])  # weighted 0.8 to 0.4
    assert np.allclose(scores, [0.6, 0.3, 0.25])  # the mean; what one of two views shows counts half
    assert labels.tolist() == [0, 0, 1]
    assert len(fuse([one, two], least_score=0.28)[0]) == 2
    assert [len(part) for part in fuse([found(), found()])] == [0, 0, 0]


SCORE = st.integers(1, 100).map(lambda n: n / 100)
ROW = st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(41, 60)] * 2, SCORE, st.integers(0, 1))


@given(st.lists(ROW, max_size=6), st.integers(1, 4))
def test_views_that_agree_change_nothing(rows, views):
    once = fuse([found(*rows)], same=0.999)
    again = fuse([once] * views, same=0.999)
    assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(once, again, strict=True))
    assert (np.diff(again[1]) <= 0).all()


def test_flipped_views_come_back_to_their_place():
    image = np.zeros((1, 32, 64), np.float32)
    image[0, 4:12, 6:30] = 1

    def find(group):
        out = []
        for each in group:
            rows, columns = np.nonzero(each[0] > 0.5)
            out.append(found((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, 0.9, 1)))
        return out

    for views in (1, 2, 4):
        (boxes, scores, labels), second = predict(find, iter([image, image[:, ::-1]]), views)
        assert np.allclose(boxes, [[6, 4, 30, 12]])
        assert np.allclose(second[0], [[6, 20, 30, 28]])
        assert np.allclose(scores, 0.9)
        assert labels.tolist() == [1]


@given(st.integers(0, 2**16), st.floats(0, 180))
def test_a_turned_box_holds_the_turned_ellipse(seed, degrees):
    y, x = np.mgrid[:64, :96] + 0.5
    image = (((x - 40) / 18) ** 2 + ((y - 36) / 8) ** 2 <= 1).astype(np.float32)[None, None]
    box = [np.array([[22, 28, 58, 44]], np.float32)]
    settings = TrainingSettings(shift=0.05, zoom=0.1, contrast=0, brightness=0, flip_rows=True, rotate=degrees)
    batch = torch.from_numpy(image), box, [np.array([0])]
    moved, (carried,), _ = augment(batch, settings, np.random.default_rng(seed))
    rows, columns = np.nonzero(moved[0, 0].numpy() > 0.5)
    seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert np.abs(carried[0] - seen).max() <= 1.5


def test_training_stops_when_validation_has_stopped_to_rise():
    asked: list[int] = []

    def validate(predict):
        asked.append(len(list(predict(constructed(SPEC).images[:1]))))
        return {"score": 1.0 if len(asked) == 2 else 0.5}

    for patience, steps in ((2, 4), (0, 10)):
        asked.clear()
        run = TrialRun(10, on_validate=validate)
        YOLOv3(**TINY, validations=10, patience=patience).fit(constructed(SPEC), run)
        assert run.done == steps


@dataclass
class Shared(TrialRun):
    """A trial in several processes."""

    group: Any = None

    def average(self, tensors):
        self.group.average(tensors)


def train_together():
    with joined("cpu") as group:
        run = Shared(3, rank=group.rank, world=group.world, group=group)
        detector = YOLOv3(**{**TINY, "batch": 4})
        detector.fit(constructed(ImageSpec(1, (32, 32), ("lesion",))), run)
        own = [v for v in detector.state_dict().values() if v.is_floating_point()]
        means = [v.clone() for v in own]
        group.average(means)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(own, means, strict=True))
        print("alike")


def test_processes_that_train_together_end_alike():
    outcomes = start(train_together, 2)
    assert [(code, said.strip()) for code, said, _ in outcomes] == [(0, "alike")] * 2, outcomes
    run = TrialRun(1)
    run.world = 3
    with pytest.raises(UsageError, match="batch=2: 3 processes"):
        YOLOv3(**TINY).fit(constructed(SPEC), run)


@pytest.mark.parametrize(
    ("flips", "views"),
    [((True, False), 2), ((True, True), 4), ((False, False), 1), ((False, True), 1)],
)
def test_a_detector_that_saw_no_mirror_image_looks_at_none(flips, views):
    left_right, rows = flips
    assert YOLOv3(**TINY, test_flips=True, flip=left_right, flip_rows=rows).views == views
    assert YOLOv3(**TINY, flip=left_right, flip_rows=rows).views == 1


def test_fused_flips_of_a_detector_are_the_same_for_a_flipped_image():
    detector = YOLOv3(**TINY, test_flips=True, flip_rows=True)
    detector.fit(constructed(SPEC), TrialRun(4))
    images = constructed(SPEC).images[:3]
    for straight, mirrored in zip(detector.predict(images), detector.predict(images[:, :, ::-1, ::-1]), strict=True):
        boxes = mirrored[0][:, [2, 3, 0, 1]] * -1 + [64, 32, 64, 32]
        assert np.allclose(straight[1][:5], mirrored[1][:5], atol=1e-4)
        apart = np.abs(straight[0][:3, None] - boxes[None, :12]).max(2)  # of equal scores either may come first
        assert (apart.min(1) < 0.05).all()
