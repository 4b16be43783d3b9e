"""Who the patient of each scan is: as the annotation, the file or a folder says, and how far that is known."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from medaug_cli.boxes import folded, one_spelling_each
from medaug_cli.forms.annotations import Annotation
from medaug_cli.preprocess.folder_names import is_modality, plain, sorts
from medaug_cli.scans.reading import Scan
from medaug_cli.scans.survey import case_and_modality

By = Literal["name", "folder", "case", "file"]
SUBJECT = re.compile(r"(sub-[A-Za-z0-9]+)_")  # of BIDS, at the beginning of a file's name

SESSION = re.compile(  # of one patient's folders: what they show is when
    r"(ses|session|visit|v|time|timepoint|tp|t|scan|exam|study|series|acq|run|baseline|bl|follow\W?up|fu|pre|post|"
    r"day|d|week|w|month|m|year|y)[\W_]*\d*|(19|20)\d\d([\W_]?\d\d){0,2}",
    re.IGNORECASE,
)
SHOWN = 4  # names of folders in a sentence


@dataclass(frozen=True)
class Patients:
    """The patient of each scan, and how that was found out."""

    of: dict[str, str]  # scan id -> patient
    by: dict[str, By]  # scan id -> what says so; "file": nothing, each file counts as a patient of its own
    sorting: list[str]  # folders that sort by class or purpose, and were taken for no patient
    alike: list[list[str]]  # spellings of one patient, the one that is used first
    recurring: tuple[list[str], list[str]] | None = None  # patients' folders, and folders several of which hold them

    def nameless(self, scans: Sequence[Scan]) -> int:
        """Return how many scans cannot be split by patient; a volume that nobody names is one patient's."""
        return sum(self.by[scan.id] == "file" and not scan.volume for scan in scans)

    def words(self, scans: Sequence[Scan]) -> str:
        """Return how many patients these scans are of, and how they are told apart."""
        count = len({self.of[scan.id] for scan in scans})
        told = {"name": "by name", "folder": "one folder each", "case": "one case each", "file": "one file each"}
        ways = " or ".join(told[way] for way in told if way in {self.by[scan.id] for scan in scans})
        return f"{count} patient{'' if count == 1 else 's'}, {ways}"

    def warnings(self, scans: Sequence[Scan]) -> list[str]:
        """Return what a person must know before trusting a split of these scans by patient."""
        said = [f"{listed(names)} are treated as one patient" for names in self.alike]
        if self.recurring is not None:
            inner, outer = self.recurring
            said.append(
                f"the folders {listed(inner)} are taken as patients, since several of {listed(outer)} hold folders of "
                "the same names; if these are the patients, name them by a column `patient` of a CSV"
            )
        unknown = self.nameless(scans)
        if not unknown:
            return said
        which = "" if unknown == len(scans) else f", for {unknown} of {len(scans)} scans"
        why = "no patient is named"
        if self.sorting:
            many = len(self.sorting) > 1
            why += f" (the folder{'s' if many else ''} {listed(self.sorting)} {'sort' if many else 'sorts'} by kind)"
        said.append(
            f"split by image{which}: {why}, so images of one patient may end up on both sides of a split; "
            "name patients by a column `patient` of a CSV or --patient-column, or give each a folder"
        )
        return said


