"""Networks and generators learn from one store's annotations, and are judged by another's of the same images."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import make_store
from support.tiny_scans import BOX, made, picture, rows
from test_study_folds import options, records
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.store import open_store
from medaug_cli.store.folds import deal_folds, split_as
from medaug_cli.store.joining import join_stores
from medaug_cli.study import run_study
from medaug_cli.study.running import train_all
from medaug_cli.study.subsets import subset
from medaug_cli.study.teaching import named
from medaug_cli.study.unannotated import with_rest
from medaug_cli.tasks.detection import Detection

pytestmark = pytest.mark.usefixtures("tiny_plugins", "undrawn")


def rough(record):
    """Return an image as a hurried reader marks it."""
    return replace(record, boxes=np.clip(record.boxes + np.float32([-1, -1, 1, 1]), 0, 16))


@pytest.fixture
def both(tmp_path):
    """Return a store to judge by, and one of the same images with rougher boxes."""
    make_store(tmp_path / "real.h5", records())
    make_store(tmp_path / "rough.h5", map(rough, records()))
    return tmp_path / "real.h5", tmp_path / "rough.h5"


def boxes_of(store):
    return {
        name: (split, boxes.tolist()) for name, split, boxes in zip(store.ids, store.splits, store.boxes, strict=True)
    }


@pytest.mark.parametrize("folds", [None, 2])
def test_training_images_have_the_annotations_to_learn_from_and_others_their_own(both, folds):
    real, other = both
    if folds is None:
        for path in both:
            everything = map(open_store(path).record, range(24))
            make_store(path, [replace(r, split="train") if r.patient in ("p2", "p3") else r for r in everything])
    report = run_study(options(real, ("tiny",), folds=folds, seeds=1, train_annotations=other))
    tight, loose = (
        dict(zip(store.ids, map(np.ndarray.tolist, store.boxes), strict=True)) for store in map(open_store, both)
    )
    assert tight != loose
    parts = sorted(real.parent.glob("study/**/patients100/real.h5"))
    assert len(parts) == (folds or 1)
    for part in map(open_store, parts):
        assert set(part.ids) == set(tight)
        assert set(part.splits) == {"train", "val", "test"}
        for name, (split, found) in boxes_of(part).items():
            assert found == (loose if split == "train" else tight)[name]
    assert report.settings["train_annotations"] == f"{other.parent.name}/rough.h5"
    assert "/rough.h5; weights are chosen" in (real.parent / "study/study.html").read_text(encoding="utf-8")


def test_without_them_nothing_is_said(both):
    real, _ = both
    report = run_study(options(real, ("tiny",), seeds=1))
    assert "train_annotations" not in report.settings
    assert "learn from the annotations" not in (real.parent / "study/study.html").read_text(encoding="utf-8")


def test_images_without_annotation_stand_beside_those_to_learn_from(both, tmp_path):
    judged, taught = map(open_store, both)
    splits = ["train" if patient < "p6" else "test" for patient in judged.patients]
    judged, taught = split_as(judged, splits), split_as(taught, splits)
    part = subset(taught, Detection(), 0.5, 0, tmp_path / "part/real.h5", judged)
    whole = with_rest(taught, part, Detection(), 0.5, 0, tmp_path / "part/with-rest.h5")
    assert part.info.inputs == whole.info.inputs
    assert set(part.info.inputs.values()) == {taught.hash, judged.hash}
    loose = dict(zip(taught.ids, map(np.ndarray.tolist, taught.boxes), strict=True))
    own = {whole.ids[i] for i in whole.indices("train")}
    assert own == {part.ids[i] for i in part.indices("train")}
    assert len(own) == 9 < (whole.splits == "train").sum() == 18
    for name, boxes in zip(whole.ids, whole.boxes, strict=True):
        if name in own:
            assert boxes.tolist() == loose[name]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda r, i: replace(r, image=r.image ^ 1) if i == 5 else r, "i005 is another image in"),
        (lambda r, i: replace(r, id=f"n{i}"), "no image in common"),
        (lambda r, i: replace(r, patient="p9") if r.patient == "p7" else r, "i021 is of another patient in"),
        (lambda r, i: replace(r, image=r.image[:, :8], boxes=r.boxes[:0], labels=[]), "images of another form"),
        (lambda r, i: replace(r, mask=np.zeros((16, 16), np.uint8)), r"real\.h5 has no masks, .*rough\.h5 has"),
    ],
)
def test_annotations_of_other_images_are_refused(both, changed, said):
    real, other = both
    other.unlink()
    make_store(other, [changed(r, i) for i, r in enumerate(records())])
    with pytest.raises(BadInput, match=rf"{said}.*preprocess the same scans"):
        train_all(options(real, train_annotations=other))
    assert not (real.parent / "study").exists()


def test_the_stores_own_annotations_are_no_others(both):
    real, _ = both
    with pytest.raises(UsageError, match="these are the annotations of"):
        train_all(options(real, train_annotations=real))


def test_images_of_one_store_alone_are_left_out_and_counted(both):
    """A second reader need not have found the same images worth storing, nor looked at all of them."""
    real, other = both
    other.unlink()
    unseen = {"boxes": np.zeros((0, 4), np.float32), "labels": [], "annotated": False}
    theirs = [replace(rough(r), **(unseen if i == 6 else {})) for i, r in enumerate(records()) if i != 10]
    make_store(other, [*reversed(theirs), replace(theirs[0], id="new", image=theirs[0].image ^ 3)])
    said = []
    asked = options(real, ("copy-paste",), seeds=1, train_annotations=other, announce=said.append, task=Detection())
    report = run_study(asked)
    assert any(f"; learning from the annotations of {other}" in sentence for sentence in said)
    counted = f"2 of 24 images are not annotated for detection in {named(other)} and are left out of training"
    assert counted in said
    assert counted in report.remarks
    for part in map(open_store, real.parent.glob("study/**/patients100/real.h5")):
        split, missing = dict(zip(part.patients, part.splits, strict=True)), set(open_store(real).ids) - set(part.ids)
        assert missing == ({"i010"} if split["p3"] == "train" else set())
        assert bool(part.annotated[part.ids.index("i006")]) == (split["p2"] != "train")
        assert "new" not in part.ids


def test_other_labels_are_refused(both):
    real, other = both
    other.unlink()
    make_store(other, records(), labels=("lesion", "cyst"))
    with pytest.raises(BadInput, match="other labels than"):
        train_all(options(real, train_annotations=other))


@pytest.mark.parametrize("later", ["other", None])
def test_a_study_goes_on_with_the_same_annotations_alone(both, later):
    real, other = both
    asked = options(real, ("tiny",), seeds=1, train_annotations=other)
    said = run_study(asked)
    assert run_study(asked) == said
    if later:
        make_store(other, (replace(r, boxes=rough(rough(r)).boxes) for r in records()))
    made = r"stores: \w+/rough\.h5 \(learnt from\), \w+/real\.h5 \(judged by\) there"
    with pytest.raises(UsageError, match=made):
        run_study(replace(asked, train_annotations=other if later else None))


@pytest.mark.parametrize("joined", [False, True])
def test_folds_refuse_a_store_whose_training_split_alone_is_rough(tmp_path, joined):
    header = "image,patient,split,x_min,y_min,x_max,y_max,rough_x_min,rough_y_min,rough_x_max,rough_y_max"
    lines = []
    for name, split in (("a", "train"), ("b", "val"), ("c", "test")):
        picture(tmp_path / f"scans/{name}.png", BOX)
        lines.append(f"{name}.png,{name},{split},{','.join(map(str, (*BOX, 6, 5, 20, 18)))}")
    store = made(tmp_path, boxes=rows(tmp_path, lines, header), box_columns="train:rough")
    if joined:
        picture(tmp_path / "more/scans/d.png", BOX)
        line = f"d.png,d,test,{','.join(map(str, (*BOX, 6, 5, 20, 18)))}"
        other = made(tmp_path / "more", boxes=rows(tmp_path / "more", [line], header))
        store = join_stores([store.path, other.path], tmp_path / "both.h5")
    with pytest.raises(BadInput, match=r"--box-columns train:rough\), which folds test too: .* --box-columns rough to"):
        deal_folds(store, 2)


def test_the_command_takes_them(both):
    real, other = both
    asked = [
        "study",
        str(real),
        "--task",
        "counting",
        "--network",
        "tiny",
        "--arm",
        "tiny",
        "--folds",
        "2",
        "--dry-run",
    ]
    asked += ["--out", str(real.parent / "study"), "--train-annotations"]
    result = CliRunner().invoke(app, [*asked, str(other)])
    assert result.exit_code == 0, result.output
    told = CliRunner().invoke(app, [*asked, str(other), "--json"])
    plan = json.loads(told.stdout)
    assert plan["study"] is None
    assert "6 generators: arms real-only, tiny" in plan["plan"][0]
    assert f"; learning from the annotations of {other}" in plan["plan"][0]
    missing = CliRunner().invoke(app, [*asked, "no.h5"])
    assert missing.exit_code != 0
    assert "no.h5" in str(missing.exception)
