"""CSV: one row per box, in medaug's own columns or in those that TensorFlow, RSNA, VinDr and spreadsheets write."""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.boxes import ImageBoxes, folded
from medaug_cli.errors import BadInput
from medaug_cli.files import MAX_JSON_BYTES, readable
from medaug_cli.forms.annotations import Annotation, Note
from medaug_cli.forms.coordinates import CORNERS, corners, decimal, number, slice_number
from medaug_cli.forms.form import File, Finds, Form, Known, Layout, Marks, label_of
from medaug_cli.forms.policy import add_box

SEPARATORS = ",;\t|"
BLANK = {"", "nan", "na", "n/a", "null", "none"}
UNCLASSED = BLANK - {"none"}  # a class may well be called none
ALIASES = {  # in small letters, without blanks and underscores
    "image": ("image", "filename", "file", "filepath", "path", "imagename", "imageid", "imagepath", "imageindex",
              "volume", "scan", "series", "seriesuid", "seriesinstanceuid"),
    "patient": ("patient", "patientid", "subject", "subjectid"),
    "split": ("split", "subset"),
    "label": ("label", "class", "classname", "category", "finding", "findinglabel"),
    "x_min": ("xmin", "x1", "left", "xtl", "bboxxmin"), "x_max": ("xmax", "x2", "right", "xbr", "bboxxmax"),
    "y_min": ("ymin", "y1", "top", "ytl", "bboxymin"), "y_max": ("ymax", "y2", "bottom", "ybr", "bboxymax"),
    "z_min": ("zmin", "z1"), "z_max": ("zmax", "z2"),
    "x": ("x", "bboxx"), "y": ("y",), "width": ("width", "w"), "height": ("height", "h"),
    "slice": ("slice",), "file": ("file",), "image_class": ("imageclass", "imagelabel", "imagecategory"),
}  # fmt: skip
_LIKELY = """
group groupid case caseid caseno study studyid person personid pid mrn participant participantid individual id name
patientname subjectname studyinstanceuid studyuid accession accessionnumber animal animalid mouse donor donorid
volunteer volume volumeid scanid record recordid
"""
LIKELY = frozenset(_LIKELY.split())  # columns that may name patients, in small letters, without blanks and underscores
FLAT = tuple(name for name in CORNERS if "z" not in name)
OF_BOX = ("image", "patient", "split", "label")  # what is written of a box, before its corners
SIZED = ("x", "y", "width", "height")  # of a box, where no column has its high corner
SEVERAL = {"image_class": "classes"}
SHORT = "a row that ends before the columns of a box, read as one of an image without a lesion"
SPLITS = {"training": "train", "validation": "val", "valid": "val", "testing": "test"}


@dataclass(frozen=True)
class Table:
    """A CSV file: where each column that is known stands, and the rows with their line numbers."""

    place: str
    header: list[str]
    columns: Mapping[str, int]
    rows: list[tuple[int, list[str]]]
    decimal_comma: bool

    def value(self, row: Sequence[str], name: str, blank: Container[str] = BLANK) -> str | None:
        """Return what a row says in a column, None where that is blank."""
        at = self.columns.get(name)
        text = row[at].strip() if at is not None and at < len(row) else ""
        return None if text.lower() in blank else text

    def place_of(self, *names: str) -> int | None:
        """Return where a column of one of these names stands, in any spelling that `plain_name` makes theirs."""
        places = {plain_name(name): at for at, name in reversed(list(enumerate(self.header)))}
        return next((places[name] for name in names if name in places), None)

    def numbers(self, place: str, row: Sequence[str], names: Sequence[str]) -> list[float] | None:
        """Return the numbers in some columns, None where all are blank."""
        texts = [self.value(row, name) for name in names]
        if not any(texts):
            return None
        try:
            if not self.decimal_comma and any("," in (text or "") for text in texts):
                raise ValueError
            return [decimal(text) for text in texts]
        except (TypeError, ValueError) as error:
            said = ", ".join(f"{name} {text or 'blank'}" for name, text in zip(names, texts, strict=True))
            raise BadInput(f"{place}: expected the numbers of a box, got {said}") from error


