"""Detections in other forms than COCO's: rows of a CSV file, and YOLO's text files."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from medaug_cli.boxes import safe_id
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import publish_text
from medaug_cli.metrics.annotations import Annotated, FoundBoxes

FORMS = ("csv", "yolo")
Size = Callable[[int], tuple[int, int] | None]  # image index -> width, height


def check_forms(forms: Sequence[str]) -> None:
    """Raise UsageError at a form that is not written here."""
    wrong = next((form for form in forms if form not in (*FORMS, "coco")), None)
    if wrong is not None:
        raise UsageError(f"--write {wrong}: coco (always written), {' or '.join(FORMS)} is wanted")


def write_detections(
    stem: Path, forms: Sequence[str], data: Annotated, found: FoundBoxes, names: Sequence[str], size: Size
) -> None:
    """Write detections beside `stem`: STEM.csv, and for YOLO the folder STEM with labels/*.txt and classes.txt.

    `names` are those of all labels, the true classes first. Raises BadInput where YOLO's form cannot hold them.
    """
    if "csv" in forms:
        columns = {"image": data.image_names, "patient": data.patients}
        publish_text(stem.with_name(f"{stem.name}.csv"), as_csv(columns, found, names))
    if "yolo" in forms:
        write_yolo(stem, [_without_suffix(name) for name in data.image_names], found, names, size)


def as_csv(columns: Mapping[str, Sequence[object]], found: FoundBoxes, names: Sequence[str]) -> str:
    """Return a row a detection, best score first in each image; `columns` are what each image is called.

    With image and patient among them, `preprocess --boxes` reads it.
    """
    axes = "xyz"[: found.boxes.shape[1] // 2]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*columns, "label", "score", *(f"{axis}_min" for axis in axes), *(f"{axis}_max" for axis in axes)])
    for i in np.lexsort((-found.scores, found.images)).tolist():
        called = (values[int(found.images[i])] for values in columns.values())
        writer.writerow([*called, names[found.labels[i]], float(found.scores[i]), *found.boxes[i].tolist()])
    return text.getvalue()


def write_yolo(folder: Path, images: Sequence[str], found: FoundBoxes, names: Sequence[str], size: Size) -> None:
    """Write labels/IMAGE.txt: class, centre x and y, width, height as shares of the image, score; and classes.txt."""
    if found.boxes.shape[1] != 4:
        raise BadInput("YOLO's text files hold boxes in two dimensions; choose another form")
    stems = [safe_id(name) for name in images]
    twice = next((stem for i, stem in enumerate(stems) if stem in set(stems[:i])), None) if _repeats(stems) else None
    if twice is not None:
        raise BadInput(f"two images would be written as {twice}.txt; choose another form")
    (folder / "labels").mkdir(parents=True)
    order = np.lexsort((-found.scores, found.images))
    parts = np.split(order, np.searchsorted(found.images[order], np.arange(1, len(images))))
    for image, rows in enumerate(parts):
        measure = size(image)
        if measure is None:
            raise BadInput(f"image {images[image]} names no width and height, which YOLO's files need")
        text = "".join(_yolo_line(found, i, measure) for i in rows.tolist())
        (folder / "labels" / f"{stems[image]}.txt").write_text(text, encoding="utf-8")
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _without_suffix(name: str) -> str:
    """Return a file's name without folder and suffix, but an id, as of a DICOM series, with all of its dots."""
    path = Path(name)
    return path.stem if path.suffix[1:].isalpha() else path.name


def _repeats(stems: Sequence[str]) -> bool:
    return len(set(stems)) != len(stems)


def _yolo_line(found: FoundBoxes, i: int, size: tuple[int, int]) -> str:
    low, high = found.boxes[i, :2] / size, found.boxes[i, 2:] / size
    values = [*((low + high) / 2), *(high - low), found.scores[i]]
    return f"{int(found.labels[i])} " + " ".join(f"{value:.6g}" for value in values) + "\n"
