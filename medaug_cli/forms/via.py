"""The JSON and CSV of VIA, the VGG Image Annotator, versions 1 and 2: regions of each file in pixels."""

import csv
import io
import json
from collections.abc import Iterable
from math import degrees
from typing import Any

from medaug_cli.errors import BadInput
from medaug_cli.files import read_text, readable
from medaug_cli.forms.annotations import Annotation, Note
from medaug_cli.forms.coordinates import around, around_ellipse, numbers
from medaug_cli.forms.form import File, Form, Marks
from medaug_cli.forms.policy import add_box

LABELS = (  # attributes that say what a region is, the most telling first
    "label", "class", "name", "type", "category", "finding", "lesion", "pathology", "diagnosis",
)  # fmt: skip


UNCLEAR = f"a region with several attributes of which none is called {', '.join(LABELS)}: its first is its label"
COLUMNS = {"filename", "region_shape_attributes", "region_attributes"}  # of a CSV


def _sniff(file: File) -> bool:
    if file.suffix == ".csv":
        return "region_shape_attributes" in _first_line(file)
    value = file.json
    if not isinstance(value, dict):
        return False
    if "_via_img_metadata" in value or {"project", "metadata", "file", "view"} <= value.keys():
        return True
    entries = list(value.values())
    return bool(entries) and all(isinstance(one, dict) and {"filename", "regions"} <= one.keys() for one in entries)


def _first_line(file: File) -> str:
    try:
        readable(file.path)
        with file.path.open(encoding="utf-8-sig") as text:
            return text.readline()
    except (OSError, UnicodeDecodeError, BadInput):
        return ""


def _read(marks: Marks) -> dict[str, Annotation]:
    found: dict[str, Annotation] = {}
    for file in marks.files:
        for name, regions in _entries_of_csv(file) if file.suffix == ".csv" else _entries(file):
            if name in found:
                raise BadInput(f"{file.path}: the image {name} appears twice")
            item = found[name] = Annotation()
            for number, region in enumerate(regions):
                place = f"{file.path}, {name}, region {number}"
                try:
                    box = _box(place, region["shape_attributes"])
                except (KeyError, TypeError) as error:
                    raise BadInput(f"{place}: unknown shape ({error})") from error
                attributes = region.get("region_attributes") or {}
                if add_box(item, box, _label(attributes), place) and _unclear(attributes):
                    item.notes.append(Note(UNCLEAR, place, f"attributes {', '.join(attributes)}"))
    return found


def _entries(file: File) -> Iterable[tuple[str, Iterable[dict[str, Any]]]]:
    """Return the name of each picture in a JSON file, and its regions."""
    value = file.json
    if "project" in value:
        raise BadInput(f"{file.path} is a project of VIA 3, which is not supported; export it from VIA as COCO JSON")
    for entry in value.get("_via_img_metadata", value).values():
        regions = entry["regions"]
        yield str(entry["filename"]), regions.values() if isinstance(regions, dict) else regions


def _entries_of_csv(file: File) -> Iterable[tuple[str, Iterable[dict[str, Any]]]]:
    """Return the name of each picture in a CSV, and its regions; a row with an empty shape is of a picture without."""
    found: dict[str, list[dict[str, Any]]] = {}
    reader = csv.DictReader(io.StringIO(read_text(file.path).removeprefix("#"), newline=""), strict=True)
    missing = COLUMNS - set(reader.fieldnames or ())
    if missing:
        raise BadInput(f"{file.path} lacks the columns {', '.join(sorted(missing))}")
    for row in reader:
        if row["region_attributes"] is None:  # the last column that VIA writes
            raise BadInput(f"{file.path}, line {reader.line_num}: the row ends before its attributes")
        own = found.setdefault(str(row["filename"]), [])
        try:
            shape, kind = (json.loads(row[name] or "{}") for name in ("region_shape_attributes", "region_attributes"))
        except ValueError as error:
            raise BadInput(f"{file.path}, line {reader.line_num}: its attributes are not JSON ({error})") from error
        own += [{"shape_attributes": shape, "region_attributes": kind}] if shape else []
    return found.items()


def _box(place: str, shape: dict[str, Any]) -> tuple[float, ...]:
    kind = shape["name"]
    if kind == "rect":
        x, y, width, height = numbers(place, [shape[name] for name in ("x", "y", "width", "height")], 4)
        return x, y, x + width, y + height
    if kind in ("circle", "ellipse"):
        radii = (shape["r"], shape["r"]) if kind == "circle" else (shape["rx"], shape["ry"])
        x, y, across, down = numbers(place, [shape["cx"], shape["cy"], *radii], 4)
        (turn,) = numbers(place, [shape.get("theta") or 0], 1)
        return around_ellipse(x, y, across, down, degrees(turn))
    if kind == "point":
        x, y = numbers(place, [shape["cx"], shape["cy"]], 2)
        return x, y, x, y
    points = zip(shape["all_points_x"], shape["all_points_y"], strict=True)
    return around([numbers(place, point, 2) for point in points])


def _label(attributes: dict[str, Any]) -> str | None:
    """Return what a region is: of its attribute, or of the one of several whose name says so; None without any."""
    keys = sorted(attributes, key=lambda key: LABELS.index(key.lower()) if key.lower() in LABELS else len(LABELS))
    for key in keys:
        value = attributes[key]
        if isinstance(value, dict):  # a checkbox: name -> ticked
            value = ", ".join(str(name) for name, ticked in value.items() if ticked)
        if str(value or "").strip():
            return str(value).strip()
    return None


def _unclear(attributes: dict[str, Any]) -> bool:
    """Tell whether several attributes say something, and the name of none says that it is the label."""
    said = [name for name in attributes if _label({name: attributes[name]}) is not None]
    return len(said) > 1 and not {name.lower() for name in said} & set(LABELS)


FORM = Form(name="via", title="VIA JSON or CSV", sniff=_sniff, read=_read)
