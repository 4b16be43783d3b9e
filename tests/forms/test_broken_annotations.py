"""Nothing annotated vanishes: broken boxes are put right or left out and said, or refused; never lost in silence."""

import re

import numpy as np
import pytest
import SimpleITK as sitk
from marked import BOX, coco, files, labelme, pictures, read, voc, yolo
from PIL import Image

from medaug_cli.boxes import read_boxes
from medaug_cli.errors import BadInput
from medaug_cli.forms.converting import convert
from medaug_cli.forms.lesions import lesions_of
from medaug_cli.forms.reading import with_masks
from medaug_cli.preprocess.pipeline import PreprocessOptions, preprocess
from medaug_cli.preprocess.recipe import Recipe
from medaug_cli.scans.reading import read_pixels
from medaug_cli.scans.survey import find_scans

HEADER = "image,x_min,y_min,x_max,y_max\n"
SWAPPED, EMPTY, CUT, CROWD = "wrong order", "without extent", "cut off at the border", "crowd"
OTHER = (5.0, 5.0, 9.0, 9.0)
TURNED = (0.725, 17 / 60, -0.2, -14 / 60)

# What is annotated of a.png -> its boxes, and what is said of it
BROKEN = {
    "CSV, both corners swapped": ({"m.csv": HEADER + "a.png,66,24,50,10\n"}, [BOX], SWAPPED, ""),
    "CSV, one axis swapped": ({"m.csv": HEADER + "a.png,66,10,50,24\n"}, [BOX], SWAPPED, ""),
    "CSV, no width": ({"m.csv": HEADER + "a.png,50,10,50,24\n"}, [], "", EMPTY),
    "CSV, no width beside another box": ({"m.csv": HEADER + "a.png,50,10,50,24\na.png,5,5,9,9\n"}, [OTHER], "", EMPTY),
    "CSV, a row twice": ({"m.csv": HEADER + "a.png,50,10,66,24\n" * 2}, [BOX], "twice, kept once", ""),
    "CSV, one box with two labels": ({"m.csv": "image,x_min,y_min,x_max,y_max,label\na.png,50,10,66,24,cyst\n"
                                      "a.png,50,10,66,24,mass\n"}, [BOX, BOX], "", ""),
    "VOC, an object twice": ({"m/a.xml": voc().replace("<object>", f"{voc(size=None)[12:-13]}<object>")}, [BOX],
                             "twice, kept once", ""),
    "CSV, half a pixel over the border": ({"m.csv": HEADER + "a.png,70,50,80.5,60\n"}, [(70, 50, 80, 60)], CUT, ""),
    "CSV, within a pixel beyond the border": ({"m.csv": HEADER + "a.png,80.2,50,80.9,60\n"}, [], "", EMPTY),
    "COCO, a negative size": ({"m.json": coco(["a.png"], bbox=[66, 24, -16, -14])}, [BOX], SWAPPED, ""),
    "COCO, a negative width": ({"m.json": coco(["a.png"], bbox=[66, 10, -16, 14])}, [BOX], SWAPPED, ""),
    "COCO, no height": ({"m.json": coco(["a.png"], bbox=[50, 10, 16, 0])}, [], "", EMPTY),
    "COCO, a crowd": ({"m.json": coco(["a.png"], iscrowd=1)}, [], "", CROWD),
    "COCO, a point for an outline": ({"m.json": coco(["a.png"], bbox=[], segmentation=[[50, 10]])}, [], "", EMPTY),
    "COCO, no run": ({"m.json": coco(["a.png"], bbox=[], segmentation={"size": [60, 80], "counts": [4800]})}, [], "",
                     EMPTY),
    "VOC, corners swapped": ({"m/a.xml": voc((66, 24, 51, 11))}, [BOX], SWAPPED, ""),
    "VOC, one pixel": ({"m/a.xml": voc((51, 11, 51, 11))}, [(50, 10, 51, 11)], "single pixel", ""),
    "VOC, counted from 0": ({"m/a.xml": voc((0, 0, 10, 10))}, [(0, 0, 10, 10)], CUT, ""),
    "YOLO, a negative size": ({"m/a.txt": yolo(shares=TURNED)}, [BOX], SWAPPED, ""),
    "YOLO, no size": ({"m/a.txt": yolo(shares=(0.5, 0.5, 0, 0))}, [], "", EMPTY),
    "YOLO, dust over the border": ({"m/a.txt": yolo(shares=(0.9000001, 0.5, 0.2, 0.5))}, [(64, 15, 80, 45)], "", ""),
    "labelme, from below": ({"m.json": labelme([(66, 24), (50, 10)])}, [BOX], SWAPPED, ""),
    "labelme, a point": ({"m.json": labelme([(50, 10)], "point")}, [], "", EMPTY),
    "MONAI, corners swapped": ({"m.json": {"training": [{"image": "a.png", "box": [[66, 24, 50, 10]]}]}}, [BOX],
                               SWAPPED, ""),
}  # fmt: skip