def _text(path: Path) -> str:
    """Return the text of a CSV in UTF-8, UTF-16 as Excel's Unicode text, or the ANSI code page of Western Windows."""
    readable(path)
    if path.stat().st_size > MAX_JSON_BYTES:
        raise BadInput(f"{path} has {path.stat().st_size} bytes, more than the limit of {MAX_JSON_BYTES}")
    content = path.read_bytes()
    names = ("utf-16",) if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252")
    for name in names:
        try:
            return content.decode(name)
        except UnicodeDecodeError:
            continue
    raise BadInput(f"{path} is not text in UTF-8, UTF-16 or Windows' code page 1252")


def plain_name(name: str) -> str:
    """Return a column's name in small letters and digits alone."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _columns(header: Sequence[str]) -> dict[str, int]:
    """Return where each column that is known stands; of several names of one the first in ALIASES counts."""
    places: dict[str, int] = {}
    for at, name in enumerate(header):
        places.setdefault(plain_name(name), at)
    found = {}
    for name, others in ALIASES.items():
        known = [places[other] for other in others if other in places]
        if known:
            found[name] = known[0]
    if "image" not in found and "patient" in found:  # RSNA: a picture a patient
        found["image"] = found["patient"]
    return found


def read_table(path: Path, expected: Sequence[str] = ("image", *FLAT)) -> Table:
    """Read a CSV whatever its encoding and separator; raise BadInput for an empty one, naming the columns expected.

    Raises it, too, for quotes that do not close where a cell ends, and for a file that ends within a row.
    """
    table, rows, whole = _opened(path, expected)
    table = replace(table, rows=list(rows))
    if table.rows and not whole:
        _refuse_cut_off(table)
    return table


def _opened(path: Path, expected: Sequence[str]) -> tuple[Table, Iterator[tuple[int, list[str]]], bool]:
    """Return a CSV without its rows, those rows, read as they are asked for, and whether its last line is ended."""
    text = _text(path)
    separator = None
    first, newline, rest = text.partition("\n")
    hint = first.strip(" \r")  # Excel's own; its separator may be a tab
    if hint.lower().startswith("sep=") and len(hint) == 5:
        separator, text, first = hint[4], newline + rest, ""
    lines = [line for line in text.splitlines() if line.strip()]
    if separator is None and lines:
        separator = max(SEPARATORS, key=lambda sign: len(_columns(next(csv.reader([lines[0]], delimiter=sign)))))
    rows = _rows(path, text, separator or ",")
    first_row = next((row for _, row in rows), None)
    if first_row is None:
        raise BadInput(f"{path} is empty; expected a header with the columns {', '.join(expected)}")
    header = [name.strip().lstrip("\ufeff") for name in first_row]
    return Table(str(path), header, _columns(header), [], separator != ","), rows, text.endswith(("\n", "\r"))


def _rows(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the cells of each row that is not blank; raise BadInput for one with a stray quote."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise BadInput(f"{path}, line {reader.line_num}: not a row of a CSV file ({error})") from error


def _refuse_cut_off(table: Table) -> None:
    """Raise BadInput where the last row, whose line has no end, lacks a known column: what it lacks is not blank."""
    line, row = table.rows[-1]
    last = max(table.columns.values(), default=0)
    if len(row) <= last:
        raise BadInput(
            f"{table.place}, line {line}: the file ends within this row, which has {len(row)} of {len(table.header)} "
            f"cells; complete it, with blank cells up to {table.header[last]} for an image without a lesion"
        )


def _box_columns(table: Table) -> tuple[tuple[str, ...], str]:
    """Return the columns that hold a box, and the mode of its numbers."""
    if {"z_min", "z_max"} <= table.columns.keys():
        return CORNERS, "xyxy"
    if not {"x_max", "y_max"} <= table.columns.keys() and set(SIZED) <= table.columns.keys():
        return SIZED, "xywh"
    return FLAT, "xyxy"


def _sniff(file: File) -> bool:
    if file.path.suffix.lower() not in (".csv", ".tsv"):
        return False
    try:
        table, _, _ = _opened(file.path, ("image", *FLAT))  # what is wrong in a row is for its reader to say
    except BadInput:
        return False
    return not {"image", *_box_columns(table)[0]} - table.columns.keys()


def _read(marks: Marks) -> dict[str, Annotation]:
    found: dict[str, Annotation] = defaultdict(Annotation)
    for file in marks.files:
        table = read_table(file.path)
        if marks.box_columns is not None:
            table = with_box_columns(table, marks.box_columns)
        _read_table(named_patients(table, marks.patient_column, marks.say), found)
    return dict(found)


def named_patients(table: Table, column: str | None, say: Callable[[str], None]) -> Table:
    """Return a table whose patients stand in `column`; without one, say which column may name them."""
    if column is not None:
        return with_patients(table, column)
    if "patient" not in table.columns and (likely := _likely_patients(table)):
        say(f"{table.place} has no column patient; if {likely} tells patients apart, give --patient-column {likely}")
    return table


def with_patients(table: Table, column: str) -> Table:
    """Return a table whose patients stand in a column of any name; raise BadInput where there is none of that name."""
    exact = [at for at, name in enumerate(table.header) if name == column]
    alike = [at for at, name in enumerate(table.header) if plain_name(name) == plain_name(column)]
    if not exact and len(alike) != 1:
        raise BadInput(f"{table.place} has no column {column!r}; it has {', '.join(table.header)[:200]}")
    return replace(table, columns={**table.columns, "patient": (exact or alike)[0]})


def with_box_columns(table: Table, prefix: str) -> Table:
    """Return a table whose boxes stand in columns with a prefix, as rough_x_min; raise BadInput without such."""
    places = {plain_name(name): at for at, name in reversed(list(enumerate(table.header)))}
    of_boxes = [*CORNERS, *SIZED]
    known = {
        name: places[plain_name(prefix + other)]
        for name in of_boxes
        for other in reversed(ALIASES[name])
        if plain_name(prefix + other) in places
    }
    if not set(FLAT) <= known.keys() and not set(SIZED) <= known.keys():
        wanted = ", ".join(f"{prefix.rstrip('_')}_{name}" for name in FLAT)
        raise BadInput(f"{table.place} lacks the columns {wanted}; it has {', '.join(table.header)[:200]}")
    others = {name: at for name, at in table.columns.items() if name not in of_boxes}
    return replace(table, columns=others | known)


def likely_patient_column(path: Path) -> str | None:
    """Return the column of a CSV file that may tell patients apart, where none is called so."""
    if path.suffix.lower() not in (".csv", ".tsv") or not path.is_file():
        return None
    table = read_table(path)
    return None if "patient" in table.columns else _likely_patients(table)


def _likely_patients(table: Table) -> str | None:
    """Return the column that may tell patients apart: it is called so, and several images share a value of it."""
    for at, name in enumerate(table.header):
        if plain_name(name) in LIKELY and at not in table.columns.values():
            own = replace(table, columns={**table.columns, "patient": at})
            images: dict[str | None, set[str | None]] = defaultdict(set)
            for _, row in table.rows:
                images[own.value(row, "patient")].add(own.value(row, "image"))
            if any(value is not None and len(some) > 1 for value, some in images.items()):
                return name
    return None


def _read_table(table: Table, found: dict[str, Annotation]) -> None:
    wanted, mode = _box_columns(table)
    missing = {"image", *wanted} - table.columns.keys()
    if missing:
        raise BadInput(
            f"{table.place} lacks the columns {', '.join(sorted(missing))}; it has {', '.join(table.header)[:200]}"
        )
    for place, name, _, row in named_rows(table):
        box, item = table.numbers(place, row, wanted), found[name]
        tell(item, table, row, place, name)
        if box is not None:  # a row without corners is a normal slice
            flat = corners(box, mode)
            z = table.value(row, "slice")
            if z is not None and len(flat) == 4:
                low = slice_number(place, z)
                flat = (*flat[:2], low, *flat[2:], low + 1)
            add_box(item, flat, table.value(row, "label"), place)
        elif len(row) <= max(table.columns[column] for column in wanted):
            item.notes.append(Note(SHORT, place))


def named_rows(table: Table) -> Iterator[tuple[str, str, int, list[str]]]:
    """Yield (place, image, line, row) of each row; raise BadInput for one that names no image or is too long."""
    column = "file" if {"file", "slice"} <= table.columns.keys() else "image"  # of detections
    for line, row in table.rows:
        place = f"{table.place}, line {line}"
        if any(cell.strip() for cell in row[len(table.header) :]):
            raise BadInput(f"{place}: {len(row)} cells where the header has {len(table.header)}")
        name = table.value(row, column)
        if name is None:
            raise BadInput(f"{place}: the row names no image")
        yield place, name, line, row


def tell(item: Annotation, table: Table, row: Sequence[str], place: str, name: str) -> None:
    """Note what a row says of its image: patient, split, class and size; raise BadInput where two rows differ."""
    split = table.value(row, "split")
    told: dict[str, Any] = {"patient": table.value(row, "patient")}
    told["split"] = SPLITS.get(split.lower(), split.lower()) if split else None
    told["image_class"] = table.value(row, "image_class", UNCLASSED)
    if "x_max" in table.columns and table.value(row, "slice") is None:
        sides = ("width", "height")
        size = table.numbers(place, row, sides) if all(table.value(row, side) for side in sides) else None
        known = size is not None and all(math.isfinite(side) and side >= 1 for side in size)
        told["size"] = (int(size[0]), int(size[1])) if size is not None and known else None
    for key, value in told.items():
        before = getattr(item, key)
        same = key == "patient" and before and value and folded(before) == folded(value)
        if value is not None and before not in (None, value) and not same:
            raise BadInput(f"{place}: image {name} has two {SEVERAL.get(key, f'{key}s')}, {before} and {value}")
        setattr(item, key, value if before is None else before)


def csv_text(images: Sequence[ImageBoxes]) -> str:
    """Return a CSV with one row per box, and one without corners for an image that has none."""
    deep = any(image.depth is not None for image in images)
    columns = CORNERS if deep else FLAT
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*OF_BOX, *columns])
    for image in images:
        known = [image.id, image.patient or "", image.split or ""]
        _refuse_blank(image.id, "patient", image.patient)
        for item in image.boxes:
            label = label_of(image, item)
            _refuse_blank(image.id, "label", label)
            rows.writerow([*known, label, *map(number, item.box)])
        if not image.boxes:
            rows.writerow([*known, "", *[""] * len(columns)])
    return text.getvalue()


def has_own_header(path: Path) -> bool:
    """Tell whether a CSV has the header that `csv_text` writes; raise BadInput where it is none."""
    return tuple(read_table(path).header) in ((*OF_BOX, *FLAT), (*OF_BOX, *CORNERS))


def _refuse_blank(image: str, what: str, name: str | None) -> None:
    """Raise BadInput for a name that a table takes for none, as spreadsheets do: it would not come back."""
    if name and name.strip().lower() in BLANK:
        raise BadInput(
            f"the {what} {name!r} of {image} cannot be written into a CSV, which has that word for a blank cell; "
            "choose another form, or rename it"
        )


def _write_boxes(images: Sequence[ImageBoxes], names: Sequence[str], target: Path) -> None:
    target.write_text(csv_text(images), encoding="utf-8")


def _write_detections(finds: Finds, target: Path) -> None:
    """Write a row a detection, best score first in each image."""
    found = finds.found
    axes = "xyz"[: found.boxes.shape[1] // 2]
    ends = (*(f"{axis}_min" for axis in axes), *(f"{axis}_max" for axis in axes))
    with target.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["image", *finds.columns, "label", "score", *ends])
        for i in np.lexsort((-found.scores, found.images)).tolist():
            image = int(found.images[i])
            called = [finds.images[image], *(values[image] for values in finds.columns.values())]
            rows.writerow([*called, finds.names[found.labels[i]], float(found.scores[i]), *found.boxes[i].tolist()])


def _write_layout(images: Sequence[ImageBoxes], names: Sequence[str], folder: Path, known: Mapping[str, Known]) -> None:
    """boxes.csv beside images/."""
    _write_boxes(images, names, folder / "boxes.csv")


FORM = Form(
    name="csv",
    title="a CSV file",
    sniff=_sniff,
    read=_read,
    suffix=".csv",
    write_boxes=_write_boxes,
    write_detections=_write_detections,
    layout=Layout(lambda image: f"images/{image.id}", _write_layout, deep=True),
)
