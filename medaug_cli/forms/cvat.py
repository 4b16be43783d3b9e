"""CVAT's XML for images: an element an image, and shapes in pixels."""

from typing import Any

from medaug_cli.errors import BadInput
from medaug_cli.forms.annotations import Annotation
from medaug_cli.forms.coordinates import around, around_ellipse, numbers, turned_box
from medaug_cli.forms.form import File, Form, Marks
from medaug_cli.forms.policy import add_box
from medaug_cli.forms.xml import parse_xml, root_of

PASSED = ("tag", "attribute")  # of an image, which are not shapes


def _sniff(file: File) -> bool:
    return root_of(file.path) == "annotations"


def _read(marks: Marks) -> dict[str, Annotation]:
    found: dict[str, Annotation] = {}
    for file in marks.files:
        tree = parse_xml(file.path)
        if tree.find("track") is not None:
            raise BadInput(
                f"{file.path} is CVAT's XML for videos, which is not supported; export it as 'CVAT for images'"
            )
        for image in tree.iter("image"):
            name = image.get("name") or ""
            if name in found:
                raise BadInput(f"{file.path}: the image {name} appears twice")
            width, height = (int(float(image.get(side) or 0)) for side in ("width", "height"))
            item = found[name] = Annotation(size=(width, height) if width and height else None)
            for number, shape in enumerate(one for one in image if one.tag not in PASSED):
                place = f"{file.path}, image {name}, shape {number}"
                add_box(item, _box(place, shape), (shape.get("label") or "").strip(), place)
    return found


def _box(place: str, shape: Any) -> tuple[float, ...]:
    if shape.tag == "box":
        box = numbers(place, [shape.get(name) for name in ("xtl", "ytl", "xbr", "ybr")], 4)
        return turned_box(box, _degrees(place, shape))
    if shape.tag == "ellipse":
        x, y, across, down = numbers(place, [shape.get(name) for name in ("cx", "cy", "rx", "ry")], 4)
        return around_ellipse(x, y, across, down, _degrees(place, shape))
    if shape.tag == "mask":
        x, y, width, height = numbers(place, [shape.get(name) for name in ("left", "top", "width", "height")], 4)
        return x, y, x + width, y + height
    points = shape.get("points")
    if not points:
        raise BadInput(f"{place}: a <{shape.tag}> is not supported; choose box, polygon, polyline, ellipse or mask")
    return around([numbers(place, point.split(","), 2) for point in points.split(";")])


def _degrees(place: str, shape: Any) -> float:
    return numbers(place, [shape.get("rotation") or 0], 1)[0]


FORM = Form(name="cvat", title="CVAT XML", sniff=_sniff, read=_read)
