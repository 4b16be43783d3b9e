"""What is said before training, and what is never published after it."""

import numpy as np
import pytest
import torch
from conftest import make_records, make_store
from tiny import TinyDetector, TinyGenerator

from medaug_cli.errors import BadInput, MedaugError
from medaug_cli.runs import RunOptions, train_detector, train_generator
from medaug_cli.runs.fitting import refuse_broken

pytestmark = pytest.mark.usefixtures("tiny_plugins")
FINITE = {"w": torch.ones(3), "steps": torch.tensor(4), "flag": torch.tensor([True]), "half": torch.ones(2).half()}
BROKEN = {
    "nan": torch.tensor([1.0, float("nan")]),
    "infinite": torch.tensor([float("inf")]),
    "minus infinite": torch.tensor([-float("inf"), 0.0]),
    "half": torch.tensor([float("inf")]).half(),
    "bfloat16": torch.tensor([float("nan")]).bfloat16(),
    "a parameter": torch.nn.Parameter(torch.tensor([float("nan")])),
    "an array": np.array([np.nan]),
    "double": torch.tensor([float("nan")]).double(),
}


class Held:
    def __init__(self, state):
        self.state = state

    def state_dict(self):
        return self.state


@pytest.mark.parametrize("kind", BROKEN)
def test_weights_that_are_not_finite_are_refused(kind):
    refuse_broken(Held(FINITE))
    with pytest.raises(MedaugError, match="the weights bad are not finite"):
        refuse_broken(Held(FINITE | {"bad": BROKEN[kind]}))


@pytest.mark.parametrize(("plugin", "train"), [(TinyGenerator, train_generator), (TinyDetector, train_detector)])
def test_a_plugin_of_nan_is_not_published(real, tmp_path, monkeypatch, plugin, train):
    whole = plugin.state_dict
    monkeypatch.setattr(plugin, "state_dict", lambda self: {k: v * float("nan") for k, v in whole(self).items()})
    budget = {"kimg": 0.02} if plugin is TinyGenerator else {"steps": 2}
    with pytest.raises(MedaugError, match="training diverged"):
        train(real, "tiny", RunOptions(tmp_path / "out", device="cpu", precision="32"), **budget)
    assert not (tmp_path / "out").exists()


REFUSED_BY_THE_PLUGIN = {
    "patch": ("inpaint", {"patch": 40}, "expected 0 or a power of two"),
    "masks": ("cpggan", {"condition": "mask"}, "4 of 4 training images have no mask, such as one of patient p0, and"),
}


@pytest.mark.parametrize("case", REFUSED_BY_THE_PLUGIN)
def test_what_a_plugin_refuses_leaves_nothing_that_stands_in_the_way(tmp_path, case):
    name, settings, words = REFUSED_BY_THE_PLUGIN[case]
    make_store(tmp_path / "real.h5", make_records(n=6))
    run = RunOptions(tmp_path / "gan", settings, device="cpu", precision="32")
    with pytest.raises(MedaugError, match=words):
        train_generator(tmp_path / "real.h5", name, run, kimg=0.004)
    assert not list(tmp_path.glob("gan*"))


def test_what_is_refused_later_keeps_what_was_trained(real, tmp_path, monkeypatch):
    def refuse(self):
        raise BadInput("that cannot be")

    with monkeypatch.context() as patched:
        patched.setattr(TinyGenerator, "state_dict", refuse)
        with pytest.raises(BadInput, match="that cannot be"):
            train_generator(real, "tiny", RunOptions(tmp_path / "gan", checkpoint_seconds=0), kimg=0.02)
    assert list((tmp_path / "gan.parts/checkpoints").glob("*.pt"))
    train_generator(real, "tiny", RunOptions(tmp_path / "gan", resume=True), kimg=0.02)


def changed(records, splits, boxes):
    """Return records whose images of some splits hold other boxes."""
    for record in records:
        if record.split in splits:
            object.__setattr__(record, "boxes", np.array(boxes, np.float32).reshape(-1, 4))
            object.__setattr__(record, "labels", ["lesion"] * len(boxes))
        yield record


def told_by(train, store, out, **budget):
    told = []
    train(store, "tiny", RunOptions(out, device="cpu", precision="32", announce=told.append), **budget)
    return told


def test_a_validation_split_without_boxes_is_said(real, tmp_path):
    assert not any("no box" in sentence for sentence in told_by(train_detector, real, tmp_path / "a", steps=2))
    store = make_store(tmp_path / "healthy.h5", changed(make_records(), ("val",), [])).path
    told = told_by(train_detector, store, tmp_path / "b", steps=2)
    assert any("healthy.h5 has no box in its validation split: the weights of the last" in each for each in told)
    store = make_store(tmp_path / "none.h5", (r for r in make_records() if r.split != "val")).path
    told = told_by(train_detector, store, tmp_path / "c", steps=2)
    assert any("none.h5 has no image in its validation split" in each for each in told)


SPECKS = {  # boxes of the 16 training images -> how many are said to be too small
    "half a pixel": ([[3, 3, 3.5, 3.5]], "16 of 16"),
    "narrow": ([[3, 3, 3.9, 9]], "16 of 16"),
    "one of two": ([[3, 3, 9, 9], [1, 1, 9, 1.2]], "16 of 32"),
    "a pixel": ([[3, 3, 4, 4]], None),
}


@pytest.mark.parametrize("case", SPECKS)
@pytest.mark.parametrize("train", [train_generator, train_detector])
def test_boxes_below_a_pixel_are_said_before_training(tmp_path, case, train):
    boxes, said = SPECKS[case]
    store = make_store(tmp_path / "small.h5", changed(make_records(), ("train",), boxes)).path
    budget = {"kimg": 0.02} if train is train_generator else {"steps": 2}
    told = [each for each in told_by(train, store, tmp_path / "out", **budget) if "narrower than a pixel" in each]
    assert [sentence.split(" training")[0] for sentence in told] == ([said] if said else [])