def find_patients(
    scans: Sequence[Scan], annotations: Mapping[str, Annotation], classes: Mapping[str, str] | None = None
) -> Patients:
    """Return the patient of each scan: its annotation's, else the file's own, else the folder's that it lies in.

    Folders that sort by class or purpose (yes and no, train and test, the name of a label, or that in `classes`, by
    scan id) say nothing of patients. Of two folders in each other the outer one is the patient's, unless it is a year
    or a site: then the same inner ones recur in it and others. Without any of these, scans of one case in several
    modalities are one patient's.
    """
    labels = {plain(label) for one in annotations.values() for label in one.labels}
    nested, sorting = {}, dict[str, None]()
    for scan in scans:
        known = (classes or {}).get(scan.id)
        nested[scan.id], passed = _folders(scan, labels if known is None else labels | {plain(known)})
        sorting |= dict.fromkeys(passed)
    recurring = _recurring([own for own in nested.values() if len(own) > 1])
    folders = {
        scan: (own[1] if recurring and len(own) > 1 else own[0]) if own else None for scan, own in nested.items()
    }
    cases = _cases(scans)
    together = {scan: folder or cases.get(scan, (None, False))[0] for scan, folder in folders.items()}
    names = _names_of_folders(scans, annotations, together)
    of, by = {}, dict[str, By]()
    for scan in scans:
        folder = folders[scan.id]
        named = (annotations[scan.id].patient if scan.id in annotations else None) or scan.patient
        named = named or names.get(together[scan.id] or "")
        case, certain = cases.get(scan.id, (scan.id, False))
        of[scan.id] = named or folder or case
        by[scan.id] = "name" if named else "folder" if folder else "case" if certain else "file"
    spellings: dict[str, dict[str, None]] = {}
    for name in of.values():
        spellings.setdefault(folded(name), {})[name] = None
    alike = [list(some) for some in spellings.values() if len(some) > 1]
    of = dict(zip(of, one_spelling_each(list(of.values())), strict=True))
    told = recurring if "folder" in by.values() else None
    return Patients(of, by, list(sorting) if "file" in by.values() else [], alike, told)


def _cases(scans: Sequence[Scan]) -> dict[str, tuple[str, bool]]:
    """Return scan id -> its case, where several scans are of one, and whether that is a patient for certain.

    A case is BIDS's subject, or the name without modality or channel, at its end or as a folder's, which of pictures
    may be no more than an image.
    """
    found: dict[str, tuple[str, bool]] = {}
    for scan in (scan for scan in scans if not scan.files):
        case, modality = case_and_modality(scan)
        *folders, name = PurePosixPath(case).parts
        kept = [folder for folder in folders if not is_modality(folder)]
        if subject := SUBJECT.match(PurePosixPath(scan.name).name):
            found[scan.id] = subject.group(1), True
        elif modality is not None or len(kept) < len(folders):
            found[scan.id] = "/".join([*kept, name]), scan.volume
    count = Counter(case for case, _ in found.values())
    return {scan: one for scan, one in found.items() if count[one[0]] > 1}


def _folders(scan: Scan, labels: set[str]) -> tuple[list[str], list[str]]:
    """Return the folders that may be a patient's, the outermost first, and those before them that are none."""
    own: list[str] = []
    passed: list[str] = []
    for name in PurePosixPath(scan.relative).parts[:-1]:
        if not sorts(name) and plain(name) not in labels:
            own.append(name)
        elif not own:
            passed.append(name)
    return own, passed


def _recurring(nested: Sequence[Sequence[str]]) -> tuple[list[str], list[str]] | None:
    """Return the inner and the outer ones of folders in each other where the inner ones are patients; else None.

    They are where most of them recur in several outer ones, as those of a patient seen in several years do, where there
    are more of them than of outer ones, and where their names do not say when somebody was seen.
    """
    homes: dict[str, dict[str, None]] = {}
    for outer, inner, *_ in nested:
        homes.setdefault(inner, {})[outer] = None
    outers = list(dict.fromkeys(outer for outer, *_ in nested))
    shared = [inner for inner, own in homes.items() if len(own) > 1]
    sessions = sum(SESSION.fullmatch(inner) is not None for inner in homes)
    if len(homes) <= len(outers) or 2 * len(shared) <= len(homes) or 2 * sessions >= len(homes):
        return None
    return list(homes), outers


def _names_of_folders(
    scans: Sequence[Scan], annotations: Mapping[str, Annotation], folders: Mapping[str, str | None]
) -> dict[str, str]:
    """Return the patient whom annotations of the scans in a folder, or of a case, name: that of the others, too."""
    named: dict[str, set[str]] = {}
    for scan in scans:
        folder, patient = folders[scan.id], annotations[scan.id].patient if scan.id in annotations else None
        if folder is not None and patient:
            named.setdefault(folder, set()).add(patient)
    return {folder: next(iter(some)) for folder, some in named.items() if len(some) == 1}


def listed(names: Sequence[str]) -> str:
    """Return "a, b and c", or the first few and how many more there are."""
    shown = list(names[:SHOWN]) if len(names) > SHOWN + 1 else list(names)
    if len(shown) < len(names):
        return f"{', '.join(shown)} and {len(names) - len(shown)} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
