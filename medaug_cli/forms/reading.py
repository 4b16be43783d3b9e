"""Read annotations in whatever form people have them, and find the scans that they are of."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medaug_cli.boxes import BoxesFile, read_boxes
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import files_below, readable
from medaug_cli.forms import boxes_json, dicom_sr, label_studio, masks
from medaug_cli.forms.annotations import Annotation, Note
from medaug_cli.forms.catalogue import FORMS, READ
from medaug_cli.forms.form import LITTER, File, Form, Marks, key_of
from medaug_cli.forms.naming import ScanNames, by_scan
from medaug_cli.forms.policy import note_unlabelled
from medaug_cli.forms.yolo import LISTS
from medaug_cli.scans.pairing import Say
from medaug_cli.scans.reading import Scan, suffixes

BOX_MODES = ("xyxy", "xxyy", "xywh", "ccwh", "xyxy-mm", "xxyy-mm", "xywh-mm", "ccwh-mm")
FLAT = "outlines in slices of a volume are ignored, only its boxes are read; give label volumes with --masks"
# what a form's reader meets in a file that lacks a field, or holds text for a number or a list
BROKEN = (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, csv.Error)
TEXTS = (".txt", ".xml", ".json", ".csv", ".tsv")  # in which annotations may stand


@dataclass(frozen=True)
class AnnotationSet:
    """The annotation of each scan that has one, by scan id, and what is to be said of no single scan."""

    scans: dict[str, Annotation] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)


def read_annotations(
    path: Path,
    scans: Sequence[Scan],
    box_mode: str | None = None,
    say: Say = lambda sentence: None,
    patient_column: str | None = None,
    box_columns: str | None = None,
) -> AnnotationSet:
    """Return the annotations of scans; `box_mode` says what the numbers of a MONAI data list are.

    `patient_column` is the column of a CSV that names the patient, where it is not called so, `box_columns` what stands
    before the names of its columns of boxes, where it has several.
    Raises UsageError for a form that is not known, BadInput for what is broken, and for an image that is not among the
    scans.
    """
    if not path.is_dir():
        readable(path)
    if box_mode is not None and box_mode not in BOX_MODES:
        raise UsageError(f"--box-mode {box_mode}: the choices are {', '.join(BOX_MODES)}")
    form, files, notes = _sniffed(path, scans)
    if box_mode is not None and form.name != "monai":
        raise UsageError(f"--box-mode is for MONAI's data lists; {path} is {form.title}, whose numbers are known")
    if patient_column is not None and form.name != "csv":
        raise UsageError(f"--patient-column is for CSV files; {path} is {form.title}")
    if box_columns is not None and form.name != "csv":
        raise UsageError(f"--box-columns is for CSV files; {path} is {form.title}")
    marks = Marks(
        path,
        files=files,
        scans=scans,
        box_mode=box_mode,
        notes=notes,
        say=say,
        patient_column=patient_column,
        box_columns=box_columns,
    )
    named = _read(form, marks)
    if form is masks.FORM:
        return AnnotationSet(named, marks.notes)
    if _look_like_shares(named.values()):
        marks.notes.append(
            Note("all boxes lie between 0 and 1, as fractions of the image would; they are read as pixels", path.name)
        )
    note_unlabelled(named.values())
    found = by_scan(path, named, ScanNames(scans), uploads=form is label_studio.FORM)
    _without_flat_outlines(found, scans, marks)
    return AnnotationSet(found, marks.notes)


def _read(form: Form, marks: Marks) -> dict[str, Annotation]:
    """Read files of a form; raise BadInput that names the first which is not built as the form has it."""
    try:
        return form.read(marks)
    except BROKEN as error:
        for file in marks.files if len(marks.files) > 1 else ():
            _read(form, replace(marks, files=[file], notes=[]))
        place = marks.files[0].path if len(marks.files) == 1 else marks.path
        raise BadInput(f"{place} is broken, read as {form.title} ({type(error).__name__}: {error})") from error


def _without_flat_outlines(found: dict[str, Annotation], scans: Sequence[Scan], marks: Marks) -> None:
    """Drop outlines of slices of volumes, whose boxes alone are read, and note it."""
    for scan in scans:
        if scan.volume and scan.id in found and found[scan.id].outlines:
            found[scan.id].outlines.clear()
            marks.notes.append(Note(FLAT, scan.relative))


def _look_like_shares(annotations: Iterable[Annotation]) -> bool:
    ends = [value for one in annotations for box in one.boxes for value in box]
    return bool(ends) and min(ends) >= 0 and max(ends) <= 1 and any(value % 1 for value in ends)


def with_masks(
    found: AnnotationSet, path: Path, scans: Sequence[Scan], say: Say = lambda sentence: None
) -> AnnotationSet:
    """Return annotations by boxes together with the masks of scans; a scan may have either or both."""
    both, notes = masks.with_masks(found.scans, path, scans, say)
    return AnnotationSet(both, [*found.notes, *notes])


def read_boxes_json(path: Path) -> BoxesFile:
    """Read a boxes.json; raise BadInput where it is none, and say how boxes in another form become one."""
    try:
        return read_boxes(path)
    except BadInput as error:
        form = form_of_file(File(path)) if path.is_file() else None
        if form in (None, boxes_json.FORM, masks.FORM):
            raise
        raise BadInput(
            f"{path} is {form.title}, not a boxes.json; `medaug boxes {path} --scans SCANS --to boxes "
            "--out boxes.json` makes one of it"
        ) from error


def form_of_file(file: File) -> Form | None:
    """Return the form that a file is of; raise BadInput for broken JSON."""
    return next((one for one in FORMS if one.sniff(file)), None)


def holds_masks(path: Path) -> bool:
    """Tell whether a folder of annotations holds masks rather than files of text."""
    if not path.is_dir():
        return False
    files, nobody = [File(file) for file in files_below(path, LITTER)], ScanNames([])
    boxes = (file for file in files if _may_hold_boxes(file))
    return any(file.suffix in suffixes() for file in files) and not any(
        _form_in_folder(one, path, nobody) for one in boxes
    )


def _may_hold_boxes(file: File) -> bool:
    """Tell whether a file in a folder is one of text, or a report among images of the same suffix."""
    return file.suffix in TEXTS or dicom_sr.FORM.sniff(file)


def _sniffed(path: Path, scans: Sequence[Scan]) -> tuple[Form, list[File], list[Note]]:
    """Return the form of a file, or of the files in a folder, those files, and notes on others."""
    if path.is_file():
        file = File(path)
        form = form_of_file(file)
        if form is None and file.suffix in (".csv", ".tsv"):
            form = next(one for one in FORMS if one.name == "csv")  # which says what it lacks
        if form is None:
            raise UsageError(f"{path}: unknown annotation format; the choices are {READ}")
        return form, [file], []
    grouped: dict[str, list[File]] = defaultdict(list)
    others, pictures, names = [], False, ScanNames(scans)
    for file in map(File, files_below(path, LITTER)):
        form = _form_in_folder(file, path, names) if _may_hold_boxes(file) else None
        if form is None and file.suffix in suffixes():
            pictures = True
        elif form is None:
            others += [file] if file.suffix in TEXTS else []
        else:
            grouped[form.name].append(file)
    if len(grouped) > 1:
        some = ", ".join(f"{name} ({own[0].path.name})" for name, own in grouped.items())
        raise UsageError(f"{path} holds annotations of several formats, {some}; give the file or folder of one")
    if grouped:
        (name,) = grouped
        return next(one for one in FORMS if one.name == name), grouped[name], _left_out(path, others)
    if pictures or any(scan.volume for scan in scans):
        return masks.FORM, [], []
    raise UsageError(f"{path}: unknown annotation format; the choices are {READ}")


def _form_in_folder(file: File, folder: Path, names: ScanNames) -> Form | None:
    """Return the form of a file, None for one of another purpose; raise BadInput for a broken one of a scan."""
    of_scan = names.fits(key_of(file.path, folder))
    try:
        form = next((one for one in FORMS if one is not masks.FORM and one.sniff(file)), None)
    except BadInput:
        if of_scan:
            raise
        return None
    if form is None and file.suffix == ".txt" and of_scan:
        return next(one for one in FORMS if one.name == "yolo")  # which says what is wrong in it
    return form


def _left_out(path: Path, others: Sequence[File]) -> list[Note]:
    plain = [file for file in others if file.path.suffix.lower() == ".txt" and file.path.name not in LISTS]
    return [Note("not an annotation, left out", str(file.path.relative_to(path))) for file in plain]
