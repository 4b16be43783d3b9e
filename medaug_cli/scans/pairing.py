"""Which mask belongs to which scan: by one rule of names, never by being the only one or the most alike.

A mask belongs to the scan whose name it carries. Tried in this order, and the first that names a scan holds:

1. the whole name: `a.png` of `a.png`, `CASE.nii.gz` of `CASE_0000.nii.gz` or `CASE-t1c.nii.gz`;
2. the name and a word for masks (MASK) behind it: `a_mask`, `a-seg`, `a.seg`, `a_gt`, `a_lesion_mask`; with a number
   behind that, parts of one picture: `a_mask`, `a_mask_1`, each a lesion;
3. the word before it or within it, where the scan may have a word for images (IMAGE): `segmentation-0` of
   `volume-0`, `mask_0001` of `bus_0001`, `Pre_Mask` of `Pre_Scan_T1`;
4. nothing but that word, in a folder of the case: `case_1/segmentation` of `case_1/imaging`;
5. the name of a folder that the scan lies in: `P1.nii.gz` or `P1_seg.nii.gz` of `P1/study/series/*.dcm`;
6. in BIDS, the same entities, but for those that describe a mask (MASK_ENTITIES).

Folders have to agree too: both paths are equal once folders such as images/ and masks/ are left out, or the shorter one
is the end of the longer one. What fits two scans, or a scan that fits two masks, is refused with both names.
"""

import functools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import real_path
from medaug_cli.scans.reading import Scan, is_volume_file, stem_of, suffix_of, suffixes

SEP = r"[\s_.\-]"
MASK = r"(?i:masks?|msk|segm?|dseg|segmentations?|label_?maps?|labels?|gts?|ground[\s_\-]?truths?|rois?|annotations?)"
IMAGE = (
    r"(?i:images?|imgs?|imaging|scans?|volumes?|vol|pictures?|orig|originals?|inputs?|raw|rawdata|bus|us|ct|cbct|mri?|"
    r"pet|mammo|mammograms?|cr|dx|mg|x-?rays?)"
)
FOLDER = r"(?i:images?|imgs?|imaging|scans?|volumes?|pictures?|originals?|inputs?|raw|rawdata)"  # of images
OF_LESIONS = r"(?i:manual|automated|automatic|auto|approx|final|binary|expert|consensus|corrected|lesions?|tumou?rs?)"
OF_BRAINS = r"(?i:brain|bet|hdbet|synthstrip|skullstrip|skull-?stripped)"
WEAK = r"(?i:lesions?|tumou?rs?|nodules?|infarcts?)"  # a mask where a scan has the rest of the name
MODALITY = re.compile(  # the names of BraTS and BIDS
    r"[_.-](t1|t1w|t1n|t1c|t1ce|t1gd|t1post|t1wce|t2|t2w|t2f|t2flair|flair|dwi|adc|pd|swi)$", re.IGNORECASE
)
CHANNEL = re.compile(r"_(\d{4})$")  # of nnU-Net and nnDetection, in folders of these names
CHANNEL_FOLDERS = ("imagesTr", "imagesTs", "imagesVal")
PART_OF_SET = re.compile(r"(?i:|tr|ts|val|train|training|test|testing|validation|\d+)")  # left of a folder of masks
FOLDER_LEVEL = 3
MASK_ENTITIES = {"label", "desc", "space", "res", "den", "atlas", "seg", "roi", "hemi"}
BIDS_MASKS = r"(?i:(?:lesions?-)?(?:mask|msk|dseg|seg|roi)|lesions?)"
BRAIN_ENTITIES = {"brain", "bet"}

Say = Callable[[str], None]
Words = tuple[str, ...]  # of a path


@dataclass(frozen=True)
class Pairs:
    """The masks of scans, by scan id, the parts of one picture together; and the masks that belong to none."""

    masks: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    unclaimed: list[Path] = field(default_factory=list)


