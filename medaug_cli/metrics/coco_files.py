"""Read and write annotations and detections in COCO's JSON format.

`bbox` is x, y, width, height; in 3D x, y, z, width, height, depth. Every image may name its
`patient` and `spacing` (mm a pixel); `area` defaults to the box's own, `iscrowd` to 0, `id` of an
annotation may be missing.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated as Typed
from typing import Any, NotRequired, TypeVar

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from medaug_cli.boxes import one_spelling_each
from medaug_cli.errors import BadInput
from medaug_cli.files import read_text, readable
from medaug_cli.metrics import coco_rows
from medaug_cli.metrics.annotations import Annotated, FoundBoxes, TrueBoxes
from medaug_cli.metrics.coco_rows import Rows, lookup, rows_of

SMALL = 4_000_000  # bytes

Number = Typed[float, Field(allow_inf_nan=False)]
Id = Typed[int, Field(ge=-(2**63), lt=2**63)]


def _box(box: list[float]) -> list[float]:
    if len(box) not in (4, 6):
        raise ValueError("a bbox has 4 numbers (x, y, width, height), or 6 in 3D")
    if min(box[len(box) // 2 :]) < 0:
        raise ValueError(f"bbox {box} has a negative size")
    return box


Spacing = Typed[float, Field(gt=0, allow_inf_nan=False)]
Box = Typed[list[Number], AfterValidator(_box)]


@with_config(ConfigDict(extra="ignore"))
class CocoImage(TypedDict):
    """An image of a COCO file."""

    id: Id
    file_name: NotRequired[str]
    width: NotRequired[int]
    height: NotRequired[int]
    depth: NotRequired[int]
    slice: NotRequired[int | None]  # of a volume, where each slice is an image
    spacing: NotRequired[list[Spacing]]  # mm a pixel: x, y, in 3D z
    patient: NotRequired[str | int]


@with_config(ConfigDict(extra="ignore"))
class CocoCategory(TypedDict):
    """A kind of lesion of a COCO file."""

    id: Id
    name: str


@with_config(ConfigDict(extra="ignore"))
class CocoAnnotation(TypedDict):
    """A box of a COCO file: x, y, width, height in pixels."""

    image_id: Id
    category_id: Id
    bbox: Box
    id: NotRequired[Id]
    area: NotRequired[Number]
    iscrowd: NotRequired[Typed[int, Field(ge=0, le=1)]]


@with_config(ConfigDict(extra="ignore"))
class CocoTruth(TypedDict):
    """A file of COCO annotations, as far as it is read."""

    images: list[CocoImage]
    categories: list[CocoCategory]
    annotations: list[CocoAnnotation]


@with_config(ConfigDict(extra="ignore"))
class CocoDetection(TypedDict):
    """An entry of a file of COCO results."""

    image_id: Id
    category_id: Id
    bbox: Box
    score: Number


@with_config(ConfigDict(extra="ignore"))
class CocoFound(TypedDict):
    """Detections as `medaug detect --format coco` writes them: annotations that have a score."""

    annotations: list[CocoDetection]
    images: NotRequired[list[CocoImage]]
    categories: NotRequired[list[CocoCategory]]


TRUTH, DETECTIONS, FOUND = TypeAdapter(CocoTruth), TypeAdapter(list[CocoDetection]), TypeAdapter(CocoFound)
EITHER = TypeAdapter(list[CocoDetection] | CocoFound)  # what a file of detections may hold
IMAGES, CATEGORIES = TypeAdapter(list[CocoImage]), TypeAdapter(list[CocoCategory])
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class CocoAnnotated(Annotated):
    """A set of annotated images with COCO's own numbers of images and categories, both ascending."""

    images: list[CocoImage]
    category_ids: list[int]

    @property
    def image_ids(self) -> list[int]:
        """Return COCO's id of each image."""
        return [image["id"] for image in self.images]

    @property
    def names_patients(self) -> bool:
        """Tell whether any image says whose it is."""
        return any("patient" in image for image in self.images)


