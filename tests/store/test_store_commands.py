"""`medaug store`: what it says, what it refuses, and exports that read back as they were."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from conftest import make_records, make_store
from PIL import Image
from pycocotools.coco import COCO
from typer.testing import CliRunner

from medaug_cli.boxes import read_boxes
from medaug_cli.commands.store import app
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.export import export_store
from medaug_cli.forms.reading import read_annotations
from medaug_cli.metrics.coco_files import read_truth
from medaug_cli.scans.survey import find_scans
from medaug_cli.store import Record

run = CliRunner().invoke


def call(*arguments):
    return run(app, [str(argument) for argument in arguments])


def uneven(n=9, kind=np.uint8, channels=1, spatial=(16, 12)):
    """Return records with fractional boxes: none, one or two an image, two labels."""
    rng = np.random.default_rng(3)
    d = len(spatial)
    for i in range(n):
        low = rng.uniform(0, 6, (i % 3, d))
        boxes = np.concatenate([low, low + rng.uniform(0.5, 5, low.shape)], 1).astype(np.float32)
        labels = ["lesion", "cyst"][: len(boxes)]
        image = rng.integers(0, np.iinfo(kind).max, (channels, *spatial), dtype=kind)
        mask = rng.integers(0, 2, spatial).astype(np.uint8)
        yield Record(f"i{i}", image, boxes, labels, f"p{i % 3}", ("train", "val", "test")[i % 3], mask=mask)


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "uneven.h5", uneven(), ("lesion", "cyst"))


def test_info_counts_what_is_there(store):
    done = call("info", store.path, "--json")
    found = json.loads(done.stdout)
    assert found["images"] == 9
    assert found["boxes"] == 9
    assert found["boxes_by_label"] == {"lesion": 6, "cyst": 3}
    assert found["images_without_boxes"] == 3
    assert found["splits"]["val"] == {"images": 3, "patients": 1, "boxes": 3}
    assert found["spatial"] == [16, 12]
    assert found["bits"] == 8
    assert found["hash"] == store.hash
    assert "9 images of 16x12 pixels, 1 channel, 8 bits, with masks" in call("info", store.path).stdout


def test_verify_finds_one_changed_pixel(store):
    assert "9 images" in call("verify", store.path).stdout
    with h5py.File(store.path, "r+") as file:
        file["images"][4, 0, 7, 7] ^= 1
    done = call("verify", store.path)
    assert isinstance(done.exception, BadInput)
    assert "damaged" in str(done.exception)


def test_coco_reads_back_equal(store, tmp_path):
    done = call("export", store.path, "--format", "coco", "--out", tmp_path / "coco", "--json")
    assert json.loads(done.stdout) == {"out": str(tmp_path / "coco"), "format": "coco", "images": 9}
    coco = COCO(tmp_path / "coco" / "annotations.json")
    names = {entry["id"]: entry["name"] for entry in coco.loadCats(coco.getCatIds())}
    assert len(coco.imgs) == 9
    for i, image in enumerate(coco.loadImgs(sorted(coco.imgs))):
        pixels = np.asarray(Image.open(tmp_path / "coco" / image["file_name"]))
        np.testing.assert_array_equal(pixels, store.images[i][0])
        found = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        boxes = np.array([one["bbox"] for one in found]).reshape(-1, 4)
        np.testing.assert_array_equal(
            np.c_[boxes[:, :2], boxes[:, :2] + boxes[:, 2:]].astype(np.float32), store.boxes[i]
        )
        assert [names[one["category_id"]] for one in found] == [store.spec.label_names[k] for k in store.labels[i]]
        assert (image["patient"], image["split"]) == (store.patients[i], store.splits[i])
    assert len(COCO(tmp_path / "coco" / "val.json").imgs) == 3


def test_evaluate_takes_the_coco_file_as_truth(store, tmp_path):
    export_store(store, "coco", tmp_path / "coco", split="test")
    read = read_truth(tmp_path / "coco" / "annotations.json")
    chosen = store.indices("test")
    assert read.patients == tuple(store.patients[i] for i in chosen)
    assert read.label_names == store.spec.label_names
    np.testing.assert_array_equal(read.truth.boxes, np.concatenate([store.boxes[i] for i in chosen]))
    np.testing.assert_array_equal(read.truth.labels, np.concatenate([store.labels[i] for i in chosen]))
    np.testing.assert_array_equal(read.truth.images, np.repeat(np.arange(3), [len(store.boxes[i]) for i in chosen]))


@pytest.mark.parametrize(("form", "boxes", "atol"), [("coco", "annotations.json", 0), ("yolo", "labels", 1e-5)])
def test_preprocess_takes_what_is_exported(store, tmp_path, form, boxes, atol):
    export_store(store, form, tmp_path / form)
    scans = find_scans(tmp_path / form / "images")
    read = read_annotations(tmp_path / form / boxes, scans).scans
    assert set(read) == set(store.ids)
    for i, name in enumerate(store.ids):
        np.testing.assert_allclose(read[name].arrays(), store.boxes[i], atol=atol, rtol=0)
        assert read[name].labels == [store.spec.label_names[k] for k in store.labels[i]]


def test_yolo_reads_back_equal(store, tmp_path):
    export_store(store, "yolo", tmp_path / "yolo")
    described = yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text(encoding="utf-8"))
    assert described["names"] == {0: "lesion", 1: "cyst"}
    for i, split in enumerate(store.splits):
        folder = tmp_path / "yolo" / described[split]
        pixels = np.asarray(Image.open(folder / f"{store.ids[i]}.png"))
        np.testing.assert_array_equal(pixels, store.images[i][0])
        label_file = Path(str(folder).replace("images", "labels")) / f"{store.ids[i]}.txt"
        rows = np.array([line.split() for line in label_file.read_text(encoding="utf-8").splitlines()], float).reshape(
            -1, 5
        )
        centre, side = rows[:, 1:3] * (12, 16), rows[:, 3:] * (12, 16)
        np.testing.assert_allclose(np.c_[centre - side / 2, centre + side / 2], store.boxes[i], atol=1e-6)
        np.testing.assert_array_equal(rows[:, 0], store.labels[i])


@pytest.mark.parametrize(("kind", "channels", "spatial"), [
    (np.uint8, 1, (16, 12)), (np.uint16, 1, (16, 12)), (np.uint16, 2, (16, 12)), (np.uint8, 1, (10, 16, 12)),
])  # fmt: skip
def test_nifti_reads_back_equal(tmp_path, kind, channels, spatial):
    store = make_store(tmp_path / "s.h5", uneven(6, kind, channels, spatial), ("lesion", "cyst"))
    export_store(store, "nifti", tmp_path / "nifti")
    for i, image in enumerate(read_boxes(tmp_path / "nifti" / "boxes.json").images):
        pixels = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "nifti" / image.file))
        assert pixels.dtype == kind
        np.testing.assert_array_equal(np.moveaxis(pixels, -1, 0) if channels > 1 else pixels[None], store.images[i])
        mask = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "nifti" / "masks" / f"{image.id}.nii.gz"))
        np.testing.assert_array_equal(mask, store.masks[i])
        boxes, labels = image.arrays()
        np.testing.assert_array_equal(boxes, store.boxes[i])
        assert labels == [store.spec.label_names[k] for k in store.labels[i]]
        assert (image.patient, image.split) == (store.patients[i], store.splits[i])


def test_sixteen_bits_stay_sixteen_in_png(tmp_path):
    store = make_store(tmp_path / "s.h5", uneven(3, np.uint16), ("lesion", "cyst"))
    export_store(store, "coco", tmp_path / "coco")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "coco/images/i2.png")), store.images[2][0])


def test_one_split_alone(store, tmp_path):
    assert export_store(store, "yolo", tmp_path / "yolo", split="val") == 3
    assert sorted(p.name for p in (tmp_path / "yolo/images").rglob("*.png")) == ["i1.png", "i4.png", "i7.png"]
    assert "train" not in yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("changes", "options", "error", "words"), [
    ({}, {"form": "dicom"}, UsageError, "coco, yolo, voc, csv, nifti"),
    ({}, {"split": "dev"}, UsageError, "train, val, test"),
    ({"spatial": (10, 16, 12)}, {}, BadInput, "3D"),
    ({"channels": 2}, {}, BadInput, "2 channels"),
    ({"channels": 3, "kind": np.uint16}, {}, BadInput, "uint16"),
    ({"n": 1}, {"split": "val"}, BadInput, "no image in the split val"),
])  # fmt: skip
def test_what_cannot_be_exported_is_said_and_nothing_is_left(tmp_path, changes, options, error, words):
    store = make_store(tmp_path / "s.h5", uneven(**{"n": 3, **changes}), ("lesion", "cyst"))
    with pytest.raises(error, match=words):
        export_store(store, **{"form": "coco", "out": tmp_path / "out", **options})
    assert {path.name for path in tmp_path.iterdir()} == {"s.h5", "boxes.json"}


def test_an_id_that_would_leave_the_folder_is_refused(tmp_path):
    records = list(make_records(3))
    records[1].id = "../escaped"
    records[1].split = "val"
    store = make_store(tmp_path / "s.h5", records)
    with pytest.raises(BadInput, match=r"\.\./escaped"):
        export_store(store, "coco", tmp_path / "out")
    assert not list(tmp_path.glob("**/escaped*"))


def test_a_result_is_replaced_only_when_told(store, tmp_path):
    export_store(store, "coco", tmp_path / "out")
    with pytest.raises(UsageError, match="--overwrite"):
        export_store(store, "yolo", tmp_path / "out")
    export_store(store, "yolo", tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "annotations.json").exists()
    assert (tmp_path / "out" / "data.yaml").exists()


def test_a_failed_export_leaves_nothing(store, tmp_path):
    def stop(images):
        raise BadInput("stopped")

    with pytest.raises(BadInput, match="stopped"):
        export_store(store, "coco", tmp_path / "out", report=stop)
    assert {path.name for path in tmp_path.iterdir()} == {"uneven.h5", "boxes.json"}
