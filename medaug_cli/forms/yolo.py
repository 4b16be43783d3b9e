"""YOLO's text files: one line per box, its class, centre and size as shares of the image; a sixth number is a score.

A line of a class and three points or more is a polygon, as of YOLO's segmentation and oriented boxes.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.boxes import SPLITS, ImageBoxes, safe_id
from medaug_cli.errors import BadInput
from medaug_cli.files import read_text
from medaug_cli.forms.annotations import Annotation, Note
from medaug_cli.forms.coordinates import around, corners, decimal, number, rounded
from medaug_cli.forms.form import File, Finds, Form, Known, Layout, Marks, label_of, place_of, refuse_deep
from medaug_cli.forms.naming import ScanNames, bare
from medaug_cli.forms.policy import add_box
from medaug_cli.scans.reading import Scan, picture_size, read_pixels

LISTS = ("classes.txt", "labels.txt", "predefined_classes.txt", "obj.names")  # of class names
ABOVE = 3  # folders above a label file's own in which names of classes are looked for
OVER = 1e-3  # by which a share may exceed 1, of rounding
ROW = re.compile(r"\s*[+-]?[\d.,]+(\s+[+-]?[\d.,eE+-]+){3,}\s*$")
Size = tuple[int, int]


def _sniff(file: File) -> bool:
    """Tell whether a text file has rows of numbers, or nothing at all; a list of files or a README has neither."""
    if file.path.suffix.lower() != ".txt" or file.path.name.lower() in LISTS:
        return False
    try:
        lines = [line for line in read_text(file.path).splitlines() if line.strip()]
    except BadInput:
        return False
    return not lines or any(ROW.match(line) for line in lines[:10])


def _read(marks: Marks) -> dict[str, Annotation]:
    names, found, classes_of = ScanNames(marks.scans), {}, cache(_classes)
    nameless: set[str] = set()
    for file in marks.files:
        key = marks.key(file)
        fit = names.find(key, str(file.path))
        if fit is None and not read_text(file.path).strip():
            marks.notes.append(Note("an empty text file of no scan, left out", f"{key}.txt"))
            continue
        item = found[key] = Annotation()
        if fit is None:
            continue  # the caller says that it is of no scan
        if fit[0].volume:
            raise BadInput(f"{file.path} has flat boxes, as YOLO's files do, but {fit[0].relative} is a volume")
        classes, keypoints = classes_of(file.path.parent)
        for line, row in enumerate(read_text(file.path).splitlines(), start=1):
            if row.strip():
                place = f"{file.path}, line {line}"
                kind, box = _box(place, row.split(), size_of(fit[0]), keypoints)
                add_box(item, box, classes.get(kind, f"class{kind}"), place)
                nameless |= set() if kind in classes else {f"class{kind}"}
    if nameless:
        what = f"no name of the classes {', '.join(sorted(nameless))} was found in classes.txt, obj.names or data.yaml"
        marks.notes.append(Note(what, marks.path.name))
    return found


def _box(place: str, parts: Sequence[str], size: Size, keypoints: bool) -> tuple[int, tuple[float, ...]]:
    """Return the class and the corners, in pixels, of a row."""
    said = f"{place}: expected a class number and four fractions of the image, got {' '.join(parts)[:80]!r}"
    try:
        kind, *shares = (decimal(part) for part in parts)
    except ValueError as error:
        raise BadInput(said) from error
    if not kind.is_integer() or kind < 0 or len(shares) < 4:
        raise BadInput(said)
    if keypoints:
        shares = shares[:4]
    polygon = len(shares) >= 6 and len(shares) % 2 == 0
    if len(shares) not in (4, 5) and not polygon:
        raise BadInput(said)
    where = np.array(shares if polygon else shares[:4])
    if not np.isfinite(where).all() or np.abs(where).max() > 1 + OVER:
        raise BadInput(f"{said}; fractions lie between 0 and 1")
    width, height = size
    if polygon:
        points = [(rounded(x * width), rounded(y * height)) for x, y in where.reshape(-1, 2).tolist()]
        return int(kind), around(points)
    x, y, w, h = shares[:4]
    return int(kind), corners((x * width, y * height, w * width, h * height), "ccwh")


def size_of(scan: Scan) -> Size:
    """Return the width and height of a picture."""
    if scan.reader == "pictures":
        return picture_size(scan.path)
    height, width = read_pixels(scan).image.shape[-2:]
    return width, height


def _classes(folder: Path) -> tuple[Mapping[int, str], bool]:
    """Return the names of classes, of the nearest folder above that says them, and whether rows have keypoints."""
    for place in (folder, *folder.absolute().parents[:ABOVE]):
        for file in _candidates(place):
            found = _named_classes(file)
            if found is not None:
                return found
    return {}, False


def _candidates(folder: Path) -> list[Path]:
    files = [folder / name for name in ("data.yaml", "dataset.yaml", *LISTS)]
    for pattern in ("*.yaml", "*.yml", "*.names", "*.labels"):
        files += sorted(folder.glob(pattern))
    return [file for file in dict.fromkeys(files) if file.is_file() and not file.name.startswith(".")]


def _named_classes(file: Path) -> tuple[Mapping[int, str], bool] | None:
    if file.suffix.lower() in (".yaml", ".yml"):
        return _yaml_names(file, file.name in ("data.yaml", "dataset.yaml"))
    lines = [line.strip() for line in read_text(file).rstrip().splitlines()]  # a blank one counts
    if any(ROW.match(line) for line in lines):  # a picture of that name has labels
        return None
    return dict(enumerate(lines)), False


def _yaml_names(file: Path, must: bool) -> tuple[Mapping[int, str], bool] | None:
    """Read names from a YAML file; None for one of another purpose, unless it `must` have them."""
    import yaml

    try:
        value: Any = yaml.load(read_text(file), Loader=yaml.BaseLoader)  # all as text: `no` may be a class
        names = value["names"] or ()
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        return {int(k): str(v).strip() for k, v in pairs}, "kpt_shape" in value
    except (yaml.YAMLError, BadInput, KeyError, TypeError, ValueError, AttributeError) as error:
        if must:
            raise BadInput(f"{file} names no classes ({type(error).__name__})") from error
        return None


def yolo_lines(image: ImageBoxes, names: Sequence[str]) -> str:
    """Return a label file: one line per box, its class, centre and size as shares."""
    refuse_deep([image], "yolo")
    lines = []
    for item in image.boxes:
        x_min, y_min, x_max, y_max = item.box
        shares = (
            (x_min + x_max) / 2 / image.width, (y_min + y_max) / 2 / image.height, (x_max - x_min) / image.width,
            (y_max - y_min) / image.height,
        )  # fmt: skip
        lines.append(f"{names.index(label_of(image, item))} {' '.join(map(number, shares))}\n")
    return "".join(lines)


def _yaml(names: Sequence[str]) -> str:
    return "\n".join(["names:", *(f"  {k}: {json.dumps(name)}" for k, name in enumerate(names))]) + "\n"


def _write_boxes(images: Sequence[ImageBoxes], names: Sequence[str], target: Path) -> None:
    """Write a .txt file by the name of each picture, and data.yaml; an image without boxes has an empty file."""
    for image in images:
        file = place_of(image, target, ".txt")
        file.write_text(yolo_lines(image, names), encoding="utf-8")
    (target / "data.yaml").write_text(_yaml(names), encoding="utf-8")


def _write_detections(finds: Finds, target: Path) -> None:
    """Write labels/IMAGE.txt, the score as the sixth number, best first; and classes.txt."""
    found = finds.found
    if found.boxes.shape[1] != 4:
        raise BadInput("YOLO's text files hold boxes in two dimensions; choose another format")
    stems = [safe_id(bare(name)) for name in finds.images]
    twice = next((stem for i, stem in enumerate(stems) if stem in stems[:i]), None) if _repeats(stems) else None
    if twice is not None:
        raise BadInput(f"two images would be written as {twice}.txt; choose another format")
    (target / "labels").mkdir(parents=True)
    order = np.lexsort((-found.scores, found.images))
    parts = np.split(order, np.searchsorted(found.images[order], np.arange(1, len(stems))))
    for image, rows in enumerate(parts):
        size = finds.size(image)
        if size is None:
            raise BadInput(f"image {finds.images[image]} names no width and height, which YOLO's files need")
        text = "".join(_detected(finds, i, (size[0], size[1])) for i in rows.tolist())
        (target / "labels" / f"{stems[image]}.txt").write_text(text, encoding="utf-8")
    (target / "classes.txt").write_text("".join(f"{name}\n" for name in finds.names), encoding="utf-8")


def _repeats(stems: Sequence[str]) -> bool:
    return len(set(stems)) != len(stems)


def _detected(finds: Finds, i: int, size: Size) -> str:
    low, high = finds.found.boxes[i, :2] / size, finds.found.boxes[i, 2:] / size
    values = [*((low + high) / 2), *(high - low), finds.found.scores[i]]
    return f"{int(finds.found.labels[i])} " + " ".join(f"{value:.9g}" for value in values) + "\n"


def _write_layout(images: Sequence[ImageBoxes], names: Sequence[str], folder: Path, known: Mapping[str, Known]) -> None:
    """labels/SPLIT/ID.txt beside images/SPLIT/, and data.yaml; a normal slice has an empty label file."""
    splits = [split for split in SPLITS if any(image.split == split for image in images)]
    for split in splits:
        (folder / "labels" / split).mkdir(parents=True)
    for image in images:
        file = folder / "labels" / str(image.split) / f"{image.id}.txt"
        file.write_text(yolo_lines(image, names), encoding="utf-8")
    (folder / "data.yaml").write_text(_splits_yaml(splits) + _yaml(names), encoding="utf-8")


def _splits_yaml(splits: Sequence[str]) -> str:
    """Return where the pictures of each split lie, seen from data.yaml: ultralytics looks there if no `path` is said.

    It trains on no data without `val`: where there is none, the training pictures stand in for it.
    """
    lines = [f"{split}: images/{split}" for split in splits]
    if "train" in splits and "val" not in splits:
        lines.insert(1, "val: images/train  # there is no validation split")
    return "".join(f"{line}\n" for line in lines)


FORM = Form(
    name="yolo",
    title="a folder of YOLO .txt files",
    sniff=_sniff,
    read=_read,
    write_boxes=_write_boxes,
    write_detections=_write_detections,
    layout=Layout(lambda image: f"images/{image.split}/{image.id}", _write_layout, patients=False),
)
