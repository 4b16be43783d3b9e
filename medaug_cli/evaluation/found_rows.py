"""Detections in the other forms that medaug writes them in: a CSV file, or a folder of YOLO's text files."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medaug_cli.boxes import safe_id
from medaug_cli.errors import BadInput
from medaug_cli.files import read_text
from medaug_cli.forms.coordinates import decimal
from medaug_cli.forms.naming import bare
from medaug_cli.forms.table import read_table
from medaug_cli.metrics.annotations import FoundBoxes, found_boxes
from medaug_cli.metrics.coco_files import CocoAnnotated

Rows = list[list[tuple[list[float], float, int]]]  # of each image: corners, score, label


def read_csv(path: Path, data: CocoAnnotated) -> FoundBoxes:
    """Read a row a detection; raise BadInput at an image or a class that `data` lacks."""
    axes = "xyz"[: data.dims]
    corners = [f"{axis}_{end}" for end in ("min", "max") for axis in axes]
    expected = ("image", "label", "score", *corners)
    table = read_table(path, expected)
    columns = {**table.columns, "score": table.place_of("score", "confidence")}
    missing = [name for name in ("image", "score", *corners) if columns.get(name) is None]
    if missing:
        raise BadInput(f"{path} has no column {missing[0]}; expected {', '.join(expected)}")
    table = replace(table, columns={name: at for name, at in columns.items() if at is not None})
    images, labels = _names(data), _labels(data)
    rows: Rows = [[] for _ in range(len(data))]
    for number, row in table.rows:
        place = f"{path}: line {number}"
        called = [name for key in ("image", "file") if (name := table.value(row, key, ()))]
        image = next((images[name] for name in called if name in images), None)
        if image is None:
            raise BadInput(f"{place}: the image {called[0] if called else ''!r} is not among the truth's images")
        values = [_number(place, name, table.value(row, name, ())) for name in ("score", *corners)]
        rows[image].append((values[1:], values[0], _label(place, table.value(row, "label", ()) or "", labels, data)))
    return _as_found(path, rows, data)


def read_yolo(folder: Path, data: CocoAnnotated) -> FoundBoxes:
    """Read one text file per image, one line per detection; raise BadInput at an image or a class that `data` lacks."""
    if data.dims != 2:
        raise BadInput(f"{folder}: YOLO's text files hold boxes in two dimensions")
    inner = folder / "labels" if (folder / "labels").is_dir() else folder
    named = folder / "classes.txt"
    classes = read_text(named).splitlines() if named.is_file() else list(data.label_names)
    images, labels = _names(data), _labels(data)
    rows: Rows = [[] for _ in range(len(data))]
    files = sorted(file for file in inner.glob("*.txt") if file != named)
    if not files:
        raise BadInput(f"{folder} holds no text file of detections (labels/IMAGE.txt)")
    for file in files:
        image = images.get(file.stem)
        if image is None:
            raise BadInput(f"{file}: no image of the truth is called {file.stem}")
        size = data.images[image].get("width"), data.images[image].get("height")
        for number, line in enumerate(read_text(file).splitlines(), 1):
            place = f"{file}: line {number}"
            if not line.strip():
                continue
            if size[0] is None or size[1] is None:
                raise BadInput(f"{place}: the truth names no width and height of the image, which YOLO's files need")
            kind, box, score = _yolo_line(place, line, size[0], size[1])
            if not 0 <= kind < len(classes):
                raise BadInput(f"{place}: class {kind} is not among the {len(classes)} of classes.txt")
            rows[image].append((box, score, _label(place, classes[kind], labels, data)))
    return _as_found(folder, rows, data)


def _as_found(path: Path, rows: Rows, data: CocoAnnotated) -> FoundBoxes:
    answers = [
        (np.array([box for box, _, _ in own]), np.array([s for _, s, _ in own]), np.array([k for _, _, k in own]))
        for own in rows
    ]
    try:
        return found_boxes(answers, data.dims, data.image_names)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def _yolo_line(place: str, line: str, width: int, height: int) -> tuple[int, list[float], float]:
    """Return the class, the corners and the score of a line."""
    parts = line.split()
    if len(parts) != 6:
        raise BadInput(f"{place}: expected a class, four numbers of the box and a score, got {line!r}")
    kind, x, y, wide, high, score = (_number(place, "number", part) for part in parts)
    if not kind.is_integer():
        raise BadInput(f"{place}: the class {parts[0]!r} is not a whole number")
    x, y, wide, high = x * width, y * height, wide * width / 2, high * height / 2
    return int(kind), [x - wide, y - high, x + wide, y + high], score


def _names(data: CocoAnnotated) -> dict[str, int]:
    """Return the index of each image by what its detections may call it; what two images share is nobody's name."""
    found = {str(image["id"]): i for i, image in enumerate(data.images)}
    for call in (lambda name: safe_id(bare(name)), bare, lambda name: Path(name).name, str):
        names = [call(name) for name in data.image_names]
        times = Counter(names)
        found |= {name: i for i, name in enumerate(names) if times[name] == 1}
    return found


def _labels(data: CocoAnnotated) -> dict[str, int]:
    return {name: i for i, name in enumerate(data.label_names)}


def _label(place: str, name: str, labels: Mapping[str, int], data: CocoAnnotated) -> int:
    if not name and len(labels) == 1:
        return 0
    if name not in labels:
        raise BadInput(f"{place}: the class {name!r} is not among the truth's ({', '.join(data.label_names)})")
    return labels[name]


def _number(place: str, column: str, text: Sequence[str] | str | None) -> float:
    try:
        return decimal(str(text))
    except ValueError:
        raise BadInput(f"{place}: {column} {text!r} is not a number") from None
