"""Four drawn slices, and their boxes in every form that people have them."""

import json

import numpy as np
from PIL import Image

SIDE = 64
BOXES = {"a": [(8, 10, 20, 30)], "b": [(30, 4, 41, 9), (2, 40, 12, 60)], "c": [(50, 50, 64, 64)], "d": []}
PATIENTS = {"a": "p1", "b": "p2", "c": "p3", "d": "p3"}


def draw(folder):
    """Write four slices with textured discs for heads and light lesions."""
    (folder / "scans").mkdir(parents=True)
    y, x = np.indices((SIDE, SIDE))
    for number, (name, boxes) in enumerate(BOXES.items()):
        image = 90 * ((y - 32) ** 2 + (x - 32) ** 2 < 900) + 5 * ((x + y + number) % 3)
        for x_min, y_min, x_max, y_max in boxes:
            image[y_min:y_max, x_min:x_max] += 100
        Image.fromarray(image.astype(np.uint8)).save(folder / f"scans/{name}.png")
    return folder / "scans"


def as_boxes_json(folder):
    images = [
        {
            "id": name, "width": SIDE, "height": SIDE, "patient": PATIENTS[name],
            "boxes": [{"box": box, "label": "lesion"} for box in boxes],
        }
        for name, boxes in BOXES.items()
    ]  # fmt: skip
    (folder / "marks.json").write_text(json.dumps({"version": 1, "images": images}), encoding="utf-8")
    return folder / "marks.json"


def as_csv(folder):
    rows = ["image,x_min,y_min,x_max,y_max,label,patient"]
    for name, boxes in BOXES.items():
        rows += [f"{name}.png,{','.join(map(str, box))},lesion,{PATIENTS[name]}" for box in boxes]
        rows += [] if boxes else [f"{name}.png,,,,,,{PATIENTS[name]}"]
    (folder / "boxes.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder / "boxes.csv"


def as_coco(folder):
    images, rows = [], []
    for number, (name, boxes) in enumerate(BOXES.items(), 1):
        size = {"width": SIDE, "height": SIDE, "patient": PATIENTS[name]}
        images.append({"id": number, "file_name": f"{name}.png", **size})
        rows += [
            {"id": len(rows) + i, "image_id": number, "category_id": 7, "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]]}
            for i, b in enumerate(boxes)
        ]
    value = {"images": images, "annotations": rows, "categories": [{"id": 7, "name": "lesion"}]}
    (folder / "coco.json").write_text(json.dumps(value), encoding="utf-8")
    return folder / "coco.json"


def as_yolo(folder):
    (folder / "yolo").mkdir()
    (folder / "yolo/classes.txt").write_text("lesion\n", encoding="utf-8")
    for name, boxes in BOXES.items():
        lines = [
            f"0 {(b[0] + b[2]) / 2 / SIDE} {(b[1] + b[3]) / 2 / SIDE} {(b[2] - b[0]) / SIDE} {(b[3] - b[1]) / SIDE}"
            for b in boxes
        ]
        (folder / f"yolo/{name}.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder / "yolo"


def as_voc(folder):
    (folder / "voc").mkdir()
    for name, boxes in BOXES.items():
        things = "".join(
            f"<object><name>lesion</name><bndbox><xmin>{b[0] + 1}</xmin><ymin>{b[1] + 1}</ymin>"
            f"<xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox></object>"
            for b in boxes
        )
        (folder / f"voc/{name}.xml").write_text(f"<annotation>{things}</annotation>", encoding="utf-8")
    return folder / "voc"


def as_masks(folder):
    (folder / "masks").mkdir()
    for name, boxes in BOXES.items():
        mask = np.zeros((SIDE, SIDE), np.uint8)
        for x_min, y_min, x_max, y_max in boxes:
            mask[y_min:y_max, x_min:x_max] = 255
        Image.fromarray(mask).save(folder / f"masks/{name}.png")
    return folder / "masks"


FORMS = (as_boxes_json, as_csv, as_coco, as_yolo, as_voc, as_masks)
