"""Label Studio's JSON and JSON-MIN: regions in per cent of the picture, turned about their first corner."""

from typing import Any
from urllib.parse import unquote

from medaug_cli.errors import BadInput
from medaug_cli.forms.annotations import Annotation, Note
from medaug_cli.forms.coordinates import around, around_ellipse, numbers, rounded, turned
from medaug_cli.forms.form import File, Form, Marks
from medaug_cli.forms.policy import add_box

SEVERAL = "a region of several labels, a box of each"
KINDS = ("rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels", "keypointlabels", "labels")


def _sniff(file: File) -> bool:
    value = file.json
    if not isinstance(value, list) or not value or not all(isinstance(task, dict) for task in value):
        return False
    full = any("data" in task and ({"annotations", "completions"} & task.keys()) for task in value)
    return full or any("annotator" in task or "lead_time" in task for task in value)


def _read(marks: Marks) -> dict[str, Annotation]:
    found: dict[str, Annotation] = {}
    for file in marks.files:
        for number, task in enumerate(file.json):
            place = f"{file.path}, task {number}"
            regions = _regions(place, task)
            if regions is None:
                continue
            name = _picture(place, task.get("data", task))
            if name in found:
                raise BadInput(f"{place}: the image {name} appears twice")
            item = found[name] = Annotation()
            for region in regions:
                _add(item, place, region)
    return found


def _picture(place: str, data: dict[str, Any]) -> str:
    """Return the name of a task's picture: of /data/upload/1/0f3a2b1c-a.png, /data/local-files/?d=a.png, or a URL."""
    texts = [data[key] for key in ("image", "img", "ocr") if isinstance(data.get(key), str)]
    texts += [value for value in data.values() if isinstance(value, str) and "/" in value]
    if not texts:
        raise BadInput(f"{place}: its data names no image")
    text = unquote(texts[0])
    return text.partition("?d=")[2] or text.partition("?")[0]


def _regions(place: str, task: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return the regions of a task, of the one annotation that counts; None where nobody has annotated it."""
    if "data" not in task:
        lists = [value for value in task.values() if isinstance(value, list)]
        return [one for value in lists for one in value if isinstance(one, dict)]
    done = [one for one in task.get("annotations", task.get("completions")) or () if not one.get("was_cancelled")]
    if not done:
        return None
    if len(done) > 1:
        raise BadInput(f"{place}: {len(done)} people annotated its image; export one annotation of each task")
    results = [one for each in done for one in each.get("result", ()) if isinstance(one.get("value"), dict)]
    regions: dict[Any, dict[str, Any]] = {}
    for number, one in enumerate(results):
        if one.get("type") not in ("choices", "textarea", "rating"):
            key = one.get("id", number)  # its place and its label may be two results
            regions[key] = regions.get(key, {}) | one | one["value"]
    return list(regions.values())


def _add(item: Annotation, place: str, region: dict[str, Any]) -> None:
    labels = [str(label).strip() for label in next((region[kind] for kind in KINDS if region.get(kind)), [""])]
    if "rle" in region:
        raise BadInput(f"{place}: brush masks of Label Studio are not supported; export them as PNG or COCO")
    try:
        size = int(region["original_width"]), int(region["original_height"])
        box = _box(place, region, size)
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{place}: a region without its place ({type(error).__name__} {error})") from error
    if item.size not in (None, size):
        raise BadInput(f"{place}: its regions name two sizes of the picture, {item.size} and {size} pixels")
    item.size = size
    if len(labels) > 1:
        item.notes.append(Note(SEVERAL, place, f"labels {', '.join(labels)}"))
    for label in labels:
        add_box(item, box, label, place)


def _box(place: str, region: dict[str, Any], size: tuple[int, int]) -> tuple[float, ...]:
    """Return the box around a region of a picture (width, height), in pixels."""

    def pixels(x: float, y: float) -> tuple[float, float]:
        return rounded(x / 100 * size[0]), rounded(y / 100 * size[1])

    if "points" in region:
        return around([pixels(*numbers(place, point, 2)) for point in region["points"]])
    (degrees,) = numbers(place, [region.get("rotation") or 0], 1)
    if "radiusX" in region:
        x, y, across, down = numbers(place, [region[name] for name in ("x", "y", "radiusX", "radiusY")], 4)
        return around_ellipse(*pixels(x, y), *pixels(across, down), degrees)
    x, y, width, height = numbers(place, [region[name] for name in ("x", "y", "width", "height")], 4)
    ends = [pixels(*end) for end in ((x, y), (x + width, y), (x + width, y + height), (x, y + height))]
    return around(turned(ends, degrees, ends[0]) if degrees else ends)


FORM = Form(name="label-studio", title="Label Studio JSON", sniff=_sniff, read=_read)
