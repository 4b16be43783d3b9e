"""Annotation files as spreadsheets, Windows and other programs write them: read as meant, or refused by name."""

import os

import numpy as np
import pytest
from marked import BOX, SHARES, SIZE, coco, files, labelme, pictures, plain, read, voc, yolo

from medaug_cli.errors import MedaugError
from medaug_cli.forms.coordinates import around_ellipse
from medaug_cli.forms.naming import UPLOAD
from medaug_cli.forms.table import SHORT

LESION, TUMOR = [(BOX, "lesion")], [(BOX, "tumor")]
ROW = "50,10,66,24"
TABLES = {
    "semicolons and a byte order mark": ("\ufeffimage;x_min;y_min;x_max;y_max\na.png;50;10;66;24\n", LESION),
    "decimal commas": ("image;x_min;y_min;x_max;y_max\na.png;50,0;10,0;66,0;24,0\n", LESION),
    "Excel's hint": ("sep=;\nimage;x_min;y_min;x_max;y_max\na.png;50;10;66;24\n", LESION),
    "Excel's hint of tabs": ("sep=\t\r\nimage\tx_min\ty_min\tx_max\ty_max\r\na.png\t50\t10\t66\t24\r\n", LESION),
    "tabs in UTF-16": ("image\tx_min\ty_min\tx_max\ty_max\r\na.png\t50\t10\t66\t24\r\n".encode("utf-16"), LESION),
    "Windows' code page": ("image,label,x_min,y_min,x_max,y_max\na.png,fünf,50,10,66,24\n".encode("cp1252"),
                           [(BOX, "fünf")]),
    "blank rows": (f"image,x_min,y_min,x_max,y_max\n\na.png,{ROW}\n,,,,\n , , , , \n\n", LESION),
    "empty columns at the end": (f"image,x_min,y_min,x_max,y_max,,\na.png,{ROW},,\n", LESION),
    "blanks in header and cells": ("image, x_min , y_min, x_max, y_max\na.png , 50, 10, 66, 24\n", LESION),
    "capital letters": (f"Image,X Min,Y Min,X Max,Y Max\na.png,{ROW}\n", LESION),
    "a path of Windows": (f"image,x_min,y_min,x_max,y_max\nC:\\data\\scans\\a.png,{ROW}\n", LESION),
    "a path of another machine": (f"image,x_min,y_min,x_max,y_max\n/home/me/scans/a.png,{ROW}\n", LESION),
    "TensorFlow's names": (f"filename,width,height,class,xmin,ymin,xmax,ymax\na.png,80,60,tumor,{ROW}\n", TUMOR),
    "a volume beside its patient": (f"volume,patient,x_min,y_min,x_max,y_max\na,p1,{ROW}\n", LESION),
    "RSNA's names": ("patientId,x,y,width,height,Target\na,50,10,16,14,1\n", LESION),
    "VinDr's names": (f"image_id,class_name,class_id,x_min,y_min,x_max,y_max\na,tumor,3,{ROW}\n", TUMOR),
    "no name of a label": (f"image,label,x_min,y_min,x_max,y_max\na.png,,{ROW}\n", LESION),
    "another case of the suffix": (f"image,x_min,y_min,x_max,y_max\nA.PNG,{ROW}\n", LESION),
    "no end of the last line": (f"image,x_min,y_min,x_max,y_max,comment\na.png,{ROW}", LESION),
    "quotes": (f'"image","label","x_min","y_min","x_max","y_max"\n"a.png","5"" wide",{ROW}\n', [(BOX, '5" wide')]),
    "NaN for a normal slice": ("image,x_min,y_min,x_max,y_max\na.png,nan,nan,nan,nan\n", []),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_tables(tmp_path, name):
    content, expected = TABLES[name]
    pictures(tmp_path)
    files(tmp_path, {"boxes.csv": content})
    assert plain(read(tmp_path, "boxes.csv")) == {"a": expected}


OUTLINE = [50, 10, 66, 10, 66, 24, 50, 24]
RUNS = [50 * 60 + 10, *[14, 46] * 15, 14, 80 * 60 - 65 * 60 - 24]
# Annotations of a.png that are read as BOX
OF_COCO = {
    "ids that are text": {"image_id": "1", "category_id": "7"},
    "an outline without a bbox": {"bbox": None, "segmentation": [OUTLINE]},
    "an outline with an empty bbox": {"bbox": [], "segmentation": [OUTLINE]},
    "an outline with a bbox of no size": {"bbox": [0, 0, 0, 0], "segmentation": [OUTLINE]},
    "two parts of an outline": {"bbox": [], "segmentation": [OUTLINE[:6], [50, 10, 50, 24, 66, 24]]},
    "an outline that is no list of lists": {"bbox": [], "segmentation": OUTLINE},
    "run lengths": {"bbox": [], "segmentation": {"size": [60, 80], "counts": RUNS}},
    "packed run lengths": {"bbox": [], "segmentation": {"size": [60, 80], "counts": "b^l2"}},
    "an empty part of an outline": {"bbox": [], "segmentation": [[], OUTLINE]},
    "no crowd, as text": {"iscrowd": "0"},
    "CVAT's brush, which it calls a crowd": {
        "iscrowd": 1,
        "attributes": {"occluded": False},
        "segmentation": {"size": [60, 80], "counts": RUNS},
    },
    "CVAT's turned box": {"bbox": [51, 9, 14, 16], "attributes": {"occluded": False, "rotation": 90.0}},
    "numbers that are text": {"bbox": ["50", "10", "16.0", "14"]},
}


def packed(runs):
    """Return run lengths as COCO packs them."""
    text = ""
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        more = True
        while more:
            part = value & 31
            value >>= 5
            more = value != (-1 if part & 16 else 0)
            text += chr(part + 48 + (32 if more else 0))
    return text


@pytest.mark.parametrize("name", OF_COCO)
def test_annotations_of_coco(tmp_path, name):
    change = dict(OF_COCO[name])
    if name == "packed run lengths":
        change["segmentation"] = {"size": [60, 80], "counts": packed(RUNS)}
    pictures(tmp_path)
    files(tmp_path, {"boxes.json": coco(**change)})
    assert plain(read(tmp_path, "boxes.json")) == {"a": TUMOR, "b": TUMOR}


def test_run_lengths_are_packed_as_pycocotools_packs_them():
    masks = pytest.importorskip("pycocotools.mask")
    rle = masks.frPyObjects({"size": [60, 80], "counts": RUNS}, 60, 80)
    assert rle["counts"].decode() == packed(RUNS)
    assert masks.toBbox(rle).tolist() == [50, 10, 16, 14]


# Files that hold BOX on a.png: name -> (files, what is read, boxes expected)
JSONS = {
    "COCO with paths of Windows": ({"m.json": coco(["JPEGImages\\a.png"])}, "m.json", TUMOR),
    "COCO of two folders": ({"m/train/_annotations.coco.json": coco(["a.png"]),
                             "m/valid/_annotations.coco.json": coco(["b.png"])}, "m", TUMOR),
    "COCO's results that name images": ({"m.json": [{"image_id": "a", "category_id": 7, "bbox": [50, 10, 16, 14],
                                                     "score": 0.5}]}, "m.json", [(BOX, "7")]),
    "COCO without categories": ({"m.json": {**coco(["a.png"]), "categories": []}}, "m.json", [(BOX, "7")]),
    "COCO without a category": ({"m.json": coco(["a.png"], category_id=None)}, "m.json", LESION),
    "COCO of Label Studio": ({"m.json": coco(["images/0f3a2b1c-a.png"])}, "m.json", TUMOR),
    "labelme": ({"m/a.json": labelme()}, "m", TUMOR),
    "labelme, drawn from below": ({"m.json": labelme([(66, 24), (50, 10)])}, "m.json", TUMOR),
    "labelme of another name": ({"m.json": labelme(path="..\\scans\\a.png")}, "m.json", TUMOR),
    "labelme beside the pictures": ({"scans/a.json": labelme()}, "scans", TUMOR),
    "labelme's polygon": ({"m.json": labelme([(50, 10), (66, 12), (58, 24)], "polygon")}, "m.json", TUMOR),
    "labelme's circle": ({"m.json": labelme([(58, 17), (58, 24)], "circle")}, "m.json", [((51, 10, 65, 24), "tumor")]),
    "labelme's mask": ({"m.json": labelme([(50, 10), (65, 23)], "mask")}, "m.json", TUMOR),
    "VIA's polygon": ({"m.json": {"a.png1234": {"filename": "a.png", "size": 1234, "file_attributes": {}, "regions": [
        {"shape_attributes": {"name": "polygon", "all_points_x": [50, 66, 66], "all_points_y": [10, 10, 24]},
         "region_attributes": {"name": "tumor"}}]}}}, "m.json", TUMOR),
    "VIA 1's regions": ({"m.json": {"a.png1234": {"filename": "a.png", "regions": {"0": {
        "shape_attributes": {"name": "rect", "x": 50, "y": 10, "width": 16, "height": 14},
        "region_attributes": {"side": "left", "class": "tumor"}}}}}}, "m.json", TUMOR),
    "VIA's CSV": ({"m.csv": "#filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,"
                            'region_attributes\na.png,1,{},1,0,"{""name"":""rect"",""x"":50,""y"":10,""width"":16,'
                            '""height"":14}","{""class"":""tumor""}"\nb.png,1,{},0,0,{},{}\n'}, "m.csv", TUMOR),
    "VIA's project": ({"m.json": {"_via_settings": {}, "_via_img_metadata": {"a.png-1": {
        "filename": "a.png", "regions": [{"shape_attributes": {"name": "ellipse", "cx": 58, "cy": 17, "rx": 8, "ry": 7},
                                          "region_attributes": {"type": {"tumor": True, "cyst": False}}}]}}}},
                      "m.json", TUMOR),
    "VIA's turned ellipse": ({"m.json": {"a.png1": {"filename": "a.png", "regions": [
        {"shape_attributes": {"name": "ellipse", "cx": 58, "cy": 17, "rx": 7, "ry": 8, "theta": 1.5707963267948966},
         "region_attributes": {"confidence": "high", "finding": "tumor"}}]}}}, "m.json", TUMOR),
    "CVAT's turned ellipse": ({"m.xml": '<annotations><image name="a.png"><ellipse label="tumor" cx="58" cy="17" '
                                        'rx="7" ry="8" rotation="90"/></image></annotations>'}, "m.xml", TUMOR),
    "CVAT": ({"m.xml": '<annotations><version>1.1</version><image id="0" name="a.png" width="80" height="60">'
                       '<box label="tumor" xtl="50" ytl="10" xbr="66" ybr="24"/></image></annotations>'},
             "m.xml", TUMOR),
    "CVAT's polygon": ({"m.xml": '<annotations><image name="scans/a.png" width="80" height="60"><tag label="x"/>'
                                 '<polygon label="tumor" points="50,10;66,10;66,24"/></image></annotations>'},
                       "m.xml", TUMOR),
    "CVAT's turned box": ({"m.xml": '<annotations><image name="a.png"><box label="tumor" xtl="51" ytl="9" xbr="65" '
                                    'ybr="25" rotation="90"/></image></annotations>'}, "m.xml", TUMOR),
    "Label Studio": ({"m.json": [{"data": {"image": "/data/upload/1/01234567-a.png"}, "annotations": [{"result": [
        {"type": "rectanglelabels", "original_width": 80, "original_height": 60, "value": {
            "x": 62.5, "y": 100 / 6, "width": 20, "height": 140 / 6, "rotation": 0, "rectanglelabels": ["tumor"]}},
        ]}]}]}, "m.json", TUMOR),
    "Label Studio's turned ellipse": ({"m.json": [{"data": {"image": "a.png"}, "annotations": [{"result": [
        {"type": "ellipselabels", "original_width": 80, "original_height": 60, "value": {
            "x": 72.5, "y": 85 / 3, "radiusX": 8.75, "radiusY": 40 / 3, "rotation": 90, "ellipselabels": ["tumor"]}},
        ]}]}]}, "m.json", TUMOR),
    "Label Studio's two labels": ({"m.json": [{"data": {"image": "a.png"}, "annotations": [{"result": [
        {"type": "rectanglelabels", "original_width": 80, "original_height": 60, "value": {
            "x": 62.5, "y": 100 / 6, "width": 20, "height": 140 / 6, "rectanglelabels": ["tumor", "cyst"]}},
        ]}]}]}, "m.json", [(BOX, "tumor"), (BOX, "cyst")]),
    "Label Studio's rectangle and its label": ({"m.json": [{"data": {"image": "a.png"}, "annotations": [{"result": [
        {"id": "r1", "type": kind, "original_width": 80, "original_height": 60, "value": {
            "x": 62.5, "y": 100 / 6, "width": 20, "height": 140 / 6, **label}}
        for kind, label in (("rectangle", {}), ("labels", {"labels": ["tumor"]}))
        ]}]}]}, "m.json", TUMOR),
    "Label Studio's short form": ({"m.json": [{"image": "/data/local-files/?d=scans/a.png", "annotator": 1, "label": [
        {"x": 62.5, "y": 100 / 6, "width": 20, "height": 140 / 6, "rectanglelabels": ["tumor"], "original_width": 80,
         "original_height": 60}]}]}, "m.json", TUMOR),
    "VOC of another name": ({"m/1.xml": voc().replace("<size>", "<filename>a.png</filename><size>")}, "m", TUMOR),
    "VOC in Latin 1": ({"m/a.xml": ('<?xml version="1.0" encoding="latin-1"?>' + voc(name="fünf")).encode("latin-1")},
                       "m", [(BOX, "fünf")]),
    "VOC in UTF-16": ({"m/a.xml": ('<?xml version="1.0" encoding="UTF-16"?>' + voc()).encode("utf-16")}, "m", TUMOR),
    "VOC of no size": ({"m/a.xml": voc(size=(0, 0))}, "m", TUMOR),
    "one XML of VOC": ({"a.xml": voc()}, "a.xml", TUMOR),
    "VOC's polygon": ({"m/a.xml": "<annotation><object><name>tumor</name><polygon><x1>51</x1><y1>11</y1><x2>66</x2>"
                                  "<y2>11</y2><x3>60</x3><y3>24</y3></polygon></object></annotation>"}, "m", TUMOR),
}  # fmt: skip


@pytest.mark.parametrize("name", JSONS)
def test_files_of_other_programs(tmp_path, name):
    content, marks, expected = JSONS[name]
    pictures(tmp_path)
    files(tmp_path, content)
    assert plain(read(tmp_path, marks))["a"] == expected


@pytest.mark.parametrize(("attributes", "label", "unclear"), [
    ({"confidence": "high", "side": "left"}, "high", True),
    ({"confidence": "high", "finding": "mass"}, "mass", False),
    ({"side": "left"}, "left", False),
    ({"side": "left", "remark": ""}, "left", False),
])  # fmt: skip
def test_what_via_calls_a_region_is_said_where_it_is_not_clear(tmp_path, attributes, label, unclear):
    shape = {"name": "rect", "x": 50, "y": 10, "width": 16, "height": 14}
    pictures(tmp_path)
    region = {"shape_attributes": shape, "region_attributes": attributes}
    files(tmp_path, {"m.json": {"a.png1": {"filename": "a.png", "regions": [region]}}})
    found = read(tmp_path, "m.json")
    assert plain(found)["a"] == [(BOX, label)]
    assert any("with several attributes" in note.what for note in found.scans["a"].notes) == unclear


@pytest.mark.parametrize("degrees", [0, 30, 45, 120, 300])
def test_the_box_around_a_turned_ellipse_is_that_of_its_rim(degrees):
    turn, rim = np.radians(degrees), np.linspace(0, 2 * np.pi, 100_001)
    x, y = 20 * np.cos(rim), 6 * np.sin(rim)
    across, down = np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y
    expected = (32 + across.min(), 30 + down.min(), 32 + across.max(), 30 + down.max())
    assert around_ellipse(32, 30, 20, 6, degrees) == pytest.approx(expected, abs=1e-5)


YAML = "train: ../train/images\nnc: 1\nnames: ['tumor']\n"
POLYGON = " ".join(str(v) for x, y in ((50, 10), (66, 10), (66, 24), (50, 24)) for v in (x / 80, y / 60))
FOLDERS = {
    "names two folders up": ({"ds/data.yaml": YAML, "ds/train/labels/a.txt": yolo()}, "ds/train/labels", TUMOR),
    "names in a YAML of another name": ({"ds/brain.yaml": YAML, "ds/labels/a.txt": yolo()}, "ds/labels", TUMOR),
    "a YAML of another purpose above": ({"ds/env.yaml": b"\xff\xfe", "ds/a.yml": "names: {a: b}", "ds/data.yaml": YAML,
                                         "ds/labels/a.txt": yolo()}, "ds/labels", TUMOR),
    "names that YAML takes for truth": ({"ds/data.yaml": "names: [yes, no]\n", "ds/a.txt": yolo(1)}, "ds",
                                        [(BOX, "no")]),
    "a name of digits": ({"ds/data.yaml": "names:\n  0: a\n  1: 007\n", "ds/a.txt": yolo(1)}, "ds", [(BOX, "007")]),
    "a blank line before the names": ({"ds/classes.txt": "\ntumor\n", "ds/a.txt": yolo(1)}, "ds", TUMOR),
    "names as a table": ({"ds/data.yaml": "names:\n  0: tumor\n", "ds/a.txt": yolo()}, "ds", TUMOR),
    "obj.names": ({"ds/obj.names": "tumor\r\ncyst\r\n", "ds/obj_train_data/a.txt": yolo()}, "ds/obj_train_data", TUMOR),
    "classes.txt below": ({"ds/labels/classes.txt": "tumor\n", "ds/labels/a.txt": yolo()}, "ds", TUMOR),
    "Roboflow's readme": ({"ds/README.dataset.txt": "# brain", "ds/data.yaml": YAML, "ds/labels/a.txt": yolo()},
                          "ds", TUMOR),
    "a list of pictures": ({"ds/train.txt": "data/a.png", "ds/obj.names": "tumor", "ds/a.txt": yolo()}, "ds", TUMOR),
    "files of macOS": ({"ds/classes.txt": "tumor", "ds/a.txt": yolo(), "ds/._a.txt": b"\x00\x05\x16\x07",
                        "ds/__MACOSX/a.txt": b"\x00"}, "ds", TUMOR),
    "copies of Jupyter": ({"ds/classes.txt": "tumor", "ds/a.txt": yolo(),
                           "ds/.ipynb_checkpoints/a-checkpoint.txt": yolo()}, "ds", TUMOR),
    "a cache": ({"ds/classes.txt": "tumor", "ds/a.txt": yolo(), "ds/labels.cache": b"\x93"}, "ds", TUMOR),
    "a polygon": ({"ds/classes.txt": "tumor", "ds/a.txt": f"0 {POLYGON}\n"}, "ds", TUMOR),
    "a class with a decimal point": ({"ds/classes.txt": "tumor", "ds/a.txt": yolo("0.0")}, "ds", TUMOR),
    "a score behind the box": ({"ds/classes.txt": "tumor", "ds/a.txt": yolo(0, 0.73)}, "ds", TUMOR),
    "keypoints behind the box": ({"ds/data.yaml": YAML + "kpt_shape: [2, 3]\n",
                                  "ds/a.txt": yolo(0, *[0.5, 0.5, 2] * 2)}, "ds", TUMOR),
    "tabs and ends of lines of Windows": ({"ds/classes.txt": "tumor\r\n", "ds/a.txt": yolo().replace(" ", "\t")[:-1] +
                                           "\r\n\r\n"}, "ds", TUMOR),
    "decimal commas": ({"ds/classes.txt": "tumor", "ds/a.txt": yolo().replace(".", ",")}, "ds", TUMOR),
    "no names": ({"ds/a.txt": yolo()}, "ds", [(BOX, "class0")]),
    "a normal slice": ({"ds/a.txt": ""}, "ds", []),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_of_yolo(tmp_path, name):
    content, marks, expected = FOLDERS[name]
    pictures(tmp_path)
    files(tmp_path, content)
    found = read(tmp_path, marks)
    assert plain(found) == {"a": expected}
    said = " ".join(map(str, found.notes))
    assert ("no name of the classes class0" in said) == (name == "no names")
    assert ("README" in said) == ("readme" in name)


# Pictures, the name that an annotation has, and the picture that is meant
NAMES = {
    "the only one of its name": (["p1/a.png", "p2/b.png"], "a", "a"),
    "the folder tells": (["p1/1.png", "p2/1.png"], "p2/1.png", "p2-1"),
    "folders of kinds say nothing": (["train/images/1.png", "test/images/1.png"], "test/labels/1", "test-images-1"),
    "a path of another machine": (["p1/1.png", "p2/1.png"], "D:\\sets\\p1\\1.png", "p1-1"),
    "another suffix": (["a.png"], "a.jpg", "a"),
    "another case": (["Scan1.PNG"], "scan1.png", "Scan1"),
    "the same case first": (["Scan1.png", "scan1.png"], "scan1.png", "scan1"),
    "an accent in two parts": (["caf\u00e9.png"], "cafe\u0301.png", "caf-"),
    "blanks around it": (["a.png"], " a.png ", "a"),
    "a relative path": (["p1/a.png"], "./scans/p1/a.png", "a"),
    "dots in a name": (["1.2.840.png", "1.2.png"], "1.2.840.png", "1.2.840"),
    "an id": (["p 1/1.png", "p2/1.png"], "p-1-1", "p-1-1"),
    "a word behind a dot": (["p1/a.left.png", "p1/a.png"], "p1/a.left", "a.left"),
    "a word behind a dot, elsewhere": (["p1/a.left.png", "p2/a.png"], "D:\\p1\\a.left", "a.left"),
    "an unknown suffix": (["p1/a.left.png", "p1/a.png"], "p1/a.webp", "a"),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_of_pictures(tmp_path, case):
    names, said, meant = NAMES[case]
    scans = pictures(tmp_path, names)
    if "scan1.png" in names and len(list(scans.iterdir())) < len(names):
        pytest.skip("this disk does not tell small and capital letters apart")
    files(tmp_path, {"boxes.json": coco([said])})
    found = read(tmp_path, "boxes.json").scans
    (name,) = found
    assert name.startswith(meant)


def test_labels_of_equal_names_in_the_folders_of_patients(tmp_path):
    pictures(tmp_path, ["p1/slice1.png", "p2/slice1.png"])
    other = (0.5, 0.5, 0.25, 0.5)
    files(tmp_path, {"labels/classes.txt": "tumor", "labels/p1/slice1.txt": yolo(),
                     "labels/p2/slice1.txt": yolo(shares=other)})  # fmt: skip
    assert plain(read(tmp_path, "labels")) == {"p1-slice1": TUMOR, "p2-slice1": [((30, 15, 50, 45), "tumor")]}


REFUSED = {
    "a name that two pictures have": ({"m.json": coco(["1.png"])}, "m.json", r"p1/1\.png or p2/1\.png"),
    "a patient that is not there": ({"m/p1/1.txt": yolo(), "m/p3/1.txt": yolo()}, "m", "p1/1.png or p2/1.png"),
    "COCO without annotations": ({"m.json": {"images": [{"id": 1, "file_name": "a.png"}], "categories": []}}, "m.json",
                                 r"m\.json looks like COCO JSON, but it has no annotations"),
    "an image id that is unknown": ({"m.json": coco(["p1/1.png"], image_id=9)}, "m.json", "annotation 0: image_id 9"),
    "neither bbox nor outline": ({"m.json": coco(["p1/1.png"], bbox=None)}, "m.json", "annotation 0: neither"),
    "an outline of nothing": ({"m.json": coco(["p1/1.png"], bbox=None, segmentation=[[]])}, "m.json", "neither"),
    "a project of VIA 3": ({"m.json": {"project": {}, "metadata": {}, "file": {}, "view": {}}}, "m.json", "VIA 3"),
    "a video of CVAT": ({"m.xml": "<annotations><track/></annotations>"}, "m.xml", "videos"),
    "a brush of Label Studio": ({"m.json": [{"data": {"image": "/x/p1/1.png"}, "annotations": [{"result": [
        {"type": "brushlabels", "value": {"rle": [1]}}]}]}]}, "m.json", "brush"),
    "a point of a polygon that is no number, VOC": ({"m/p1/1.xml": "<annotation><object><polygon><x1>5</x1><y1>5</y1>"
        "<x2>nan</x2><y2>9</y2><x3>9</x3><y3>6</y3></polygon></object></annotation>"}, "m", "not a finite number"),
    "a point of a polygon that is no number, CVAT": ({
        "m.xml": '<annotations><image name="p1/1.png" width="80" height="60">'
        '<polygon label="x" points="5,5;9,nan;9,6"/></image></annotations>'}, "m.xml", "not a finite number"),
    "a rotation that is no number, CVAT": ({"m.xml": '<annotations><image name="p1/1.png" width="80" height="60"><box '
        'label="x" xtl="1" ytl="1" xbr="9" ybr="9" rotation="a bit"/></image></annotations>'}, "m.xml",
        "shape 0: expected the numbers of a box.*a bit"),
    "a rotation that is no number, Label Studio": ({"m.json": [{"data": {"image": "/x/p1/1.png"}, "annotations": [
        {"result": [{"type": "rectanglelabels", "original_width": 80, "original_height": 60, "value": {"x": 1, "y": 1,
        "width": 9, "height": 9, "rotation": "a bit"}}]}]}]}, "m.json", "task 0: expected the numbers of a box.*a bit"),
    "another JSON": ({"m.json": {"objects": []}}, "m.json", "unknown annotation format; the choices are .*labelme"),
    "a text of another kind": ({"m.doc": "x"}, "m.doc", "unknown annotation format; the choices are"),
    "pixels for shares": ({"m/p1/1.txt": "0 50 10 16 14\n"}, "m", r"1\.txt, line 1.*fractions lie between 0 and 1"),
    "four numbers": ({"m/p1/1.txt": "0 0.5 0.5 0.2\n"}, "m", r"1\.txt, line 1: expected a class number"),
    "a name for a class": ({"m/p1/1.txt": "tumor 0.5 0.5 0.2 0.2\n"}, "m", r"1\.txt, line 1: expected a class number"),
    "two forms in a folder": ({"m/p1/1.txt": yolo(), "m/p1/1.xml": voc()}, "m", "several formats"),
    "a CSV without corners": ({"m.csv": "image,label\np1/1.png,x\n"}, "m.csv", "lacks the columns x_max.*it has image"),
    "a CSV with a hole": ({"m.csv": "image,x_min,y_min,x_max,y_max\np1/1.png,50,10,,24\n"}, "m.csv",
                          "line 2: expected the numbers of a box.*x_max blank"),
    "a comma within a number": ({"m.csv": 'image,x_min,y_min,x_max,y_max\np1/1.png,"1,050",10,66,24\n'}, "m.csv",
                                "line 2"),
    "decimal commas between commas": ({"m.csv": "image,x_min,y_min,x_max,y_max\np1/1.png,50,5,10,5,66,5,24,5\n"},
                                      "m.csv", "line 2: 9 cells where the header has 5"),
    "a quote that does not close": ({"m.csv": 'image,label,x_min,y_min,x_max,y_max\np1/1.png,"x,5,5,9,9\n'
                                             'p2/1.png,x,5,5,9,9\n'}, "m.csv", r"m\.csv, line 3: not a row of a CSV"),
    "two stray quotes": ({"m.csv": 'image,label,x_min,y_min,x_max,y_max\np1/1.png,"x,5,5,9,9\n'
                                   'p2/1.png,"x,5,5,9,9\n'}, "m.csv", r"m\.csv, line 3: not a row of a CSV"),
    "a stray quote in a folder": ({"m/m.csv": 'image,label,x_min,y_min,x_max,y_max\np1/1.png,"x,5,5,9,9\n'}, "m",
                                  r"m\.csv, line 2: not a row of a CSV"),
    "a stray quote, VIA": ({"m.csv": 'filename,region_shape_attributes,region_attributes\n"p1/1.png,{},{}\n'}, "m.csv",
                           r"m\.csv is broken, read as VIA"),
    "the end within a row": ({"m.csv": "image,x_min,y_min,x_max,y_max\np1/1.png,5,5,9,9\np2/1.png,5"}, "m.csv",
                             r"line 3: the file ends within this row, which has 2 of 5 cells.*up to y_max"),
    "the end within a row, VIA": ({"m.csv": "filename,region_shape_attributes,region_attributes\np1/1.png,"}, "m.csv",
                                  r"m\.csv, line 2: the row ends before its attributes"),
    "a row without an image": ({"m.csv": "image,x_min,y_min,x_max,y_max\n,50,10,66,24\n"}, "m.csv", "line 2.*no image"),
    "a slice between two": ({"m.csv": "image,slice,x_min,y_min,x_max,y_max\np1/1.png,2.5,5,5,9,9\n"}, "m.csv",
                            "line 2: expected the number of a slice, got '2.5'"),
    "two names of a category": ({"m.json": coco(["p1/1.png"]) | {"categories": [{"id": 7, "name": "mass"}, {
        "id": 7.0, "name": "cyst"}]}}, "m.json", r"m\.json: the category id 7 has two names, mass and cyst"),
    "half of a polygon, VIA": ({"m.json": {"a": {"filename": "p1/1.png", "regions": [{"shape_attributes": {
        "name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1, 2]}}]}}}, "m.json", r"m\.json is broken"),
    "no regions, VIA": ({"m.json": {"_via_img_metadata": {"a": {"filename": "p1/1.png"}}}}, "m.json", "KeyError"),
    "a cell beyond reason, VIA": ({"m.csv": "filename,region_shape_attributes,region_attributes\np1/1.png,"
        + "x" * 200_000 + ",\n"}, "m.csv", r"m\.csv is broken, read as VIA"),
    "no object, Label Studio": ({"m.json": [{"data": "p1/1.png", "annotations": [{"result": []}]}]}, "m.json",
                                r"m\.json is broken, read as Label Studio JSON"),
    "no result, Label Studio": ({"m.json": [{"data": {"image": "p1/1.png"}, "annotations": [None]}]}, "m.json",
                                "is broken"),
    "a word for a width, labelme": ({"m/p1/1.json": labelme([(1, 1), (9, 9)]) | {"imageWidth": "wide"},
        "m/p2/1.json": labelme([(1, 1), (9, 9)])}, "m", r"m/p1/1\.json is broken, read as labelme JSON .*'wide'"),
    "a word for a width, CVAT": ({"m.xml": '<annotations><image name="p1/1.png" width="wide" height="9"/>'
                                  "</annotations>"}, "m.xml", r"m\.xml is broken, read as CVAT"),
    "no list of boxes, MONAI": ({"m.json": {"training": [{"image": "p1/1.png", "box": None}]}}, "m.json", "is broken"),
    "a list for a label, MONAI": ({"m.json": {"training": [{"image": "p1/1.png", "box": [[1, 1, 9, 9]],
                                  "label": [[0]]}]}}, "m.json", r"m\.json is broken, read as a MONAI data list"),
    "no number for a class": ({"m/p1/1.txt": "nan 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n"}, "m",
                              r"1\.txt, line 1: expected a class number"),
    "no end of a class": ({"m/p1/1.txt": "inf 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n"}, "m",
                           r"1\.txt, line 1: expected a class number"),
    "another size": ({"m.csv": "filename,width,height,xmin,ymin,xmax,ymax\np1/1.png,80,60,5,5,9,9\n"
                               "p1/1.png,81,60,5,5,9,9\n"}, "m.csv", "line 3.*two sizes"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named(tmp_path, name):
    content, marks, said = REFUSED[name]
    pictures(tmp_path, ["p1/1.png", "p2/1.png"])
    files(tmp_path, content)
    with pytest.raises(MedaugError, match=f"(?s){said}"):
        read(tmp_path, marks)


def test_the_shares_are_those_of_the_box():
    x, y, width, height = SHARES
    assert ((x - width / 2) * SIZE[0], (y + height / 2) * SIZE[1]) == pytest.approx((BOX[0], BOX[3]))


def test_a_task_that_nobody_annotated_is_not_a_normal_one(tmp_path):
    pictures(tmp_path)
    done = [{"result": []}]
    tasks = [{"data": {"image": "a.png"}, "annotations": []}, {"data": {"image": "b.png"}, "annotations": done}]
    files(tmp_path, {"m.json": tasks})
    assert plain(read(tmp_path, "m.json")) == {"b": []}


def test_numbers_that_pandas_made_floats_are_the_same_numbers(tmp_path):
    pictures(tmp_path)
    value = coco(["a.png"], image_id=1.0, category_id=7.0)
    value["images"][0]["slice"] = 2.0
    files(tmp_path, {"m.json": value, "m.csv": "image,slice,x_min,y_min,x_max,y_max\na.png,2.0,50,10,66,24\n"})
    place = (50, 10, 2, 66, 24, 3)
    assert plain(read(tmp_path, "m.json")) == {"a": [(place, "tumor")]}
    assert plain(read(tmp_path, "m.csv")) == {"a": [(place, "lesion")]}


def test_a_table_may_leave_out_one_side_of_a_picture(tmp_path):
    pictures(tmp_path)
    files(tmp_path, {"m.csv": "image,width,height,x_min,y_min,x_max,y_max\na.png,80,,50,10,66,24\n"})
    assert plain(read(tmp_path, "m.csv")) == {"a": [(BOX, "lesion")]}


def test_shares_in_a_table_are_said(tmp_path):
    pictures(tmp_path)
    files(tmp_path, {"m.csv": "image,x_min,y_min,x_max,y_max\na.png,0.625,0.167,0.825,0.4\n"})
    assert "as fractions of the image would" in str(read(tmp_path, "m.csv").notes[0])


def test_a_row_that_ends_before_its_box_is_said(tmp_path):
    pictures(tmp_path)
    files(tmp_path, {"boxes.csv": f"image,x_min,y_min,x_max,y_max\na.png,{ROW}\nb.png\n"})
    found = read(tmp_path, "boxes.csv")
    assert plain(found) == {"a": LESION, "b": []}
    assert [str(note) for note in found.scans["b"].notes] == [f"{SHORT} ({tmp_path / 'boxes.csv'}, line 3)"]


def test_a_date_before_a_name_is_part_of_it(tmp_path):
    pictures(tmp_path, ["1.png"])
    files(tmp_path, {"m.csv": f"image,x_min,y_min,x_max,y_max\n20210103-1.png,{ROW}\n"})
    with pytest.raises(MedaugError, match=r"m\.csv mentions image '20210103-1\.png', which is not among the scans"):
        read(tmp_path, "m.csv")


def test_names_of_uploads_in_another_form_are_said(tmp_path):
    pictures(tmp_path)
    header, uploads = "image,x_min,y_min,x_max,y_max", ("0f3a2b1c-a.png", "12345678-b.png")
    files(tmp_path, {"m.csv": "\n".join([header, *(f"{name},{ROW}" for name in uploads)]) + "\n"})
    found = read(tmp_path, "m.csv")
    assert plain(found) == {"a": LESION, "b": LESION}
    assert [note.what for one in found.scans.values() for note in one.notes] == [UPLOAD, UPLOAD]


def test_a_pipe_is_not_waited_for(tmp_path):
    pictures(tmp_path)
    (tmp_path / "m").mkdir()
    os.mkfifo(tmp_path / "m/m.csv")
    handle = os.open(tmp_path / "m/m.csv", os.O_RDWR)  # with a line, so that nobody waits for one
    os.write(handle, b"filename,region_shape_attributes,region_attributes\n")
    with pytest.raises(MedaugError, match=r"m\.csv is a pipe or device; expected a file"):
        read(tmp_path, "m/m.csv")
    with pytest.raises(MedaugError, match="unknown annotation format"):
        read(tmp_path, "m")
    os.close(handle)
