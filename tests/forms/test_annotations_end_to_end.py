"""From annotations as people have them to a store: right boxes, labels and pixels, and a word of what was not right."""

import json

import numpy as np
import pytest
from marked import BOX, SIZE, coco, files, labelme, voc, yolo
from PIL import Image
from typer.testing import CliRunner

from medaug_cli.cli import app
from medaug_cli.detecting.finding import scanner_boxes
from medaug_cli.store import open_store

HEADER = "image,x_min,y_min,x_max,y_max\n"


def scans(folder, names):
    """Write dark pictures, light where BOX is."""
    for name in names:
        pixels = np.full(SIZE[::-1], 40, np.uint8)
        pixels[10:24, 50:66] = 220
        path = folder / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def preprocess(folder, marks, *more):
    arguments = ["preprocess", "scans", "--boxes", marks, "--strip", "none", "--denoise", "none", "--size", "128"]
    arguments += ["--split", "1,0,0", "--workers", "1", "--out", "out/real.h5", *more]
    return CliRunner().invoke(app, arguments)


# files, what is read -> the label of BOX on each scan, and a word on the terminal
MADE = {
    "corners swapped": ({"m.csv": HEADER + "a.png,66,24,50,10\n"}, "m.csv", {"a": "lesion"}, "repaired"),
    "negative sizes": ({"m.json": coco(["a.png"], bbox=[66, 24, -16, -14])}, "m.json", {"a": "tumor"}, "repaired"),
    "a crowd beside a box": ({"m.json": {**coco(["a.png", "a.png"][:1]), "annotations": [
        {"image_id": 1, "category_id": 7, "bbox": [50, 10, 16, 14]},
        {"image_id": 1, "category_id": 7, "bbox": [1, 1, 9, 9], "iscrowd": 1}]}}, "m.json", {"a": "tumor"}, "crowd"),
    "an image that lost its box": ({"m.csv": HEADER + "a.png,50,10,66,24\nb.png,50,10,50,24\n"}, "m.csv",
                                   {"a": "lesion"}, "dropped"),
    "Windows": ({"m.json": coco(["set\\a.png", "set\\b.png"])}, "m.json", {"a": "tumor", "b": "tumor"}, ""),
    "a spreadsheet": ({"m.csv": f"sep=;\n{HEADER}a.png,50,10,66,24\n".replace(",", ";").encode("utf-16")},
                      "m.csv", {"a": "lesion"}, ""),
    "names of classes above": ({"ds/data.yaml": "names: [glioma]", "ds/train/labels/a.txt": yolo()}, "ds/train/labels",
                               {"a": "glioma"}, ""),
    "no names of classes": ({"ds/a.txt": yolo()}, "ds", {"a": "class0"}, "no name of the classes class0"),
    "a readme": ({"ds/a.txt": yolo(), "ds/README.txt": "labels of us"}, "ds", {"a": "class0"}, "README.txt"),
    "labelme beside the pictures": ({"scans/a.json": labelme()}, "scans", {"a": "tumor"}, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_a_store_is_made(tmp_path, monkeypatch, name):
    content, marks, expected, said = MADE[name]
    monkeypatch.chdir(tmp_path)
    scans(tmp_path, ["a.png", "b.png"])
    files(tmp_path, content)
    done = preprocess(tmp_path, marks)
    assert done.exit_code == 0, (done.output, done.exception)
    store = open_store(tmp_path / "out/real.h5")
    assert dict(zip(store.ids, ([store.spec.label_names[k] for k in own] for own in store.labels), strict=True)) == {
        key: [label] for key, label in expected.items()
    }
    for i, details in enumerate(store.details):
        np.testing.assert_allclose(scanner_boxes(details, store.boxes[i]), [BOX], atol=1e-3)
        x_min, y_min, x_max, y_max = np.rint(store.boxes[i][0]).astype(int)
        light = store.images[i, 0] > 128
        assert light[y_min + 1 : y_max - 1, x_min + 1 : x_max - 1].all()
        assert light.sum() <= 1.2 * (y_max - y_min) * (x_max - x_min)
    assert said in done.output
    report = (tmp_path / "out/preprocess.json").read_text(encoding="utf-8")
    words = {"repaired": "put right", "dropped": "without extent", "": ""}.get(said, said.split(" class0")[0])
    assert words in report
    assert json.loads(report)["version"] == 1


REFUSED = {
    "VOC of another size": ({"m/a.xml": voc(size=(160, 120))}, "m", "160x120"),
    "a box outside": ({"m.csv": HEADER + "a.png,70,10,120,24\n"}, "m.csv", "m.csv, line 2"),
    "a form that is unknown": ({"m.json": {"shapes": 1}}, "m.json", "m.json: unknown annotation format"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_leaves_nothing(tmp_path, monkeypatch, name):
    content, marks, said = REFUSED[name]
    monkeypatch.chdir(tmp_path)
    scans(tmp_path, ["a.png"])
    files(tmp_path, content)
    done = preprocess(tmp_path, marks)
    assert done.exit_code != 0
    assert said in str(done.exception)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_what_was_repaired_or_dropped_is_refused_under_strict(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scans(tmp_path, ["a.png"])
    files(tmp_path, {"m.csv": HEADER + "a.png,66,24,50,10\n"})
    done = preprocess(tmp_path, "m.csv", "--strict")
    assert done.exit_code != 0
    assert "repaired" in str(done.exception)