def marks_of(content):
    return next(iter(content)).partition("/")[0]


def lesions(folder, marks, name="a", masks=None, least=1):
    found, scans = read(folder, marks), find_scans(folder / "scans")
    found = found if masks is None else with_masks(found, folder / masks, scans)
    scan = next(one for one in scans if one.id == name)
    return lesions_of(scan, found.scans[name], read_pixels(scan), least)


@pytest.mark.parametrize("name", BROKEN)
def test_boxes(tmp_path, name):
    content, boxes, repaired, dropped = BROKEN[name]
    pictures(tmp_path)
    files(tmp_path, content)
    found = lesions(tmp_path, marks_of(content))
    np.testing.assert_allclose(found.boxes, np.reshape(boxes, (-1, 4)), atol=1e-3)
    assert len(found.labels) == len(boxes)
    for said, word in ((found.repaired, repaired), (found.dropped, dropped)):
        assert len(said) == bool(word)
        assert all(word in each and str(tmp_path) in each for each in said)  # names the file


FAR = {
    "CSV": ({"m.csv": HEADER + "b.png,1,1,5,5\na.png,70,50,90,60\n"},
            r"m\.csv, line 3: .* outside its image a\.png of 80x60"),
    "CSV, far out": ({"m.csv": HEADER + "a.png,500,500,600,600\n"}, r"line 2: .* outside"),
    "COCO": ({"m.json": coco(["a.png"], bbox=[-9, 10, 16, 14])}, r"annotation 0: .* outside"),
    "COCO, another size": ({"m.json": {**coco(["a.png"]), "images": [
        {"id": 1, "file_name": "a.png", "width": 160, "height": 120}]}}, r"80x60.*160x120"),
    "VOC, another size": ({"m/a.xml": voc(size=(160, 120))}, r"a\.png has 80x60 pixels.*160x120"),
    "VOC, turned": ({"m/a.xml": voc(size=(60, 80))}, r"80x60.*60x80"),
    "VOC, outside": ({"m/a.xml": voc((51, 11, 66, 99), size=None)}, r"a\.xml, object 1: .* outside"),
    "labelme, another size": ({"m.json": {**labelme(), "imageWidth": 81}}, "80x60.*81x60"),
    "TensorFlow, another size": ({"m.csv": "filename,width,height,xmin,ymin,xmax,ymax\na.png,160,120,5,5,9,9\n"},
                                 "80x60.*160x120"),
    "not a number": ({"m.csv": HEADER + "a.png,50,10,inf,24\n"}, "line 2: .*not a finite number"),
    "YOLO, outside": ({"m/a.txt": yolo(shares=(0.95, 0.5, 0.4, 0.5))}, r"a\.txt, line 1: .* outside"),
    "boxes in 3D": ({"m.csv": "image,x_min,y_min,z_min,x_max,y_max,z_max\na.png,1,1,1,5,5,5\n"}, "boxes in 3D"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAR)
def test_boxes_that_belong_to_another_image_are_refused(tmp_path, name):
    content, said = FAR[name]
    pictures(tmp_path)
    files(tmp_path, content)
    with pytest.raises(BadInput, match=said):
        lesions(tmp_path, marks_of(content))


def test_another_form_says_what_was_put_right_and_leaves_out_what_lost_its_lesions(tmp_path):
    pictures(tmp_path, ("a.png", "b.png", "c.png"))
    files(tmp_path, {"m.csv": HEADER + "a.png,66,24,50,10\nb.png,5,5,5,9\nc.png,,,,\n"})
    said = []
    convert(tmp_path / "m.csv", tmp_path / "scans", "boxes", tmp_path / "out.json", say=said.append)
    images = read_boxes(tmp_path / "out.json").images
    assert [(image.id, [item.box for item in image.boxes]) for image in images] == [("a", [list(BOX)]), ("c", [])]
    text = "\n".join(said)
    assert SWAPPED in text
    assert f"{EMPTY}, left out: {tmp_path / 'm.csv'}, line 3" in text
    assert "none of its lesions is left: b.png" in text


def labelled(*labels):
    """Return a CSV, a COCO file and a boxes.json of two boxes with these labels, None for a box without one."""
    boxes = [(50, 10, 66, 24), (5, 5, 9, 9)]
    rows = [f"a.png,{','.join(map(str, box))},{label or ''}\n" for box, label in zip(boxes, labels, strict=True)]
    names = sorted({label for label in labels if label})
    marks = [
        {"id": i, "image_id": 1, "bbox": [x, y, right - x, bottom - y]}
        | ({"category_id": names.index(label)} if label else {})
        for i, ((x, y, right, bottom), label) in enumerate(zip(boxes, labels, strict=True))
    ]
    whole = {"images": [{"id": 1, "file_name": "a.png", "width": 80, "height": 60}], "annotations": marks,
             "categories": [{"id": i, "name": name} for i, name in enumerate(names)]}  # fmt: skip
    own = [{"box": box, "label": label} for box, label in zip(boxes, labels, strict=True)]
    ours = {"version": 1, "images": [{"id": "a", "width": 80, "height": 60, "boxes": own}]}
    return {"m.csv": f"{HEADER.strip()},label\n{''.join(rows)}", "m.json": whole, "ours.json": ours}


@pytest.mark.parametrize("form", ["m.csv", "m.json", "ours.json"])
@pytest.mark.parametrize(
    ("labels", "notes"), [(("cyst", None), 1), ((None, None), 0), (("cyst", "lesion"), 0), (("cyst", "cyst"), 0)]
)
def test_a_box_without_a_label_beside_labelled_ones_is_kept_as_a_lesion_and_that_is_said(tmp_path, form, labels, notes):
    pictures(tmp_path)
    files(tmp_path, {form: labelled(*labels)[form]})
    found = lesions(tmp_path, form)
    assert found.labels == [label or "lesion" for label in labels]
    assert len([note for note in found.repaired if "without a label, where others have one" in note]) == notes


# boxes and masks of one scan


def marked(folder, shape, spots, name="a.png"):
    """Write a mask with boxes (x first) of values."""
    values = np.zeros(shape, np.uint8)
    for value, box in spots:
        d = len(box) // 2
        values[tuple(slice(a, b) for a, b in zip(box[:d][::-1], box[d:][::-1], strict=True))] = value
    (folder / "masks").mkdir(exist_ok=True)
    if values.ndim == 2:
        Image.fromarray(values).save(folder / "masks" / name)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(values), folder / "masks" / name)