@dataclass(frozen=True)
class Named:
    """A file, or a series, as the rule sees it."""

    folders: tuple[str, ...]  # below its root
    stem: str
    volume: bool | None  # None: may be either
    shown: str
    channels: bool = False  # names end with the number of a channel
    key: str = ""  # a scan's id

    @property
    def case(self) -> str:
        """Return the name without modality or channel."""
        return self.stem[: len(self.stem) - len(self.modality)] if self.modality else self.stem

    @property
    def modality(self) -> str:
        found = MODALITY.search(self.stem)
        if found is None:
            found = CHANNEL.search(self.stem) if self.channels or self.stem.endswith("_0000") else None
        return found.group(0) if found else ""


# ---- names


def _forms(stem: str, word: str) -> list[tuple[str, int | None, int]]:
    """Return what is left of a name without a word, with the number behind it, and how far that is from the name.

    Nothing is left of the word alone. 2: the word ends it; 3: it begins it or stands within; 4: there is nothing else.
    """
    found: list[tuple[str, int | None, int]] = []
    if whole := re.fullmatch(rf"{word}(?:{SEP}*(\d{{1,3}}))?", stem):
        found.append(("", _number(whole.group(1)), 4))
    behind = rf"(.+?)(?:{SEP}+|(?<=\d)|(?<=[a-z])(?=[A-Z]))"
    if end := re.fullmatch(rf"{behind}{word}(?:{SEP}*(\d{{1,3}}))?", stem):
        found.append((end.group(1), _number(end.group(2)), 2))
    if begin := re.fullmatch(rf"{word}(?:{SEP}+|(?=\d)|(?<=[a-z])(?=[A-Z]))(.+)", stem):
        found.append((begin.group(1), None, 3))
    if within := re.fullmatch(rf"(.+?){SEP}+{word}({SEP}+)(.+)", stem):
        found.append(("".join(within.groups()), None, 2 if within.group(3).isdigit() else 3))
    return found


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _mask_forms(stem: str, kind: str) -> list[tuple[str, int | None, int]]:
    """Return the names of scans that a mask's name may carry: (name, part, step of the rule)."""
    found: list[tuple[str, int | None, int]] = [(stem, None, 1), *_forms(stem, MASK)]
    for rest, part, step in found[1:]:
        end = re.fullmatch(rf"(.+?)(?:{SEP}+{kind})+", rest)
        begin = re.fullmatch(rf"(?:{kind}{SEP}+)+(.+)", rest)
        found += [(one.group(1), part, step) for one in (end, begin) if one]
        found += [("", part, 4)] if re.fullmatch(rf"{kind}(?:{SEP}+{kind})*", rest) else []
    for word in (OF_BRAINS + "(?i:_?mask)", OF_BRAINS) if kind == OF_BRAINS else (WEAK,):
        found += [one for one in _forms(stem, word) if one[2] == 2]
    return found


def _scan_forms(scan: Named) -> list[tuple[int, str]]:
    """Return the names that a mask of a scan may carry, the most telling first; see _Entry."""
    levels = {scan.case: 1, scan.stem: 0}
    for name in (scan.stem, scan.case):
        for rest, part, _ in _forms(name, IMAGE):
            if rest or part is None:
                levels.setdefault(rest, 2)
    if MODALITY.fullmatch(f"_{scan.stem}"):
        levels.setdefault("", 2)
    return [(level, name) for name, level in levels.items()]


def _plain(words: Iterable[str]) -> Words:
    """Return words in small letters, and accents as they are usually written."""
    return tuple(unicodedata.normalize("NFC", word).casefold() for word in words)


@functools.lru_cache(4096)
def _reduced(folders: Words) -> Words:
    """Return folders without words for images and masks, and without those that are nothing else."""
    kept = []
    for folder in folders:
        rest = folder
        for word in (MASK, FOLDER, OF_LESIONS):
            forms = _forms(rest, word)
            rest = forms[0][0] if forms else rest
        kept.append(rest)
    return tuple(rest for rest in kept if rest)


@functools.lru_cache(4096)
def _is_mask_folder(folder: str) -> bool:
    """Tell whether a folder's name says that it holds masks: masks, labelsTr, Ground Truth, mask-1."""
    return any(PART_OF_SET.fullmatch(rest) for rest, _, _ in _mask_forms(folder, OF_LESIONS)[1:])


