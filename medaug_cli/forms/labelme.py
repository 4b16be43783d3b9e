"""labelme's JSON, one file per picture: shapes in pixels."""

from typing import Any

from medaug_cli.errors import BadInput
from medaug_cli.forms.annotations import Annotation
from medaug_cli.forms.coordinates import around, numbers
from medaug_cli.forms.form import File, Form, Marks
from medaug_cli.forms.policy import add_box


def _sniff(file: File) -> bool:
    value = file.json
    return isinstance(value, dict) and isinstance(value.get("shapes"), list) and "imagePath" in value


def _read(marks: Marks) -> dict[str, Annotation]:
    found = {}
    for file in marks.files:
        value = file.json
        width, height = value.get("imageWidth"), value.get("imageHeight")
        item = Annotation(size=(int(width), int(height)) if width and height else None, also=str(value["imagePath"]))
        for number, shape in enumerate(value["shapes"]):
            place = f"{file.path}, shape {number}"
            if not isinstance(shape, dict):
                raise BadInput(f"{place}: expected a shape with its points, got {str(shape)[:60]}")
            add_box(item, _box(place, shape), str(shape.get("label") or "").strip(), place)
        found[marks.key(file)] = item
    return found


def _box(place: str, shape: dict[str, Any]) -> tuple[float, ...]:
    points, kind = shape.get("points"), shape.get("shape_type", "polygon")
    if not isinstance(points, list) or not points:
        raise BadInput(f"{place}: a {kind} without points")
    at = [numbers(place, point, 2) for point in points]
    if kind == "circle" and len(at) == 2:  # its centre and a point of it
        (x, y), (other_x, other_y) = at
        radius = ((x - other_x) ** 2 + (y - other_y) ** 2) ** 0.5
        return x - radius, y - radius, x + radius, y + radius
    if kind == "rectangle" and len(at) == 2:
        return (*at[0], *at[1])
    x_min, y_min, x_max, y_max = around(at)
    if kind == "mask":  # its corners are pixels inside it
        return x_min, y_min, x_max + 1, y_max + 1
    return x_min, y_min, x_max, y_max


FORM = Form(name="labelme", title="labelme JSON", sniff=_sniff, read=_read)
