"""Boxes and boxes.json: half-open pixel corners, low corner then high corner, x first."""

import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from medaug_cli.files import read_json, write_json

SPLITS = ("train", "val", "test")
Split = Literal["train", "val", "test"]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
Pixels = Annotated[int, Field(ge=1, le=65536)]
Millimetres = Annotated[float, Field(ge=1e-9, le=1e9)]  # far wider than any image's, and no trouble in float32


class Strict(BaseModel):
    """A file's model: unknown keys, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class LabelledBox(Strict):
    """One lesion: x_min, y_min, x_max, y_max in pixels (x_min, y_min, z_min, x_max, ... in 3D)."""

    box: list[float] = Field(min_length=4, max_length=6)
    label: str | None = None

    @field_validator("box")
    @classmethod
    def _corners(cls, box: list[float]) -> list[float]:
        if len(box) == 5:
            raise ValueError("a box has 4 numbers, or 6 in 3D")
        low, high = np.array(box, np.float32).reshape(2, -1)  # as a store has them
        if (high <= low).any():
            raise ValueError(f"box {box} is empty: each high corner must exceed its low corner")
        return box


class ImageBoxes(Strict):
    """The boxes of one image; none for a normal slice."""

    id: Identifier
    width: Pixels
    height: Pixels
    depth: Pixels | None = None
    patient: str | None = None
    split: Split | None = None
    label: str | None = None
    file: str | None = None
    spacing: list[Millimetres] | None = None  # mm between pixels, x first
    annotated: Literal[False] | None = None  # false: nobody looked for lesions, so it is not a normal slice
    boxes: list[LabelledBox] = []

    @property
    def spatial(self) -> tuple[int, ...]:
        """Return (height, width) or (depth, height, width)."""
        return (self.height, self.width) if self.depth is None else (self.depth, self.height, self.width)

    @model_validator(mode="after")
    def _inside(self) -> Self:
        size = self.spatial[::-1]
        if self.spacing is not None and len(self.spacing) != len(size):
            raise ValueError(f"the spacing of image {self.id!r} must have {len(size)} numbers")
        for item in self.boxes:
            if len(item.box) != 2 * len(size):
                raise ValueError(f"box {item.box} of image {self.id!r} must have {2 * len(size)} numbers")
            half = len(size)
            if min(item.box[:half]) < 0 or any(h > s for h, s in zip(item.box[half:], size, strict=True)):
                raise ValueError(
                    f"box {item.box} reaches outside image {self.id!r} of {'x'.join(map(str, size))} pixels"
                )
        return self

    def arrays(self) -> tuple[np.ndarray, list[str]]:
        """Return the boxes (m, 2*d) as float32 and their labels; the image's label where a box has none."""
        boxes = np.array([item.box for item in self.boxes], np.float32).reshape(-1, 2 * len(self.spatial))
        return boxes, [item.label or self.label or "lesion" for item in self.boxes]


class BoxesFile(Strict):
    """boxes.json, version 1."""

    version: Literal[1]
    store: str | None = None  # SHA-256 of the content of the store whose boxes they are
    images: list[ImageBoxes]

    @model_validator(mode="after")
    def _unique(self) -> Self:
        seen: set[str] = set()
        for image in self.images:
            if image.id in seen:
                raise ValueError(f"image id {image.id!r} appears twice")
            seen.add(image.id)
        return self


def read_boxes(path: Path) -> BoxesFile:
    """Read a boxes.json; raise BadInput with the place and the reason of what is wrong."""
    return read_json(path, BoxesFile)


def write_boxes(path: Path, boxes: BoxesFile) -> None:
    """Publish a boxes.json."""
    write_json(path, boxes)


def one_spelling_each(names: Sequence[str]) -> list[str]:
    """Return names (n), each in the spelling that comes first: case and blanks around it do not matter."""
    first: dict[str, str] = {}
    return [first.setdefault(folded(name), name) for name in names]


def folded(name: str) -> str:
    """Return a patient's name without what differs by accident: case, blanks at the ends, forms of one letter."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def digest_patient(patient: str) -> str:
    """Return a short digest of a patient's name, however it is spelt: enough to compare, not to read."""
    return _digest(folded(patient))


def patients_seen(patients: Iterable[str], digests: Collection[str]) -> set[str]:
    """Return those of some patients whose digest is among others; earlier versions digested a name as it is spelt."""
    return {each for each in patients if not {digest_patient(each), _digest(each)}.isdisjoint(digests)}


def with_patients(digests: Collection[str], patients: Iterable[str]) -> list[str]:
    """Return digests together with those of patients who are not among them, sorted; nobody is counted twice."""
    names = set(patients)
    return sorted({*digests, *map(digest_patient, names - patients_seen(names, digests))})


def _digest(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()


def safe_id(text: str) -> str:
    """Return `text` with every character an id may not have replaced by '-'."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)[:128] or "-"


def scaled(boxes: np.ndarray, old: tuple[int, ...], new: tuple[int, ...]) -> np.ndarray:
    """Scale boxes (m, 2*d) of an image of shape `old` to shape `new` (both in numpy order)."""
    factor = np.array(new[::-1], np.float64) / np.array(old[::-1], np.float64)
    return (boxes * np.tile(factor, 2)).astype(np.float32)
