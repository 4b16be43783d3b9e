"""boxes.json: medaug's own form."""

from collections.abc import Sequence
from pathlib import Path

from medaug_cli.boxes import BoxesFile, ImageBoxes, read_boxes, write_boxes
from medaug_cli.forms.annotations import Annotation
from medaug_cli.forms.form import File, Form, Marks
from medaug_cli.forms.policy import add_box


def _sniff(file: File) -> bool:
    value = file.json
    if not isinstance(value, dict) or "annotations" in value or not isinstance(value.get("images"), list):
        return False
    return "version" in value or any(isinstance(image, dict) and "boxes" in image for image in value["images"])


def _read(marks: Marks) -> dict[str, Annotation]:
    found = {}
    for file in marks.files:
        for image in read_boxes(file.path).images:
            if image.annotated is False:  # nobody looked for lesions
                continue
            size = (image.width, image.height) if image.depth is None else (image.width, image.height, image.depth)
            item = Annotation(patient=image.patient, split=image.split, size=size, also=image.file)
            for box in image.boxes:
                label, place = box.label or image.label, f"{file.path}, image {image.id}"
                add_box(item, [float(value) for value in box.box], label, place)
            found[image.id] = item
    return found


def _write_boxes(images: Sequence[ImageBoxes], names: Sequence[str], target: Path) -> None:
    write_boxes(target, BoxesFile(version=1, images=list(images)))


FORM = Form(
    name="boxes",
    title="a boxes.json",
    sniff=_sniff,
    read=_read,
    suffix=".json",
    write_boxes=_write_boxes,
)