@functools.lru_cache(4096)
def _is_image_folder(folder: str) -> bool:
    return any(PART_OF_SET.fullmatch(rest) for rest, _, _ in _forms(folder, FOLDER))


def is_mask_name(path: Path) -> bool:
    """Tell whether a file's name says that it is a mask: Pre_Mask.nii.gz, 01-seg.nii, labels.nrrd."""
    return bool(_forms(stem_of(path), MASK))


# ---- the rule


@dataclass(frozen=True)
class _Entry:
    number: int  # of a scan
    level: int  # 0: its name, 1: without modality or channel, 2: without a word for images, 3: a folder's name
    path: Words


class _Index:
    """Scans by the names that a mask of theirs may carry: paths below their root, in small letters."""

    def __init__(self, scans: Sequence[Named]) -> None:
        self.scans = scans
        self._whole: dict[Words, list[_Entry]] = defaultdict(list)
        self._ends: dict[Words, list[_Entry]] = defaultdict(list)
        self._bids: dict[str, list[int]] = defaultdict(list)
        for number, scan in enumerate(scans):
            for level, name in _scan_forms(scan):
                self._add(number, level, _path(scan.folders, name), _path(_reduced(scan.folders), name))
            for depth in range(len(scan.folders), 0, -1):
                if reduced := _reduced(scan.folders[:depth]):
                    self._add(number, FOLDER_LEVEL, scan.folders[:depth], reduced)
            if scan.key != scan.stem:
                self._add(number, 0, (scan.key,), (scan.key,))
            if entities := _entities(scan.stem):
                self._bids[entities["sub"]].append(number)

    def _add(self, number: int, level: int, path: Words, reduced: Words) -> None:
        words, entry = _plain(reduced), _Entry(number, level, path)
        self._whole[words].append(entry)
        for start in range(1, len(words) if level < FOLDER_LEVEL else 0):
            self._ends[words[start:]].append(entry)

    def of(self, mask: Named, kind: str) -> tuple[list[int], int | None]:
        """Return the scans whose name a mask carries, by the first step that names any, and its part.

        Of those of one step the nearest: by its own name rather than by its folder's, in the very same folder, by its
        whole name, with equal capitals.
        """
        ranked: dict[tuple[int | bool, ...], tuple[list[int], int | None]] = {}
        for name, part, step in _mask_forms(mask.stem, kind):
            path = _path(mask.folders, name)
            for near, entry in self._near(path, _path(_reduced(mask.folders), name)):
                if _same_kind(mask, self.scans[entry.number]):
                    rank = entry.level == FOLDER_LEVEL, step, near, entry.level, path[-1:] != entry.path[-1:]
                    ranked.setdefault(rank, ([], part))[0].append(entry.number)
        if not ranked:
            return self._of_bids(mask, kind == OF_BRAINS), None
        numbers, part = ranked[min(ranked)]
        return list(dict.fromkeys(numbers)), part

    def _near(self, path: Words, reduced: Words) -> Iterator[tuple[int, "_Entry"]]:
        """Yield scans' names: 0 where the path is equal, 1 where it is but for words, 2 where one ends the other."""
        words = _plain(reduced)
        equal = self._whole.get(words, []) if words or not path else []
        yield from ((int(_plain(entry.path) != _plain(path)), entry) for entry in equal)
        if words and not equal:
            shorter = [self._whole.get(words[start:], []) for start in range(1, len(words))]
            yield from ((2, entry) for found in (self._ends.get(words, []), *shorter) for entry in found)

    def _of_bids(self, mask: Named, brain: bool) -> list[int]:
        own = _entities(mask.stem)
        if not own or not re.fullmatch(BIDS_MASKS, own[""]):
            return []
        if not brain and {own.get("desc", "").lower(), own.get("label", "").lower()} & BRAIN_ENTITIES:
            return []
        return [
            number for number in self._bids[own["sub"]]
            if _same_kind(mask, self.scans[number]) and _fits(own, _entities(self.scans[number].stem))
        ]  # fmt: skip


