"""What is known of a scan's lesions, and what was found wrong with it, whatever form of file it came in."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medaug_cli.forms.outlines import Outline
from medaug_cli.scans.masks import Labels


@dataclass(frozen=True)
class Note:
    """Something in an annotation that is not as it should be, and what was done about it."""

    what: str  # in words that are the same for all of its kind, so that they can be counted
    place: str  # file and line, or file and number of the annotation
    detail: str = ""
    lost: bool = False  # something annotated is not used

    @property
    def leaves_out(self) -> bool:
        """Tell whether something is not used, annotated or not."""
        return self.lost or self.what.endswith("left out")

    def __str__(self) -> str:
        return f"{self.what} ({self.place}{f': {self.detail}' if self.detail else ''})"


@dataclass
class Annotation:
    """What is known of one image, in its own pixels."""

    boxes: list[tuple[float, ...]] = field(default_factory=list)  # (x_min, y_min, x_max, y_max), or six in 3D
    labels: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)  # where each box stands
    unlabelled: list[str] = field(default_factory=list)  # where each box stands that has no label of its own
    outlines: list[Outline | None] = field(default_factory=list)  # of each box, or none at all
    patient: str | None = None
    split: str | None = None
    image_class: str | None = None  # of the whole image
    size: tuple[int, ...] | None = None  # width, height and depth that the file claims
    mask: Path | None = None
    more_masks: tuple[Path, ...] = ()  # further parts of the mask, each a lesion of its own
    mask_labels: Labels | None = None  # what the values of the mask stand for
    both: bool = False  # boxes and a mask, each from a file of its own
    millimetres: bool = False  # boxes are places in DICOM's axes rather than voxels
    also: str | None = None  # another name of the image, where the first is of no scan
    notes: list[Note] = field(default_factory=list)

    @property
    def masks(self) -> tuple[Path, ...]:
        """Return the files of the mask, the parts of one picture in order."""
        return () if self.mask is None else (self.mask, *self.more_masks)

    @property
    def marked(self) -> bool:
        """Tell whether pixels are marked, by a mask or by outlines."""
        return self.mask is not None or any(one is not None for one in self.outlines)

    def arrays(self) -> np.ndarray:
        """Return the boxes (m, 4), or (m, 6) in 3D, float32."""
        sides = len(self.boxes[0]) if self.boxes else 4
        return np.array(self.boxes, np.float32).reshape(-1, sides)


def sentences(notes: Iterable[Note]) -> list[str]:
    """Return a sentence for each kind of note: how many there are, and the first of them."""
    kinds: dict[str, list[Note]] = defaultdict(list)
    for note in notes:
        kinds[note.what].append(note)
    return [
        f"{what}: {own[0].place}" + (f" and {len(own) - 1} more" if len(own) > 1 else "")
        for what, own in kinds.items()
    ]  # fmt: skip
