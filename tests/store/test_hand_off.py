"""What is exported loads in the tools that it is for, and comes back: boxes, masks, classes, patients and splits."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from conftest import make_records, make_store
from pycocotools.coco import COCO
from support.tiny_scans import PLAIN, reported

from medaug_cli.errors import BadInput
from medaug_cli.export import export_store
from medaug_cli.export.segments import segments_of
from medaug_cli.forms.coco import run_lengths
from medaug_cli.preprocess.pipeline import PreprocessOptions, preprocess
from medaug_cli.store import Record, StoreInfo, StoreWriter

SIDE = 16
SPLITS = ("train", "train", "val", "test")
NAMES = ("cyst", "mass")
CLASSES = ("benign", "normal")
ALL_OF_IT = ("boxes", "masks", "classes", "splits")
AS_IT_IS = replace(PLAIN, window=(0.0, 255.0))
BOXES = [[(2, 3, 7, 8)], [(1, 1, 5, 6), (8, 7, 14, 15)], [(9, 2, 15, 6)], []]


def records(named=True, depth=None):
    """Yield two images a split and patient, with rectangles for lesions; the value of a mask is its label's."""
    rng = np.random.default_rng(0)
    for k in range(8):
        own, mask = BOXES[k % 4], np.zeros((SIDE, SIDE), np.uint8)
        for number, (x_min, y_min, x_max, y_max) in enumerate(own):
            mask[y_min:y_max, x_min:x_max] = 1 + number if named else 1
        image = rng.integers(0, 90, (1, SIDE, SIDE), dtype=np.uint8) + 60 * (mask > 0).astype(np.uint8)
        boxes = np.array(own, np.float32).reshape(-1, 4)
        if depth is not None:
            image, mask = np.repeat(image[:, None], depth, 1), np.repeat(mask[None], depth, 0)
            boxes = np.insert(boxes, [2, 4], [0, depth], axis=1)
        yield Record(
            f"i{k}", image, boxes, list(NAMES[: len(own)]), f"p{k % 4}", SPLITS[k % 4], mask=mask,
            image_class=CLASSES[0 if own else 1], spacing=(0.5,) * (2 if depth is None else 3),
        )  # fmt: skip


def store_of(path, splits=("train", "val", "test"), named=True, depth=None):
    info = StoreInfo(
        tool_version="0", command="test", settings={}, seed=0, label_names=list(NAMES), class_names=list(CLASSES),
        mask_names=list(NAMES) if named else [],
    )  # fmt: skip
    writer = StoreWriter(path, info, {"test": 1})
    writer.add(0, [record for record in records(named, depth) if record.split in splits])
    return writer.publish()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Export a store in every form of pictures."""
    folder = tmp_path_factory.mktemp("hand-off")
    store = store_of(folder / "real.h5")
    for form in ("yolo", "coco", "voc", "csv", "folders", "npz", "nnunet", "monai", "nifti"):
        export_store(store, form, folder / form)
    return folder, store


def read_again(scans, out, **given):
    """Return the store that preprocess makes of scans, as they are."""
    options = PreprocessOptions(scans, out / "real.h5", recipe=AS_IT_IS, workers=1, **given)
    return preprocess(options)


def check_same(again, store, what=("boxes", "masks", "classes", "splits")):
    """Compare a store that was read again with the one that was written; nnU-Net's cases have their channel behind."""
    names = [name.removesuffix("_0000") for name in again.ids]
    assert sorted(names) == sorted(store.ids)
    for k, name in enumerate(names):
        i = store.ids.index(name)
        if "images" in what:
            np.testing.assert_array_equal(again.images[k], store.images[i])
        if "boxes" in what:
            np.testing.assert_allclose(again.boxes[k], store.boxes[i], atol=1e-4)
            assert [again.spec.label_names[n] for n in again.labels[k]] == [
                store.spec.label_names[n] for n in store.labels[i]
            ]
        if "masks" in what:
            np.testing.assert_array_equal(again.masks[k], store.masks[i])
        if "classes" in what:
            assert again.class_names[again.classes[k]] == store.class_names[store.classes[i]]
        if "splits" in what:
            assert (again.splits[k], again.patients[k]) == (store.splits[i], store.patients[i])


