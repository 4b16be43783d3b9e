"""Find lesions in the images of a store; write them as COCO, YOLO, CSV or DICOM SR.

Boxes are half-open corners (m, 4), x first, in pixels of the scan's slice as preprocess read it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.boxes import SPLITS
from medaug_cli.devices import resolve_device
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.forms.catalogue import DETECTIONS
from medaug_cli.forms.form import Finds, Form
from medaug_cli.metrics.annotations import found_boxes
from medaug_cli.results import Kind, folder_claimed, new_folder
from medaug_cli.runs import load_detector
from medaug_cli.scans.placement import Placement
from medaug_cli.store import Store, open_store

REPORTS = "dicom-sr"
FORMS = (*DETECTIONS, REPORTS)
FOLDER = Kind("detect", "a folder of detections")


@dataclass(frozen=True)
class Found:
    """What was found in one image of a store."""

    id: str
    file: str  # the scan, as preprocess called it
    slice: int | None  # of a volume, from 0
    size: tuple[int, int]  # width and height of the scan's slice
    boxes: np.ndarray  # (m, 4) float32
    scores: np.ndarray  # (m,)
    labels: np.ndarray  # (m,) indices into the store's label names


def detect(
    store_path: Path, detector: Path, out: Path, form: str, threshold: float = 0.1, split: str | None = None,
    scans: Path | None = None, device: str = "auto", overwrite: bool = False,
    report: Callable[[int, int], None] = lambda done, all: None,
) -> int:  # fmt: skip
    """Publish a folder with the detections of a score from `threshold` on; return how many there are.

    `scans` is the folder that preprocess read; DICOM SR needs it. Raises UsageError for an unknown form or split,
    BadInput where the detector does not fit the store or the store does not know its scans.
    """
    if form not in FORMS:
        raise UsageError(f"--format {form}: the choices are {', '.join(FORMS)}")
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
        raise BadInput(f"{detector} was fitted on images of another form than {store.path} holds")
    reads = [store_path, detector, *([] if scans is None else [scans])]
    found = []
    with folder_claimed(out, FOLDER, overwrite, reads) as place, new_folder(place, FOLDER) as work:
        pixels = (store.read([i])[0] for i in chosen)
        for i, (boxes, scores, labels) in zip(chosen, plugin.predict(pixels), strict=True):
            kept = scores >= threshold
            found.append(_in_scan(store, int(i), boxes[kept], scores[kept], labels[kept]))
            report(len(found), len(chosen))
        if form == REPORTS:
            _dicom_sr(found, store.spec.label_names, work, Source(scans, metadata.name, metadata.weights))
        else:
            _write(DETECTIONS[form], found, store.spec.label_names, work)
    return sum(len(one.boxes) for one in found)


@dataclass(frozen=True)
class Source:
    """Where the scans lie, and what looked at them."""

    scans: Path | None
    detector: str
    weights: str  # SHA-256


def _in_scan(store: Store, i: int, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> Found:
    details: dict[str, Any] = store.details[i]
    if "placement" not in details or "file" not in details:
        raise BadInput(f"{store.path} does not say which scan {store.ids[i]} comes from; it was not made by preprocess")
    placement = Placement.from_details(details["placement"])
    if len(placement.source) != 2:
        raise BadInput(f"{store.path} holds volumes; detect takes stores of slices")
    height, width = placement.source
    moved = placement.inverse_boxes(boxes).clip(0, [width, height, width, height])
    whole = (moved[:, 2:] > moved[:, :2]).all(1)
    return Found(
        store.ids[i], details["file"], details.get("slice"), (width, height), moved[whole], scores[whole], labels[whole]
    )


def _finds(found: Sequence[Found], names: Sequence[str]) -> Finds:
    columns: dict[str, Sequence[object]] = {
        "file": [one.file for one in found],
        "slice": ["" if one.slice is None else one.slice for one in found],
    }
    boxes = found_boxes([(one.boxes, one.scores, one.labels) for one in found])
    return Finds([one.id for one in found], boxes, names, lambda image: found[image].size, columns)


def _write(form: Form, found: Sequence[Found], names: Sequence[str], out: Path) -> None:
    """Write detections.csv or detections.json into a folder, or the files of a form that is a folder."""
    assert form.write_detections is not None
    form.write_detections(_finds(found, names), out if not form.suffix else out / f"detections{form.suffix}")


def _dicom_sr(found: Sequence[Found], names: Sequence[str], out: Path, source: Source) -> None:
    from medaug_cli.detecting.structured import write_reports

    assert source.scans is not None
    write_reports(found, names, out, source.scans, source.detector, source.weights)

