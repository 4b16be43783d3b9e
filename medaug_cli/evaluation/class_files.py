"""Classes of images and probabilities of them in CSV files, of anyone: one row per image."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medaug_cli.boxes import one_spelling_each
from medaug_cli.errors import BadInput, UsageError
from medaug_cli.evaluation.named_images import ImageNames, read_patients
from medaug_cli.forms.annotations import Annotation
from medaug_cli.forms.classes import named_classes
from medaug_cli.forms.coordinates import decimal
from medaug_cli.forms.table import ALIASES, Table, named_rows, plain_name, read_table
from medaug_cli.tasks.cases import Cases

ROUNDING = 1e-3  # of a probability that was written with three digits: a sum may miss 1 by that for each class
OTHERS = {"", "index", "fold", "seed", "age", "truth", "predicted", "prediction", "confidence", "score", "uncertainty"}
OTHERS |= {name for kind in ("image", "patient", "split", "label") for name in ALIASES[kind]}  # columns of no class


@dataclass(frozen=True)
class ClassTruth:
    """The images of a split with their classes, and the names of those in other splits."""

    cases: Cases
    split: str | None
    elsewhere: frozenset[str]


def read_class_truth(path: Path, split: str | None, patients: Path | None = None) -> ClassTruth:
    """Read a CSV of images with their class and, where they are known, patient and split.

    `patients` is a CSV that names the patient of each image.

    Raises BadInput for an image in two classes or in none, where some images have a patient and others none, and
    where splits stand in the file but none is chosen.
    """
    named = named_classes(path)
    splits = sorted({item.split for item in named.values() if item.split})
    if len(splits) > 1 and split is None:
        raise UsageError(f"{path} names the splits {', '.join(splits)}; choose one with --split")
    if split is not None and split not in splits:
        raise UsageError(f"--split {split}: {path} names {', '.join(splits) or 'no split'}")
    chosen = {name: item for name, item in named.items() if split is None or item.split == split}
    kinds = dict(zip(named, one_spelling_each([str(item.image_class) for item in named.values()]), strict=True))
    names = tuple(sorted(set(kinds.values())))
    if len(names) < 2:
        raise BadInput(f"{path} has only one class, {names[0]}: there is nothing to tell apart")
    given = None if patients is None else read_patients(patients, list(chosen))
    cases = Cases(
        ids=list(chosen),
        patients=patients_of(path, chosen, given),
        names=names,
        truth=np.array([names.index(kinds[name]) for name in chosen], np.int64),
    )
    return ClassTruth(cases, split or (splits[0] if splits else None), frozenset(named.keys() - chosen.keys()))


def patients_of(path: Path, named: dict[str, Annotation], given: dict[str, str] | None) -> list[str]:
    """Return the patient of each image, the image itself where none is named; raise BadInput where some are.

    `P1` and `p1 ` are one patient, as they are for preprocess.
    """
    known = {name: item.patient for name, item in named.items() if item.patient is not None}
    if given is not None:
        known |= given
    lacking = [name for name in named if name not in known]
    if known and lacking:
        raise BadInput(f"{path} names the patient of some images but not of {lacking[0]!r} ({len(lacking)} lack one)")
    return one_spelling_each([known[name] for name in named]) if known else list(named)


def read_probabilities(path: Path, truth: ClassTruth, truth_path: Path) -> np.ndarray:
    """Return the probabilities (n, k) that a CSV gives the images of `truth`, in their order.

    Columns are called as the classes are; whatever else stands beside them is passed over. Raises BadInput, naming the
    line, for an image that is unknown, missing or named twice, and for what are not probabilities that sum to 1.
    """
    table = read_table(path, ("image", *truth.cases.names))
    if "image" not in table.columns:
        raise BadInput(f"{path} lacks the column image; it has {', '.join(table.header)[:200]}")
    columns = _class_columns(table, truth.cases.names)
    found = np.full((len(truth.cases), len(columns)), np.nan)
    for index, place, row in _rows_of(table, truth, truth_path):
        found[index] = [_probability(place, table.header[at], row, at) for at in columns]
        total = found[index].sum()
        if abs(total - 1) > ROUNDING * max(2, len(columns)):
            raise BadInput(
                f"{place}: the probabilities of image {truth.cases.ids[index]} "
                f"({', '.join(truth.cases.names)}) sum to {total:.4g}, not to 1"
            )
        found[index] /= total
    missing = np.flatnonzero(np.isnan(found[:, 0]))
    if len(missing):
        raise BadInput(
            f"{path} has no row for the image {truth.cases.ids[missing[0]]!r} of {truth_path} "
            f"({len(missing)} of {len(truth.cases)} images are missing)"
        )
    return found


def _class_columns(table: Table, names: Sequence[str]) -> list[int]:
    """Return where the probability of each class stands; raise BadInput where a class has no column, or two have."""
    by_name: dict[str, list[int]] = {}
    for at, heading in enumerate(table.header):
        by_name.setdefault(heading.strip().casefold(), []).append(at)
    columns = []
    for name in names:
        places = by_name.get(name.strip().casefold(), [])
        if len(places) != 1:
            which = "two columns" if places else "no column"
            raise BadInput(f"{table.place} has {which} for the class {name!r}; it has {', '.join(table.header)[:200]}")
        columns += places
    others = [
        heading for at, heading in enumerate(table.header)
        if at not in columns and plain_name(heading) not in OTHERS and _may_be_probabilities(table, at)
    ]  # fmt: skip
    if others:
        raise BadInput(
            f"{table.place} gives probabilities of {others[0]!r}, which is not a class of the truth "
            f"({', '.join(names)})"
        )
    return columns


def _may_be_probabilities(table: Table, at: int) -> bool:
    """Tell whether all that stands in a column are numbers from 0 to 1, and not only those two."""
    try:
        values = [decimal(row[at]) for _, row in table.rows]
    except (TypeError, ValueError, IndexError):
        return False
    return all(0 <= value <= 1 for value in values) and any(0 < value < 1 for value in values)


def _rows_of(table: Table, truth: ClassTruth, truth_path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Yield (image, place, row) of each row of an image of `truth`; raise BadInput for an unknown or repeated one."""
    names, others = ImageNames(truth.cases.ids), ImageNames(sorted(truth.elsewhere))
    seen: dict[int, int] = {}
    for place, name, line, row in named_rows(table):
        index = names.find(name)
        if index is None and others.find(name) is not None:
            continue  # of another split
        if index is None:
            raise BadInput(f"{place}: the image {name!r} is not among those of {truth_path}")
        if index in seen:
            raise BadInput(f"{place}: the image {name!r} appears twice, first in line {seen[index]}")
        seen[index] = line
        yield index, place, row


def _probability(place: str, heading: str, row: Sequence[str], at: int) -> float:
    text = row[at].strip() if at < len(row) else ""
    try:
        value = decimal(text)
    except (TypeError, ValueError):
        raise BadInput(f"{place}: the probability of {heading!r} is {text or 'blank'}, not a number") from None
    if not math.isfinite(value):
        raise BadInput(f"{place}: the probability of {heading!r} is {text}")
    if not -1e-9 <= value <= 1 + ROUNDING:
        raise BadInput(f"{place}: the probability of {heading!r} is {text}; expected a number from 0 to 1")
    return value
