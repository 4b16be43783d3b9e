"""Every command that takes a store carries classes, masks of several labels, normal images and sources along."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from classed import CLASSES, classed, invoke, publish
from PIL import Image

from medaug_cli.errors import UsageError
from medaug_cli.export import export_store
from medaug_cli.preprocess.report import PreprocessReport
from medaug_cli.preview import preview
from medaug_cli.store import GeneratorOrigin, open_store
from medaug_cli.study.subsets import subset
from medaug_cli.tasks.classification import Classification

MASK_NAMES = ["core", "oedema"]


def several(n=24):
    """Return images of classes whose masks mark a core in an oedema, the last ones drawn by a generator."""
    for record in classed(n):
        mask = record.mask * 2
        rows, columns = np.nonzero(mask)
        if len(rows):
            mask[rows[: len(rows) // 2], columns[: len(rows) // 2]] = 1
        yield replace(record, mask=mask)


def drawn(n=8):
    for i, record in enumerate(several(n)):
        yield replace(record, id=f"s{i}", patient="synthetic-g", split="train", source="g", seed=i)


def known(store):
    """Return all that is known of each image, by its id."""
    found = {}
    for i, name in enumerate(store.ids):
        record = store.record(i)
        found[name] = (
            record.image_class, record.mask.tobytes(), record.labels, record.boxes.tolist(), record.source,
            record.spacing, record.annotated, record.patient, record.split,
        )  # fmt: skip
    return found


@pytest.fixture
def real(tmp_path):
    return publish(tmp_path / "real.h5", several(), class_names=CLASSES, mask_names=MASK_NAMES)


@pytest.fixture
def synthetic(tmp_path, real):
    origin = GeneratorOrigin(name="g", version="1", hash="h", training_store=real.hash, training_patients=[])
    return publish(tmp_path / "synthetic.h5", drawn(), class_names=CLASSES, mask_names=MASK_NAMES, generators=[origin])


def test_a_subset_keeps_all(tmp_path, real):
    part = subset(real, Classification(), 1.0, 0, tmp_path / "part/real.h5")
    assert known(part) == known(real)
    assert (part.class_names, list(part.spec.mask_names)) == (CLASSES, MASK_NAMES)


def test_joining_keeps_all_and_refuses_other_names(tmp_path, real, synthetic):
    invoke("store", "join", tmp_path / "real.h5", tmp_path / "synthetic.h5", "--out", tmp_path / "whole/both.h5")
    both = open_store(tmp_path / "whole/both.h5")
    assert known(both) == known(real) | known(synthetic)
    assert sorted(set(both.sources)) == ["g", "real"]
    publish(tmp_path / "other.h5", drawn(), class_names=CLASSES, mask_names=MASK_NAMES[::-1])
    said = invoke(
        "store", "join", tmp_path / "real.h5", tmp_path / "other.h5", "--out", tmp_path / "whole/no.h5", code=3
    )
    assert "differ in the names of what masks mark" in said


def test_joining_beside_the_report_of_another_store(tmp_path, real, synthetic):
    """Where real.h5 stands with its report, so do what it was made into and what is drawn."""
    report = PreprocessReport(tool_version="0", store=real.hash, settings={}, split_by="patient", slices=[])
    (tmp_path / "preprocess.json").write_text(report.model_dump_json(), encoding="utf-8")
    invoke("store", "join", tmp_path / "real.h5", tmp_path / "synthetic.h5", "--out", tmp_path / "both.h5")
    assert known(open_store(tmp_path / "both.h5")) == known(real) | known(synthetic)
    assert not (tmp_path / "boxes.json").exists()


def test_filtering_keeps_all(tmp_path, synthetic):
    invoke("filter", tmp_path / "synthetic.h5", "--by", "none", "--out", tmp_path / "kept.h5")
    kept = open_store(tmp_path / "kept.h5")
    assert known(kept) == known(synthetic)
    assert (kept.class_names, list(kept.spec.mask_names)) == (CLASSES, MASK_NAMES)


def test_a_summary_tells_all(tmp_path, real):
    said = json.loads(invoke("store", "info", tmp_path / "real.h5", "--json"))
    assert said["mask_names"] == MASK_NAMES
    assert said["images_by_class"] == {"benign": 10, "malignant": 8, "normal": 6}
    assert said["images_without_boxes"] == 6
    assert said["sources"] == {"real": 24}
    assert "with masks of core, oedema" in invoke("store", "info", tmp_path / "real.h5")


def as_pixels(path):
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("form", ["coco", "yolo", "voc", "csv"])
def test_exported_pictures_come_with_masks_and_classes(tmp_path, real, form):
    invoke("store", "export", tmp_path / "real.h5", "--format", form, "--out", tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out/classes.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["image"]: (row["class"], row["source"], row["split"]) for row in rows} == {
        name: (own[0], own[4], own[8]) for name, own in known(real).items()
    }
    names = json.loads((tmp_path / "out/dataset.json").read_text(encoding="utf-8"))["labels"]
    assert names == {"background": 0, "core": 1, "oedema": 2}
    for i, name in enumerate(real.ids):
        assert np.array_equal(as_pixels(tmp_path / f"out/labelsTr/{name}.png"), real.masks[i])


def test_what_is_exported_is_read_again(tmp_path, real):
    invoke("store", "export", tmp_path / "real.h5", "--format", "csv", "--out", tmp_path / "out")
    invoke(
        "preprocess", tmp_path / "out/images", "--classes", tmp_path / "out/classes.csv", "--masks",
        tmp_path / "out/labelsTr", "--size", 16, "--strip", "none", "--denoise", "none", "--min-area", 1, "--normals",
        "--out", tmp_path / "again/real.h5",
    )  # fmt: skip
    again = open_store(tmp_path / "again/real.h5")
    number = {name: i for i, name in enumerate(again.ids)}
    order = [number[name] for name in real.ids]
    assert np.array_equal(again.masks[order], real.masks)
    assert list(again.spec.mask_names) == MASK_NAMES
    assert [again.class_names[again.classes[i]] for i in order] == [CLASSES[k] for k in real.classes]
    assert [str(again.splits[i]) for i in order] == real.splits.tolist()


def test_images_lie_in_a_folder_a_class(tmp_path, real):
    invoke("store", "export", tmp_path / "real.h5", "--format", "folders", "--out", tmp_path / "out")
    for i, name in enumerate(real.ids):
        path = tmp_path / "out" / str(real.splits[i]) / CLASSES[real.classes[i]] / f"{name}.png"
        assert np.array_equal(as_pixels(path), real.images[i][0])


def test_stores_of_classes_alone_are_exported_shown_and_summed_up(tmp_path):
    records = [replace(r, boxes=r.boxes[:0], labels=[], mask=None, annotated=False) for r in classed(12)]
    publish(tmp_path / "real.h5", records, class_names=CLASSES)
    invoke("store", "preview", tmp_path / "real.h5", "--out", tmp_path / "p.png", "--images", 4)
    invoke("store", "export", tmp_path / "real.h5", "--format", "folders", "--out", tmp_path / "out")
    assert len(list((tmp_path / "out").rglob("*.png"))) == 12
    said = invoke("store", "export", tmp_path / "real.h5", "--format", "coco", "--out", tmp_path / "no", code=3)
    assert "choose --format folders or nifti" in said
    assert "12 images, in which lesions were not looked for" in invoke("store", "info", tmp_path / "real.h5")


def test_a_preview_is_named_as_what_it_is(tmp_path, real):
    with pytest.raises(UsageError, match=r"p\.jpg: the picture is a PNG file"):
        preview(real, tmp_path / "p.jpg")
    assert not (tmp_path / "p.jpg").exists()


def test_a_preview_shows_outlines_and_classes(tmp_path, real):
    invoke("store", "preview", tmp_path / "real.h5", "--out", tmp_path / "p.png", "--images", 6)
    picture = np.asarray(Image.open(tmp_path / "p.png").convert("RGB")).reshape(-1, 3)
    seen = {tuple(colour) for colour in np.unique(picture, axis=0).tolist()}
    assert {(0, 214, 143), (86, 180, 233)} <= seen  # core, oedema
    assert (235, 235, 235) in seen or len(seen) > 50  # the words


def test_folders_of_classes_have_their_names_and_other_names_are_said(tmp_path):
    classes, said = ("lésion x", "良性", "BI-RADS 4/5", ".."), []
    records = [replace(record, image_class=classes[i % 4], split="train") for i, record in enumerate(classed(8))]
    store = publish(tmp_path / "real.h5", records, class_names=classes)
    export_store(store, "folders", tmp_path / "out", say=said.append)
    assert {path.name for path in (tmp_path / "out/train").iterdir()} == {"lésion x", "良性", "BI-RADS 4-5", "-"}
    assert len(said) == 3
    assert "'BI-RADS 4/5' lies in the folder 'BI-RADS 4-5'" in said[0]
    assert "'..' lies in the folder '-'" in said[1]
    assert "folders tells the classes alone" in said[2]


def test_an_export_by_class_needs_classes(tmp_path):
    publish(tmp_path / "real.h5", [replace(record, image_class=None) for record in classed(6)])
    said = invoke("store", "export", tmp_path / "real.h5", "--format", "folders", "--out", tmp_path / "no", code=3)
    assert "no image of a known class" in said
    assert not (tmp_path / "no").exists()
