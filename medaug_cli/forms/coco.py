"""COCO's JSON: bbox is low corner and size, x first; in 3D it has six numbers."""

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.boxes import SPLITS, ImageBoxes
from medaug_cli.errors import BadInput
from medaug_cli.forms.annotations import Annotation, Note
from medaug_cli.forms.coordinates import corners, low_and_size, numbers, slice_number, turned_box
from medaug_cli.forms.form import File, Finds, Form, Known, Layout, Marks, label_of, text_or_none
from medaug_cli.forms.outlines import Outline, read_outline
from medaug_cli.forms.policy import CROWD, NO_OUTLINE, add_box


def _sniff(file: File) -> bool:
    value = file.json
    if isinstance(value, dict):
        images = value.get("images")
        known = isinstance(images, list) and any(isinstance(image, dict) and "file_name" in image for image in images)
        return ("annotations" in value and "images" in value) or (known and "version" not in value)
    return isinstance(value, list) and bool(value) and all(_is_result(row) for row in value[:10])


def _is_result(row: Any) -> bool:
    return isinstance(row, dict) and {"image_id", "bbox"} <= row.keys()


def _read(marks: Marks) -> dict[str, Annotation]:
    found: dict[str, Annotation] = {}
    for file in marks.files:
        value = {"annotations": file.json} if isinstance(file.json, list) else file.json
        if not isinstance(value.get("annotations"), list):
            raise BadInput(f"{file.path} looks like COCO JSON, but it has no annotations")
        try:
            nameless: set[str] = set()
            _read_file(str(file.path), value, found, nameless)
            if nameless and "categories" in value:
                what = f"the categories {', '.join(sorted(nameless))} have no name, their numbers are the labels"
                marks.notes.append(Note(what, file.path.name))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"{file.path} is not COCO's JSON: {type(error).__name__} {error}") from error
    _without_needless_outlines(found)
    return found


def _label(row: dict[str, Any], names: Mapping[str, str], nameless: set[str]) -> str | None:
    """Return the name of an annotation's category, else its number, which `nameless` takes; None without either."""
    if row.get("category_id") is None:
        return None
    category = _key(row["category_id"])
    if not names.get(category):
        nameless.add(category)
    return names.get(category) or category