# YOLO


def as_ultralytics_does(file):
    """Resolve a data.yaml by ultralytics' documented rules: `path` or the file's folder, then train, val and test."""
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert {"train", "val", "names"} <= data.keys()
    root = Path(data.get("path") or file.parent)
    assert root.exists()
    return {split: (root / data[split]).resolve() for split in ("train", "val", "test") if split in data}, data["names"]


@pytest.mark.parametrize("way", ["absolute", "relative", "from inside", "moved"])
def test_yolo_is_found_from_any_folder(folder, tmp_path, monkeypatch, way):
    where = folder[0] / "yolo"
    if way == "moved":
        where = where.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(where if way == "from inside" else where.parent)
    file = {"relative": Path(where.name, "data.yaml"), "from inside": Path("data.yaml")}.get(way, where / "data.yaml")
    places, names = as_ultralytics_does(file)
    if way == "moved":
        where.rename(folder[0] / "yolo")
        return
    assert names == dict(enumerate(NAMES))
    for split, place in places.items():
        pictures = sorted(place.glob("*.png"))
        assert len(pictures) == SPLITS.count(split) * 2
        for picture in pictures:
            assert Path(str(picture).replace("/images/", "/labels/")).with_suffix(".txt").is_file()


def test_yolo_has_a_val_where_there_is_no_validation_split(tmp_path):
    export_store(store_of(tmp_path / "real.h5", ("train", "test")), "yolo", tmp_path / "yolo")
    places, _ = as_ultralytics_does(tmp_path / "yolo/data.yaml")
    assert places["val"] == places["train"]
    assert places["test"].is_dir()


# COCO


def test_coco_has_the_pixels_of_each_box(folder):
    where, store = folder
    coco = COCO(where / "coco/annotations.json")
    for image in coco.loadImgs(coco.getImgIds()):
        i = store.ids.index(Path(image["file_name"]).stem)
        rows = coco.loadAnns(coco.getAnnIds(image["id"]))
        assert len(rows) == len(store.boxes[i])
        for row, box in zip(rows, store.boxes[i].astype(int), strict=True):
            mask, expected = coco.annToMask(row), np.zeros((SIDE, SIDE), np.uint8)
            expected[box[1] : box[3], box[0] : box[2]] = 1
            np.testing.assert_array_equal(mask, expected)
            assert row["area"] == expected.sum()


def disc(shape, middle, radius):
    y, x = np.indices(shape)
    return np.hypot(y - middle[0], x - middle[1]) <= radius


SHAPES = {
    "two apart": ([((8, 8), 5), ((25, 25), 4)], [(3, 3, 14, 14), (21, 21, 30, 30)], [[0], [1]]),
    "two parts of one box": ([((6, 6), 3), ((6, 14), 3)], [(3, 3, 18, 10)], [[0, 1]]),
    "a small one in the box of a large one": (
        [((16, 16), 3), ((16, 26), 3)],
        [(10, 10, 31, 24), (23, 13, 30, 20)],
        [[0], [1]],
    ),
    "a part outside every box": ([((8, 8), 4), ((26, 26), 3)], [(4, 4, 13, 13)], [[0]]),
    "a box wider than its lesion": ([((10, 10), 4)], [(2, 2, 20, 20)], [[0]]),
}


@pytest.mark.parametrize("case", SHAPES)
def test_each_part_of_a_mask_is_of_the_box_that_it_fills(case):
    discs, boxes, owners = SHAPES[case]
    parts = [disc((32, 32), *one) for one in discs]
    mask = np.any(parts, axis=0).astype(np.uint8)
    found = segments_of(mask, np.array(boxes, np.float32), [None] * len(boxes))
    for own, segment in zip(owners, found, strict=True):
        np.testing.assert_array_equal(segment, np.any([parts[k] for k in own], axis=0))