def read_truth(path: Path) -> CocoAnnotated:
    """Read annotations; raise BadInput with the place and the reason of the first fault."""
    rows, image_rows, category_rows = _truth_rows(path)
    images = sorted(image_rows, key=lambda image: image["id"])
    categories = sorted(category_rows, key=lambda category: category["id"])
    _refuse_twice(path, "image", [image["id"] for image in images])
    _refuse_twice(path, "category", [category["id"] for category in categories])
    _refuse_twice(path, "annotation", rows.ids)
    _refuse_namesakes(path, categories)
    image_ids, category_ids = [image["id"] for image in images], [category["id"] for category in categories]
    where = _looked_up(path, "image_id", rows.images, image_ids, "images")
    labels = _looked_up(path, "category_id", rows.categories, category_ids, "categories")
    boxes, volumes, dims = _corners(rows.boxes)
    areas = np.where(np.isnan(rows.values), volumes, rows.values)
    names = tuple(image.get("file_name", str(image["id"])) for image in images)
    patients = tuple(one_spelling_each([str(image.get("patient", f"image {image['id']}")) for image in images]))
    truth = TrueBoxes(where, labels, boxes=boxes, volumes=volumes, areas=areas, crowd=rows.crowd)
    label_names = tuple(category["name"] for category in categories)
    spacing = _spacing(path, images, dims)
    return CocoAnnotated(
        names,
        patients,
        label_names=label_names,
        truth=truth,
        dims=dims,
        spacing=spacing,
        images=images,
        category_ids=category_ids,
    )


def _spacing(path: Path, images: Sequence[CocoImage], dims: int) -> np.ndarray | None:
    """Return the mm a pixel of each image (images, d); None unless every image names them."""
    if not images or not all("spacing" in image for image in images):
        return None
    wrong = next((image for image in images if len(image["spacing"]) != dims), None)
    if wrong is not None:
        raise BadInput(f"{path}: image {wrong['id']}: spacing has {len(wrong['spacing'])} numbers, expected {dims}")
    return np.array([image["spacing"] for image in images], np.float64)


def read_detections(path: Path, data: CocoAnnotated) -> tuple[FoundBoxes, list[int]]:
    """Read detections on the images of `data`; return them and the category id of each label.

    Detections of a category that `data` lacks have the labels len(data.label_names) and up: they are
    false positives of classes that have no box. Raises BadInput at an unknown image, NaN or a negative size.
    """
    rows = _detection_rows(path, data)
    where = _looked_up(path, "image_id", rows.images, data.image_ids, "the truth's images")
    labels = lookup(rows.categories, data.category_ids)
    strange = labels < 0
    ids, first, which = np.unique(rows.categories[strange], return_index=True, return_inverse=True)
    turn = np.argsort(first)  # in the order in which they come
    labels[strange] = len(data.category_ids) + np.argsort(turn)[which]
    if len(rows.boxes) and rows.boxes.shape[1] != 2 * data.dims:
        raise BadInput(f"{path}: 0.bbox: {rows.boxes.shape[1]} numbers where the annotations have {2 * data.dims}")
    boxes, volumes, _ = _corners(rows.boxes if len(rows.boxes) else np.empty((0, 2 * data.dims)))
    return FoundBoxes(where, labels, boxes, volumes, rows.values), [*data.category_ids, *ids[turn].tolist()]


def _truth_rows(path: Path) -> tuple[Rows, list[CocoImage], list[CocoCategory]]:
    readable(path)
    plain = coco_rows.read_truth(path) if _is_large(path) else None
    if plain is not None:
        with suppress(ValidationError):  # then the whole file is read again, to name the fault's place in it
            return plain[0], IMAGES.validate_json(plain[1]), CATEGORIES.validate_json(plain[2])
    content = _parsed(path, TRUTH)
    _refuse_unequal(path, content["annotations"])
    return rows_of(content["annotations"], "area"), content["images"], content["categories"]


def _detection_rows(path: Path, data: CocoAnnotated) -> Rows:
    readable(path)
    plain = coco_rows.read_detections(path) if _is_large(path) else None
    if plain is not None:
        return plain
    if read_text(path).lstrip()[:1] != "{":
        content = _parsed(path, DETECTIONS)
        _refuse_unequal(path, content)
        return rows_of(content, "score")
    found = _parsed(path, FOUND)
    _refuse_unequal(path, found["annotations"])
    rows = rows_of(found["annotations"], "score")
    return replace(
        rows,
        images=_translated(rows.images, _same_images(path, found.get("images", []), data)),
        categories=_translated(rows.categories, _same_categories(found.get("categories", []), data)),
    )


