"""A data list of MONAI's detection: sections of entries with an image and its boxes, or a label volume."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medaug_cli.boxes import ImageBoxes
from medaug_cli.errors import BadInput
from medaug_cli.forms.annotations import Annotation
from medaug_cli.forms.coordinates import corners, numbers
from medaug_cli.forms.form import File, Form, Marks, label_of, text_or_none
from medaug_cli.forms.policy import add_box
from medaug_cli.scans.masks import label_names

WRITTEN = {"train": "training", "val": "validation", "test": "testing"}
SECTIONS = {section: split for split, section in WRITTEN.items()} | {"test": "test"}


def _sniff(file: File) -> bool:
    value = file.json
    sections = [value[name] for name in SECTIONS if name in value] if isinstance(value, dict) else []
    return any(isinstance(section, list) and any(isinstance(row, dict) for row in section) for section in sections)


def _read(marks: Marks) -> dict[str, Annotation]:
    found: dict[str, Annotation] = {}
    for file in marks.files:
        _read_file(file, marks.box_mode or "xyxy", found)
    return found


def _read_file(file: File, box_mode: str, found: dict[str, Annotation]) -> None:
    value, (mode, _, unit) = file.json, box_mode.partition("-")
    names = dict(enumerate(value.get("label_names", ())))
    sections = [name for name in SECTIONS if any(isinstance(row, dict) for row in value.get(name) or ())]
    for section in sections:
        for number, row in enumerate(value[section]):
            if isinstance(row, str) and section in ("test", "testing"):
                continue  # an image without annotation, in the dataset.json of the Medical Segmentation Decathlon
            place = f"{file.path}, {section} {number}"
            name = row.get("image") if isinstance(row, dict) else None
            if not isinstance(name, str):
                raise BadInput(f"{place}: `image` names no single file")
            item = Annotation(patient=text_or_none(row.get("patient")), millimetres=unit == "mm")
            item.split = SECTIONS[section] if len(sections) > 1 else None
            if isinstance(row.get("label"), str):
                item.mask = file.path.parent / row["label"]
                item.mask_labels = label_names(item.mask)
            else:
                _add_boxes(item, place, row, mode, names)
            if name in found:
                raise BadInput(f"{place}: the image {name} appears twice")
            found[name] = item


def _add_boxes(item: Annotation, place: str, row: dict[str, Any], mode: str, names: dict[int, str]) -> None:
    boxes = [corners(numbers(place, box), mode) for box in row.get("box", ())]
    labels = row.get("label", [0] * len(boxes))
    if not isinstance(labels, list) or len(labels) != len(boxes):
        raise BadInput(f"{place}: {len(boxes)} boxes have the labels {labels}")
    for box, label in zip(boxes, labels, strict=True):
        add_box(item, box, str(names.get(label, f"class{label}")), place)


def _write_boxes(images: Sequence[ImageBoxes], names: Sequence[str], target: Path) -> None:
    """Write a data list as MONAI's detection reads it, boxes as corners in voxels."""
    found: dict[str, Any] = {}
    for image in images:
        boxes = [[float(value) for value in item.box] for item in image.boxes]
        labels = [names.index(label_of(image, item)) for item in image.boxes]
        entry = {"image": image.file or image.id, "box": boxes, "label": labels}
        entry |= {} if image.patient is None else {"patient": image.patient}
        found.setdefault(WRITTEN[image.split or "train"], []).append(entry)
    content = {**{name: found[name] for name in WRITTEN.values() if name in found}, "label_names": list(names)}
    text = json.dumps(content, allow_nan=False)  # in ASCII, since MONAI opens it in whatever encoding its machine has
    target.write_text(f"{text}\n", encoding="ascii")


FORM = Form(
    name="monai",
    title="a MONAI data list",
    sniff=_sniff,
    read=_read,
    suffix=".json",
    write_boxes=_write_boxes,
)
