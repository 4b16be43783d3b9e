"""Find lesions in the images of a store; write them as COCO, YOLO, CSV or DICOM SR.

Boxes are half-open corners, x first, in pixels of the scan as its file holds it: (m, 4) in a picture or in one of the
file's slices, (m, 6) where axial slices cut through those of the file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.answers import answered
from medaug_cli.boxes import SPLITS
from medaug_cli.devices import resolve_device
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.forms.catalogue import DETECTIONS
from medaug_cli.forms.form import Finds
from medaug_cli.metrics.annotations import found_boxes
from medaug_cli.plugin import Grid
from medaug_cli.results import Kind, folder_claimed, new_folder
from medaug_cli.runs import load_detector
from medaug_cli.scans.way_back import scan_size, scanner_boxes, stored_grid, stored_slice
from medaug_cli.store import Store, open_store

REPORTS = "dicom-sr"
FORMS = (*DETECTIONS, REPORTS)
FOLDER = Kind("detect", "a folder of detections")


@dataclass(frozen=True)
class Found:
    """What was found in one image of a store."""

    id: str
    file: str  # the scan, as preprocess called it
    slice: int | None  # of the volume as it is stored, from 0; None of a picture, and of a slice through its slices
    size: tuple[int, ...]  # width, height and, of a volume, depth of the scan
    boxes: np.ndarray  # (m, 4) of a picture, (m, 6) of a volume
    scores: np.ndarray  # (m,)
    labels: np.ndarray  # (m,) indices into the store's label names
    grid: Grid | None = None  # of a volume as it is stored

    @property
    def whole(self) -> bool:
        """Tell whether the image is a picture, or a slice of its file."""
        return self.slice is not None or len(self.size) == 2

    @property
    def flat(self) -> np.ndarray:
        """Return the boxes (m, 4) in the picture, or in the slice of the file."""
        return self.boxes if len(self.size) == 2 else self.boxes[:, [0, 1, 3, 4]]


def detect(
    store_path: Path, detector: Path, out: Path, form: str, threshold: float = 0.1, split: str | None = None,
    scans: Path | None = None, device: str = "auto", overwrite: bool = False,
    report: Callable[[int, int], None] = lambda done, all: None,
) -> int:  # fmt: skip
    """Publish a folder with the detections of a score from `threshold` on; return how many there are.

    `scans` is the folder that preprocess read; DICOM SR needs it. Raises UsageError for an unknown form or split,
    BadInput where the detector does not fit the store or the store does not know its scans.
    """
    check_form(form)
    if split is not None and split not in SPLITS:
        raise UsageError(f"--split {split}: the choices are {', '.join(SPLITS)}")
    if form == REPORTS and scans is None:
        raise UsageError("--format dicom-sr needs --scans, the folder of DICOM files that preprocess read")
    store = open_store(store_path)
    chosen = store.indices(split, unannotated=True)
    if not len(chosen):
        raise BadInput(f"{store.path} has no image" + (f" in the split {split}" if split else ""))
    plugin, metadata = load_detector(detector, resolve_device(device))
    if metadata.form.spec() != store.spec:
        raise BadInput(f"{detector} was fitted on images of {metadata.form.spec()}; {store.path} has {store.spec}")
    reads = [store_path, detector, *([] if scans is None else [scans])]
    found = []
    with folder_claimed(out, FOLDER, overwrite, reads) as place, new_folder(place, FOLDER) as work:
        pixels = (store.read([i])[0] for i in chosen)
        answers = answered("detector", metadata.name, plugin.predict(pixels), len(chosen), store.spec)
        for i, answer in zip(chosen, answers, strict=True):
            found.append(found_in(store, int(i), answer, threshold))
            report(len(found), len(chosen))
        write_found(found, store.spec.label_names, form, work, Source(scans, metadata.name, metadata.weights))
    return sum(len(one.boxes) for one in found)


def check_form(form: str) -> None:
    """Raise UsageError for a form in which no detections are written."""
    if form not in FORMS:
        raise UsageError(f"--format {form}: the choices are {', '.join(FORMS)}")


@dataclass(frozen=True)
class Source:
    """Where the scans lie, and what looked at them."""

    scans: Path | None
    detector: str
    weights: str  # SHA-256


def found_in(store: Store, i: int, answer: tuple[np.ndarray, np.ndarray, np.ndarray], threshold: float) -> Found:
    """Return what a detector's boxes (m, 4), scores and labels (m,) from `threshold` on are in the scan of an image."""
    details: dict[str, Any] = store.details[i]
    if "placement" not in details or "file" not in details:
        raise BadInput(f"{store.path} does not say which scan {store.ids[i]} comes from; it was not made by preprocess")
    if len(store.spec.spatial) != 2:
        raise BadInput(f"{store.path} holds volumes; detect takes stores of slices")
    boxes, scores, labels = (part[answer[1] >= threshold] for part in answer)
    moved = scanner_boxes(details, boxes)
    d = moved.shape[1] // 2
    inside = (moved[:, d:] > moved[:, :d]).all(1)
    return Found(
        store.ids[i],
        details["file"],
        slice=stored_slice(details),
        size=scan_size(details),
        boxes=moved[inside],
        scores=scores[inside],
        labels=labels[inside],
        grid=stored_grid(details),
    )


def _finds(found: Sequence[Found], names: Sequence[str]) -> Finds:
    """Return what was found image by image; volume by volume where axial slices cut through those of a file."""
    flat = all(one.whole for one in found)
    if not flat and any(len(one.size) == 2 for one in found):
        raise BadInput(
            "the store mixes pictures with volumes that were not taken in axial slices; detect in each separately"
        )
    groups: dict[str, list[Found]] = {}
    for one in found:
        groups.setdefault(one.id if flat else one.file, []).append(one)
    firsts = [own[0] for own in groups.values()]
    columns: dict[str, Sequence[object]] = {
        "file": [one.file for one in firsts],
        "slice": [one.slice if flat and one.slice is not None else "" for one in firsts],
    }
    rows = [
        (
            np.concatenate([one.flat if flat else one.boxes for one in own]),
            np.concatenate([one.scores for one in own]),
            np.concatenate([one.labels for one in own]),
        )
        for own in groups.values()
    ]
    boxes = found_boxes(rows, dims=2 if flat else 3)
    return Finds(list(groups), boxes, names, lambda image: firsts[image].size[: 2 if flat else 3], columns)


def write_found(found: Sequence[Found], names: Sequence[str], form: str, out: Path, source: Source) -> None:
    """Write detections.csv or detections.json into a folder, or the files of a form that is a folder."""
    if form == REPORTS:
        from medaug_cli.detecting.structured import write_reports

        assert source.scans is not None
        write_reports(found, names, out=out, scans=source.scans, detector=source.detector, weights=source.weights)
        return
    write = DETECTIONS[form].write_detections
    assert write is not None
    suffix = DETECTIONS[form].suffix
    write(_finds(found, names), out if not suffix else out / f"detections{suffix}")