SPOT = (50, 10, 66, 24)
BOTH = {  # spots of the mask, and boxes with labels -> boxes with labels, what is said
    "they agree": ([(255, SPOT)], "50,10,66,24,glioma", [(SPOT, "glioma")], ""),
    "a wider box": ([(255, (52, 12, 64, 22))], "50,10,66,24,glioma", [(SPOT, "glioma")], ""),
    "a far wider box": ([(255, (56, 14, 60, 18))], "50,10,66,24,glioma", [(SPOT, "glioma")], "differ in extent"),
    "two parts in a box": ([(255, (50, 10, 57, 24)), (255, (59, 10, 66, 24))], "50,10,66,24,glioma", [(SPOT, "glioma")],
                           ""),
    "nothing marked": ([(255, (5, 40, 15, 50))], "50,10,66,24,glioma",
                       [(SPOT, "glioma"), ((5, 40, 15, 50), "lesion")], "without a marked pixel.*without a box"),
    "a lesion without a box": ([(255, SPOT), (255, (5, 40, 15, 50))], "50,10,66,24,glioma",
                               [(SPOT, "glioma"), ((5, 40, 15, 50), "lesion")], "without a box"),
    "a speck without a box": ([(255, SPOT), (255, (5, 40, 7, 42))], "50,10,66,24,glioma", [(SPOT, "glioma")],
                              "smaller than --min-area 10"),
    "a speck in a box": ([(255, (50, 10, 52, 12))], "49,9,53,13,glioma", [((49, 9, 53, 13), "glioma")], "extent"),
    "a normal one with a lesion": ([(255, SPOT)], ",,,,", [(SPOT, "lesion")], "without a box"),
    "a normal one": ([], ",,,,", [], ""),
    "two boxes": ([(255, SPOT), (255, (5, 40, 15, 50))], "50,10,66,24,glioma\na.png,5,40,15,50,cyst",
                  [(SPOT, "glioma"), ((5, 40, 15, 50), "cyst")], ""),
    "a box without extent": ([(255, SPOT)], "50,10,50,24,glioma", [(SPOT, "lesion")], "without extent.*without a box"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOTH)
def test_boxes_with_a_mask(tmp_path, name):
    spots, rows, expected, said = BOTH[name]
    pictures(tmp_path, ["a.png"])
    marked(tmp_path, (60, 80), spots)
    files(tmp_path, {"m.csv": f"image,x_min,y_min,x_max,y_max,label\na.png,{rows}\n"})
    found = lesions(tmp_path, "m.csv", masks="masks", least=10)
    assert [(tuple(box), label) for box, label in zip(found.boxes.tolist(), found.labels, strict=True)] == expected
    assert found.marks(()).sum() == sum((box[2] - box[0]) * (box[3] - box[1]) for _, box in spots)
    text = " ".join(map(str, found.notes))
    assert bool(text) == bool(said)
    assert re.search(said, text)


def test_boxes_with_masks_in_3d(tmp_path):
    (tmp_path / "scans").mkdir()
    noise = np.random.default_rng(0).normal(100, 20, (8, 40, 48)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(noise), tmp_path / "scans/a.nii.gz")
    marked(tmp_path, noise.shape, [(1, (10, 8, 2, 20, 18, 5)), (1, (30, 22, 5, 40, 34, 7))], "a.nii.gz")
    files(tmp_path, {"m.csv": "image,label,x_min,y_min,z_min,x_max,y_max,z_max\na,glioma,10,8,2,20,18,5\n"})
    recipe = Recipe(64, "none", denoising="none", least_area=10)
    options = PreprocessOptions(tmp_path / "scans", tmp_path / "out/real.h5", tmp_path / "m.csv", tmp_path / "masks",
                                split="1,0,0", recipe=recipe)  # fmt: skip
    store = preprocess(options)
    assert store.spec.label_names == ("glioma", "lesion")
    seen = {}
    for i, details in enumerate(store.details):
        seen[details["slice"]] = [store.spec.label_names[k] for k in store.labels[i]]
        assert store.masks[i].any() == (2 <= details["slice"] < 7)
    expected = {z: [] for z in (0, 1, 7)} | {z: ["glioma"] for z in (2, 3, 4)} | {z: ["lesion"] for z in (5, 6)}
    assert seen == expected


def test_names_of_labels_without_a_box_do_not_stay_behind(tmp_path):
    pictures(tmp_path)
    for name in ("a.png", "b.png"):
        marked(tmp_path, (60, 80), [(255, SPOT)], name)
    files(tmp_path, {"m.csv": "image,label,x_min,y_min,x_max,y_max\na.png,glioma,50,10,66,24\n"
                              "b.png,cyst,50,10,50.5,10.5\nb.png,glioma,50,10,66,24\n"})  # fmt: skip
    recipe = Recipe(32, "none", denoising="none")
    options = PreprocessOptions(tmp_path / "scans", tmp_path / "out/real.h5", tmp_path / "m.csv", tmp_path / "masks",
                                split="1,0,0", recipe=recipe)  # fmt: skip
    store = preprocess(options)
    assert "lesion" not in store.spec.label_names
    assert {store.spec.label_names[k] for labels in store.labels for k in labels} == set(store.spec.label_names)
