"""Lesions that somebody has boxed and nobody has outlined: there for a generator, and no truth for a segmenter."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_records

from medaug_cli.blending import ellipsoid
from medaug_cli.export import export_store
from medaug_cli.runs import RunOptions, train_network
from medaug_cli.store import StoreInfo, StoreWriter
from medaug_cli.tasks.segmentation import Segmentation

NAMES = ["core", "oedema"]


@pytest.fixture
def store(tmp_path):
    """Return a store in which every third image of its 24 has a second box, with nothing marked in it."""
    info = StoreInfo(tool_version="0", command="test", settings={}, seed=0, label_names=NAMES, mask_names=NAMES[::-1])
    writer = StoreWriter(tmp_path / "real.h5", info, {})
    for i, record in enumerate(make_records(masks=True, labels=NAMES)):
        if i % 3 == 0:
            mask = np.zeros_like(record.mask)
            mask[:, :9] = record.mask[:, :9]
            record = replace(
                record, mask=mask, boxes=np.concatenate([record.boxes, [[9, 9, 15, 14]]]).astype(np.float32),
                labels=[*record.labels, "core"],
            )  # fmt: skip
        writer.add(i, [record])
    return writer.publish()


def test_a_segmenter_neither_learns_from_them_nor_is_judged_on_them(store, tmp_path):
    expected = np.arange(24) % 3 > 0
    np.testing.assert_array_equal(store.outlined, expected)
    np.testing.assert_array_equal(Segmentation().usable(store), expected)
    said, settings = [], {"width": 4, "levels": 2}
    options = RunOptions(tmp_path / "run", settings, device="cpu", announce=said.append)
    train_network(Segmentation(), store.path, "segmenter", options, steps=1)
    left_out = int((~expected & (store.splits == "train")).sum())
    assert f"{store.path}: {left_out} images in the train split have a box without an outline and are left out" in said


def test_a_generator_is_told_an_ellipse_with_the_value_of_the_label(store):
    for i in range(len(store)):
        mask, own = store.condition(i).mask, np.asarray(store.masks[i])
        if store.outlined[i]:
            np.testing.assert_array_equal(mask, own)
            continue
        there = ellipsoid(store.boxes[i][1], own.shape)
        assert (mask[there] == 2).all()  # "core" in the masks
        np.testing.assert_array_equal(mask[~there], own[~there])


def test_exports_say_what_they_do_not_tell(store, tmp_path):
    said = []
    export_store(store, "coco", tmp_path / "coco", say=said.append)
    assert "in 8 images a box has no outline: the mask says nothing there" in said


def test_forms_of_classes_say_what_they_leave_out(store, tmp_path):
    records = [replace(store.record(i), image_class=("a", "b", None)[i % 3]) for i in range(len(store))]
    writer = StoreWriter(tmp_path / "classed.h5", store.info.model_copy(update={"class_names": ["a", "b"]}), {})
    writer.add(0, records)
    classed, said = writer.publish(), []
    export_store(classed, "folders", tmp_path / "out", say=said.append)
    assert "left out: 8 images of no known class" in said
    assert "folders tells the classes alone, and neither boxes nor masks; coco, csv and nifti tell them" in said
