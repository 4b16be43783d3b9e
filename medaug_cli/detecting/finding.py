"""Find lesions in the images of a store; write them as COCO, YOLO, CSV or DICOM SR.

Boxes are half-open corners (m, 4), x first, in pixels of the scan's slice as preprocess read it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.boxes import SPLITS
from medaug_cli.devices import resolve_device
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.evaluation.outputs import as_csv, write_yolo
from medaug_cli.files import new_folder, refuse_existing, restore_folder
from medaug_cli.metrics.annotations import FoundBoxes, found_boxes
from medaug_cli.runs import load_detector
from medaug_cli.scans.placement import Placement
from medaug_cli.store import Store, open_store


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
    if form == "dicom-sr" and scans is None:
        raise UsageError("--format dicom-sr needs --scans, the folder of DICOM files that preprocess read")
    store = open_store(store_path)
    chosen = store.indices(split)
    if not len(chosen):
        raise BadInput(f"{store.path} has no image" + (f" in the split {split}" if split else ""))
    plugin, metadata = load_detector(detector, resolve_device(device))
    if metadata.form.spec() != store.spec:
        raise BadInput(f"{detector} was fitted on images of another form than {store.path} holds")
    restore_folder(out)
    refuse_existing(out, overwrite)
    found = []
    pixels = (store.read([i])[0] for i in chosen)
    for i, (boxes, scores, labels) in zip(chosen, plugin.predict(pixels), strict=True):
        kept = scores >= threshold
        found.append(_in_scan(store, int(i), boxes[kept], scores[kept], labels[kept]))
        report(len(found), len(chosen))
    with new_folder(out) as work:
        FORMS[form](found, store.spec.label_names, work, Source(scans, metadata.name, metadata.weights))
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


def _coco(found: Sequence[Found], names: Sequence[str], out: Path, source: Source) -> None:
    """detections.json: COCO's images, categories, and annotations with a score."""
    images = [
        {"id": i, "file_name": one.file, "width": one.size[0], "height": one.size[1], "name": one.id}
        | ({} if one.slice is None else {"slice": one.slice})
        for i, one in enumerate(found, 1)
    ]
    boxes: list[dict[str, Any]] = []
    for i, one in enumerate(found, 1):
        for box, score, label in zip(one.boxes.tolist(), one.scores.tolist(), one.labels.tolist(), strict=True):
            x, y, right, bottom = box
            boxes.append({"id": len(boxes) + 1, "image_id": i, "category_id": label + 1, "score": score,
                          "bbox": [x, y, right - x, bottom - y], "area": (right - x) * (bottom - y)})  # fmt: skip
    categories = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (out / "detections.json").write_text(json.dumps(content, allow_nan=False), encoding="utf-8")


def _flat(found: Sequence[Found]) -> FoundBoxes:
    return found_boxes([(one.boxes, one.scores, one.labels) for one in found])


def _yolo(found: Sequence[Found], names: Sequence[str], out: Path, source: Source) -> None:
    """labels/ID.txt an image, and classes.txt, as `evaluate --write yolo` has them."""
    write_yolo(out, [one.id for one in found], _flat(found), names, lambda image: found[image].size)


def _csv(found: Sequence[Found], names: Sequence[str], out: Path, source: Source) -> None:
    """detections.csv: a row a box."""
    columns: dict[str, Sequence[object]] = {
        "image": [one.id for one in found],
        "file": [one.file for one in found],
        "slice": ["" if one.slice is None else one.slice for one in found],
    }
    (out / "detections.csv").write_text(as_csv(columns, _flat(found), names), encoding="utf-8", newline="")


def _dicom_sr(found: Sequence[Found], names: Sequence[str], out: Path, source: Source) -> None:
    from medaug_cli.detecting.structured import write_reports

    assert source.scans is not None
    write_reports(found, names, out, source.scans, source.detector, source.weights)


FORMS: dict[str, Callable[[Sequence[Found], Sequence[str], Path, Source], None]] = {
    "coco": _coco,
    "yolo": _yolo,
    "csv": _csv,
    "dicom-sr": _dicom_sr,
}