def test_parts_are_of_the_boxes_of_their_own_label():
    mask = np.zeros((20, 20), np.uint8)
    mask[4:8, 4:8], mask[8:12, 4:8] = 1, 2
    boxes = np.array([[4, 4, 8, 8], [4, 8, 8, 12]], np.float32)
    one, two = segments_of(mask, boxes, [1, 2])
    np.testing.assert_array_equal(one, mask == 1)
    np.testing.assert_array_equal(two, mask == 2)


def test_a_box_without_a_part_gets_what_it_holds_and_an_empty_one_nothing():
    mask = np.zeros((20, 20), np.uint8)
    mask[2:18, 2:18] = 1
    boxes = np.array([[5, 5, 9, 9], [18, 18, 20, 20]], np.float32)
    held, nothing = segments_of(mask, boxes, [None, None])
    assert (held.sum(), nothing.sum()) == (16, 0)


@pytest.mark.parametrize("seed", range(4))
def test_run_lengths_are_read_by_pycocotools(seed):
    from pycocotools import mask as tool

    mask = np.random.default_rng(seed).random((7, 11)) < (0.0, 0.5, 0.9, 1.0)[seed]
    packed = tool.frPyObjects({"size": list(mask.shape), "counts": run_lengths(mask)}, *mask.shape)
    np.testing.assert_array_equal(tool.decode(packed), mask)


def test_coco_has_no_segmentation_where_there_is_no_mask(tmp_path):
    export_store(make_store(tmp_path / "real.h5"), "coco", tmp_path / "coco")
    rows = json.loads((tmp_path / "coco/annotations.json").read_text(encoding="utf-8"))["annotations"]
    assert all("segmentation" not in row for row in rows)


# What is written is read


