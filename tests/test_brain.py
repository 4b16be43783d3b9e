"""Brain extraction on constructed heads and on the slices that ship, and its honesty about doubtful masks."""

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medaug_cli.errors import BadInput, MissingPlugin, UsageError
from medaug_cli.scans import brain
from medaug_cli.scans.brain import extract_brain, strippers
from medaug_cli.scans.brain_judgement import judge

DATA = Path(__file__).parents[1] / "examples/data"


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def ball(shape, centre, radii):
    grids = np.indices(shape)
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grids, centre, radii, strict=True)) < 1


def head(shape, seed=0):
    """Return a constructed T1 head in any dimension, 1 mm: scalp, dark skull, fluid, brain; and the brain's mask."""
    centre = np.array(shape) / 2
    whole = centre * 0.86
    image = np.zeros(shape)
    for shrink, grey in ((0, 160), (6, 15), (11, 45), (13, 110)):
        image[ball(shape, centre, whole - shrink)] = grey
    brain_mask = ball(shape, centre, whole - 13)
    rng = np.random.default_rng(seed)
    image[brain_mask] += 12 * np.sin(np.indices(shape).sum(0) / 5)[brain_mask]
    return (image + rng.normal(0, 3, shape)).clip(0).astype(np.float32), brain_mask


@pytest.mark.parametrize("shape", [(192, 160), (256, 224), (160, 160)])
def test_a_constructed_slice(shape):
    image, truth = head(shape)
    found = extract_brain(image, "brain2d", (1.0, 1.0))
    assert not found.doubtful
    assert dice(found.mask, truth) > 0.93


def test_a_constructed_volume():
    image, truth = head((96, 112, 96))
    found = extract_brain(image, "auto", (1.5, 1.5, 1.5))
    assert found.name == "brain3d"
    assert dice(found.mask, truth) > 0.88


def test_brightness_and_repetition_change_nothing():
    image, _ = head((192, 160))
    once = extract_brain(image, "brain2d", (1.0, 1.0)).mask
    assert (extract_brain(image, "brain2d", (1.0, 1.0)).mask == once).all()
    assert dice(extract_brain(image * 7, "brain2d", (1.0, 1.0)).mask, once) > 0.99


def shipped(count):
    images = [
        image for image in json.loads((DATA / "boxes.json").read_text(encoding="utf-8"))["images"] if image["boxes"]
    ]
    for image in images[:: len(images) // count][:count]:
        with Image.open(DATA / image["file"]) as picture:
            yield np.asarray(picture.convert("L"), np.float32), [box["box"] for box in image["boxes"]]


def test_tumours_of_the_shipped_slices_are_not_cut_away():
    covered, doubtful = [], 0
    for image, boxes in shipped(40):
        found = extract_brain(image, "auto")
        if found.doubtful:
            doubtful += 1
            continue
        for x_min, y_min, x_max, y_max in np.rint(boxes).astype(int):
            covered.append(found.mask[y_min:y_max, x_min:x_max].mean())
    assert np.mean(np.array(covered) > 0.6) > 0.8
    assert doubtful < 24


def test_doubtful_masks_are_replaced_by_the_head():
    image, _ = head((192, 160))
    found = extract_brain(image, "brain2d", (1.0, 1.0))
    tiny = ball((192, 160), (96, 80), (9, 9))
    reason, _ = judge(tiny, image > 30, {"agreement": 1.0}, (1.0, 1.0))
    assert reason
    blank = extract_brain(np.zeros((64, 64), np.float32), "auto")
    assert blank.doubtful or blank.mask is None or not blank.mask.any()
    assert found.mask.any()


def test_a_stripped_brain_is_left_alone():
    image, truth = head((192, 160))
    found = extract_brain(np.where(truth, image, 0).astype(np.float32), "auto")
    assert found.name == "stripped already"
    assert dice(found.mask, truth) > 0.97
    assert extract_brain(image, "none").mask is None


def test_a_strippers_plugin_and_its_faults(monkeypatch):
    image, truth = head((96, 80))
    entries = {"good": lambda image, spacing: image > 30, "small": lambda image, spacing: np.ones((2, 2))}

    def fails(image, spacing):
        raise ValueError("no weights")

    entries["fails"] = fails
    monkeypatch.setattr(brain, "_load", lambda entry: entries[entry.name])
    listed = tuple(EntryPoint(name, "elsewhere:it", brain.GROUP) for name in entries)
    monkeypatch.setattr(brain, "entry_points", lambda group: listed)
    assert {"auto", "good", "fails"} <= set(strippers())
    assert extract_brain(image, "good", (2.0, 2.0)).mask.shape == truth.shape
    with pytest.raises(BadInput, match="no weights"):
        extract_brain(image, "fails", (2.0, 2.0))
    with pytest.raises(BadInput, match=r"mask of shape \(2, 2\)"):
        extract_brain(image, "small", (2.0, 2.0))


def test_what_cannot_be_stripped_is_named():
    with pytest.raises(MissingPlugin, match="auto, none, brain2d, brain3d"):
        extract_brain(head((96, 80))[0], "hd-bet")
    with pytest.raises(UsageError, match="brain3d needs a volume"):
        extract_brain(head((96, 80))[0], "brain3d")
    with pytest.raises(UsageError, match="shape"):
        extract_brain(np.zeros(5, np.float32), "auto")
    with pytest.raises(UsageError, match="spacing"):
        extract_brain(np.zeros((8, 8), np.float32), "auto", (1.0,))
