"""YOLOv3 has the paper's size, gives each box its cell, carries boxes with images, and finds bright rectangles."""

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rectangles import SPEC, found_and_false, overlap, rectangles
from thoroughness import examples

from medaug_cli.plugin import BadInput, ImageSpec, MedaugError, UsageError
from medaug_cli.testing.examples import ConstructedExamples, constructed
from medaug_cli.testing.trial import TrialRun, thawed
from medaug_plugins.detection.augment import augment, tiled
from medaug_plugins.detection.backbones import STRIDES
from medaug_plugins.detection.prediction import LEAST_SCORE, best
from medaug_plugins.supervised.settings import NO_AUGMENTATION, TrainingSettings
from medaug_plugins.yolov3 import YOLOv3
from medaug_plugins.yolov3.alignment import Assigned, aligned_losses, assigned
from medaug_plugins.yolov3.anchors import assign, by_scale, cluster, decode, encode, shape_iou
from medaug_plugins.yolov3.losses import losses
from medaug_plugins.yolov3.networks import build

TINY: dict[str, Any] = {"backbone": "small", "width": 4, "head_width": 32, "batch": 4, "warm_up": 10.0, "ema": 0.95}
COCO = np.array(
    [[10, 13], [16, 30], [33, 23], [30, 61], [62, 45], [59, 119], [116, 90], [156, 198], [373, 326]], np.float32
)
FIXED = TrainingSettings(**NO_AUGMENTATION)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass
class Watched(TrialRun):
    """A trial that remembers the losses and the checkpoint at the end."""

    losses: list[float] = field(default_factory=list)

    def log(self, done: int, **values: float) -> None:
        super().log(done, **values)
        if "loss" in values:
            self.losses.append(values["loss"])


def fitted(steps: int = 6, spec: ImageSpec = SPEC, **changed: Any) -> YOLOv3:
    detector = YOLOv3(**{**TINY, **changed})
    detector.fit(constructed(spec), TrialRun(steps))
    return detector


