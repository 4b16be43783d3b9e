"""Which scan an annotation speaks of: names of files as other programs and other machines write them."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from medaug_cli.errors import BadInput
from medaug_cli.forms.annotations import Annotation, Note
from medaug_cli.scans.reading import Scan, suffixes
from medaug_cli.scans.survey import case_and_modality

# Folders that say what kind of file lies in them, and nothing of the patient
KINDS = {"images", "image", "imgs", "img", "jpegimages", "labels", "label", "annotations", "annotation", "ann", "masks",
         "scans", "data", "obj_train_data", "json", "xml", "txt"}  # fmt: skip
UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file
A_DATE = re.compile(r"^[0-9]{8}-")  # or another number, which anybody may put there
UPLOAD = "an image called as Label Studio calls uploaded files, taken for the scan without what it puts before the name"
DRIVE = re.compile(r"^[A-Za-z]:(?=/)|^file://")
Score = tuple[int, bool, bool]


class ScanNames:
    """The names that scans may be called by.

    A name fits a scan if its last part is that of the scan, with or without a suffix, whatever its case; of several
    scans that fit, the one is meant that shares most of the folders, then the one of the same case and suffix. A scan
    of one modality or channel, as case_0000, may be called by its case, too.
    """

    def __init__(self, scans: Sequence[Scan]) -> None:
        self._ids = {scan.id: scan for scan in scans}
        self._by_last: dict[str, list[tuple[Scan, list[str]]]] = defaultdict(list)
        for scan in scans:
            whole = _parts(scan.relative)
            last = bare(whole[-1]) if not scan.files else whole[-1]
            self._by_last[last.casefold()].append((scan, whole))
        for scan in scans:
            case, modality = case_and_modality(scan)
            last = case.rpartition("/")[2]
            if modality and all(case_and_modality(one)[1] for one, _ in self._by_last.get(last.casefold(), ())):
                self._by_last[last.casefold()].append((scan, [*_parts(scan.relative)[:-1], last]))

    def find(self, name: str, place: str) -> tuple[Scan, Score] | None:
        """Return the scan that a name means and how well it fits; raise BadInput if two fit equally well."""
        if name in self._ids:
            return self._ids[name], (len(name) + 1, True, True)
        said = _parts(name)
        if not said:
            return None
        lasts = {said[-1], bare(said[-1])}
        near = {last.casefold() for last in lasts}
        fits = [(_score(said, whole), scan) for last in near for scan, whole in self._by_last.get(last, ())]
        fits += [((0, True, True), self._ids[last]) for last in lasts if last in self._ids]
        if not fits:
            return None
        best = max(score for score, _ in fits)
        chosen = list({scan.id: scan for score, scan in fits if score == best}.values())
        if len(chosen) > 1:
            raise BadInput(
                f"{place}: {name!r} may be {chosen[0].relative} or {chosen[1].relative}; name the folder as well"
            )
        return chosen[0], best

    def fits(self, name: str) -> bool:
        """Tell whether a name is of a scan, or of one of several."""
        last = "".join(_parts(name)[-1:])
        return any(one in self._ids or one.casefold() in self._by_last for one in (name, last, bare(last)))


def _parts(name: str) -> list[str]:
    plain = DRIVE.sub("", unicodedata.normalize("NFC", name.strip()).replace("\\", "/"))
    *folders, last = [part for part in plain.split("/") if part not in ("", ".", "..")] or [""]
    return [*(folder for folder in folders if folder.casefold() not in KINDS), last] if last else []


def bare(name: str) -> str:
    """Return a file's name without the suffix of a picture or volume, but with the dots of an id such as 1.2.840-4."""
    low = name.lower()
    known = max((suffix for suffix in suffixes() if low.endswith(suffix)), key=len, default="")
    if known:
        return name[: -len(known)]
    suffix = PurePosixPath(name).suffix
    return name[: -len(suffix)] if suffix[1:].isalpha() and len(suffix) <= 5 else name


def _score(said: list[str], whole: list[str]) -> Score:
    """Return how many folders two names share from the end, and whether case and suffix are the same.

    What ends a name that is said, as in `a.left`, is a suffix only where no scan is called so.
    """
    shared, stem = 0, bare(whole[-1])
    for one, other in zip(said[-2::-1], whole[-2::-1], strict=False):
        if one.casefold() != other.casefold():
            break
        shared += 1
    return shared, stem in (said[-1], bare(said[-1])), said[-1] in (whole[-1], stem)


def _spell_one(name: str, other: str) -> bool:
    """Tell whether two names differ in case alone, or in that one of them has no suffix."""
    one, two = [part.casefold() for part in _parts(name)], [part.casefold() for part in _parts(other)]
    return one[:-1] == two[:-1] and (one[-1] in (two[-1], bare(two[-1])) or two[-1] == bare(one[-1]))


def _as_uploaded(name: str) -> str:
    """Return the last part of a name without what Label Studio puts before the names of uploaded files."""
    return UPLOADED.sub("", PurePosixPath(name).name)


def _holds_uploads(named: Iterable[str]) -> bool:
    """Tell whether any image is called as an upload to Label Studio, by what is no date."""
    lasts = [PurePosixPath(name).name for name in named]
    return any(UPLOADED.match(last) and not A_DATE.match(last) for last in lasts)


def by_scan(
    path: object, named: Mapping[str, Annotation], names: ScanNames, uploads: bool = False
) -> dict[str, Annotation]:
    """Return annotations by the ids of their scans; raise BadInput for one of no scan, and for two of one scan.

    Of two annotations that fit one scan, in folders of other names, the one that fits better is meant. With `uploads`
    they are Label Studio's own; in another form, names as it gives them to uploads are noted.
    """
    others = not uploads and _holds_uploads(named)
    best: dict[str, tuple[Score, str]] = {}
    unknown: list[str] = []
    for name, item in named.items():
        called = (each for each in (name, item.also) if each)
        found = next((one for each in called for one in [names.find(each, str(path))] if one), None)
        if found is None and (uploads or others):
            found = names.find(_as_uploaded(name), str(path))
            item.notes += [Note(UPLOAD, f"{path}, {name}")] if found and others else []
        if found is None:
            unknown.append(name)
            continue
        scan, score = found
        before = best.get(scan.id)
        if before is not None and (before[0] == score or _spell_one(before[1], name)):
            raise BadInput(f"{path} mentions {scan.id} twice, under two names: {before[1]} and {name}")
        if before is not None:
            unknown.append(min((before, (score, name)))[1])
        if before is None or score > before[0]:
            best[scan.id] = (score, name)
    if unknown:
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise BadInput(f"{path} mentions image {unknown[0]!r}, which is not among the scans{more}")
    return {scan: named[name] for scan, (_, name) in best.items()}
