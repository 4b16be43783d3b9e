"""Read boxes in whatever form people have them: boxes.json, CSV, COCO, YOLO, VOC or masks."""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.boxes import read_boxes
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import parse_json, read_text
from medaug_cli.scans.masks import find_masks
from medaug_cli.scans.reading import PICTURES, VOLUMES, Scan, picture_size, stem_of, suffix_of

FORMATS = "a boxes.json, COCO JSON or CSV file, or a folder of YOLO .txt, VOC .xml or mask files"
CORNERS = ("x_min", "y_min", "x_max", "y_max")
SLACK = 1.0  # pixels that a box may reach over the border; they are cut off


@dataclass
class Annotation:
    """What is known of one image, in its own pixels."""

    boxes: list[tuple[float, ...]] = field(default_factory=list)  # (x_min, y_min, x_max, y_max)
    labels: list[str] = field(default_factory=list)
    patient: str | None = None
    split: str | None = None
    size: tuple[int, int] | None = None  # width and height that the file claims
    mask: Path | None = None

    def arrays(self) -> np.ndarray:
        """Return the boxes (m, 4) float32."""
        return np.array(self.boxes, np.float32).reshape(-1, 4)


def read_annotations(path: Path, scans: Sequence[Scan]) -> dict[str, Annotation]:
    """Return the annotation of each scan that has one, by scan id.

    Raises BadInput for a form that is not known, for a box that is none, and for an image that is not among the scans.
    """
    if not path.exists():
        raise BadInput(f"{path} does not exist")
    reader = _sniffed(path)
    named = reader(path, scans)
    names = _names(scans)
    found: dict[str, Annotation] = {}
    unknown = [name for name in named if names.get(name) is None]
    if unknown:
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise BadInput(f"{path} speaks of image {unknown[0]!r}, which is not among the scans{more}")
    for name, annotation in named.items():
        found[str(names[name])] = annotation
    return found


def _names(scans: Sequence[Scan]) -> dict[str, str | None]:
    """Return every name that an image may be called by -> its id; None where two images share it."""
    names: dict[str, str | None] = {}
    for scan in scans:
        for name in {scan.id, scan.relative, scan.name.rpartition("/")[2], *(() if scan.files else (scan.path.name,))}:
            names[name] = None if name in names and names[name] != scan.id else scan.id
    return names | {scan.id: scan.id for scan in scans}


def _sniffed(path: Path) -> Callable[[Path, Sequence[Scan]], dict[str, Annotation]]:
    if path.is_file():
        suffix = suffix_of(path)
        if suffix == ".csv":
            return read_csv
        if suffix == ".json":
            return _read_json
        if suffix in VOLUMES:
            return read_masks
        raise UsageError(f"{path} is no annotation that is known; the choices are {FORMATS}")
    kinds = [suffix_of(file) for file in path.rglob("*") if file.is_file()]
    for suffix, reader in ((".xml", read_voc), (".txt", read_yolo)):
        if suffix in kinds:
            return reader
    if any(kind in PICTURES + VOLUMES for kind in kinds):
        return read_masks
    raise UsageError(f"{path} holds no annotation that is known; the choices are {FORMATS}")


def _read_json(path: Path, scans: Sequence[Scan]) -> dict[str, Annotation]:
    value = parse_json(path)
    if isinstance(value, dict) and "annotations" in value:
        return read_coco(path, value)
    return read_boxes_json(path)


def read_boxes_json(path: Path) -> dict[str, Annotation]:
    """Read a boxes.json."""
    found = {}
    for image in read_boxes(path).images:
        if image.depth is not None:
            raise BadInput(
                f"{path}: image {image.id} has boxes in 3D; volumes are annotated by label volumes (--masks)"
            )
        boxes, labels = image.arrays()
        found[image.id] = Annotation(
            [tuple(map(float, box)) for box in boxes], labels, image.patient, image.split, (image.width, image.height)
        )
    return found


def read_csv(path: Path, scans: Sequence[Scan]) -> dict[str, Annotation]:
    """Read a CSV with a row a box: image, x_min, y_min, x_max, y_max, and patient, split, label where known."""
    reader = csv.DictReader(io.StringIO(read_text(path)))
    missing = {"image", *CORNERS} - set(reader.fieldnames or ())
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
        corners = [(row[name] or "").strip() for name in CORNERS]
        if any(corners):  # a row without corners is a normal slice
            item.boxes.append(_corners(f"{path}, line {line}", corners))
            item.labels.append((row.get("label") or "").strip() or "lesion")
    return dict(found)


def _corners(place: str, texts: Sequence[Any]) -> tuple[float, ...]:
    try:
        box = tuple(map(float, texts))
    except (TypeError, ValueError) as error:
        raise BadInput(f"{place}: {', '.join(map(str, texts))} are not four numbers") from error
    if not np.isfinite(box).all():
        raise BadInput(f"{place}: the box {box} has a corner that is no finite number")
    return box


def read_coco(path: Path, value: Any) -> dict[str, Annotation]:
    """Read COCO's JSON (bbox is x, y, width, height); crowd regions are left out."""
    found: dict[str, Annotation] = {}
    try:
        names = {c["id"]: str(c["name"]) for c in value.get("categories", [])}
        images = {i["id"]: i for i in value["images"]}
        for image in images.values():
            size = (int(image["width"]), int(image["height"])) if "width" in image else None
            found[str(image["file_name"])] = Annotation(size=size, patient=_text(image.get("patient")))
        for number, row in enumerate(value["annotations"]):
            if row.get("iscrowd"):
                continue
            x, y, width, height = _corners(f"{path}, annotation {number}", row["bbox"])
            item = found[str(images[row["image_id"]]["file_name"])]
            item.boxes.append((x, y, x + width, y + height))
            item.labels.append(names.get(row["category_id"], str(row["category_id"])))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{path} is not COCO's JSON: {type(error).__name__} {error}") from error
    return {name if "/" not in name else name.rsplit("/", 1)[-1]: item for name, item in found.items()}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


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
                x_min, y_min, x_max, y_max = _corners(str(file), texts)
                item.boxes.append((x_min - 1, y_min - 1, x_max, y_max))
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
        width, height = picture_size(by_stem[stem_of(file)].path)
        for line, row in enumerate(read_text(file).splitlines(), start=1):
            if not row.strip():
                continue
            parts = row.split()
            if len(parts) != 5 or not parts[0].isdigit():
                raise BadInput(f"{file}, line {line}: a class number and four shares are wanted, not {row!r}")
            x, y, w, h = _corners(f"{file}, line {line}", parts[1:])
            item.boxes.append(((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height))
            item.labels.append(classes.get(int(parts[0]), f"class{parts[0]}"))
    return found


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


def read_masks(path: Path, scans: Sequence[Scan]) -> dict[str, Annotation]:
    """Find the mask of each scan that has one; see find_masks."""
    return {name: Annotation(mask=mask) for name, mask in find_masks(path, scans).items()}


def inside(boxes: np.ndarray, width: int, height: int, place: str) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes (m, 4) cut off at the image's border and which of them are not empty, (m,) bool.

    Raises BadInput for a box that reaches further out than SLACK.
    """
    size = np.array([width, height, width, height], np.float32)
    cut = np.clip(boxes, 0, size)
    far = (np.abs(cut - boxes) > SLACK).any(1)
    if far.any():
        raise BadInput(f"{place}: the box {boxes[far][0].tolist()} lies outside its image of {width}x{height} pixels")
    return cut, (cut[:, 2:] > cut[:, :2]).all(1)
