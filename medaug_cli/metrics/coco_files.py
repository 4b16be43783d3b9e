"""Read and write annotations and detections in COCO's JSON format.

`bbox` is x, y, width, height; in 3D x, y, z, width, height, depth. Every image may name its
`patient`; `area` defaults to the box's own, `iscrowd` to 0, `id` of an annotation may be missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated as Typed
from typing import Any, NotRequired, TypeVar

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from medaug_cli.errors import BadInput
from medaug_cli.files import read_text
from medaug_cli.metrics.annotations import Annotated, FoundBoxes, TrueBoxes

Number = Typed[float, Field(allow_inf_nan=False)]


def _box(box: list[float]) -> list[float]:
    if len(box) not in (4, 6):
        raise ValueError("a bbox has 4 numbers (x, y, width, height), or 6 in 3D")
    if min(box[len(box) // 2 :]) < 0:
        raise ValueError(f"bbox {box} has a negative size")
    return box


Box = Typed[list[Number], AfterValidator(_box)]


@with_config(ConfigDict(extra="ignore"))
class CocoImage(TypedDict):
    id: int
    file_name: NotRequired[str]
    width: NotRequired[int]
    height: NotRequired[int]
    depth: NotRequired[int]
    patient: NotRequired[str | int]


@with_config(ConfigDict(extra="ignore"))
class CocoCategory(TypedDict):
    id: int
    name: str


@with_config(ConfigDict(extra="ignore"))
class CocoAnnotation(TypedDict):
    image_id: int
    category_id: int
    bbox: Box
    id: NotRequired[int]
    area: NotRequired[Number]
    iscrowd: NotRequired[Typed[int, Field(ge=0, le=1)]]


@with_config(ConfigDict(extra="ignore"))
class CocoTruth(TypedDict):
    images: list[CocoImage]
    categories: list[CocoCategory]
    annotations: list[CocoAnnotation]


@with_config(ConfigDict(extra="ignore"))
class CocoDetection(TypedDict):
    image_id: int
    category_id: int
    bbox: Box
    score: Number


TRUTH, DETECTIONS = TypeAdapter(CocoTruth), TypeAdapter(list[CocoDetection])
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class CocoAnnotated(Annotated):
    """A set of annotated images with COCO's own numbers of images and categories, both ascending."""

    images: list[CocoImage]
    category_ids: list[int]

    @property
    def image_ids(self) -> list[int]:
        return [image["id"] for image in self.images]

    @property
    def names_patients(self) -> bool:
        """Tell whether any image says whose it is."""
        return any("patient" in image for image in self.images)


def read_truth(path: Path) -> CocoAnnotated:
    """Read annotations; raise BadInput with the place and the reason of the first fault."""
    content = _parsed(path, TRUTH)
    images = sorted(content["images"], key=lambda image: image["id"])
    categories = sorted(content["categories"], key=lambda category: category["id"])
    image_index = _unique(path, "image", [image["id"] for image in images])
    class_index = _unique(path, "category", [category["id"] for category in categories])
    annotations = content["annotations"]
    _unique(path, "annotation", [a["id"] for a in annotations if "id" in a])
    where = _looked_up(path, annotations, "image_id", image_index, "images")
    labels = _looked_up(path, annotations, "category_id", class_index, "categories")
    boxes, volumes, dims = _corners(path, annotations, None)
    areas = np.array([a.get("area", v) for a, v in zip(annotations, volumes, strict=True)], np.float64)
    crowd = np.array([a.get("iscrowd", 0) for a in annotations], bool)
    names = tuple(image.get("file_name", str(image["id"])) for image in images)
    patients = tuple(str(image.get("patient", f"image {image['id']}")) for image in images)
    truth = TrueBoxes(where, labels, boxes, volumes, areas, crowd)
    label_names = tuple(category["name"] for category in categories)
    return CocoAnnotated(names, patients, label_names, truth, dims, images=images, category_ids=list(class_index))