@pytest.mark.parametrize(
    ("channels", "classes", "parameters"), [(3, 80, 61_949_149), (3, 1, 61_523_734), (1, 1, 61_523_158)]
)
def test_darknet53_has_the_paper_s_parameters(channels, classes, parameters):
    with torch.device("meta"):
        network = build("darknet53", channels=channels, classes=classes, width=16, head_width=512)
        raw = network(torch.empty(2, channels, 416, 416))
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert [tuple(r.shape) for r in raw] == [(2, 3, 416 // s, 416 // s, 5 + classes) for s in STRIDES]
    assert sum(isinstance(m, torch.nn.Conv2d) for m in network.modules()) == 75


@pytest.mark.parametrize("backbone", ["resnet10t", "mobilenetv3_small_050", "darknet17"])
def test_other_backbones_of_timm_fit(backbone):
    with torch.device("meta"):
        raw = build(backbone, channels=1, classes=2, width=16, head_width=64)(torch.empty(1, 1, 64, 64))
    assert [tuple(r.shape) for r in raw] == [(1, 3, side, side, 7) for side in (8, 4, 2)]


@pytest.mark.parametrize("backbone", ["no_such_backbone", "vit_tiny_patch16_224"])
def test_an_unfit_backbone_is_named(backbone):
    with pytest.raises(UsageError, match=backbone):
        build(backbone, channels=1, classes=1, width=16, head_width=64)


BOX = st.tuples(*[st.floats(0, 400, width=32)] * 2, *[st.floats(2, 400, width=32)] * 2)


@given(st.lists(BOX, min_size=1, max_size=5))
def test_a_box_is_what_its_cell_says(rows):
    low, sides = np.array(rows, np.float32)[:, :2], np.array(rows, np.float32)[:, 2:]
    boxes = np.concatenate([low, np.minimum(low + sides, 416)], 1)
    boxes = boxes[(boxes[:, 2:] - boxes[:, :2]).min(1) >= 2]
    for box, scale, anchor, row, column in zip(boxes, *assign(boxes, COCO), strict=True):
        stride = STRIDES[scale]
        best = shape_iou((box[2:] - box[:2])[None], COCO)[0]
        assert best[scale * 3 + anchor] == best.max()
        centre = (box[:2].astype(np.float64) + box[2:]) / 2
        assert np.allclose(centre // stride, [column, row], atol=1e-4 if (centre % stride).min() > 1e-3 else 1)
        shapes = by_scale(torch.from_numpy(COCO))[scale][0]
        offset, log_sides = encode(torch.from_numpy(box[None]), shapes[anchor][None], stride)
        raw = torch.zeros(1, 3, 416 // stride, 416 // stride, 5)
        raw[0, anchor, row, column, :2] = torch.logit(offset[0], eps=1e-6)
        raw[0, anchor, row, column, 2:4] = log_sides[0]
        assert np.allclose(decode(raw, shapes, stride)[0, anchor, row, column].numpy(), box, atol=0.01)


def test_the_right_answer_costs_nothing_and_a_wrong_cell_does():
    boxes, anchors = [np.array([[30, 40, 46, 70], [100, 100, 216, 190]], np.float32)], torch.from_numpy(COCO)
    labels = [np.array([1, 0])]
    raw = [torch.zeros(1, 3, 416 // s, 416 // s, 7) for s in STRIDES]
    for numbers in raw:
        numbers[..., 4] = -20
    places = list(zip(boxes[0], labels[0], *assign(boxes[0], COCO), strict=True))
    for box, label, scale, anchor, row, column in places:
        offset, sides = encode(torch.from_numpy(box[None]), by_scale(anchors)[scale][0][anchor][None], STRIDES[scale])
        answer = raw[scale][0, anchor, row, column]
        answer[:2], answer[2:4], answer[4] = torch.logit(offset[0]), sides[0], 20
        answer[5:], answer[5 + label] = -20, 20
    for kind in ("paper", "giou"):
        assert all(float(v) < 1e-3 for v in losses(raw, anchors, boxes, labels, box_loss=kind).values())
    raw[places[0][2]][0, :, 0, 0, 4] = 20  # three confident cells far from any box
    assert float(losses(raw, anchors, boxes, labels, box_loss="paper")["objectness"]) == pytest.approx(60, rel=1e-3)


def test_a_prediction_that_overlaps_a_box_is_no_background():
    box, anchors = np.array([[32, 32, 48, 62]], np.float32), torch.from_numpy(COCO)  # the second anchor's shape
    raw = [torch.full((1, 3, 416 // s, 416 // s, 6), -20.0) for s in STRIDES]
    for numbers in raw:
        numbers[..., :4] = 0
    _, anchor, row, column = (int(x[0]) for x in assign(box, COCO))
    raw[0][0, anchor, row, column, 4] = 20
    raw[0][0, anchor, row, column - 1, :2] = torch.tensor([20.0, 0])  # the neighbour says nearly the same box
    raw[0][0, anchor, row, column - 1, 4] = 20
    found = decode(raw[0], by_scale(anchors)[0][0], 8)[0, anchor, row, column - 1].numpy()
    assert overlap(found, box[0]) > 0.7
    label = [np.zeros(1, np.int64)]
    assert float(losses(raw, anchors, [box], label, box_loss="paper")["objectness"]) < 1e-3


def learners(found: torch.Tensor, scores: torch.Tensor, centres: torch.Tensor, boxes: torch.Tensor) -> Assigned:
    """Assign one image, beside one without a box and a box that is only padding."""
    both = torch.stack([torch.zeros_like(found), found])
    padded = torch.cat([boxes, torch.tensor([[0.0, 0, 99, 99]])])
    real = torch.tensor([[False] * len(padded), [True] * len(boxes) + [False]])
    labels = torch.zeros(2, len(padded), dtype=torch.int64)
    chosen = assigned(both, torch.stack([scores, scores]), centres, torch.stack([padded, padded]), labels, real)
    assert (chosen.image == 1).all()
    assert (chosen.box < len(boxes)).all()
    return chosen


def test_a_box_is_learnt_by_the_predictions_that_overlap_it_most():
    boxes = torch.tensor([[8.0, 8, 40, 40], [56, 56, 72, 72]])
    grid = torch.arange(96) % 12 * 8.0 + 4
    centres = torch.stack([grid.repeat(1), (torch.arange(96) // 12) * 8.0 + 4], 1)
    found = torch.cat([centres - 16, centres + 16], 1)
    chosen = learners(found, torch.full((96, 1), 0.5), centres, boxes)
    for which, box in enumerate(boxes):
        mine = chosen.prediction[chosen.box == which]
        inside = ((centres[mine] > box[:2]) & (centres[mine] < box[2:])).all(1)
        assert len(mine)
        assert inside.all()
        overlaps = [overlap(found[i].numpy(), box.numpy()) for i in mine]
        targets = chosen.target[chosen.box == which]
        assert float(targets.max()) == pytest.approx(max(overlaps), rel=1e-4)
        assert int(targets.argmax()) == int(np.argmax(overlaps))
    assert len(set(chosen.prediction.tolist())) == len(chosen.prediction) <= 20


def test_a_box_between_the_cells_still_has_a_learner():
    box = torch.tensor([[7.0, 7, 9, 9]])  # no centre of a cell lies in it
    centres = torch.tensor([[4.0, 4], [12, 4], [4, 12], [40, 40]])
    found = torch.cat([centres - 4, centres + 4], 1)
    chosen = learners(found, torch.full((4, 1), 0.1), centres, box)
    assert set(chosen.prediction.tolist()) == {0, 1, 2}


def test_the_score_decides_between_places_that_are_alike():
    box = torch.tensor([[0.0, 0, 16, 16]])
    centres = torch.tensor([[4.0, 8], [12, 8]])
    found = box.repeat(2, 1)
    chosen = learners(found, torch.tensor([[0.9], [0.1]]), centres, box)
    assert chosen.target[0] == pytest.approx(1.0)
    assert chosen.target[1] == pytest.approx((1 / 9) ** 0.5, rel=1e-3)


def test_without_a_box_only_objectness_is_asked():
    raw = [torch.zeros(2, 3, 64 // s, 64 // s, 6, requires_grad=True) for s in STRIDES]
    none = [np.zeros((0, 4), np.float32)] * 2
    parts = aligned_losses(raw, torch.from_numpy(COCO), none, [np.zeros(0, np.int64)] * 2)
    cells = 2 * 3 * (8 * 8 + 4 * 4 + 2 * 2)
    assert float(parts["objectness"].detach()) == pytest.approx(cells * np.log(2), rel=1e-4)
    assert float(parts["box"]) == float(parts["class"]) == 0


def test_a_mosaic_holds_four_images_and_their_boxes():
    images = torch.arange(1, 5).float().view(4, 1, 1, 1).expand(4, 1, 32, 48) / 4
    boxes = [np.array([[4, 6, 20, 30]], np.float32)] * 3 + [np.zeros((0, 4), np.float32)]
    labels = [np.array([i]) for i in range(3)] + [np.zeros(0, np.int64)]
    whole, placed, named = tiled(images, boxes, labels)
    assert whole.shape == (1, 32, 48)
    assert [float(whole[0, y, x]) for y in (8, 24) for x in (12, 36)] == [0.25, 0.5, 0.75, 1]
    assert placed.tolist() == [[2, 3, 10, 15], [26, 3, 34, 15], [2, 19, 10, 31]]
    assert named.tolist() == [0, 1, 2]


def test_it_goes_on_from_the_weights_that_it_holds():
    data = constructed(SPEC)
    first = fitted()
    second, third = YOLOv3(**TINY), YOLOv3(**TINY, lr=0.0)
    for detector in (second, third):
        detector.load_state_dict(copy.deepcopy(first.state_dict()), SPEC)
        detector.fit(data, TrialRun(2))
    assert torch.equal(second.state_dict()["anchors"], first.state_dict()["anchors"])
    trained = [
        name for name, value in first.state_dict().items() if value.is_floating_point() and "running" not in name
    ]
    assert all(torch.allclose(third.state_dict()[name], first.state_dict()[name]) for name in trained)
    assert any(not torch.allclose(second.state_dict()[name], first.state_dict()[name]) for name in trained)


def test_anchors_are_repeatable_sorted_and_follow_the_boxes():
    rng = np.random.default_rng(0)
    shapes = np.array([[8, 8], [20, 10], [60, 50]])
    sides = np.concatenate([shape * rng.uniform(0.9, 1.1, (40, 2)) for shape in shapes])
    anchors = cluster(sides)
    assert anchors.shape == (9, 2)
    assert np.array_equal(anchors, cluster(sides))
    assert (np.diff(anchors.prod(1)) >= 0).all()
    assert shape_iou(sides, anchors).max(1).mean() > 0.9
    for few in (sides[:1], np.repeat(sides[:2], 5, 0)):
        assert np.isfinite(cluster(few)).all()
        assert cluster(few).min() > 0


@examples(40)
@given(st.integers(0, 2**16), st.booleans(), st.floats(0, 0.2), st.floats(0, 0.4))
def test_boxes_move_with_images(seed, flip, shift, zoom):
    image = np.zeros((1, 1, 64, 48), np.float32)
    image[..., 20:36, 14:30] = 1
    box = [np.array([[14, 20, 30, 36]], np.float32)]
    settings = TrainingSettings(flip=flip, shift=shift, zoom=zoom, contrast=0, brightness=0)
    rng = np.random.default_rng(seed)
    moved, (carried,), (labels,) = augment((torch.from_numpy(image), box, [np.array([3])]), settings, rng)
    assert labels.tolist() == [3]
    rows, columns = np.nonzero(moved[0, 0].numpy() > 0.5)
    seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert np.abs(carried[0] - seen).max() <= 1


def test_boxes_that_leave_the_frame_are_clipped_or_dropped():
    images = torch.rand(64, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    boxes = [np.array([[0, 0, 8, 8], [12, 12, 20, 20]], np.float32)] * 64
    labels = [np.array([0, 1])] * 64
    settings = TrainingSettings(shift=0.3, zoom=0)
    _, carried, kept = augment((images, boxes, labels), settings, np.random.default_rng(0))
    assert all(((b >= 0) & (b <= 32)).all() for b in carried)
    areas = np.concatenate([(b[:, 2:] - b[:, :2]).prod(1) for b in carried])
    assert areas.min() >= 0.3 * 64 - 1e-3
    assert areas.min() < 64  # some are clipped
    assert all(1 in k for k in kept)  # the middle one stays
    assert any(0 not in k for k in kept)  # the one in the corner is lost at times


def test_no_augmentation_leaves_images_alone():
    images = torch.rand(4, 2, 32, 64, generator=torch.Generator().manual_seed(0))
    boxes = [np.array([[3, 4, 20, 30]], np.float32), np.zeros((0, 4), np.float32)] * 2
    labels = [np.zeros(len(b), np.int64) for b in boxes]
    moved, carried, _ = augment((images, boxes, labels), FIXED, np.random.default_rng(0))
    assert torch.allclose(moved, images, atol=1e-5)
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(carried, boxes, strict=True))


def test_suppression_keeps_the_best_of_a_class_and_orders_by_score():
    boxes = torch.tensor([[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [5, 5, 5, 9.0]])
    scores = torch.tensor([[0.5, 0.3], [0.9, 0.0005], [0.6, 0], [1, 1]])
    found, values, labels = best(boxes, scores, 0.45)
    assert found.tolist() == [[1, 0, 11, 10], [20, 20, 30, 30], [0, 0, 10, 10]]
    assert np.allclose(values, [0.9, 0.6, 0.3])
    assert labels.tolist() == [0, 0, 1]
    assert len(best(boxes, scores * LEAST_SCORE / 2, 0.45)[0]) == 0


@pytest.mark.parametrize(
    ("recipe", "steps"), [({"box_loss": "paper"}, 60), ({"box_loss": "giou"}, 60), ({"assignment": "aligned"}, 100)]
)
def test_it_learns_to_find_bright_rectangles(recipe, steps, training_seed):
    """Four of the six boxes of a batch that is seen again and again must be found; other seeds find five or six."""
    still: dict[str, Any] = {"shift": 0.0, "zoom": 0.0, "contrast": 0.0, "brightness": 0.0}
    larger: dict[str, Any] = {"width": 8, "head_width": 64, "lr": 0.006}
    detector = YOLOv3(**{**TINY, **larger, **still, **recipe})
    run, images = Watched(steps, seed=training_seed), rectangles(4, training_seed)
    detector.fit(images, run)
    assert run.losses[-1] < 0.7 * run.losses[0]
    share, false = found_and_false(detector, images)
    assert share >= 2 / 3
    assert false <= 2


def test_a_resumed_run_repeats_the_same_weights():
    data, whole = constructed(SPEC), YOLOv3(**TINY)
    run = TrialRun(8, on_validate=lambda predict: {"score": float(len(next(iter(predict(data.images[:1])))[0]))})
    whole.fit(data, run)
    assert run.saved is not None
    assert run.saved[0] == 4
    again = YOLOv3(**TINY)
    again.fit(data, TrialRun(8, state=thawed(run.saved[1]), on_validate=run.on_validate))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_the_best_average_by_validation_is_kept():
    data, seen = constructed(SPEC), []

    def validate(predict):
        seen.append([d[1] for d in predict(data.images[:2])])
        return {"score": 1.0 if len(seen) == 2 else 0.0}

    detector = YOLOv3(**TINY, validations=4)
    detector.fit(data, TrialRun(8, on_validate=validate))
    assert len(seen) == 5
    kept = [d[1] for d in detector.predict(data.images[:2])]
    assert all(np.array_equal(a, b) for a, b in zip(kept, seen[1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(kept, seen[4], strict=True))


def test_weights_go_to_another_detector_and_back():
    first, images = fitted(), constructed(SPEC).images
    second = YOLOv3(**TINY)
    second.load_state_dict(copy.deepcopy(first.state_dict()), SPEC)
    for mine, yours in zip(first.predict(images), second.predict(images), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(mine, yours, strict=True))


def test_a_prediction_does_not_depend_on_the_images_beside_it():
    detector, images = fitted(), constructed(SPEC, n=20).images
    together = list(detector.predict(iter(images)))
    alone = [next(iter(detector.predict([image]))) for image in images]
    for (boxes, scores, _), (own_boxes, own_scores, _) in zip(together, alone, strict=True):
        assert np.allclose(scores, own_scores, atol=1e-5)
        assert np.allclose(boxes[:5], own_boxes[:5], atol=1e-2)
        assert ((boxes >= 0) & (boxes <= 64)).all()
        assert len(boxes) <= 300
        assert scores.min(initial=1) >= LEAST_SCORE


@pytest.mark.parametrize(("channels", "spatial", "zoom_input"), [(3, (32, 64), 1), (1, (16, 16), 2)])
def test_other_forms_and_several_labels(channels, spatial, zoom_input):
    spec = ImageSpec(channels, spatial, ("cyst", "tumour", "scar"))
    detector = fitted(3, spec, zoom_input=zoom_input)
    found = list(detector.predict(constructed(spec).images))
    assert {int(label) for _, _, labels in found for label in labels} == {0, 1, 2}
    assert all((boxes[:, 2:] <= spatial[::-1]).all() for boxes, _, _ in found)


def test_images_are_drawn_by_their_weights():
    data, drawn = constructed(SPEC), set()
    data.weights = np.zeros(12)
    data.weights[[2, 5]] = 0.5
    read = data.read
    data.read = lambda indices: drawn.update(map(int, indices)) or read(indices)  # type: ignore[method-assign]
    YOLOv3(**TINY).fit(data, TrialRun(5))
    assert drawn == {2, 5}


def test_what_cannot_work_is_said():
    data = constructed(SPEC)
    none, unlabelled = [np.zeros((0, 4), np.float32)] * 12, [np.zeros(0, np.int64)] * 12
    with pytest.raises(BadInput, match="have no boxes"):
        YOLOv3(**TINY).fit(ConstructedExamples(SPEC, data.images, none, unlabelled), TrialRun(2))
    with pytest.raises(BadInput, match="no training image"):
        YOLOv3(**TINY).fit(ConstructedExamples(SPEC, data.images[:0], [], []), TrialRun(2))
    with pytest.raises(UsageError, match="zoom_input=2"):
        YOLOv3(**TINY).build(ImageSpec(1, (16, 16), ("lesion",)))
    with pytest.raises(MedaugError, match="neither fitted nor loaded"):
        list(YOLOv3().predict(data.images))


def test_wrong_weights_are_refused():
    state = fitted(1).state_dict()
    with pytest.raises(BadInput, match="9 anchors"):
        YOLOv3(**TINY).load_state_dict({k: v for k, v in state.items() if k != "anchors"}, SPEC)
    with pytest.raises(BadInput, match="do not fit"):
        YOLOv3(**{**TINY, "width": 8}).load_state_dict(state, SPEC)
    with pytest.raises(BadInput, match="do not fit"):
        YOLOv3(**TINY).load_state_dict(state, ImageSpec(1, (64, 64), ("a", "b")))
