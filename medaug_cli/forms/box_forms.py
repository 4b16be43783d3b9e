"""Boxes in other tools' words: COCO, YOLO, Pascal VOC, CSV and MONAI's data lists.

Ours are half-open corners. COCO: low corner and size. YOLO: centre and size as shares of the image. VOC: whole pixels
counted from 1, the last one inside the box; a corner between pixels stays a fraction. MONAI: corners in voxels.
Fifteen digits are written, and readers take the dust of arithmetic off, so that boxes come back as they were.
"""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from medaug_cli.boxes import BoxesFile, ImageBoxes, LabelledBox, write_boxes
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import new_folder, publish_text

FORMS = ("boxes", "coco", "csv", "monai", "voc", "yolo")
DIGITS, DUST = 7, 1e-11  # a coordinate so near one of so many decimals is that one
CORNERS = ("x_min", "y_min", "z_min", "x_max", "y_max", "z_max")
MONAI_SECTIONS = {"train": "training", "val": "validation", "test": "testing"}


def rounded(value: float) -> float:
    """Return a coordinate without the dust of its arithmetic."""
    near = round(value, DIGITS)
    return near if abs(near - value) < DUST else value


def number(value: float) -> str:
    """Return a number as short as can be: 12, 12.5."""
    return f"{value:.15g}"


def label_of(image: ImageBoxes, item: LabelledBox) -> str:
    """Return a box's label, else its image's, else `lesion`."""
    return item.label or image.label or "lesion"


def label_names(images: Sequence[ImageBoxes]) -> list[str]:
    """Return the labels of some images in order."""
    return sorted({label_of(image, item) for image in images for item in image.boxes})


def low_and_size(box: Sequence[float]) -> list[float]:
    """Return a box as COCO writes it: low corner and size."""
    half = len(box) // 2
    sizes = [rounded(high - low) for low, high in zip(box[:half], box[half:], strict=True)]
    return [*map(float, box[:half]), *sizes]


def coco(images: Sequence[ImageBoxes], names: Sequence[str]) -> dict[str, Any]:
    """Return COCO's JSON; numbers count from 1, in 3D a bbox has six."""
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i, image in enumerate(images, 1):
        known = {
            "patient": image.patient, "split": image.split, "width": image.width, "height": image.height,
            "depth": image.depth,
        }  # fmt: skip
        own = {key: value for key, value in known.items() if value is not None}
        entries.append({"id": i, "file_name": image.file or image.id, **own})
        for item in image.boxes:
            box = low_and_size(item.box)
            area = 1.0
            for side in box[len(box) // 2 :]:
                area *= side
            annotations.append({
                "id": len(annotations) + 1, "image_id": i, "category_id": names.index(label_of(image, item)) + 1,
                "iscrowd": 0, "bbox": box, "area": area,
            })  # fmt: skip
    categories = [{"id": k, "name": name} for k, name in enumerate(names, 1)]
    return {"images": entries, "annotations": annotations, "categories": categories}


def yolo_lines(image: ImageBoxes, names: Sequence[str]) -> str:
    """Return a YOLO label file: a line a box, its class, centre and size as shares."""
    _flat([image], "yolo")
    lines = []
    for item in image.boxes:
        x_min, y_min, x_max, y_max = item.box
        shares = (
            (x_min + x_max) / 2 / image.width, (y_min + y_max) / 2 / image.height, (x_max - x_min) / image.width,
            (y_max - y_min) / image.height,
        )  # fmt: skip
        lines.append(f"{names.index(label_of(image, item))} {' '.join(map(number, shares))}\n")
    return "".join(lines)


def yolo_names(names: Sequence[str]) -> str:
    """Return the lines of data.yaml that name the classes."""
    return "\n".join(["names:", *(f"  {k}: {json.dumps(name)}" for k, name in enumerate(names))]) + "\n"


def voc(image: ImageBoxes) -> str:
    """Return the XML of one image."""
    _flat([image], "voc")
    things = "".join(
        f"  <object>\n    <name>{escape(label_of(image, item))}</name>\n    <bndbox>"
        f"<xmin>{number(item.box[0] + 1)}</xmin><ymin>{number(item.box[1] + 1)}</ymin>"
        f"<xmax>{number(item.box[2])}</xmax><ymax>{number(item.box[3])}</ymax></bndbox>\n  </object>\n"
        for item in image.boxes
    )
    size = f"<width>{image.width}</width><height>{image.height}</height>"
    file = escape(Path(image.file or image.id).name)
    return f"<annotation>\n  <filename>{file}</filename>\n  <size>{size}</size>\n{things}</annotation>\n"


def csv_text(images: Sequence[ImageBoxes]) -> str:
    """Return a CSV with a row a box, and one without corners for an image that has none."""
    deep = any(image.depth is not None for image in images)
    corners = [name for name in CORNERS if deep or "z" not in name]
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["image", "patient", "split", "label", *corners])
    for image in images:
        known = [image.id, image.patient or "", image.split or ""]
        for item in image.boxes:
            rows.writerow([*known, label_of(image, item), *map(number, item.box)])
        if not image.boxes:
            rows.writerow([*known, "", *[""] * len(corners)])
    return text.getvalue()


def monai(images: Sequence[ImageBoxes], names: Sequence[str]) -> dict[str, Any]:
    """Return a data list as MONAI's detection reads it, boxes as corners in voxels."""
    found: dict[str, Any] = {}
    for image in images:
        boxes = [[float(value) for value in item.box] for item in image.boxes]
        labels = [names.index(label_of(image, item)) for item in image.boxes]
        entry = {"image": image.file or image.id, "box": boxes, "label": labels}
        entry |= {} if image.patient is None else {"patient": image.patient}
        found.setdefault(MONAI_SECTIONS[image.split or "train"], []).append(entry)
    return {**{name: found[name] for name in MONAI_SECTIONS.values() if name in found}, "label_names": list(names)}


def _flat(images: Sequence[ImageBoxes], form: str) -> None:
    deep = next((image for image in images if image.depth is not None), None)
    if deep is not None:
        raise BadInput(f"image {deep.id} has boxes in 3D, which {form} does not have; choose coco, csv, monai or boxes")


def write_form(form: str, boxes: BoxesFile, out: Path) -> None:
    """Publish boxes as a file (boxes, coco, csv, monai) or a folder (yolo, voc)."""
    images, names = boxes.images, label_names(boxes.images)
    if form == "boxes":
        write_boxes(out, boxes)
    elif form in ("coco", "monai"):
        content = coco(images, names) if form == "coco" else monai(images, names)
        publish_text(out, json.dumps(content, allow_nan=False, ensure_ascii=False) + "\n")
    elif form == "csv":
        publish_text(out, csv_text(images))
    elif form in ("yolo", "voc"):
        _flat(images, form)
        with new_folder(out) as work:
            for image in images:
                text = yolo_lines(image, names) if form == "yolo" else voc(image)
                (work / f"{image.id}.{'txt' if form == 'yolo' else 'xml'}").write_text(text, encoding="utf-8")
            if form == "yolo":
                (work / "data.yaml").write_text(yolo_names(names), encoding="utf-8")
    else:
        raise UsageError(f"--to {form}: the choices are {', '.join(FORMS)}")


