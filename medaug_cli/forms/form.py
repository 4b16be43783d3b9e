"""What an annotation format is: how it is told, read and written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.boxes import ImageBoxes, LabelledBox
from medaug_cli.errors import BadInput
from medaug_cli.files import parse_json
from medaug_cli.forms.annotations import Annotation, Note
from medaug_cli.metrics.annotations import FoundBoxes
from medaug_cli.scans.reading import Scan, suffix_of

LITTER = ("__MACOSX",)  # folders that are never part of a data set, besides hidden ones


@dataclass(frozen=True)
class File:
    """A file that may hold annotations; its JSON is parsed once."""

    path: Path
    _parsed: list[Any] = field(default_factory=list, compare=False)

    @property
    def suffix(self) -> str:
        """Return the suffix, with both parts of one such as .nii.gz."""
        return suffix_of(self.path)

    @property
    def json(self) -> Any:
        """Return what a JSON file holds, None for another file; raise BadInput where it is broken."""
        if self.suffix != ".json":
            return None
        if not self._parsed:
            self._parsed.append(parse_json(self.path))
        return self._parsed[0]


def key_of(file: Path, folder: Path) -> str:
    """Return a file's path below a folder without its suffix."""
    relative = file.relative_to(folder)
    return relative.with_name(relative.name[: len(relative.name) - len(relative.suffix)]).as_posix()


@dataclass
class Marks:
    """What is read: a file or folder of annotations, and the scans that they are of."""

    path: Path
    files: list[File]  # of the form
    scans: Sequence[Scan]
    box_mode: str | None = None  # of a data list of MONAI
    notes: list[Note] = field(default_factory=list)  # of no single scan
    say: Callable[[str], None] = lambda sentence: None
    patient_column: str | None = None  # of a CSV
    box_columns: str | None = None  # what stands before the names of its columns of boxes, as rough of rough_x_min

    def key(self, file: File) -> str:
        """Return what a file that is of one image calls it: its own path below the folder, without its suffix."""
        return key_of(file.path, self.path if self.path.is_dir() else file.path.parent)


@dataclass(frozen=True)
class Finds:
    """Detections on some images, and what is known of each image."""

    images: Sequence[str]  # ids
    found: FoundBoxes
    names: Sequence[str]  # of the labels
    size: Callable[[int], tuple[int, ...] | None]  # image index -> width, height, and depth of boxes in 3D
    columns: Mapping[str, Sequence[object]] = field(default_factory=dict)  # more of each image: file, slice, patient


@dataclass(frozen=True)
class Known:
    """What else a store knows of an image: what drew it, or "real", and the pixels of each of its boxes."""

    source: str
    segments: Callable[[], Sequence[np.ndarray]] | None = None  # a mask (h, w) a box; None where there are no masks


@dataclass(frozen=True)
class Layout:
    """How a data set lies on the disk for the tools of a form: pictures or volumes, and annotations."""

    picture: Callable[[ImageBoxes], str]  # where a picture goes, without its suffix
    write: Callable[[Sequence[ImageBoxes], Sequence[str], Path, Mapping[str, Known]], None]
    # images, names of labels, the folder, and what else is known of each image by its id
    deep: bool = False  # whether it holds volumes, too
    patients: bool = True  # whether it names patients and splits, so that they are read again


@dataclass(frozen=True)
class Form:
    """An annotation format: one file in this folder, and one line in the catalogue."""

    name: str  # on the command line
    title: str  # in sentences
    sniff: Callable[[File], bool]  # whether a file is of this form
    read: Callable[[Marks], dict[str, Annotation]]  # by what the images are called
    suffix: str = ""  # of a file that is written; a folder is written where it is empty
    write_boxes: Callable[[Sequence[ImageBoxes], Sequence[str], Path], None] | None = None
    write_detections: Callable[[Finds, Path], None] | None = None
    layout: Layout | None = None


def label_of(image: ImageBoxes, item: LabelledBox) -> str:
    """Return a box's label, else its image's, else `lesion`."""
    return item.label or image.label or "lesion"


def label_names(images: Sequence[ImageBoxes]) -> list[str]:
    """Return the labels of some images in order."""
    return sorted({label_of(image, item) for image in images for item in image.boxes})


def place_of(image: ImageBoxes, folder: Path, suffix: str) -> Path:
    """Return where the boxes of a picture go: by the name of its file, in the same folders, as other tools look."""
    if image.file is None:
        return folder / f"{image.id}{suffix}"
    plain = image.file[: len(image.file) - len(suffix_of(Path(image.file)))]
    place = folder / f"{plain}{suffix}"
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def refuse_deep(images: Sequence[ImageBoxes], form: str) -> None:
    """Raise BadInput where a flat form is to hold boxes in 3D."""
    deep = next((image for image in images if image.depth is not None), None)
    if deep is not None:
        raise BadInput(f"image {deep.id} has boxes in 3D, which {form} does not have; choose coco, csv, monai or boxes")


def text_or_none(value: Any) -> str | None:
    """Return a value as text, None for None and for text that is blank."""
    text = "" if value is None else str(value).strip()
    return text or None
