"""Annotations from one form into another and back, exact; boxes in 3D; masks of several classes."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from thoroughness import examples
from typer.testing import CliRunner

from medaug_cli.boxes import BoxesFile, ImageBoxes, LabelledBox, read_boxes, write_boxes
from medaug_cli.cli import app
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.forms.catalogue import BOXES
from medaug_cli.forms.converting import convert
from medaug_cli.forms.coordinates import corners
from medaug_cli.forms.reading import read_annotations
from medaug_cli.forms.table import csv_text
from medaug_cli.preprocess.pipeline import PreprocessOptions, preprocess
from medaug_cli.preprocess.recipe import Recipe
from medaug_cli.scans.grids import moved_boxes
from medaug_cli.scans.masks import components
from medaug_cli.scans.survey import find_scans
from medaug_cli.store import open_store

SIZE = (417, 389)  # no power of two, nor of ten
SUFFIX = {"boxes": "json", "coco": "json", "monai": "json", "csv": "csv"}


def out_of(folder, form):
    return folder / (f"{form}.{SUFFIX[form]}" if form in SUFFIX else form)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for name in "ab":
        Image.new("L", SIZE).save(folder / f"{name}.png")
    return folder


whole, fine = st.integers(0, 380).map(float), st.integers(0, 380 * 1024).map(lambda n: n / 1024)
decimal = st.integers(0, 380 * 10_000).map(lambda n: n / 10_000)


def boxes_of(corner):
    sides = st.tuples(corner, corner, corner, corner)
    return sides.map(lambda s: [min(s[0], s[2]), min(s[1], s[3]), max(s[0], s[2]) + 1, max(s[1], s[3]) + 1])


@examples(8)
@given(st.lists(st.one_of(boxes_of(whole), boxes_of(fine), boxes_of(decimal)), min_size=1, max_size=4))
def test_boxes_survive_every_form_to_the_bit(scans, tmp_path_factory, asked):
    folder = tmp_path_factory.mktemp("forms")
    items = [LabelledBox(box=box, label=("lesion", "cyst")[i % 2]) for i, box in enumerate(asked)]
    images = [ImageBoxes(id="a", width=SIZE[0], height=SIZE[1], boxes=items, file="a.png")]
    ours = folder / "ours.json"
    write_boxes(ours, BoxesFile(version=1, images=images))
    for form in BOXES:
        theirs, back, again = out_of(folder, form), folder / f"{form}-back.json", folder / f"{form}-again"
        convert(ours, scans, form, theirs)
        convert(theirs, scans, "boxes", back)
        found = [item.box for item in read_boxes(back).images[0].boxes]
        np.testing.assert_array_equal(np.float32(found), np.float32(asked), err_msg=form)
        if form != "monai":
            assert [item.label for item in read_boxes(back).images[0].boxes] == [item.label for item in items]
        convert(back, scans, form, again)
        files = [theirs] if theirs.is_file() else sorted(theirs.iterdir())
        for file in files:
            same = again if theirs.is_file() else again / file.name
            if form != "yolo":  # its shares have no end; for those of six decimals see below
                assert same.read_bytes() == file.read_bytes(), form


@examples(25)
@given(st.tuples(*[st.integers(1, 999_999)] * 4))
def test_yolo_of_six_decimals_comes_back_as_it_was(scans, tmp_path_factory, numbers):
    x, y, w, h = (n / 1e6 for n in numbers)
    w, h = min(w, 2 * x, 2 - 2 * x), min(h, 2 * y, 2 - 2 * y)
    w, h = np.floor([w * 1e6, h * 1e6]) / 1e6
    if min(w, h) <= 0:
        return
    folder = tmp_path_factory.mktemp("yolo")
    (folder / "theirs").mkdir()
    line = f"0 {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n"
    (folder / "theirs/a.txt").write_text(line, encoding="utf-8")
    convert(folder / "theirs", scans, "boxes", folder / "ours.json")
    convert(folder / "ours.json", scans, "yolo", folder / "back")
    found = (folder / "back/a.txt").read_text(encoding="utf-8").split()
    assert [f"{float(text):.6f}" for text in found[1:]] == line.split()[1:]
    assert [float(text) for text in found[1:]] == pytest.approx([float(text) for text in line.split()[1:]], abs=1e-12)


@pytest.mark.parametrize(
    ("form", "one_pixel"),
    [
        ("coco", '"bbox": [0.0, 0.0, 1.0, 1.0]'),
        ("voc", "<xmin>1</xmin><ymin>1</ymin><xmax>1</xmax><ymax>1</ymax>"),
        ("csv", "a,,,lesion,0,0,1,1"),
        ("yolo", f"0 {0.5 / SIZE[0]:.15g} {0.5 / SIZE[1]:.15g} {1 / SIZE[0]:.15g} {1 / SIZE[1]:.15g}"),
        ("monai", '"box": [[0.0, 0.0, 1.0, 1.0]]'),
    ],
)
def test_the_first_pixel_alone(scans, tmp_path, form, one_pixel):
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[0, 0] = 255
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks/a.png")
    convert(tmp_path / "masks", scans, form, out_of(tmp_path, form), least=1)
    made = out_of(tmp_path, form)
    text = (made if made.is_file() else made / f"a.{'xml' if form == 'voc' else 'txt'}").read_text(encoding="utf-8")
    assert one_pixel in text


def test_the_last_pixel_alone_ends_at_the_border():
    mask = np.zeros((4, 6), np.uint8)
    mask[3, 5] = 1
    assert components(mask, 1).tolist() == [[5, 3, 6, 4]]
    deep = np.zeros((3, 4, 6), np.uint8)
    deep[2, 3, 5] = deep[1, 2, 4] = 1  # touch by a corner
    deep[0, 0, 0] = 1
    assert components(deep, 2).tolist() == [[4, 2, 1, 6, 4, 3]]
    assert components(deep, 1).tolist()[0] == [0, 0, 0, 1, 1, 1]


def test_the_modes_of_monai():
    box = (1.0, 2.0, 3.0, 5.0, 7.0, 9.0)
    for mode, numbers in (
        ("xyxy", box), ("xxyy", (1, 5, 2, 7, 3, 9)), ("xywh", (1, 2, 3, 4, 5, 6)), ("ccwh", (3, 4.5, 6, 4, 5, 6))
    ):  # fmt: skip
        assert corners(numbers, mode) == box


DIRECTIONS = {"axial": (1, 0, 0, 0, 1, 0, 0, 0, 1), "flipped": (-1, 0, 0, 0, -1, 0, 0, 0, 1),
              "sagittal": (0, 0, 1, 1, 0, 0, 0, 1, 0)}  # fmt: skip


def lesions(folder, direction, spacing=(1.0, 1.0, 4.0)):
    """Write three volumes with a label volume of two lesions, each somewhere else."""
    for kind in ("scans", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for k, name in enumerate("abc"):
        z, _, x = np.indices((8, 40, 32))
        labels = np.zeros(z.shape, np.uint8)
        labels[2:5, 8 + k : 18, 10:16] = 1
        labels[4:7, 26:34, 18 : 26 + k] = 2
        head = (50 + 5 * np.sin(x) + 100 * (labels > 0)).astype(np.float32)
        for kind, array in (("scans", head), ("masks", labels)):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing(spacing)
            image.SetOrigin((-3.5, 7.0, 20.0))
            image.SetDirection(DIRECTIONS[direction])
            sitk.WriteImage(image, str(folder / kind / f"{name}.nii.gz"))
    return folder


def made(folder, name, **options):
    out = folder / name / "real.h5"
    recipe = Recipe(64, "none", label=options.pop("label", None), denoising="none")
    return preprocess(PreprocessOptions(folder / "scans", out, split="0.4,0.3,0.3", recipe=recipe, **options))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_boxes_in_3d_give_what_the_label_volumes_give(tmp_path, direction):
    lesions(tmp_path, direction)
    masked = made(tmp_path, "masked", masks=tmp_path / "masks")
    near = 1.0 if direction == "sagittal" else 1e-4  # resampled there: edges of a mask fall between its pixels
    for form in ("boxes", "coco", "csv", "monai"):
        convert(tmp_path / "masks", tmp_path / "scans", form, out_of(tmp_path, form))
        boxed = made(tmp_path, form, boxes=out_of(tmp_path, form), label="lesion")
        np.testing.assert_array_equal(boxed.images, masked.images)
        assert sum(map(len, masked.boxes)) >= 18
        for ours, theirs in zip(boxed.boxes, masked.boxes, strict=True):
            np.testing.assert_allclose(np.sort(ours, 0), np.sort(theirs, 0), atol=near)


def test_millimetres_are_turned_into_voxels(tmp_path):
    lesions(tmp_path, "flipped")
    convert(tmp_path / "masks", tmp_path / "scans", "boxes", tmp_path / "boxes.json")
    images = []
    for image in read_boxes(tmp_path / "boxes.json").images:
        reference = sitk.ReadImage(str(tmp_path / "scans" / image.file))
        rows = []
        for item in image.boxes:
            ends = [
                reference.TransformContinuousIndexToPhysicalPoint([v - 0.5 for v in c])
                for c in np.split(np.array(item.box), 2)
            ]
            low, high = np.min(ends, 0), np.max(ends, 0)
            rows.append([*((low + high) / 2), *(high - low)])
        images.append({"image": image.file, "box": rows, "label": [0] * len(rows)})
    (tmp_path / "list.json").write_text(json.dumps({"training": images}), encoding="utf-8")
    convert(tmp_path / "list.json", tmp_path / "scans", "boxes", tmp_path / "back.json", box_mode="ccwh-mm")
    pairs = zip(read_boxes(tmp_path / "back.json").images, read_boxes(tmp_path / "boxes.json").images, strict=True)
    for ours, theirs in pairs:
        np.testing.assert_allclose([i.box for i in ours.boxes], [i.box for i in theirs.boxes], atol=1e-6)
    with pytest.raises(UsageError, match="box-mode"):
        read_annotations(tmp_path / "back.json", find_scans(tmp_path / "scans"), "ccwh")


corner3 = st.tuples(*[st.floats(0, 20, allow_nan=False)] * 3)


@given(corner3, corner3, st.sampled_from(list(DIRECTIONS)))
def test_a_box_in_3d_goes_to_the_axial_slices_and_back(first, second, direction):
    from medaug_cli.plugin import Grid

    box = np.array([[*np.minimum(first, second), *np.maximum(first, second)]])
    stored = Grid((0.7, 1.3, 3.0), (-30.0, 11.0, 5.0), DIRECTIONS[direction])
    axial = Grid((0.7, 0.7, 3.0), (10.0, -4.0, 2.0))
    np.testing.assert_allclose(moved_boxes(moved_boxes(box, stored, axial), axial, stored), box, atol=1e-9)


def test_the_way_from_the_scanner_and_back_is_within_half_a_pixel(tmp_path):
    from medaug_cli.scans.placement import Placement

    lesions(tmp_path, "axial", spacing=(1.0, 1.0, 3.0))
    store = made(tmp_path, "out", masks=tmp_path / "masks")
    seen = 0
    for i, details in enumerate(store.details):
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "masks" / details["file"])))
        placement = Placement.from_details(details["placement"])
        truth = components(values[details["slice"]] > 0, 10)
        back = placement.inverse_boxes(store.boxes[i])
        np.testing.assert_allclose(np.sort(back, 0), np.sort(truth, 0), atol=0.5)
        seen += len(truth)
    assert seen >= 18


def test_nndetection_names_its_instances_and_nnunet_its_classes(tmp_path):
    lesions(tmp_path, "axial")
    (tmp_path / "masks").rename(tmp_path / "labelsTr")
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "tumour": 1, "cyst": 2}}', encoding="utf-8")
    unet = made(tmp_path, "unet", masks=tmp_path / "labelsTr")
    assert unet.spec.label_names == ("cyst", "tumour")
    (tmp_path / "dataset.json").write_text('{"labels": {"0": "tumour", "1": "cyst"}}', encoding="utf-8")
    for name in "abc":
        text = '{"instances": {"1": 1, "2": 1}}'
        (tmp_path / f"labelsTr/{name}.json").write_text(text, encoding="utf-8")
    detection = made(tmp_path, "detection", masks=tmp_path / "labelsTr")
    assert detection.spec.label_names == ("cyst",)
    assert sum(map(len, detection.boxes)) == sum(map(len, unet.boxes)) == 18


def test_a_data_list_of_label_volumes_brings_its_splits(tmp_path):
    lesions(tmp_path, "axial")
    rows = {
        section: [{"image": f"scans/{name}.nii.gz", "label": f"masks/{name}.nii.gz"}]
        for section, name in (("training", "a"), ("validation", "b"), ("testing", "c"))
    }
    (tmp_path / "list.json").write_text(json.dumps(rows), encoding="utf-8")
    out = tmp_path / "out/real.h5"
    store = preprocess(PreprocessOptions(tmp_path / "scans", out, tmp_path / "list.json", recipe=Recipe(64, "none")))
    assert {name.split("-")[0]: split for name, split in zip(store.ids, store.splits, strict=True)} == {
        "a": "train", "b": "val", "c": "test"
    }  # fmt: skip


def test_the_dataset_of_the_decathlon_names_masks_and_classes(tmp_path):
    lesions(tmp_path, "axial")
    (tmp_path / "masks").rename(tmp_path / "labelsTr")
    rows = [{"image": f"./scans/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in "ab"]
    names = {"0": "background", "1": "tumour", "2": "cyst"}
    content = {"labels": names, "training": rows, "test": ["./scans/c.nii.gz"]}
    (tmp_path / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    found = read_annotations(tmp_path / "dataset.json", find_scans(tmp_path / "scans")).scans
    assert set(found) == {"a", "b"}
    assert {*found["a"].mask_labels.values()} == {"tumour", "cyst"}
    assert found["b"].mask.resolve() == (tmp_path / "labelsTr/b.nii.gz").resolve()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"image": "a.png", "box": [[1, 2, 3]], "label": [0]}], "3 numbers"),
        ([{"image": "a.png", "box": [[1, 2, 3, 4]], "label": [0, 1]}], "1 boxes have the labels"),
        ([{"image": ["a.png", "b.png"], "box": []}], "names no single file"),
        ([{"image": "a.png", "box": []}, {"image": "x/a.png", "box": []}], "twice"),
    ],
)
def test_a_data_list_that_makes_no_sense_is_refused(scans, tmp_path, rows, said):
    (tmp_path / "list.json").write_text(json.dumps({"training": rows}), encoding="utf-8")
    with pytest.raises(BadInput, match=said):
        read_annotations(tmp_path / "list.json", find_scans(scans))


def test_the_command_says_what_it_wrote_and_refuses_what_a_form_cannot_hold(tmp_path):
    lesions(tmp_path, "axial")
    arguments = ["boxes", str(tmp_path / "masks"), "--scans", str(tmp_path / "scans"), "--to"]
    done = CliRunner().invoke(app, [*arguments, "coco", "--out", str(tmp_path / "c.json"), "--json"])
    assert json.loads(done.stdout) == {"out": str(tmp_path / "c.json"), "form": "coco", "images": 3, "boxes": 6}
    done = CliRunner().invoke(app, [*arguments, "voc", "--out", str(tmp_path / "voc")])
    assert isinstance(done.exception, BadInput)
    assert "which voc does not have" in str(done.exception)
    done = CliRunner().invoke(app, [*arguments, "kitti", "--out", str(tmp_path / "k")])
    assert "the choices are boxes, coco, csv, monai, voc, yolo" in str(done.exception)


@pytest.mark.parametrize(("patient", "label", "named"), [
    ("NA", "lesion", "patient 'NA'"), ("p1", "None", "label 'None'"), ("null", "lesion", "patient 'null'"),
])  # fmt: skip
def test_a_name_that_a_table_has_for_none_is_not_written_into_one(tmp_path, patient, label, named):
    image = ImageBoxes(id="a", width=9, height=9, patient=patient, boxes=[LabelledBox(box=[1, 1, 5, 5], label=label)])
    with pytest.raises(BadInput, match=f"the {named} of a cannot be written into a CSV"):
        csv_text([image])
    assert patient in csv_text([image.model_copy(update={"patient": f"{patient}1", "boxes": []})])


@pytest.mark.parametrize("form", ["coco", "yolo", "voc", "csv"])
def test_an_exported_store_comes_back(tmp_path, form):
    from conftest import make_store

    store = make_store(tmp_path / "real.h5", n=12, labels=("cyst", "lesion"))
    done = CliRunner().invoke(
        app, ["store", "export", str(store.path), "--format", form, "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.exception
    marks = {"coco": "annotations.json", "yolo": "labels", "voc": "Annotations", "csv": "boxes.csv"}[form]
    images = tmp_path / "out" / ("JPEGImages" if form == "voc" else "images")
    if form == "yolo":
        (tmp_path / "out/labels/data.yaml").write_bytes((tmp_path / "out/data.yaml").read_bytes())
    found = read_annotations(tmp_path / "out" / marks, find_scans(images)).scans
    assert len(found) == 12
    for i, name in enumerate(store.ids):
        np.testing.assert_array_equal(found[name].arrays(), store.boxes[i])
        assert found[name].labels == [store.spec.label_names[k] for k in store.labels[i]]
    assert open_store(store.path).hash == store.hash
