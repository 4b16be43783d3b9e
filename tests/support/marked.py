"""Small pictures, and files of annotations beside them, as other programs write them."""

import json

from PIL import Image

from medaug_cli.forms.reading import read_annotations
from medaug_cli.scans.survey import find_scans

SIZE = (80, 60)  # width and height of a picture
BOX = (50.0, 10.0, 66.0, 24.0)
SHARES = (0.725, 17 / 60, 0.2, 14 / 60)  # centre and size of BOX as shares of the picture


def pictures(folder, names=("a.png", "b.png")):
    """Write a grey picture of each name into scans/ and return that folder."""
    for name in names:
        path = folder / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", SIZE, 100).save(path)
    return folder / "scans"


def files(folder, content):
    """Write files, name -> text, bytes or what becomes JSON."""
    for name, value in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(value, bytes):
            path.write_bytes(value)
        else:
            path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def read(folder, marks, **options):
    """Return the annotations in `marks` of the pictures in scans/."""
    return read_annotations(folder / marks, find_scans(folder / "scans"), **options)


def plain(found):
    """Return scan id -> (box, label) pairs, corners rounded to a thousandth."""
    return {
        name: [(tuple(round(v, 3) for v in box), label) for box, label in zip(item.boxes, item.labels, strict=True)]
        for name, item in found.scans.items()
    }


def voc(box=(51, 11, 66, 24), size=SIZE, name="tumor"):
    """Return VOC's XML of one object; its corners are pixels from 1 on, both inside the box."""
    ends = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    return f"<annotation>{sides}<object><name>{name}</name><bndbox>{ends}</bndbox></object></annotation>"


def coco(names=("a.png", "b.png"), **changes):
    """Return COCO's JSON with BOX on each picture; `changes` are of the first annotation."""
    images = [{"id": i, "file_name": name, "width": SIZE[0], "height": SIZE[1]} for i, name in enumerate(names, 1)]
    rows = [{"id": i, "image_id": i, "category_id": 7, "bbox": [50, 10, 16, 14]} for i in range(1, len(names) + 1)]
    rows[0] |= changes
    return {"images": images, "annotations": rows, "categories": [{"id": 7, "name": "tumor"}]}


def yolo(kind=0, *rest, shares=SHARES):
    """Return a line of a YOLO label file."""
    return " ".join(map(str, (kind, *shares, *rest))) + "\n"


def labelme(points=((50, 10), (66, 24)), kind="rectangle", path="a.png"):
    """Return labelme's JSON of one shape."""
    shape = {"label": "tumor", "points": [list(point) for point in points], "shape_type": kind}
    return {"version": "5.4.1", "shapes": [shape], "imagePath": path, "imageHeight": SIZE[1], "imageWidth": SIZE[0]}