def read_detections(path: Path, data: CocoAnnotated) -> tuple[FoundBoxes, list[int]]:
    """Read detections on the images of `data`; return them and the category id of each label.

    Detections of a category that `data` lacks have the labels len(data.label_names) and up: they are
    false positives of classes that have no box. Raises BadInput at an unknown image, NaN or a negative size.
    """
    content = _parsed(path, DETECTIONS)
    where = _looked_up(path, content, "image_id", {k: i for i, k in enumerate(data.image_ids)}, "the truth's images")
    classes = {k: i for i, k in enumerate(data.category_ids)}
    labels = np.array([classes.setdefault(d["category_id"], len(classes)) for d in content], np.int64)
    boxes, volumes, _ = _corners(path, content, data.dims)
    found = FoundBoxes(where, labels, boxes, volumes, np.array([d["score"] for d in content], np.float64))
    return found, list(classes)


def as_detections(found: FoundBoxes, image_ids: Sequence[int], category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Return detections as COCO writes them, `bbox` as x, y, width, height."""
    d = found.boxes.shape[1] // 2
    sides = np.hstack([found.boxes[:, :d], found.boxes[:, d:] - found.boxes[:, :d]]).tolist()
    rows = zip(found.images.tolist(), found.labels.tolist(), sides, found.scores.tolist(), strict=True)
    return [
        {"image_id": image_ids[image], "category_id": category_ids[label], "bbox": box, "score": score}
        for image, label, box, score in rows
    ]


def as_truth(data: Annotated, spatial: tuple[int, ...]) -> dict[str, Any]:
    """Return annotated images of one size (numpy order) as COCO writes them; numbers count from 1."""
    size = dict(zip(("width", "height", "depth"), spatial[::-1], strict=False))
    names = zip(data.image_names, data.patients, strict=True)
    images = [{"id": i, "file_name": name, "patient": patient, **size} for i, (name, patient) in enumerate(names, 1)]
    truth, d = data.truth, data.dims
    sides = np.hstack([truth.boxes[:, :d], truth.boxes[:, d:] - truth.boxes[:, :d]]).tolist()
    annotations = [
        {"id": i, "image_id": int(image) + 1, "category_id": int(label) + 1, "bbox": box, "area": area, "iscrowd": 0}
        for i, (image, label, box, area) in enumerate(
            zip(truth.images, truth.labels, sides, truth.areas.tolist(), strict=True), 1
        )
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(data.label_names, 1)]
    return {"images": images, "categories": categories, "annotations": annotations}


def _parsed(path: Path, adapter: TypeAdapter[T]) -> T:
    text = read_text(path)
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"])) or "the whole file"
        raise BadInput(f"{path}: {place}: {fault['msg'].removeprefix('Value error, ')}") from error


def _unique(path: Path, kind: str, numbers: list[int]) -> dict[int, int]:
    index = {number: i for i, number in enumerate(numbers)}
    if len(index) != len(numbers):
        twice = next(number for i, number in enumerate(numbers) if index[number] != i)
        raise BadInput(f"{path}: {kind} id {twice} stands twice")
    return index


def _looked_up(path: Path, rows: Sequence[Any], key: str, index: Mapping[int, int], among: str) -> np.ndarray:
    found = np.array([index.get(row[key], -1) for row in rows], np.int64)
    if (found < 0).any():
        place = int(np.argmax(found < 0))
        raise BadInput(f"{path}: {place}.{key}: {rows[place][key]} is not among {among}")
    return found


def _corners(path: Path, rows: Sequence[Any], dims: int | None) -> tuple[np.ndarray, np.ndarray, int]:
    dims = dims or (len(rows[0]["bbox"]) // 2 if rows else 2)
    wrong = [i for i, row in enumerate(rows) if len(row["bbox"]) != 2 * dims]
    if wrong:
        raise BadInput(f"{path}: {wrong[0]}.bbox: {len(rows[wrong[0]]['bbox'])} numbers where others have {2 * dims}")
    values = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 2 * dims)
    low, sides = values[:, :dims], values[:, dims:]
    return np.hstack([low, low + sides]), np.prod(sides, axis=1), dims
