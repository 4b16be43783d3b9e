"""A CSV of classes: one row per image with its class and, where they are known, its patient and split."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medaug_cli.errors import BadInput
from medaug_cli.forms.annotations import Annotation
from medaug_cli.forms.naming import ScanNames, by_scan
from medaug_cli.forms.table import UNCLASSED, Table, named_patients, named_rows, plain_name, read_table, tell
from medaug_cli.scans.pairing import Say
from medaug_cli.scans.reading import Scan

# Columns that name the class, in small letters, without blanks and underscores; the first that is there counts
_CLASS = "imageclass class classname imagelabel label category diagnosis dx pathology finding findinglabel target"
CLASS = tuple(_CLASS.split())


def read_classes(
    path: Path, scans: Sequence[Scan], patient_column: str | None = None, say: Say = lambda sentence: None
) -> dict[str, Annotation]:
    """Return what a CSV says of scans, by scan id: class, patient and split.

    Raises BadInput for an image in two classes or in none, and for one that is not among the scans.
    """
    return by_scan(path, named_classes(path, patient_column, say), ScanNames(scans))


def named_classes(
    path: Path, patient_column: str | None = None, say: Say = lambda sentence: None
) -> dict[str, Annotation]:
    """Return what a CSV says of images, by the names that it gives them: class, patient and split.

    Raises BadInput for an image in two classes or in none.
    """
    table = _with_classes(read_table(path, ("image", "class")))
    table = named_patients(table, patient_column, say)
    found: dict[str, Annotation] = defaultdict(Annotation)
    for place, name, _, row in named_rows(table):
        if table.value(row, "image_class", UNCLASSED) is None:
            raise BadInput(f"{place}: image {name} has an empty class")
        tell(found[name], table, row, place, name)
    if not found:
        raise BadInput(f"{path} names no image")
    return dict(found)


def _with_classes(table: Table) -> Table:
    header = [plain_name(name) for name in table.header]
    column = next((name for name in CLASS if name in header), None)
    if column is None or "image" not in table.columns:
        lacks = "class" if column is None else "image"
        raise BadInput(f"{table.place} lacks the column {lacks}; it has {', '.join(table.header)[:200]}")
    return replace(table, columns={**table.columns, "image_class": header.index(column)})