def _path(folders: Words, name: str) -> Words:
    return (*folders, name) if name else folders


def _same_kind(mask: Named, scan: Named) -> bool:
    return mask.volume is None or scan.volume is None or mask.volume == scan.volume


def _entities(stem: str) -> dict[str, str]:
    """Return the entities of a BIDS name, its suffix under "", words between as themselves; {} for another name."""
    *pairs, suffix = stem.split("_")
    if not pairs or not pairs[0].startswith("sub-"):
        return {}
    parted = [one.partition("-") for one in pairs]
    return {name: value if dash else name for name, dash, value in parted} | {"": suffix}


def _fits(mask: dict[str, str], scan: dict[str, str]) -> bool:
    needed = {name: value for name, value in mask.items() if name not in MASK_ENTITIES | {""}}
    words = {name for name, value in needed.items() if name == value}  # as T1w in sub-1_T1w_mask
    elsewhere = "space" in mask and "space" in scan and mask["space"] != scan["space"]
    if elsewhere or mask.get("ses") != scan.get("ses"):
        return False
    return all(scan.get(name) == value or (name in words and scan[""] == name) for name, value in needed.items())


# ---- files


def masks_among(files: Sequence[Path], root: Path, marks: Sequence[Path] = ()) -> set[Path]:
    """Return which files below a folder of scans are masks: `marks` are the files and folders of masks that are given.

    Everything in a folder of masks below `root` is one. Otherwise names decide: a file with a word for masks, or in a
    folder for masks, is a mask where it carries the name of another file, and also, where masks are given, where it
    carries none but no mask has its whole name.
    """
    given = [mark.resolve() for mark in marks if mark.exists()]
    inside = [mark for mark in given if mark.is_file() or root.resolve() in mark.parents]
    known = [file for file in files if suffix_of(file) in suffixes()]
    named = {file: _named(file, root) for file in known}
    certain = {file for file in known if any(mark in (own := real_path(file), *own.parents) for mark in inside)}
    likely = {
        file for file in known
        if file not in certain and (is_mask_name(file) or any(map(_is_mask_folder, named[file].folders)))
    }  # fmt: skip
    masks = certain | likely
    index = _Index([named[file] for file in known if file not in masks])
    elsewhere = {
        _plain([stem_of(file)]) for mark in given if root.resolve() not in (mark, *mark.parents) and mark.is_dir()
        and mark not in root.resolve().parents for file in _files(mark)
    }  # fmt: skip
    alone = len(masks) == len(known)  # all are called so: they are the scans
    for file in known:
        if file in certain:
            continue
        if file not in likely:
            weak = [rest for rest, _, step in _forms(named[file].stem, WEAK) if step == 2]
            if any(index.of(replace(named[file], stem=rest), OF_LESIONS)[0] for rest in weak):
                certain.add(file)
        elif not alone:
            hits, _ = index.of(named[file], OF_LESIONS)
            if hits or (given and _plain([named[file].stem]) not in elsewhere):
                certain.add(file)
    return certain


def _named(file: Path, root: Path) -> Named:
    relative = PurePosixPath(file.relative_to(root).as_posix())
    channels = file.parent.name in CHANNEL_FOLDERS
    return Named(relative.parent.parts, stem_of(file), is_volume_file(file), relative.as_posix(), channels)


def _named_scan(scan: Scan) -> Named:
    relative = PurePosixPath(scan.name)
    channels = not scan.files and scan.path.parent.name in CHANNEL_FOLDERS
    return Named(relative.parent.parts, relative.name, scan.volume, scan.relative, channels, scan.id)


def _files(folder: Path) -> list[Path]:
    """Return the pictures and volumes below a folder, hidden ones left out."""
    return [
        file for file in sorted(folder.rglob("*"))
        if suffix_of(file) in suffixes() and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]  # fmt: skip