def _names(path: str, categories: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the name of each category by its number; raise BadInput where two have one number."""
    names: dict[str, str] = {}
    for category in categories:
        key, name = _key(category["id"]), str(category["name"]).strip()
        if names.setdefault(key, name) != name:
            raise BadInput(f"{path}: the category id {key} has two names, {names[key]} and {name}")
    return names


def _key(value: Any) -> str:
    """Return an id as text, the same for 1 and for 1.0, as tools write it that count in floats."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _read_file(path: str, value: dict[str, Any], found: dict[str, Annotation], nameless: set[str]) -> None:
    names = _names(path, value.get("categories") or ())
    images: dict[str, dict[str, Any]] = {}
    for number, image in enumerate(value.get("images") or ()):
        key = _key(image["id"])
        if key in images:
            raise BadInput(f"{path}: the image id {key} appears twice")
        images[key] = image
        _add_image(path, number, image, found)
    for number, row in enumerate(value["annotations"]):
        place = f"{path}, annotation {number}"
        key = _key(row.get("image_id"))
        if key not in images:
            if "images" in value or not isinstance(row.get("image_id"), str):
                raise BadInput(f"{place}: image_id {row.get('image_id')!r} is not among the images of the file")
            images[key] = {"file_name": key}  # results that name their image
            found.setdefault(key, Annotation())
        image = images[key]
        item = found[str(image["file_name"])]
        if int(row.get("iscrowd") or 0) and not _brushed(row):
            item.notes.append(Note(CROWD, place, lost=True))
            continue
        outline = read_outline(place, row.get("segmentation"))
        box = _box(place, row, outline)
        if image.get("slice") is not None and len(box) == 4:
            low = slice_number(place, image["slice"])
            box = (*box[:2], low, *box[2:], low + 1)
        if add_box(item, box, _label(row, names, nameless), place, outlined=outline is not None):
            item.outlines.append(outline)


def _without_needless_outlines(found: Mapping[str, Annotation]) -> None:
    """Drop outlines where none says more than its box; else note the boxes without one."""
    pairs = [
        (one, box, place, outline)
        for one in found.values()
        for box, place, outline in zip(one.boxes, one.places, one.outlines, strict=True)
    ]
    if all(outline is None or outline.is_box(box) for _, box, _, outline in pairs):
        for one in found.values():
            one.outlines.clear()
        return
    for one, box, place, outline in pairs:
        if outline is None:
            one.notes.append(Note(NO_OUTLINE, place, f"box {list(box)}"))


def _add_image(path: str, number: int, image: dict[str, Any], found: dict[str, Annotation]) -> None:
    if "file_name" not in image:
        raise BadInput(f"{path}, image {number}: file_name is missing")
    name = str(image["file_name"])
    slices = image.get("slice") is not None  # several of one volume
    if name in found and not slices:
        raise BadInput(f"{path}: the image {name} appears twice")
    sides = [int(image[side]) for side in ("width", "height", "depth") if image.get(side) is not None]
    size = tuple(sides) if len(sides) > 1 and all(sides) and not slices else None
    item = Annotation(size=size, patient=text_or_none(image.get("patient")), split=text_or_none(image.get("split")))
    found.setdefault(name, item)


def _brushed(row: dict[str, Any]) -> bool:
    """Tell whether an annotation is one lesion that CVAT wrote, which calls the run lengths of each mask a crowd."""
    attributes = row.get("attributes")
    return isinstance(row.get("segmentation"), dict) and isinstance(attributes, dict) and "occluded" in attributes


def _box(place: str, row: dict[str, Any], outline: Outline | None) -> tuple[float, ...]:
    """Return the corners of an annotation: of its bbox, turned as CVAT says beside it, else of its outline."""
    bbox = row.get("bbox")
    if bbox and (outline is None or any(bbox[len(bbox) // 2 :])):
        box = corners(numbers(place, bbox), "xywh")
        attributes = row.get("attributes")
        turn = attributes.get("rotation") if isinstance(attributes, dict) else None
        if turn and len(box) == 4 and (outline is None or outline.is_box(box)):
            return turned_box(box, numbers(place, [turn], 1)[0])
        return box
    if outline is None:
        raise BadInput(f"{place}: neither a bbox nor a segmentation says where the box is")
    return outline.box


def coco(images: Sequence[ImageBoxes], names: Sequence[str]) -> dict[str, Any]:
    """Return COCO's JSON; numbers count from 1, in 3D a bbox has six."""
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i, image in enumerate(images, 1):
        known = {
            "patient": image.patient, "split": image.split, "width": image.width, "height": image.height,
            "depth": image.depth, "spacing": image.spacing,
        }  # fmt: skip
        own = {key: value for key, value in known.items() if value is not None}
        entries.append({"id": i, "file_name": image.file or image.id, **own})
        for item in image.boxes:
            box = low_and_size(item.box)
            annotations.append({
                "id": len(annotations) + 1, "image_id": i, "category_id": names.index(label_of(image, item)) + 1,
                "iscrowd": 0, "bbox": box, "area": float(np.prod(box[len(box) // 2 :])),
            })  # fmt: skip
    return {"images": entries, "annotations": annotations, "categories": _categories(names)}


def _categories(names: Sequence[str]) -> list[dict[str, Any]]:
    return [{"id": k, "name": name} for k, name in enumerate(names, 1)]


def _write_boxes(images: Sequence[ImageBoxes], names: Sequence[str], target: Path) -> None:
    _write(target, coco(images, names), ensure_ascii=False)


def _write(target: Path, content: dict[str, Any], ensure_ascii: bool = True) -> None:
    target.write_text(json.dumps(content, allow_nan=False, ensure_ascii=ensure_ascii) + "\n", encoding="utf-8")


def _write_detections(finds: Finds, target: Path) -> None:
    """Write COCO's images, categories, and annotations with a score."""
    files, slices = finds.columns.get("file"), finds.columns.get("slice")
    images: list[dict[str, Any]] = []
    for i, name in enumerate(finds.images):
        size = finds.size(i)
        entry = {"id": i + 1, "file_name": name if files is None else files[i], "name": name}
        entry |= dict(zip(("width", "height", "depth"), size or (), strict=False))
        images.append(entry | ({} if slices is None or slices[i] in (None, "") else {"slice": slices[i]}))
    found = finds.found
    rows = zip(found.boxes.tolist(), found.images.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True)
    annotations = [
        {"id": i, "image_id": image + 1, "category_id": label + 1, "score": score, "bbox": low_and_size(box),
         "area": float(np.prod(low_and_size(box)[len(box) // 2 :]))}
        for i, (box, image, label, score) in enumerate(rows, 1)
    ]  # fmt: skip
    _write(target, {"images": images, "annotations": annotations, "categories": _categories(finds.names)})


def _write_layout(images: Sequence[ImageBoxes], names: Sequence[str], folder: Path, known: Mapping[str, Known]) -> None:
    """annotations.json of all images and one file a split, beside images/; with segmentations where there are masks."""
    for file, split in [("annotations", None), *((split, split) for split in SPLITS)]:
        kept = [image for image in images if split in (None, image.split)]
        if kept:
            content = coco(kept, names)
            rows = iter(content["annotations"])
            for entry, image in zip(content["images"], kept, strict=True):
                entry["source"] = known[image.id].source
                if (segments := known[image.id].segments) is not None:
                    _add_segments(list(islice(rows, len(image.boxes))), segments())
            _write(folder / f"{file}.json", content)


def _add_segments(rows: Sequence[dict[str, Any]], segments: Sequence[np.ndarray]) -> None:
    """Add the run lengths and the area of each box's pixels (h, w); of a box without any it says nothing."""
    for row, pixels in zip(rows, segments, strict=True):
        if pixels.any():
            row["segmentation"] = {"size": list(pixels.shape), "counts": run_lengths(pixels)}
            row["area"] = float(pixels.sum())


def run_lengths(mask: np.ndarray) -> list[int]:
    """Return the run lengths of a mask (h, w), column by column, the background first."""
    flat = mask.astype(bool).ravel(order="F")
    ends = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    runs = np.diff(ends).tolist()
    return [0, *runs] if flat[0] else runs


FORM = Form(
    name="coco",
    title="COCO JSON",
    sniff=_sniff,
    read=_read,
    suffix=".json",
    write_boxes=_write_boxes,
    write_detections=_write_detections,
    layout=Layout(lambda image: f"images/{image.id}", _write_layout),
)
