"""Each form of boxes in a text file, as annotations: corners in pixels, half-open, x first."""

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from medaug_cli.boxes import read_boxes
from medaug_cli.errors import BadInput
from medaug_cli.files import read_text
from medaug_cli.forms.annotations import Annotation
from medaug_cli.forms.box_forms import CORNERS, MONAI_SECTIONS, rounded
from medaug_cli.scans.reading import Scan, picture_size, read_pixels, stem_of

FLAT = tuple(name for name in CORNERS if "z" not in name)
SECTIONS = {section: split for split, section in MONAI_SECTIONS.items()} | {"test": "test"}


def read_boxes_json(path: Path, scans: Sequence[Scan]) -> dict[str, Annotation]:
    """Read a boxes.json."""
    found = {}
    for image in read_boxes(path).images:
        _, labels = image.arrays()
        size = (image.width, image.height) if image.depth is None else (image.width, image.height, image.depth)
        boxes = [tuple(map(float, item.box)) for item in image.boxes]
        found[image.id] = Annotation(boxes, labels, image.patient, image.split, size)
    return found


def read_csv(path: Path, scans: Sequence[Scan]) -> dict[str, Annotation]:
    """Read a CSV with a row a box: image, x_min, y_min, x_max, y_max, and patient, split, label where known.

    In 3D there are also z_min and z_max.
    """
    reader = csv.DictReader(io.StringIO(read_text(path)))
    columns = set(reader.fieldnames or ())
    wanted = CORNERS if {"z_min", "z_max"} <= columns else FLAT
    missing = {"image", *wanted} - columns
    if missing:
        raise BadInput(f"{path} lacks the columns {', '.join(sorted(missing))}")
    found: dict[str, Annotation] = defaultdict(Annotation)
    for line, row in enumerate(reader, start=2):
        item = found[(row["image"] or "").strip()]
        for name in ("patient", "split"):
            value = (row.get(name) or "").strip() or None
            if value and getattr(item, name) not in (None, value):
                raise BadInput(f"{path}, line {line}: image {row['image']} has two {name}s")
            setattr(item, name, value or getattr(item, name))
        corners = [(row[name] or "").strip() for name in wanted]
        if any(corners):  # a row without corners is a normal slice
            item.boxes.append(_numbers(f"{path}, line {line}", corners, len(wanted)))
            item.labels.append((row.get("label") or "").strip() or "lesion")
    return dict(found)


def _numbers(place: str, texts: Any, count: int | None = None) -> tuple[float, ...]:
    try:
        box = tuple(float(text) for text in texts)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{place}: {texts} are not numbers") from error
    if len(box) not in ((4, 6) if count is None else (count,)):
        raise BadInput(f"{place}: {len(box)} numbers, a box has {count or '4 (6 in 3D)'}")
    if not np.isfinite(box).all():
        raise BadInput(f"{place}: the box {box} has a corner that is no finite number")
    return box


def read_coco(path: Path, value: Any) -> dict[str, Annotation]:
    """Read COCO's JSON (bbox is low corner and size); crowd regions are left out."""
    found: dict[str, Annotation] = {}
    try:
        names = {c["id"]: str(c["name"]) for c in value.get("categories", [])}
        images = {i["id"]: i for i in value["images"]}
        for image in images.values():
            sides = [int(image[name]) for name in ("width", "height", "depth") if image.get(name) is not None]
            size = tuple(sides) if len(sides) > 1 else None
            if str(image["file_name"]) in found:
                raise BadInput(f"{path}: the image {image['file_name']} stands twice")
            found[str(image["file_name"])] = Annotation(
                size=size, patient=_text(image.get("patient")), split=_text(image.get("split"))
            )
        for number, row in enumerate(value["annotations"]):
            if row.get("iscrowd"):
                continue
            item = found[str(images[row["image_id"]]["file_name"])]
            item.boxes.append(corners(_numbers(f"{path}, annotation {number}", row["bbox"]), "xywh"))
            item.labels.append(names.get(row["category_id"], str(row["category_id"])))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{path} is not COCO's JSON: {type(error).__name__} {error}") from error
    return {PurePosixPath(name).name: item for name, item in found.items()} if _plain(found) else found


def _plain(found: dict[str, Annotation]) -> bool:
    """Tell whether file names without their folders still tell images apart."""
    return len({PurePosixPath(name).name for name in found}) == len(found)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def corners(box: Sequence[float], mode: str) -> tuple[float, ...]:
    """Return 4 numbers, or 6 in 3D, as low corner and high corner.

    xyxy: low corner, high corner. xxyy: low and high along each axis in turn. xywh: low corner and size. ccwh: centre
    and size. (MONAI's StandardMode, CornerCornerModeTypeB, CornerSizeMode, CenterSizeMode.)
    """
    d = len(box) // 2
    if mode == "xxyy":
        return (*box[::2], *box[1::2])
    first, second = box[:d], box[d:]
    if mode == "xywh":
        return (*first, *(rounded(low + side) for low, side in zip(first, second, strict=True)))
    if mode == "ccwh":
        both = list(zip(first, second, strict=True))
        return (*(rounded(c - side / 2) for c, side in both), *(rounded(c + side / 2) for c, side in both))
    return tuple(box)