def _is_large(path: Path) -> bool:
    """Tell whether compiled code reads a file sooner, the time to load it included, than pydantic does."""
    return path.stat().st_size > SMALL


def _same_images(path: Path, images: Sequence[CocoImage], data: CocoAnnotated) -> dict[int, int]:
    """Return the truth's number of each image that a file of detections names as the truth does.

    Raises BadInput where the two name images and none is the same: their numbers then mean nothing.
    """
    known = {_image_key(image): image["id"] for image in data.images if "file_name" in image}
    named = [image for image in images if "file_name" in image]
    found = {image["id"]: known[_image_key(image)] for image in named if _image_key(image) in known}
    if named and known and not found:
        raise BadInput(
            f"{path} names no image as the truth does ({named[0]['file_name']!r}, not {next(iter(known))[0]!r})"
        )
    strange = {image["id"]: -1 - i for i, image in enumerate(named) if image["id"] not in found}
    return found | (strange if known else {})


def _image_key(image: CocoImage) -> tuple[str, int | None]:
    return image["file_name"], image.get("slice")


def _same_categories(categories: Sequence[CocoCategory], data: CocoAnnotated) -> dict[int, int]:
    """Return the truth's number of each category that a file of detections calls as the truth does."""
    known = dict(zip(data.label_names, data.category_ids, strict=True))
    found = {each["id"]: known[each["name"]] for each in categories if each["name"] in known}
    taken = set(data.category_ids)
    free = max([*taken, *(each["id"] for each in categories), 0]) + 1
    strange = [each["id"] for each in categories if each["id"] not in found]
    return found | {number: free + i if number in taken else number for i, number in enumerate(strange)}


def _translated(numbers: np.ndarray, into: Mapping[int, int]) -> np.ndarray:
    return np.array([into.get(number, number) for number in numbers.tolist()], np.int64)


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
    if data.spacing is not None:
        images = [image | {"spacing": steps} for image, steps in zip(images, data.spacing.tolist(), strict=True)]
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


def _refuse_twice(path: Path, kind: str, numbers: Sequence[int] | np.ndarray) -> None:
    found, counts = np.unique(np.asarray(numbers, np.int64), return_counts=True)
    if (counts > 1).any():
        raise BadInput(f"{path}: {kind} id {found[np.argmax(counts > 1)]} appears twice")


def _refuse_namesakes(path: Path, categories: Sequence[CocoCategory]) -> None:
    numbers: dict[str, int] = {}
    for category in categories:
        other = numbers.setdefault(category["name"], category["id"])
        if other != category["id"]:
            raise BadInput(
                f"{path}: categories {other} and {category['id']} are both called {category['name']!r}; "
                "give each a name of its own"
            )


def _refuse_unequal(path: Path, rows: Sequence[Any]) -> None:
    lengths = [len(row["bbox"]) for row in rows]
    wrong = next((i for i, length in enumerate(lengths) if length != lengths[0]), None)
    if wrong is not None:
        raise BadInput(f"{path}: {wrong}.bbox: {lengths[wrong]} numbers where others have {lengths[0]}")


def _looked_up(path: Path, key: str, numbers: np.ndarray, known: Sequence[int], among: str) -> np.ndarray:
    found = lookup(numbers, known)
    if (found < 0).any():
        place = int(np.argmax(found < 0))
        raise BadInput(f"{path}: {place}.{key}: {numbers[place]} is not among {among}")
    return found


def _corners(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Return corners (n, 2*d), volumes (n,) and d of boxes (n, 2*d) that are a corner and sides."""
    dims = boxes.shape[1] // 2 or 2
    boxes = boxes.reshape(-1, 2 * dims)
    volumes = np.prod(boxes[:, dims:], axis=1)
    boxes[:, dims:] += boxes[:, :dims]
    return boxes, volumes, dims
