"""Read boxes in whatever form people have them: boxes.json, CSV, COCO, YOLO, VOC, data lists or masks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import parse_json
from medaug_cli.scans.masks import Labels, label_names
from medaug_cli.scans.pairing import Say, pair_masks
from medaug_cli.scans.reading import Scan, stem_of, suffix_of, suffixes

FORMATS = "a boxes.json, COCO JSON, MONAI data list or CSV file, or a folder of YOLO .txt, VOC .xml or mask files"
SLACK = 1.0  # pixels that a box may reach over the border; they are cut off
BOX_MODES = ("xyxy", "xxyy", "xywh", "ccwh", "xyxy-mm", "xxyy-mm", "xywh-mm", "ccwh-mm")


@dataclass
class Annotation:
    """What is known of one image, in its own pixels."""

    boxes: list[tuple[float, ...]] = field(default_factory=list)  # (x_min, y_min, x_max, y_max), or six in 3D
    labels: list[str] = field(default_factory=list)
    patient: str | None = None
    split: str | None = None
    size: tuple[int, ...] | None = None  # width, height and depth that the file claims
    mask: Path | None = None
    more_masks: tuple[Path, ...] = ()  # further parts of the mask, each a lesion of its own
    mask_labels: Labels | None = None  # what the values of the mask stand for
    millimetres: bool = False  # boxes are places in DICOM's axes rather than voxels

    @property
    def masks(self) -> tuple[Path, ...]:
        """Return the files of the mask, the parts of one picture in order."""
        return () if self.mask is None else (self.mask, *self.more_masks)

    def arrays(self) -> np.ndarray:
        """Return the boxes (m, 4), or (m, 6) in 3D, float32."""
        sides = len(self.boxes[0]) if self.boxes else 4
        return np.array(self.boxes, np.float32).reshape(-1, sides)


Form = Callable[[Path, Sequence[Scan]], dict[str, Annotation]]


def read_annotations(path: Path, scans: Sequence[Scan], box_mode: str | None = None) -> dict[str, Annotation]:
    """Return the annotation of each scan that has one, by scan id; `box_mode` says what a data list's numbers are.

    Raises BadInput for a form that is not known, for a box that is none, and for an image that is not among the scans.
    """
    if not path.exists():
        raise BadInput(f"{path} does not exist")
    named = _form(path, box_mode)(path, scans)
    names = _names(scans)
    found: dict[str, Annotation] = {}
    unknown = [name for name in named if names.get(name) is None]
    if unknown:
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise BadInput(f"{path} speaks of image {unknown[0]!r}, which is not among the scans{more}")
    for name, annotation in named.items():
        if str(names[name]) in found:
            raise BadInput(f"{path} speaks of {names[name]} twice, under two names")
        found[str(names[name])] = annotation
    return found


def _names(scans: Sequence[Scan]) -> dict[str, str | None]:
    """Return every name that an image may be called by -> its id; None where two images share it."""
    names: dict[str, str | None] = {}
    for scan in scans:
        for name in {scan.id, scan.relative, scan.name.rpartition("/")[2], *(() if scan.files else (scan.path.name,))}:
            names[name] = None if name in names and names[name] != scan.id else scan.id
    return names | {scan.id: scan.id for scan in scans}


def _form(path: Path, box_mode: str | None) -> Form:
    from medaug_cli.forms import annotation_forms as forms

    if box_mode is not None and box_mode not in BOX_MODES:
        raise UsageError(f"--box-mode {box_mode}: the choices are {', '.join(BOX_MODES)}")
    if path.is_file():
        suffix = suffix_of(path)
        value = parse_json(path) if suffix == ".json" else None
        if isinstance(value, dict) and {"training", "validation", "testing", "test"} & value.keys():
            return lambda path, scans: forms.read_data_list(path, value, box_mode or "xyxy")
        _refuse_mode(path, box_mode)
        if suffix == ".csv":
            return forms.read_csv
        if suffix == ".json":
            coco = isinstance(value, dict) and "annotations" in value
            return (lambda path, scans: forms.read_coco(path, value)) if coco else forms.read_boxes_json
        if suffix in suffixes(volumes=True):
            return read_masks
        raise UsageError(f"{path} is no annotation that is known; the choices are {FORMATS}")
    _refuse_mode(path, box_mode)
    kinds = [suffix_of(file) for file in path.rglob("*") if file.is_file()]
    for suffix, reader in ((".xml", forms.read_voc), (".txt", forms.read_yolo)):
        if suffix in kinds:
            return reader
    if any(kind in suffixes() for kind in kinds):
        return read_masks
    raise UsageError(f"{path} holds no annotation that is known; the choices are {FORMATS}")


def _refuse_mode(path: Path, box_mode: str | None) -> None:
    if box_mode is not None:
        raise UsageError(f"--box-mode is for MONAI's data lists; {path} is none, its form says what its numbers are")


def read_masks(path: Path, scans: Sequence[Scan], say: Say = lambda sentence: None) -> dict[str, Annotation]:
    """Find the mask of each scan that has one, and what its values stand for; see pair_masks."""
    return {
        name: Annotation(mask=masks[0], more_masks=masks[1:], mask_labels=label_names(masks[0]))
        for name, masks in pair_masks(path, scans, say).masks.items()
    }


def with_masks(
    boxes: dict[str, Annotation], path: Path, scans: Sequence[Scan], say: Say = lambda sentence: None
) -> dict[str, Annotation]:
    """Return annotations by boxes with the masks that their scans have."""
    masks = read_masks(path, scans, say)
    return {
        name: replace(one, mask=own.mask, more_masks=own.more_masks, mask_labels=own.mask_labels)
        if (own := masks.get(name)) else one
        for name, one in boxes.items()
    }  # fmt: skip


def holds_masks(path: Path) -> bool:
    """Tell whether a folder of annotations holds masks rather than files of text."""
    kinds = {suffix_of(file) for file in path.rglob("*") if file.is_file()} if path.is_dir() else set()
    return bool(kinds & set(suffixes())) and not kinds & {".xml", ".txt"}


def inside(boxes: np.ndarray, width: int, height: int, place: str) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes (m, 4) cut off at the image's border and which of them are not empty, (m,) bool.

    Raises BadInput for a box that reaches further out than SLACK.
    """
    cut, whole = inside_volume(boxes, (width, height), place)
    return cut, whole


def inside_volume(boxes: np.ndarray, size: Sequence[int], place: str) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes (m, 2*d) cut off at the border of an image of `size` (x first), and which are not empty, (m,) bool.

    Raises BadInput for a box that reaches further out than SLACK.
    """
    d = len(size)
    cut = np.clip(boxes, 0, np.tile(np.array(size, np.float32), 2))
    far = (np.abs(cut - boxes) > SLACK).any(1)
    if far.any():
        shape = "x".join(map(str, size))
        raise BadInput(f"{place}: the box {boxes[far][0].tolist()} lies outside its image of {shape} pixels")
    return cut, (cut[:, d:] > cut[:, :d]).all(1)

__all__ = ["Annotation", "inside", "inside_volume", "read_annotations", "stem_of"]
