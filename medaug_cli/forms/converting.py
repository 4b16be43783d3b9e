"""Turn annotations of one form into another, in the pixels of the scans as they are stored."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from medaug_cli.boxes import BoxesFile, ImageBoxes, LabelledBox, read_boxes, safe_id
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import new_file, readable
from medaug_cli.forms import boxes_json, table
from medaug_cli.forms.annotations import Annotation, Note, sentences
from medaug_cli.forms.catalogue import BOXES, form_of
from medaug_cli.forms.form import File, label_names
from medaug_cli.forms.policy import UNNAMED, cut_off
from medaug_cli.forms.reading import form_of_file, holds_masks, read_annotations
from medaug_cli.forms.yolo import size_of
from medaug_cli.results import Kind, file_claimed, folder_claimed, new_folder
from medaug_cli.scans.grids import placed_boxes
from medaug_cli.scans.mask_grids import Frame, fit_mask
from medaug_cli.scans.masks import joined_parts, labelled_components, mask_values, unnamed
from medaug_cli.scans.reading import Reading, Scan, read_stored, stored_scan
from medaug_cli.scans.survey import survey

FOLDER = Kind("boxes", "a folder of boxes")  # of the forms that are one


def convert(
    marks: Path, scans: Path, form: str, out: Path, overwrite: bool = False, box_mode: str | None = None,
    modality: str | None = None, max_pixels: int | None = None, least: int = 10,
    say: Callable[[str], None] = lambda sentence: None,
) -> BoxesFile:  # fmt: skip
    """Publish the boxes of annotations as `form`; of masks those of components of `least` pixels or voxels.

    Volumes have boxes in 3D. Raises BadInput for boxes outside their image, and where `form` cannot hold them.
    """
    read = Reading(nan=0.0, max_pixels=max_pixels)  # where a scan is dark does not matter
    made = partial(_boxes, marks, scans, box_mode=box_mode, modality=modality, reading=read, least=least, say=say)
    if form_of(form, BOXES, "--to").suffix:
        with file_claimed(out, overwrite, [marks, scans]):
            _refuse_other(out)
            write_form(form, boxes := made(), out)
    else:
        with folder_claimed(out, FOLDER, overwrite, [marks, scans]) as place:
            write_form(form, boxes := made(), place)
    return boxes


def _refuse_other(out: Path) -> None:
    """Raise UsageError where a file is there that holds no boxes as they are written here, or those of a store."""
    if not out.exists():
        return
    with suppress(BadInput):
        readable(out)
        form = form_of_file(File(out))
        if form is boxes_json.FORM and read_boxes(out).store is not None:
            raise UsageError(f"{out} exists and belongs to a store; choose another --out")
        if form in BOXES.values() and (form is not table.FORM or table.has_own_header(out)):
            return
    raise UsageError(f"{out} exists and does not hold boxes; choose another --out")


def _boxes(
    marks: Path, scans: Path, *, box_mode: str | None, modality: str | None, reading: Reading, least: int,
    say: Callable[[str], None],
) -> BoxesFile:  # fmt: skip
    masks = [marks] if holds_masks(marks) else []
    plain = survey(scans, say, modality=modality, marks=masks, reading=reading).scans
    read = read_annotations(marks, plain, box_mode, say)
    notes, annotated = list(read.notes), [scan for scan in plain if scan.id in read.scans]
    images = []
    for scan in annotated:
        image, own = _image(scan, read.scans[scan.id], least, say)
        notes += own
        if image.boxes or not any(note.lost for note in own):
            images.append(image)
        else:
            notes.append(Note("left out, since none of its lesions is left", scan.relative))
    for sentence in sentences(notes):
        say(sentence)
    return BoxesFile(version=1, images=images)


def write_form(name: str, boxes: BoxesFile, out: Path) -> None:
    """Publish boxes as a file or a folder, as their form has it."""
    form = form_of(name, BOXES, "--to")
    assert form.write_boxes is not None
    with new_file(out) if form.suffix else new_folder(out, FOLDER) as work:
        form.write_boxes(boxes.images, label_names(boxes.images), work)


def _image(scan: Scan, annotation: Annotation, least: int, say: Callable[[str], None]) -> tuple[ImageBoxes, list[Note]]:
    """Return the boxes of a scan, and what was found wrong with them."""
    boxes, labels, notes = annotation.boxes, annotation.labels, list(annotation.notes)
    if annotation.mask is not None:
        parts = _mask_values(scan, annotation, say)
        if unnamed(parts, annotation.mask_labels):
            notes.append(Note(UNNAMED, scan.relative))
        values, names = joined_parts(parts, annotation.mask_labels)
        size = values.shape[::-1]
        found, labels = labelled_components(values, names, least)
        boxes = [tuple(map(float, box)) for box in found]
        small = len(labelled_components(values, names, 1)[0]) - len(found)
        notes += [Note(f"smaller than --min-area {least}, left out", scan.relative, lost=True)] * small
    else:
        size = _size(scan, annotation)
    if annotation.size is not None and annotation.size != size:
        raise BadInput(f"{scan.path} has the size {size}, its annotation says {annotation.size}")
    if annotation.millimetres and boxes:
        grid = stored_scan(scan).grid
        if grid is None:
            raise BadInput(f"{scan.path} is a picture, which has no position in millimetres")
        boxes = [tuple(box) for box in placed_boxes(np.array(boxes), grid)]
    width, height, *deep = size
    kept, cut = _cut(scan, boxes, labels, size, annotation.places)
    image = ImageBoxes(
        id=safe_id(scan.id), width=width, height=height, depth=deep[0] if deep else None, patient=annotation.patient,
        split=annotation.split, file=scan.relative, boxes=kept,  # type: ignore[arg-type]
    )  # fmt: skip
    return image, [*notes, *cut]


def _mask_values(scan: Scan, annotation: Annotation, say: Callable[[str], None]) -> list[np.ndarray]:
    """Return the values (*s) of masks in the pixels of their scan as it is stored; say how they came there."""
    stored = stored_scan(scan)
    frame = Frame(scan.shown or scan.relative, stored.image.shape[1:], stored.grid, stored.other_grid)
    paths, names = annotation.masks, annotation.mask_labels
    fitted = [fit_mask(read_stored((path,), labels=True, reading=scan.reading), frame, path) for path in paths]
    for note in dict.fromkeys([*stored.notes, *(note for one in fitted for note in one.notes)]):
        say(f"{frame.name}: {note}")
    return [mask_values(path, one.image, names) for path, one in zip(paths, fitted, strict=True)]


def _size(scan: Scan, annotation: Annotation) -> tuple[int, ...]:
    """Return width, height and, of a volume, depth."""
    return size_of(scan) if not scan.volume else stored_scan(scan).image.shape[:0:-1]


def _cut(
    scan: Scan, boxes: Sequence[tuple[float, ...]], labels: Sequence[str], size: tuple[int, ...], places: Sequence[str]
) -> tuple[list[LabelledBox], list[Note]]:
    """Return boxes, exact where they lie inside their image, cut off where they reach over its border; and notes."""
    if any(len(box) != 2 * len(size) for box in boxes):
        raise BadInput(f"{scan.path} has {len(size)} dimensions, but its annotation has boxes of a different number")
    whole = np.array(boxes, np.float64).reshape(-1, 2 * len(size))
    cut, kept, notes = cut_off(whole, size, places, str(scan.path))
    rows = zip(cut, labels, kept, strict=True)
    return [LabelledBox(box=box.tolist(), label=label) for box, label, ok in rows if ok], notes