def read_data_list(path: Path, value: dict[str, Any], box_mode: str) -> dict[str, Annotation]:
    """Read a data list of MONAI: sections of entries with `image`, and `box` and `label`, or a label volume."""
    mode, _, unit = box_mode.partition("-")
    names = dict(enumerate(value.get("label_names", ())))
    sections = [section for section in SECTIONS if value.get(section)]
    found: dict[str, Annotation] = {}
    for section in sections:
        for number, row in enumerate(value[section]):
            place = f"{path}, {section} {number}"
            name = row.get("image") if isinstance(row, dict) else None
            if not isinstance(name, str):
                raise BadInput(f"{place}: `image` names no single file")
            item = Annotation(patient=_text(row.get("patient")), millimetres=unit == "mm")
            item.split = SECTIONS[section] if len(sections) > 1 else None
            if isinstance(row.get("label"), str):
                item.mask = path.parent / row["label"]
            else:
                item.boxes = [corners(_numbers(place, box), mode) for box in row.get("box", ())]
                labels = row.get("label", [0] * len(item.boxes))
                if not isinstance(labels, list) or len(labels) != len(item.boxes):
                    raise BadInput(f"{place}: {len(item.boxes)} boxes have the labels {labels}")
                item.labels = [str(names.get(label, f"class{label}")) for label in labels]
            if PurePosixPath(name).name in found:
                raise BadInput(f"{place}: the image {name} stands twice")
            found[PurePosixPath(name).name] = item
    return found


def read_voc(path: Path, scans: Sequence[Scan]) -> dict[str, Annotation]:
    """Read Pascal VOC's XML files; their corners are whole pixels from 1 on, both inside the box."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    found = {}
    for file in sorted(path.rglob("*.xml")):
        try:
            tree = fromstring(read_text(file))
            item = Annotation()
            for thing in tree.iter("object"):
                texts = [thing.findtext(f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax")]
                x_min, y_min, x_max, y_max = _numbers(str(file), texts, 4)
                item.boxes.append((rounded(x_min - 1), rounded(y_min - 1), x_max, y_max))
                item.labels.append(thing.findtext("name") or "lesion")
        except (ParseError, DefusedXmlException) as error:
            raise BadInput(f"{file} is not XML: {error}") from error
        found[stem_of(file)] = item
    return found


def read_yolo(path: Path, scans: Sequence[Scan]) -> dict[str, Annotation]:
    """Read YOLO's text files (class, centre and size as shares of the image), names from classes.txt or data.yaml."""
    classes = _yolo_classes(path)
    by_stem = {stem_of(scan.path): scan for scan in scans if not scan.volume}
    found = {}
    for file in sorted(path.rglob("*.txt")):
        if file.name == "classes.txt":
            continue
        item = found[stem_of(file)] = Annotation()
        if stem_of(file) not in by_stem:
            continue  # the caller names it
        width, height = size_of(by_stem[stem_of(file)])
        for line, row in enumerate(read_text(file).splitlines(), start=1):
            if not row.strip():
                continue
            parts = row.split()
            if len(parts) != 5 or not parts[0].isdigit():
                raise BadInput(f"{file}, line {line}: a class number and four shares are wanted, not {row!r}")
            x, y, w, h = _numbers(f"{file}, line {line}", parts[1:], 4)
            item.boxes.append(corners((x * width, y * height, w * width, h * height), "ccwh"))
            item.labels.append(classes.get(int(parts[0]), f"class{parts[0]}"))
    return found


def size_of(scan: Scan) -> tuple[int, int]:
    """Return the width and height of a picture."""
    if scan.reader == "pictures":
        return picture_size(scan.path)
    height, width = read_pixels(scan).image.shape[-2:]
    return width, height


def _yolo_classes(path: Path) -> dict[int, str]:
    for folder in (path, path.parent):
        if (folder / "classes.txt").is_file():
            return dict(enumerate(read_text(folder / "classes.txt").split("\n")))
        for name in ("data.yaml", "dataset.yaml"):
            if (folder / name).is_file():
                return _yaml_names(folder / name)
    return {}


def _yaml_names(file: Path) -> dict[int, str]:
    import yaml

    try:
        names = yaml.safe_load(read_text(file))["names"]
        return {int(k): str(v) for k, v in (names.items() if isinstance(names, dict) else enumerate(names))}
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{file} names no classes ({type(error).__name__})") from error
