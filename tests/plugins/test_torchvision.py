"""torchvision's detectors learn, take any channels and labels, and go on from their weights."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from rectangles import found_and_false, rectangles

from medaug_cli.plugin import BadInput, ImageSpec, MedaugError, UsageError
from medaug_cli.testing.examples import ConstructedExamples, constructed
from medaug_cli.testing.trial import TrialRun
from medaug_plugins.torchvision import FCOS, FasterRCNN, RetinaNet

ALL = [RetinaNet, FCOS, FasterRCNN]
SMALL: dict[str, Any] = {"backbone": "small", "width": 4, "pyramid": 64, "batch": 2, "warm_up": 5.0}


@pytest.fixture(autouse=True)
def _few_proposals(monkeypatch):
    monkeypatch.setattr("medaug_plugins.torchvision.networks.PROPOSALS", 80)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("kind", "steps"), [(RetinaNet, 60), (FCOS, 40), (FasterRCNN, 40)])
def test_they_learn_to_find_bright_rectangles(kind, steps, training_seed):
    still: dict[str, Any] = {"shift": 0.0, "zoom": 0.0, "contrast": 0.0, "brightness": 0.0}
    detector, images = kind(**{**SMALL, **still, "warm_up": 10.0}, lr=0.003, ema=0.9), rectangles(4, training_seed)
    detector.fit(images, TrialRun(steps, seed=training_seed))
    share, false = found_and_false(detector, images)
    assert share >= 1 / 3  # two of six boxes; three seeds found 4 to 6
    assert false <= 4


@pytest.mark.parametrize("kind", ALL)
def test_several_labels_colours_and_a_backbone_of_timm(kind):
    spec = ImageSpec(3, (32, 64), ("cyst", "tumour", "scar"))
    detector = kind(backbone="mobilenetv3_small_050", pyramid=64, batch=2, zoom_input=2, test_flips=True)
    detector.fit(constructed(spec), TrialRun(1))
    found = list(detector.predict(constructed(spec).images[:3]))
    assert {int(label) for _, _, labels in found for label in labels} <= {0, 1, 2}
    assert all(len(scores) and (boxes[:, 2:] <= [64, 32]).all() for boxes, scores, _ in found)
    with pytest.raises(UsageError, match="no such backbone"):
        kind(backbone="no_such").build(spec)


def test_boxes_come_back_to_the_pixels_of_the_image():
    spec = ImageSpec(1, (32, 32), ("lesion",))
    detector = RetinaNet(**SMALL, zoom_input=2)
    network = detector.build(spec).eval()
    images, _ = network.transform([torch.zeros(1, 32, 32)])  # type: ignore[operator, union-attr]
    assert images.image_sizes == [(64, 64)]
    detector.load_state_dict(network.state_dict(), spec)
    boxes = next(iter(detector.predict([np.zeros((1, 32, 32), np.float32)])))[0]
    assert 16 < boxes.max() <= 32


def test_they_go_on_from_their_weights_and_say_what_does_not_fit():
    data = constructed(ImageSpec(1, (32, 32), ("lesion",)))
    first = RetinaNet(**SMALL)
    with pytest.raises(MedaugError, match="neither fitted nor loaded"):
        first.state_dict()
    first.fit(data, TrialRun(1))
    second = RetinaNet(**SMALL, lr=0.0)
    second.load_state_dict(copy.deepcopy(first.state_dict()), data.spec)
    second.fit(data, TrialRun(1))
    still = {name: value for name, value in first.state_dict().items() if "running" not in name}
    assert all(torch.allclose(value, second.state_dict()[name]) for name, value in still.items())
    with pytest.raises(BadInput, match="do not fit"):
        FCOS(**SMALL).load_state_dict(first.state_dict(), data.spec)
    with pytest.raises(UsageError, match="zoom_input=2"):
        first.build(ImageSpec(1, (16, 16), ("lesion",)))
    none, unlabelled = [np.zeros((0, 4), np.float32)] * 12, [np.zeros(0, np.int64)] * 12
    with pytest.raises(BadInput, match="have no boxes"):
        first.fit(ConstructedExamples(data.spec, data.images, none, unlabelled), TrialRun(1))
