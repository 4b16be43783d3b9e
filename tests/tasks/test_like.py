"""`synthesize --like`: images like those of a store, with its boxes, masks, classes and normal images."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from classed import CLASSES, SMALL, classed, invoke, publish, trained
from conftest import make_store
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.conditions.moving import owned
from medaug_cli.store import StoreWriter, digest_patient, open_store

KNOWS = {  # generator -> (boxes, masks, classes)
    "copy-paste": (True, True, True),
    "duplicate": (True, True, True),
    "procedural": (True, True, True),
    "boxgan": (True, False, True),
    "boxgan-mask": (True, True, True),
    "inpaint": (True, False, True),
    "inpaint-mask": (True, True, True),
    "regions-mask": (True, True, True),
    "cpggan": (True, True, False),
    "pggan-class": (False, False, True),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("like")
    publish(place / "real.h5", classed(), class_names=CLASSES)
    for name in SMALL:
        trained(place / "real.h5", name, place / name)
    return place


def drawn(folder, name, out, *more, n=12):
    count = [] if n is None else ["--n", n]
    invoke("synthesize", "--like", folder / "real.h5", "--gan", folder / name, "--out", out, *count, *more)
    return open_store(out)


@pytest.mark.parametrize("name", SMALL)
def test_an_image_carries_what_its_generator_knows(folder, tmp_path, name):
    real, store = open_store(folder / "real.h5"), drawn(folder, name, tmp_path / "s.h5")
    boxes, masks, classes = KNOWS[name]
    number = {id: i for i, id in enumerate(real.ids)}
    templates = [number[details["condition"]] for details in store.details]
    assert {real.splits[i] for i in templates} == {"train"}
    assert (store.masks is not None) == masks
    assert store.class_names == (CLASSES if classes else [])
    if classes:
        assert store.classes.tolist() == real.classes[templates].tolist()
    for k, i in enumerate(templates):
        assert (len(store.boxes[k]) >= len(real.boxes[i])) if boxes else not len(store.boxes[k])
        if masks:
            assert store.masks[k].any() == bool(len(store.boxes[k]))
            owners = owned(store.masks[k], store.boxes[k].astype(float))
            assert owners.max() <= len(store.boxes[k])  # every marked pixel lies in a box
    assert set(store.info.generators[0].training_patients) == {digest_patient(f"p{i}") for i in range(4)}
    assert np.allclose(store.spacing, 0.5)


def test_masks_that_are_asked_for_are_those_that_are_kept(folder, tmp_path):
    real, store = open_store(folder / "real.h5"), drawn(folder, "boxgan-mask", tmp_path / "s.h5", "--jitter", 0)
    number = {id: i for i, id in enumerate(real.ids)}
    for k, details in enumerate(store.details):
        assert np.array_equal(store.masks[k], real.masks[number[details["condition"]]])
        assert np.array_equal(store.boxes[k], real.boxes[number[details["condition"]]])


def test_the_shares_are_those_of_the_store_or_as_asked(folder, tmp_path):
    real = open_store(folder / "real.h5")
    train = real.indices("train")
    own = drawn(folder, "copy-paste", tmp_path / "own.h5", n=len(train))
    assert Counter(own.classes.tolist()) == Counter(real.classes[train].tolist())
    asked = ["--class", "malignant=3", "--class", "normal=5"]
    store = drawn(folder, "copy-paste", tmp_path / "asked.h5", *asked, n=None)
    assert [CLASSES[k] for k in store.classes] == ["malignant"] * 3 + ["normal"] * 5
    assert [len(boxes) > 0 for boxes in store.boxes] == [True] * 3 + [False] * 5
    assert store.info.settings["classes"] == {"malignant": 3, "normal": 5}


def test_parts_and_resume_give_the_same_store(folder, tmp_path, monkeypatch):
    from medaug_cli.synthesis import drawing

    monkeypatch.setattr(drawing, "BLOCK", 5)
    whole = drawn(folder, "boxgan-mask", tmp_path / "whole.h5")
    for part in (1, 0):
        arguments = ["synthesize", "--like", folder / "real.h5", "--gan", folder / "boxgan-mask", "--n", 12]
        invoke(*arguments, "--out", tmp_path / "p.h5", "--num-parts", 2, "--part-id", part)
    assert open_store(tmp_path / "p.h5").hash == whole.hash
    add = StoreWriter.add

    def stop(writer, unit, records, note=None):
        add(writer, unit, records, note)
        writer.flush()
        if unit == 1:
            raise KeyboardInterrupt

    arguments = [*arguments, "--out", tmp_path / "r.h5"]
    with monkeypatch.context() as patched:
        patched.setattr(StoreWriter, "add", stop)
        assert CliRunner().invoke(app, list(map(str, arguments))).exit_code != 0
    assert not (tmp_path / "r.h5").exists()
    invoke(*arguments, "--resume")
    assert open_store(tmp_path / "r.h5").hash == whole.hash


def test_a_rehearsal_says_what_would_be_drawn(folder, tmp_path):
    arguments = ["--class", "benign=2", "--dry-run", "--json", "--out", tmp_path / "s.h5"]
    said = invoke("synthesize", "--like", folder / "real.h5", "--gan", folder / "copy-paste", *arguments)
    found = json.loads(said[said.index("{") :])
    assert found["images"] == 2
    assert found["classes"] == {"benign": 2}
    assert found["knows"] == ["boxes", "mask", "class"]
    assert not (tmp_path / "s.h5").exists()


REFUSED = {  # what is asked for -> generator, arguments, what is said
    "an unknown class": ("copy-paste", ["--class", "cyst=2"], "choose one of benign, malignant, normal"),
    "a class of one that is told none": ("cpggan", ["--class", "benign=2"], "is told no class"),
    "another number": ("copy-paste", ["--class", "benign=2", "--n", "3"], "--class asks for 2 images in all"),
    "no number": ("copy-paste", [], "--like with --class NAME=N"),
    "none of a class": ("copy-paste", ["--class", "benign=0"], "expected NAME=N"),
    "a class twice": ("copy-paste", ["--class", "benign=1", "--class", "benign=2"], "given twice"),
    "boxes as well": ("copy-paste", ["--n", "2", "--boxes", "boxes.json"], "give one of them"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_drawn_is_said_in_a_sentence(folder, tmp_path, case):
    name, arguments, words = REFUSED[case]
    out = tmp_path / "s.h5"
    said = invoke("synthesize", "--like", folder / "real.h5", "--gan", folder / name, "--out", out, *arguments, code=2)
    assert words in said
    assert list(tmp_path.iterdir()) == []


def test_images_of_held_out_patients_and_of_other_stores_are_refused(folder, tmp_path):
    held_out = [replace(record, split="test") for record in classed(6)]
    publish(tmp_path / "test.h5", held_out, class_names=CLASSES)
    arguments = ["--gan", folder / "copy-paste", "--out", tmp_path / "s.h5", "--n", 2]
    assert "no annotated real image in its training split" in invoke(
        "synthesize", "--like", tmp_path / "test.h5", *arguments, code=3
    )
    other = [replace(record, image_class="cyst") for record in classed(6)]
    publish(tmp_path / "other.h5", other, class_names=["cyst"])
    assert "the generator knows benign, malignant, normal" in invoke(
        "synthesize", "--like", tmp_path / "other.h5", *arguments, code=3
    )


NETWORKS = {
    "classifier": ["width=4", "batch=4"],
    "segmenter": ["width=4", "levels=3", "batch=4"],
}
TRAINED = {  # network, generator of the synthetic images -> why they are refused, nothing where they are not
    ("classifier", "pggan-class"): "",
    ("segmenter", "boxgan-mask"): "",
    ("classifier", "cpggan"): "holds images without a class",
    ("segmenter", "boxgan"): "a generator that knows them (as boxgan with form=mask)",
}


@pytest.mark.parametrize(("network", "name"), TRAINED)
def test_networks_are_trained_on_images_that_show_what_they_need(folder, tmp_path, network, name):
    drawn(folder, name, tmp_path / "s.h5")
    out, settings = tmp_path / "network", [part for each in NETWORKS[network] for part in ("--set", each)]
    words = TRAINED[network, name]
    said = invoke(
        f"train-{network}", folder / "real.h5", "--synthetic", tmp_path / "s.h5", "--out", out, "--steps", 1,
        *settings, code=3 if words else 0,
    )  # fmt: skip
    assert words in said
    assert out.exists() != bool(words)


def test_images_made_like_patients_that_are_held_out_train_nothing(folder, tmp_path):
    drawn(folder, "copy-paste", tmp_path / "s.h5")
    other = [replace(record, split="test" if record.patient == "p0" else record.split) for record in classed()]
    publish(tmp_path / "real.h5", other, class_names=CLASSES)
    said = invoke(
        "train-classifier", tmp_path / "real.h5", "--synthetic", tmp_path / "s.h5", "--out", tmp_path / "no",
        "--steps", 1, code=3,
    )  # fmt: skip
    assert "holds out for validation or test" in said


def test_without_classes_labels_and_normal_images_are_asked_for(tmp_path):
    records = [replace(record, image_class=None) for record in classed()]
    publish(tmp_path / "real.h5", records)
    trained(tmp_path / "real.h5", "copy-paste", tmp_path / "copy-paste")
    asked = ["--class", "normal=2", "--class", "lesion=3"]
    store = drawn(tmp_path, "copy-paste", tmp_path / "s.h5", *asked, n=None)
    assert [len(boxes) > 0 for boxes in store.boxes] == [False] * 2 + [True] * 3
    assert store.class_names == []


def test_boxes_alone_are_changed_as_those_of_a_file(tmp_path):
    make_store(tmp_path / "real.h5")
    trained(tmp_path / "real.h5", "copy-paste", tmp_path / "copy-paste")
    like = drawn(tmp_path, "copy-paste", tmp_path / "like.h5")
    invoke("synthesize", "--gan", tmp_path / "copy-paste", "--out", tmp_path / "boxes.h5", "--n", 12)
    assert like.hash == open_store(tmp_path / "boxes.h5").hash


@pytest.mark.parametrize("flip", [True, False])
def test_a_generator_that_learnt_from_no_mirror_image_is_asked_for_none(tmp_path, flip):
    left = [replace(record, boxes=np.array([[2, 4, 6, 8]] * len(record.boxes), np.float32)) for record in classed(12)]
    publish(tmp_path / "real.h5", [replace(record, mask=None) for record in left], class_names=CLASSES)
    invoke(
        "train-gan",
        tmp_path / "real.h5",
        "--generator",
        "copy-paste",
        "--set",
        f"flip={flip}",
        "--out",
        tmp_path / "gan",
    )
    asked = [boxes[0] for boxes in drawn(tmp_path, "gan", tmp_path / "s.h5", n=24).boxes if len(boxes)]
    assert len(asked) >= 12
    assert any(box[0] >= 8 for box in asked) == flip