WAYS = {  # form: scans, what is given beside them, what else of a store comes back than its images
    "coco": ("images", {"boxes": "annotations.json", "classes": "classes.csv"}, ALL_OF_IT),
    "coco and its masks": (
        "images", {"boxes": "annotations.json", "masks": "labelsTr", "classes": "classes.csv"}, ALL_OF_IT
    ),
    "yolo": ("images", {"boxes": "labels", "masks": "labelsTr", "classes": "classes.csv"}, ALL_OF_IT),
    "voc": ("JPEGImages", {"boxes": "Annotations", "masks": "labelsTr", "classes": "classes.csv"}, ALL_OF_IT),
    "csv": ("images", {"boxes": "boxes.csv", "masks": "labelsTr", "classes": "classes.csv"}, ALL_OF_IT),
    "nifti": ("images", {"boxes": "boxes.json", "masks": "labelsTr", "classes": "classes.csv"}, ALL_OF_IT),
    "nnunet": (".", {"boxes": "boxes.json", "masks": ".", "classes": "classes.csv"}, ALL_OF_IT),
    "monai": (".", {"boxes": "detection.json", "masks": ".", "classes": "classes.csv"}, ALL_OF_IT),
    "monai's masks": (".", {"boxes": "dataset.json", "classes": "classes.csv"}, ALL_OF_IT),
    "folders": (".", {"classes": "classes.csv"}, ("classes", "splits")),
    "npz": ("real.npz", {}, ("classes", "splits")),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_what_is_written_is_read(folder, tmp_path, way):
    where, store = folder
    own, (scans, given, what) = where / way.split()[0].removesuffix("'s"), WAYS[way]
    options = {name: str(own / path) if name == "classes" else own / path for name, path in given.items()}
    again = read_again(own / scans, tmp_path, **options)
    check_same(again, store, ("images", *what))
    if way in ("nifti", "nnunet", "monai"):
        assert all(again.spacing_of(i) == [0.5, 0.5] for i in range(len(again)))
    if "masks" in what:
        assert (again.spec.mask_names, again.spec.label_names) == (NAMES, NAMES)


@pytest.mark.parametrize(("form", "boxes"), [("nnunet", "boxes.json"), ("monai", "detection.json")])
def test_masks_that_tell_no_classes_apart_contradict_no_label(tmp_path, form, boxes):
    store = store_of(tmp_path / "real.h5", named=False)
    export_store(store, form, tmp_path / form)
    again = read_again(tmp_path / form, tmp_path / "again", boxes=tmp_path / form / boxes, masks=tmp_path / form)
    check_same(again, store, ("images", "boxes", "masks", "splits"))
    assert [line for each in reported(again)["slices"] for line in each["repaired"]] == []


def test_of_cases_with_two_channels_a_name_alone_is_refused(tmp_path):
    from medaug_cli.forms.naming import ScanNames
    from medaug_cli.scans.reading import Scan

    files = [f"imagesTr/{name}.nii.gz" for name in ("a_0000", "a_0001", "b_0000")]
    scans = [Scan(Path(file).name.partition(".")[0], tmp_path / file, file, volume=True) for file in files]
    names = ScanNames(scans)
    assert names.find("b", "x.csv")[0] is scans[2]
    assert names.find("B.nii.gz", "x.csv")[0] is scans[2]
    assert names.find("a_0001", "x.csv")[0] is scans[1]
    with pytest.raises(BadInput, match="may be imagesTr/a_0000"):
        names.find("a", "x.csv")


# COCO's outlines, without the masks beside them


def as_polygons(folder):
    """Write the run lengths of an export as polygons round their rectangles, with a corner in the middle of a side."""
    content = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    for row in content["annotations"]:
        x, y, width, height = row["bbox"]
        row["segmentation"] = [[x, y, x + width, y, x + width, y + height, x + width / 2, y + height, x, y + height]]
        row["segmentation"][0] += [x, y + height / 2]
    (folder / "polygons.json").write_text(json.dumps(content), encoding="utf-8")
    return folder / "polygons.json"


def as_packed(folder):
    """Write the run lengths of an export as pycocotools packs them."""
    from pycocotools import mask as tool

    content = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    for row in content["annotations"]:
        packed = tool.frPyObjects(row["segmentation"], *row["segmentation"]["size"])
        row["segmentation"] = {"size": packed["size"], "counts": packed["counts"].decode()}
    (folder / "packed.json").write_text(json.dumps(content), encoding="utf-8")
    return folder / "packed.json"


@pytest.mark.parametrize("form", ["annotations", "polygons", "packed"])
def test_masks_come_back_from_coco_alone(folder, tmp_path, form):
    where, store = folder
    own = where / "coco"
    boxes = {"polygons": as_polygons, "packed": as_packed}.get(form, lambda own: own / "annotations.json")(own)
    again = read_again(own / "images", tmp_path, boxes=boxes, normals=True)
    check_same(again, store, ("boxes", "masks", "splits"))
    assert again.spec.mask_names == store.spec.mask_names


def test_masks_without_names_come_back_from_coco(tmp_path):
    store = store_of(tmp_path / "real.h5", named=False)
    export_store(store, "coco", tmp_path / "coco")
    again = read_again(tmp_path / "coco/images", tmp_path / "again", boxes=tmp_path / "coco/annotations.json")
    for k, name in enumerate(again.ids):
        np.testing.assert_array_equal(again.masks[k] > 0, store.masks[store.ids.index(name)] > 0)


# ImageFolder


def test_torchvision_reads_the_folders_of_classes(folder):
    datasets = pytest.importorskip("torchvision.datasets")
    where, store = folder
    for split in ("train", "val", "test"):
        data = datasets.ImageFolder(where / "folders" / split, allow_empty=True)
        for path, number in data.samples:
            i = store.ids.index(Path(path).stem)
            assert data.classes[number] == store.class_names[store.classes[i]]
            assert store.splits[i] == split


def test_a_class_that_a_split_lacks_keeps_its_number(tmp_path):
    datasets = pytest.importorskip("torchvision.datasets")
    store, said = store_of(tmp_path / "real.h5"), []
    assert {str(store.splits[i]) for i in range(8) if store.classes[i] == 1} == {"test"}
    export_store(store, "folders", tmp_path / "folders", say=said.append)
    assert [line.split(":")[0] for line in said] == [
        "the split train has no image of normal", "the split val has no image of normal",
        "the split test has no image of benign",
        "folders tells the classes alone, and neither boxes nor masks; coco, csv and nifti tell them",
    ]  # fmt: skip
    for split in ("train", "val", "test"):
        data = datasets.ImageFolder(tmp_path / "folders" / split, allow_empty=True)
        assert data.classes == list(CLASSES)
    again = read_again(tmp_path / "folders", tmp_path / "again", classes="folders")
    check_same(again, store, ("classes",))


# MedMNIST


def test_arrays_are_those_of_medmnist(folder):
    where, store = folder
    arrays = np.load(where / "npz/real.npz")
    assert arrays["class_names"].tolist() == list(CLASSES)
    for split in ("train", "val", "test"):  # as its loader takes them
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        own = store.indices(split)
        assert images.shape == (len(own), SIDE, SIDE)
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(labels[:, 0], store.classes[own])
        np.testing.assert_array_equal(images, store.images[own][:, 0])
        assert arrays[f"{split}_ids"].tolist() == [store.ids[i] for i in own]


def test_arrays_of_colours_and_volumes(tmp_path):
    info = StoreInfo(
        tool_version="0", command="test", settings={}, seed=0, label_names=["a"], class_names=list(CLASSES)
    )
    for name, shape, stored in (("c", (3, 8, 8), (8, 8, 3)), ("v", (1, 8, 9, 10), (8, 9, 10))):
        writer = StoreWriter(tmp_path / f"{name}.h5", info, {"test": 1})
        image = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
        empty = np.empty((0, 2 * (len(shape) - 1)), np.float32)
        writer.add(0, [Record("x", image, empty, [], "p", "train", image_class="normal")])
        export_store(writer.publish(), "npz", tmp_path / name)
        arrays = np.load(tmp_path / name / f"{name}.npz")
        assert arrays["train_images"].shape == (1, *stored)
        assert arrays["val_images"].shape == (0, *stored)
        assert arrays["test_labels"].shape == (0, 1)
        np.testing.assert_array_equal(arrays["train_images"][0], image[0] if name == "v" else np.moveaxis(image, 0, -1))


def test_arrays_need_classes_and_bytes(tmp_path):
    with pytest.raises(BadInput, match="no image of a known class"):
        export_store(make_store(tmp_path / "real.h5"), "npz", tmp_path / "npz")


# nnU-Net and MONAI


def test_nnunet_finds_what_it_checks(folder):
    """As nnU-Net v2 verifies a data set: the files that dataset.json tells of, their grids, and the labels' values."""
    where = folder[0] / "nnunet"
    told = json.loads((where / "dataset.json").read_text(encoding="utf-8"))
    cases = sorted(path.name.removesuffix("_0000.nii.gz") for path in (where / "imagesTr").iterdir())
    assert len(cases) == told["numTraining"] == 6
    values = list(told["labels"].values())
    assert values == list(range(len(values)))
    assert told["labels"] == {"background": 0, "cyst": 1, "mass": 2}
    assert list(told["channel_names"]) == ["0"]
    for case in cases:
        image = sitk.ReadImage(where / "imagesTr" / f"{case}_0000{told['file_ending']}")
        mask = sitk.ReadImage(where / "labelsTr" / f"{case}{told['file_ending']}")
        for grid in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(image, grid)() == getattr(mask, grid)()
        assert image.GetSpacing() == (0.5, 0.5)
        assert set(np.unique(sitk.GetArrayFromImage(mask))) <= set(values)
    assert {path.name for path in (where / "labelsTs").iterdir()} == {"i3.nii.gz", "i7.nii.gz"}


@pytest.mark.parametrize("listed", ["dataset.json", "detection.json"])
def test_monai_finds_the_files_of_its_lists(folder, listed):
    """As `load_decathlon_datalist` does: each entry's files below the list's folder; boxes and labels of one length."""
    where, store = folder
    told = json.loads((where / "monai" / listed).read_text(encoding="utf-8"))
    entries = [entry for key in ("training", "validation", "testing") for entry in told[key]]
    assert len(entries) == len(store)
    for entry in entries:
        assert (where / "monai" / entry["image"]).is_file()
        if listed == "dataset.json":
            assert (where / "monai" / entry["label"]).is_file()
        else:
            assert len(entry["box"]) == len(entry["label"])


@pytest.mark.parametrize("form", ["nnunet", "monai"])
def test_names_are_read_in_whatever_encoding_a_machine_has(tmp_path, form):
    names = ["métastase", "囊肿"]
    info = StoreInfo(tool_version="0", command="test", settings={}, seed=0, label_names=names, mask_names=names)
    writer = StoreWriter(tmp_path / "real.h5", info, {"test": 1})
    writer.add(0, [replace(record, labels=names[: len(record.labels)], image_class=None) for record in records()])
    export_store(writer.publish(), form, tmp_path / form)
    for file in (tmp_path / form).glob("d*.json"):
        told = json.loads(file.read_bytes().decode("ascii"))
        assert set(names) <= {*told["labels"], *told["labels"].values()} if "labels" in told else told["label_names"]


# CSV in 3D


def test_csv_of_volumes_comes_back(tmp_path):
    store = store_of(tmp_path / "real.h5", depth=12)
    export_store(store, "csv", tmp_path / "csv")
    header = (tmp_path / "csv/boxes.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "image,patient,split,label,x_min,y_min,z_min,x_max,y_max,z_max"
    image = sitk.ReadImage(tmp_path / "csv/images/i0.nii.gz")
    assert image.GetSpacing() == (0.5, 0.5, 0.5)
    whole = PreprocessOptions(
        tmp_path / "csv/images", tmp_path / "again/real.h5", boxes=tmp_path / "csv/boxes.csv",
        masks=tmp_path / "csv/labelsTr", classes=str(tmp_path / "csv/classes.csv"), workers=1,
        recipe=type(PLAIN)(strip="none", denoising="none", volume=(12, SIDE, SIDE), fit="stretch"),
    )  # fmt: skip
    check_same(preprocess(whole), store)


def test_images_that_nobody_annotated_are_no_normal_ones_when_they_are_read_back(tmp_path):
    bare = {"boxes": np.empty((0, 4), np.float32), "labels": [], "annotated": False}
    records = [replace(record, **bare) if i % 3 == 0 else record for i, record in enumerate(make_records())]
    store = make_store(tmp_path / "real.h5", records)
    export_store(store, "nifti", tmp_path / "nifti")
    folder = tmp_path / "nifti"
    (tmp_path / "again").mkdir()
    again = read_again(folder / "images", tmp_path / "again", boxes=folder / "boxes.json", unannotated=True)
    where = [store.ids.index(name) for name in again.ids]
    assert again.annotated.tolist() == store.annotated[where].tolist()
    assert 0 < again.annotated.sum() < len(again)


@pytest.mark.parametrize(("form", "said"), [("yolo", "yolo names no patients"), ("voc", "voc names no"), ("coco", "")])
def test_a_form_that_names_no_patients_is_said(tmp_path, form, said):
    heard = []
    export_store(make_store(tmp_path / "real.h5"), form, tmp_path / form, say=heard.append)
    assert [line for line in heard if "patients" in line] == [line for line in heard if said and line.startswith(said)]
    assert bool(heard) == bool(said)


def test_external_images_are_said_to_be_scans_where_they_are_read_again(tmp_path):
    heard = []
    records = [replace(r, source="external:web", split="train") for r in make_records(6)]
    export_store(make_store(tmp_path / "real.h5", records), "coco", tmp_path / "coco", say=heard.append)
    assert heard == ["6 external images: read again they count as scans of the data set; give --external NAME there"]