def pair_masks(path: Path, scans: Sequence[Scan], say: Say = lambda sentence: None, brain: bool = False) -> Pairs:
    """Return the masks of scans, out of a folder or one file for one scan; say what is left over on either side.

    Raises BadInput where a mask fits two scans, a scan two masks, or none fits; UsageError for one file and many scans.
    """
    if path.is_file():
        if len(scans) != 1:
            raise UsageError(f"{path} is one mask for {len(scans)} scans; give a folder of them")
        return Pairs({scans[0].id: (path,)})
    if not path.is_dir():
        raise BadInput(f"{path} does not exist")
    index = _Index([_named_scan(scan) for scan in scans])
    claims: dict[int, list[tuple[Path, int | None]]] = defaultdict(list)
    unclaimed = []
    for file in _candidates(path, scans):
        own, part = index.of(_named(file, path), OF_BRAINS if brain else OF_LESIONS)
        if len(own) > 1 and not _one_case([index.scans[number] for number in own]):
            first, second = (index.scans[number].shown for number in own[:2])
            raise BadInput(f"{file} may belong to {first} or {second}; give it the whole name of its scan")
        for number in own:
            claims[number].append((file, part))
        if not own:
            unclaimed.append(file)
    if not claims:
        raise BadInput(
            f"{path} holds no mask with the name of a scan, such as {scans[0].relative}; "
            "name it as the scan, or with _mask or _seg behind it"
        )
    pairs = {scans[number].id: _parts(scans[number], masks) for number, masks in sorted(claims.items())}
    bare = [scan for scan in scans if scan.id not in pairs]
    names = [file.relative_to(path).as_posix() for file in unclaimed]
    _say_leftovers(scans, bare, names, "brain mask" if brain else "mask", say)
    return Pairs(pairs, unclaimed)


def _candidates(path: Path, scans: Sequence[Scan]) -> list[Path]:
    """Return the files below a folder that may be masks: no scans, and where scans lie there too, named as masks."""
    own = {real_path(file) for scan in scans for file in scan.all_files}
    folder = path.resolve()
    shared = any(folder in file.parents for file in own)
    found = [file for file in _files(path) if real_path(file) not in own]
    if not shared:
        return [file for file in found if not any(map(_is_image_folder, file.relative_to(path).parent.parts))]
    return [
        file for file in found
        if is_mask_name(file) or any(map(_is_mask_folder, file.relative_to(path).parent.parts))
        or _forms(stem_of(file), WEAK)
    ]  # fmt: skip


def _one_case(scans: Sequence[Named]) -> bool:
    """Tell whether scans are the modalities or channels of one case."""
    return len({(scan.folders, scan.case) for scan in scans}) == 1 and len({scan.stem for scan in scans}) == len(scans)


def _parts(scan: Scan, masks: Sequence[tuple[Path, int | None]]) -> tuple[Path, ...]:
    """Return the masks of one scan in order; raise BadInput unless they are numbered parts."""
    ordered = sorted(masks, key=lambda one: -1 if one[1] is None else one[1])
    bases = {re.sub(rf"{SEP}*\d+$", "", stem_of(file)) if part is not None else stem_of(file) for file, part in ordered}
    together = len(bases) == 1 and len({file.parent for file, _ in ordered}) == 1
    if len(ordered) > 1 and not (together and len({part for _, part in ordered}) == len(ordered)):
        first, second = (file for file, _ in ordered[:2])
        raise BadInput(
            f"{scan.relative} has two masks, {first} and {second}; leave one, or number the parts of one picture as in "
            "a_mask.png, a_mask_1.png"
        )
    return tuple(file for file, _ in ordered)


def _say_leftovers(scans: Sequence[Scan], bare: Sequence[Scan], unclaimed: Sequence[str], kind: str, say: Say) -> None:
    if unclaimed:
        many = len(unclaimed) > 1
        what = f"{len(unclaimed)} {kind}s carry the name of no scan and are" if many else (
            f"a {kind} carries the name of no scan and is"
        )
        say(f"{what} left out: {listed(unclaimed)}")
    if bare:
        names = [scan.shown or scan.relative for scan in bare]
        say(f"{len(bare)} of {len(scans)} scans have no {kind}: {listed(names)}")


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return the first names of a list, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
