"""What a store says of itself and of each image, and the rules that no store may break.

File layout (all datasets contiguous and uncompressed, so that images are read by memory map):

    images (n, c, *s) uint8 | uint16     masks (n, *s) uint8, optional
    boxes (total, 2*d) float32           box_labels (total,) int32       box_offsets (n + 1,) int64
    id, patient, split, source, details (n,) UTF-8 strings               seed (n,) int64, -1 for real images
    optional: classes (n,) int32, -1 unknown      spacing (n, d) float32 mm in numpy axis order, NaN unknown
              annotated (n,) uint8, 0 where nobody looked for lesions: no box there does not mean a normal image
    attributes: medaug = 1, info = StoreInfo as JSON, hash = SHA-256 of the content
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medaug_cli.boxes import SPLITS, Strict
from medaug_cli.errors import BadInput

REAL = "real"
EXTERNAL = "external:"  # before the name of where an image comes from that is not of the data set itself
LEARNT_FROM = "learnt_from"  # the setting of a store that names by their hashes what judged its images
TEXT_COLUMNS = ("id", "patient", "split", "source", "details")
OPTIONAL_COLUMNS = {"classes": ("int32", -1), "spacing": ("float32", float("nan")), "annotated": ("uint8", 1)}


class GeneratorOrigin(Strict):
    """Which generator drew a synthetic image, and what it had seen."""

    name: str
    version: str
    hash: str  # of its weights
    training_store: str  # hash of the store it was fitted on
    training_patients: list[str]  # digests of the patients it was fitted on


class StoreInfo(Strict):
    """What made a store: enough to make it again."""

    version: Literal[1] = 1
    tool_version: str
    command: str
    settings: dict[str, Any]
    seed: int
    label_names: list[str]
    inputs: dict[str, str] = {}  # name of an input file -> its SHA-256
    generators: list[GeneratorOrigin] = []
    class_names: list[str] = []  # of whole images
    mask_names: list[str] = []  # of the values 1, 2, ... of masks, where there are several


@dataclass
class Record:
    """One image on its way into a store."""

    id: str
    image: np.ndarray  # (c, *s) uint8 or uint16
    boxes: np.ndarray  # (m, 2*d) float32
    labels: list[str]  # (m,) names out of StoreInfo.label_names
    patient: str
    split: str
    source: str = REAL  # or EXTERNAL and a name, or the generator's name
    seed: int = -1
    mask: np.ndarray | None = None  # (*s) uint8, 0 outside
    details: dict[str, Any] = field(default_factory=dict)  # what happened to it, as JSON
    image_class: str | None = None  # out of StoreInfo.class_names
    spacing: tuple[float, ...] | None = None  # mm in numpy axis order
    annotated: bool = True  # False: lesions were not looked for


@dataclass
class Columns:
    """The small tables of a store, in memory: everything but the pixels."""

    id: list[str]
    patient: list[str]
    split: list[str]
    source: list[str]
    details: list[str]
    seed: np.ndarray  # (n,) int64
    boxes: np.ndarray  # (total, 2*d) float32
    box_labels: np.ndarray  # (total,) int32
    box_offsets: np.ndarray  # (n + 1,) int64
    classes: np.ndarray | None = None  # (n,) int32, indices into StoreInfo.class_names
    spacing: np.ndarray | None = None  # (n, d) float32
    annotated: np.ndarray | None = None  # (n,) uint8


def source_kind(source: str) -> Literal["real", "external", "synthetic"]:
    """Tell what an image's source makes of it: a scan of the data set, one from elsewhere, or a drawn image."""
    if source == REAL:
        return "real"
    return "external" if source.startswith(EXTERNAL) else "synthetic"


def check_rules(path: Path, columns: Columns, spatial: tuple[int, ...], info: StoreInfo) -> None:
    """Raise BadInput where a store breaks a rule: ids, splits, patients, synthetic images, boxes, classes."""
    _check_ids_and_splits(path, columns)
    _check_boxes(path, columns, spatial, len(info.label_names))
    _check_optional(path, columns, len(spatial), len(info.class_names))


def _check_optional(path: Path, columns: Columns, dims: int, class_count: int) -> None:
    n = len(columns.id)
    shapes = {"classes": (n,), "spacing": (n, dims), "annotated": (n,)}
    for name, shape in shapes.items():
        values = getattr(columns, name)
        if values is not None and values.shape != shape:
            raise BadInput(f"{path}: {name} has the shape {values.shape}, expected {shape}")
    classes = columns.classes
    if classes is not None and ((classes < -1) | (classes >= class_count)).any():
        raise BadInput(f"{path}: an image has a class that is not among the store's class names")


def _check_ids_and_splits(path: Path, columns: Columns) -> None:
    if len(set(columns.id)) != len(columns.id):
        raise BadInput(f"{path}: an image id appears twice")
    home: dict[str, str] = {}
    for name, patient, split, source in zip(columns.id, columns.patient, columns.split, columns.source, strict=True):
        if split not in SPLITS:
            raise BadInput(f"{path}: image {name} has the split {split!r}; the choices are {', '.join(SPLITS)}")
        kind = source_kind(source)
        if kind != "real" and split != "train":
            raise BadInput(f"{path}: {kind} image {name} stands in the {split} split; it may only be used for training")
        if kind != "synthetic" and home.setdefault(patient, split) != split:
            raise BadInput(
                f"{path}: patient {patient} is in both the {home[patient]} and {split} splits; split by patient"
            )


def _check_boxes(path: Path, columns: Columns, spatial: tuple[int, ...], label_count: int) -> None:
    boxes, d = columns.boxes, len(spatial)
    offsets = columns.box_offsets
    if (
        len(offsets) != len(columns.id) + 1
        or offsets[0] != 0
        or offsets[-1] != len(boxes)
        or (np.diff(offsets) < 0).any()
    ):
        raise BadInput(f"{path}: the table of boxes does not fit the number of images")
    if boxes.shape[1:] != (2 * d,) or len(columns.box_labels) != len(boxes):
        raise BadInput(f"{path}: the table of boxes has the shape {boxes.shape}; expected (boxes, {2 * d})")
    size = np.array(spatial[::-1], np.float32)
    bad = ~(np.isfinite(boxes).all(1) & (boxes[:, :d] >= 0).all(1) & (boxes[:, d:] <= size).all(1))
    bad |= ~(boxes[:, d:] > boxes[:, :d]).all(1)
    if bad.any():
        row = int(np.argmax(bad))
        image = columns.id[int(np.searchsorted(offsets, row, "right")) - 1]
        raise BadInput(f"{path}: box {boxes[row].tolist()} of image {image} is empty or reaches outside the image")
    if ((columns.box_labels < 0) | (columns.box_labels >= label_count)).any():
        raise BadInput(f"{path}: a box has a label that is not among the store's label names")
