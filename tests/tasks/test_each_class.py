"""Generators of one class, alone or together in one folder, and stores that hold classes and nothing else."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from classed import CLASSES, SMALL, classed, invoke, publish
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.registry import build
from medaug_cli.runs import load_generator
from medaug_cli.runs.training import TrainingRun
from medaug_cli.runs.weights import write_weights
from medaug_cli.store import open_store
from medaug_cli.study.known import _known_of_each
from medaug_cli.weights import WeightsCard


def settings(name):
    return [part for each in SMALL[name] for part in ("--set", each)]


def train(store, out, *more, name="boxgan", kimg=0.024):
    arguments = ["train-gan", store, "--generator", name, "--out", out, "--kimg", kimg, *settings(name), *more]
    invoke(*arguments)
    return arguments


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("each")
    publish(place / "real.h5", classed(), class_names=CLASSES)
    train(place / "real.h5", place / "gan", "--each-class")
    train(place / "real.h5", place / "malignant", "--class", "malignant", kimg=0.004)
    return place


def draw(folder, gan, out, *more):
    invoke("synthesize", "--like", folder / "real.h5", "--gan", folder / gan, "--out", out, *more)
    return open_store(out)


def test_a_folder_holds_a_generator_for_each_class(folder, tmp_path):
    gan = folder / "gan"
    told = json.loads((gan / "generator.json").read_text(encoding="utf-8"))
    assert told["draws"] == CLASSES
    real = open_store(folder / "real.h5")
    train = real.indices("train")
    for name, part in told["parts"].items():
        own = json.loads((gan / part / "generator.json").read_text(encoding="utf-8"))
        assert own["draws"] == [name]
        assert own["training_images"] == Counter(real.classes[train].tolist())[CLASSES.index(name)]
    shown = json.loads(invoke("plugins", "show", gan, "--json"))
    assert (shown["draws"], shown["knows"], shown["folders"]) == (CLASSES, ["boxes", "class"], told["parts"])
    assert "draws: benign, malignant, normal" in invoke("plugins", "show", gan)
    store = draw(folder, "gan", tmp_path / "s.h5", "--n", 12)
    number = {id: i for i, id in enumerate(real.ids)}
    assert store.classes.tolist() == [real.classes[number[each["condition"]]] for each in store.details]
    assert len(set(store.classes.tolist())) == 3


def test_each_class_is_drawn_by_its_own_generator(folder, tmp_path):
    together = draw(folder, "gan", tmp_path / "s.h5", "--class", "malignant=4")
    part = json.loads((folder / "gan/generator.json").read_text(encoding="utf-8"))["parts"]["malignant"]
    alone = draw(folder, f"gan/{part}", tmp_path / "alone.h5", "--class", "malignant=4")
    assert (alone.images == together.images).all()
    assert [CLASSES[k] for k in alone.classes] == ["malignant"] * 4


def test_a_generator_of_one_class_draws_that_alone(folder, tmp_path):
    store = draw(folder, "malignant", tmp_path / "s.h5", "--n", 5)
    assert [CLASSES[k] for k in store.classes] == ["malignant"] * 5
    said = invoke(
        "synthesize", "--like", folder / "real.h5", "--gan", folder / "malignant", "--class", "benign=2", "--out",
        tmp_path / "no.h5", code=2,
    )  # fmt: skip
    assert "draws only malignant" in said


def test_a_generator_of_one_class_is_begun_with_and_made_into_weights(folder, tmp_path):
    """Of one class alone, or one of several in a folder, it is as good a beginning as one of all images."""
    train(folder / "real.h5", tmp_path / "gan", "--class", "benign", "--start", folder / "malignant", kimg=0.004)
    train(folder / "real.h5", tmp_path / "whole", "--start", folder / "gan/class-benign", kimg=0.004)
    begun = [json.loads((tmp_path / each / "generator.json").read_text(encoding="utf-8")) for each in ("gan", "whole")]
    assert [each["draws"] for each in begun] == [["benign"], []]
    assert all(each["start"] for each in begun)
    card = WeightsCard(draws="d", data="d", licence="CC0", source="none", hours=0, not_for="nobody")
    write_weights(folder / "malignant", tmp_path / "weights", card)
    drawn, before = (draw(folder, gan, tmp_path / f"{gan.name}.h5", "--n", 4) for gan in
                     (tmp_path / "weights", folder / "malignant"))  # fmt: skip
    assert [CLASSES[k] for k in drawn.classes] == ["malignant"] * 4
    assert abs(drawn.images.astype(int) - before.images).max() <= 2  # of half precision


REFUSED = {
    "an unknown class": (["--class", "cyst"], "choose one of benign, malignant, normal"),
    "both": (["--class", "benign", "--each-class"], "give only one of them"),
    "one that learns nothing": (["--each-class", "--generator", "copy-paste"], "is not trained"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_fitted_is_said_in_a_sentence(folder, tmp_path, case):
    arguments, words = REFUSED[case]
    out = tmp_path / "gan"
    assert words in invoke("train-gan", folder / "real.h5", "--generator", "boxgan", "--out", out, *arguments, code=2)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_stopped_goes_on_to_the_same_weights(folder, tmp_path, monkeypatch):
    publish(tmp_path / "real.h5", classed(), class_names=CLASSES)
    arguments = ["train-gan", "real.h5", "--generator", "boxgan", "--out", "gan", "--kimg", 0.024, *settings("boxgan")]
    monkeypatch.chdir(tmp_path)
    checkpoint, seen = TrainingRun.checkpoint, []

    def stop(run, done, state, force=False):
        seen.append(done)
        if len(seen) == 7:  # in the second of three
            checkpoint(run, done, state, force=True)
            raise KeyboardInterrupt
        return checkpoint(run, done, state, force)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingRun, "checkpoint", stop)
        assert CliRunner().invoke(app, [*map(str, arguments), "--each-class"]).exit_code != 0
    assert not (tmp_path / "gan").exists()
    invoke(*arguments, "--each-class", "--resume")
    digests = [load_generator(place / "gan")[1].weights for place in (folder, tmp_path)]
    assert digests[0] == digests[1]
    assert "other settings" in invoke(*arguments, "--resume", code=2)
    invoke(*arguments[:-1], arguments[-1], "--each-class", "--resume", "--kimg", 0.03)  # more of the same
    assert load_generator(tmp_path / "gan")[1].images_shown > load_generator(folder / "gan")[1].images_shown


def test_what_is_shared_draws_the_same(folder, tmp_path):
    invoke("export", folder / "gan", "--out", tmp_path / "shared")
    files = sorted(each.name for each in (tmp_path / "shared").rglob("*.*") if not each.name.startswith("."))
    assert set(files) == {"generator.json", "generator.safetensors"}
    assert 'training_patients": []' in (tmp_path / "shared/generator.json").read_text(encoding="utf-8")
    ours, theirs = (
        draw(folder, gan, tmp_path / f"{name}.h5", "--n", 6) for name, gan in (("a", "gan"), ("b", tmp_path / "shared"))
    )
    assert (ours.images == theirs.images).all()
    (tmp_path / "shared/class-benign/generator.json").unlink()
    said = invoke(
        "synthesize", "--like", folder / "real.h5", "--gan", tmp_path / "shared", "--n", 2, "--out",
        tmp_path / "no.h5", code=3,
    )  # fmt: skip
    assert "holds no trained generator" in said


def test_boxes_without_classes_cannot_ask_for_one_of_several(folder, tmp_path):
    from medaug_cli.boxes import write_boxes
    from medaug_cli.preprocess.results import training_boxes

    write_boxes(tmp_path / "boxes.json", training_boxes(open_store(folder / "real.h5")))
    arguments = ["synthesize", "--boxes", tmp_path / "boxes.json", "--n", 4, "--out", tmp_path / "s.h5"]
    assert "ask for classes with --like" in invoke(*arguments, "--gan", folder / "gan", code=2)
    invoke(*arguments, "--gan", folder / "malignant")
    assert [CLASSES[k] for k in open_store(tmp_path / "s.h5").classes] == ["malignant"] * 4


def test_without_classes_each_label_has_a_generator(tmp_path):
    records = [
        replace(record, image_class=None, labels=["glioma" if i % 2 else "cyst"] * len(record.boxes))
        for i, record in enumerate(classed())
    ]
    publish(tmp_path / "real.h5", records, label_names=["cyst", "glioma"])
    train(tmp_path / "real.h5", tmp_path / "gan", "--each-class")
    store = draw(tmp_path, "gan", tmp_path / "s.h5", "--class", "glioma=3", "--class", "normal=2")
    assert [[store.spec.label_names[k] for k in labels] for labels in store.labels] == [["glioma"]] * 3 + [[]] * 2
    assert store.class_names == []


@pytest.mark.parametrize("healthy", [True, False])
def test_images_without_a_lesion_are_of_their_class_or_of_none(tmp_path, healthy):
    """Slices without a lesion of a patient with one are of the patient's class; those of healthy people are of none."""
    classes = ["benign", "malignant"]
    records = [replace(record, image_class=(None if healthy else "benign") if record.image_class == "normal" else
                       record.image_class) for record in classed()]  # fmt: skip
    publish(tmp_path / "real.h5", records, class_names=classes)
    train(tmp_path / "real.h5", tmp_path / "gan", "--each-class")
    told = json.loads((tmp_path / "gan/generator.json").read_text(encoding="utf-8"))
    assert told["draws"] == [*classes, *["normal"] * healthy]
    known = _known_of_each("boxgan/each-class", build("generator", "boxgan", {}), open_store(tmp_path / "real.h5"))
    assert known == {"boxes", "class"}  # as a study asks, before anything is trained
    store, real = draw(tmp_path, "gan", tmp_path / "s.h5", "--n", 16), open_store(tmp_path / "real.h5")
    number = {id: i for i, id in enumerate(real.ids)}
    assert store.class_names == classes
    assert store.classes.tolist() == [real.classes[number[each["condition"]]] for each in store.details]
    assert any(not len(boxes) for boxes in store.boxes)
    lesion_free = {int(k) for k, boxes in zip(store.classes, store.boxes, strict=True) if not len(boxes)}
    assert lesion_free == {-1 if healthy else 0}


@pytest.mark.parametrize("name", ["boxgan", "pggan-class", "duplicate"])
def test_stores_of_classes_alone(tmp_path, name):
    records = [replace(record, boxes=record.boxes[:0], labels=[], mask=None, annotated=False) for record in classed(12)]
    publish(tmp_path / "real.h5", records, class_names=CLASSES)
    train(tmp_path / "real.h5", tmp_path / "gan", name=name, kimg=0.008)
    store = draw(tmp_path, "gan", tmp_path / "s.h5", "--class", "malignant=2", "--class", "normal=2")
    assert [CLASSES[k] for k in store.classes] == ["malignant"] * 2 + ["normal"] * 2
    assert store.masks is None
    assert not any(map(len, store.boxes))
    assert "no training image has a box" in invoke(
        "train-gan", tmp_path / "real.h5", "--generator", "copy-paste", "--out", tmp_path / "no", code=3
    )
