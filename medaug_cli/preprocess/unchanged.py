"""Whether scans are still annotated as they were when a run began, which the names of files do not tell."""

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from medaug_cli.errors import BadInput
from medaug_cli.files import canonical, sha256_file
from medaug_cli.forms.annotations import Annotation
from medaug_cli.forms.outlines import Outline
from medaug_cli.preprocess.plan import Plan


def annotation_digest(plan: Plan, unit: int) -> str:
    """Return a hash of all that is known of a scan beside its pixels: patient, split, boxes, and what masks hold."""
    scan = plan.scans[unit]
    patient, annotation = plan.patients[scan.id], plan.annotations.get(scan.id)
    known = [scan.id, patient, plan.splits.get(patient), _content(scan.brain_mask), annotation and _told(annotation)]
    return hashlib.sha256(canonical(known).encode()).hexdigest()


def _told(one: Annotation) -> dict[str, Any]:
    names = None if one.mask_labels is None else sorted([sorted(own), name] for own, name in one.mask_labels.items())
    return {
        "boxes": [list(map(float, box)) for box in one.boxes],
        "labels": one.labels,
        "outlines": [None if each is None else _drawn(each) for each in one.outlines],
        "class": one.image_class,
        "masks": [_content(path) for path in one.masks],
        "names": names,
        "lost": sum(note.lost for note in one.notes),
    }


def _drawn(outline: Outline) -> list[Any]:
    return [[polygon.tolist() for polygon in outline.polygons], list(outline.runs)]


def _content(path: Path | None) -> str | None:
    """Return the hash of a file; None for one that cannot be read, as whoever needs it says."""
    with suppress(BadInput):
        return None if path is None or not path.is_file() else sha256_file(path)
    return None
