"""The classes of whole images: by a folder each or by a CSV, beside what boxes and masks say of the same scans."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medaug_cli.boxes import folded
from medaug_cli.errors import BadInput
from medaug_cli.files import sha256_file
from medaug_cli.forms.annotations import Annotation
from medaug_cli.forms.classes import read_classes
from medaug_cli.preprocess.class_folders import class_folders
from medaug_cli.preprocess.folder_names import is_kind
from medaug_cli.preprocess.patients import listed
from medaug_cli.scans.pairing import Say
from medaug_cli.scans.reading import Scan

FOLDERS = "folders"
Annotations = Mapping[str, Annotation]  # by scan id


def classes_of(
    given: str | None,
    scans: Sequence[Scan],
    source: Path,
    patient_column: str | None = None,
    say: Say = lambda sentence: None,
) -> dict[str, Annotation]:
    """Return what `given`, "folders" or a CSV file, says of scans in `source`; what the files say if it is None."""
    path = classes_file(given)
    if given is None:
        return {
            scan.id: Annotation(image_class=scan.image_class, split=scan.split)
            for scan in scans
            if scan.image_class is not None or scan.split is not None
        }
    if path is None:
        return {scan: Annotation(image_class=name) for scan, name in class_folders(scans, source).items()}
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise BadInput(
            f"--classes {given} {what}; give a CSV file, or `{FOLDERS}` for one folder per class in {source}"
        )
    return read_classes(path, scans, patient_column, say)


def classes_file(given: str | None) -> Path | None:
    """Return the CSV file that `given` names; None where it is None or "folders"."""
    return None if given is None or given == FOLDERS else Path(given)


def with_classes(annotations: Annotations, classes: Annotations, given: str | None) -> dict[str, Annotation]:
    """Return annotations with the class, patient and split that `classes` tell; raise BadInput where the two differ."""
    both = dict(annotations)
    for scan, told in classes.items():
        own = both.get(scan, Annotation())
        values = {key: getattr(told, key) for key in ("image_class", "patient", "split")}
        for key, value in values.items():
            before = getattr(own, key)
            if None not in (before, value) and folded(before) != folded(value):
                what = "class" if key == "image_class" else key
                where = "the files" if given is None else f"--classes {given}"
                raise BadInput(f"{where}: scan {scan} has the {what} {value}, but its boxes say {before}")
        both[scan] = replace(own, **{key: value for key, value in values.items() if value is not None})
    return both


def one_spelling(annotations: Annotations) -> tuple[dict[str, Annotation], list[str]]:
    """Return annotations in which a class has one spelling, the first, whatever its case; and sentences on others."""
    spelt: dict[str, dict[str, None]] = {}
    for one in annotations.values():
        if one.image_class is not None:
            spelt.setdefault(folded(one.image_class), {})[one.image_class.strip()] = None
    first = {key: next(iter(some)) for key, some in spelt.items()}
    said = [f"{listed(list(some))} are treated as one class" for some in spelt.values() if len(some) > 1]
    alike = {
        scan: one if one.image_class is None else replace(one, image_class=first[folded(one.image_class)])
        for scan, one in annotations.items()
    }
    return alike, said


def spelt_alike(labels: Iterable[str]) -> list[str]:
    """Return a sentence on each group of labels of lesions that differ in case or blanks alone, and stay apart."""
    alike: dict[str, list[str]] = defaultdict(list)
    for label in sorted(map(str, labels)):
        alike[" ".join(folded(label).split())].append(label)
    return [
        f"{listed(some)} are different labels; if they are one, write them alike, or give all one with --label"
        for some in alike.values()
        if len(some) > 1
    ]


def check_classes(given: str | None, scans: Sequence[Scan], annotations: Annotations, unannotated: bool) -> list[str]:
    """Return what a person must know of the classes of scans, and how many scans there are of each.

    Raises BadInput for a scan without a class where classes are given (but for `unannotated`), for folders of which
    one alone holds scans, and for a file that lies in two classes.
    """
    names = {scan.id: name for scan in scans if scan.id in annotations and (name := annotations[scan.id].image_class)}
    lacking = [scan for scan in scans if scan.id not in names and (given is not None or scan.id in annotations)]
    if given is not None and lacking and not unannotated:
        raise BadInput(_without_class(given, scans, lacking))
    if not names:
        return []
    counts = sorted(Counter(names.values()).items())
    if given == FOLDERS and len(counts) < 2:
        raise BadInput(f"only one folder, {counts[0][0]}, holds scans; --classes folders needs one folder per class")
    said = f"classes: {', '.join(f'{count} {name}' for name, count in counts)}"
    said += f"; {len(lacking)} without a class" if lacking else ""
    alone = [f"all scans are of one class, {counts[0][0]}"] if len(counts) < 2 else []
    return [said, *alone, *_copies(scans, names)]


def hint(sorting: Sequence[str]) -> list[str]:
    """Return a sentence on folders that sort scans by kind, where several do and nobody asked for classes."""
    kinds = [folder for folder in sorting if is_kind(folder)]
    some = f"the folders {listed(kinds)} may be classes of the images; --classes folders keeps them"
    return [some] if len(kinds) > 1 else []


def _without_class(given: str, scans: Sequence[Scan], lacking: Sequence[Scan]) -> str:
    many = len(lacking) > 1
    where = "lie in no folder of a class" if given == FOLDERS else f"have no class in {given}"
    where = where if many else where.replace("lie", "lies").replace("have", "has")
    names = listed([scan.relative for scan in lacking])
    return (
        f"{len(lacking)} of {len(scans)} scans {where}: {names}; "
        f"name {'their classes' if many else 'its class'}, or take {'them' if many else 'it'} without one "
        "with --unannotated"
    )


def _copies(scans: Sequence[Scan], names: Mapping[str, str]) -> list[str]:
    """Say how many files are the same in two classes; raise BadInput where such files have one name too."""
    twice = [some for some in _same_files(scans, names) if len({names[scan.id] for scan in some}) > 1]
    for some in twice:
        called: dict[str, Scan] = {}
        for scan in some:
            other = called.setdefault(scan.path.name, scan)
            if names[other.id] != names[scan.id]:
                raise BadInput(
                    f"{other.relative} and {scan.relative} are the same image in two classes, {names[other.id]} and "
                    f"{names[scan.id]}; keep one of them"
                )
    if not twice:
        return []
    first, *others = twice[0]
    other = next(scan for scan in others if names[scan.id] != names[first.id])
    more = f" and {len(twice) - 1} more" if len(twice) > 1 else ""
    return [f"the same image lies in two classes: {first.relative} and {other.relative}{more}"]


def _same_files(scans: Sequence[Scan], names: Mapping[str, str]) -> list[list[Scan]]:
    """Return scans of the same content; only those are read that are as large as one of another class."""
    sized: dict[int, list[Scan]] = defaultdict(list)
    for scan in scans:
        if scan.id in names and scan.bytes and scan.item is None:
            sized[scan.bytes].append(scan)
    alike: dict[tuple[int, str], list[Scan]] = defaultdict(list)
    for size, some in sized.items():
        if len({names[scan.id] for scan in some}) > 1:
            for scan in some:  # no two slices of DICOM are the same: the first tells a series
                alike[size, sha256_file(scan.all_files[0])].append(scan)
    return list(alike.values())
