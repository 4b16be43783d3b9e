"""Which mask belongs to which scan: one rule of names, never that it is the only one or the most alike.

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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

SEP = r"[\s_.\-]"
MASK = (
    r"(?i:masks?|msk|segm?|dseg|segmentations?|label_?maps?|labels?|gts?|(?:ground[\s_\-]?)?truths?|rois?|annotations?)"
)
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
NO_LESIONS = {"brain", "bet", "gm", "wm", "csf"}  # values of desc and label

Words = tuple[str, ...]  # of a path


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
        """Return the end of the name that says which modality or channel it is; nothing where it says none."""
        found = MODALITY.search(self.stem)
        if found is None:
            found = CHANNEL.search(self.stem) if self.channels or self.stem.endswith("_0000") else None
        return found.group(0) if found else ""


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
        found += [("", part, 4)] if re.fullmatch(rf"(?:{kind}|{MASK})(?:{SEP}+{kind})*", rest) else []
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


def plain(words: Iterable[str]) -> Words:
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
def is_mask_folder(folder: str) -> bool:
    """Tell whether a folder's name says that it holds masks: masks, labelsTr, Ground Truth, mask-1."""
    return any(PART_OF_SET.fullmatch(rest) for rest, _, _ in _mask_forms(folder, OF_LESIONS)[1:])


@functools.lru_cache(4096)
def is_image_folder(folder: str) -> bool:
    """Tell whether a folder's name says that it holds images: images, imagesTr, Training Input."""
    return any(PART_OF_SET.fullmatch(rest) for rest, _, _ in _forms(folder, FOLDER))


def is_mask_name(stem: str) -> bool:
    """Tell whether a file's name, without suffix, says that it is a mask: Pre_Mask, 01-seg, labels."""
    return bool(_forms(stem, MASK))


def lesion_of(stem: str) -> str | None:
    """Return the name before a word for lesions, as `a` of `a_tumour`, which is a mask only where there is an `a`."""
    return next((rest for rest, _, step in _forms(stem, WEAK) if step == 2), None)


@dataclass(frozen=True)
class _Entry:
    number: int  # of a scan
    level: int  # 0: its name, 1: without modality or channel, 2: without a word for images, 3: a folder's name
    path: Words


class MaskIndex:
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
        words, entry = plain(reduced), _Entry(number, level, path)
        self._whole[words].append(entry)
        for start in range(1, len(words) if level < FOLDER_LEVEL else 0):
            self._ends[words[start:]].append(entry)

    def of(self, mask: Named, brain: bool = False) -> tuple[list[int], int | None]:
        """Return the scans whose name a mask carries, by the first step that names any, and its part.

        Of those of one step the nearest: by its own name rather than by its folder's, in the very same folder, by its
        whole name, with equal capitals.
        """
        ranked: dict[tuple[int | bool, ...], tuple[list[int], int | None]] = {}
        for name, part, step in _mask_forms(mask.stem, OF_BRAINS if brain else OF_LESIONS):
            path = _path(mask.folders, name)
            for near, entry in self._near(path, _path(_reduced(mask.folders), name)):
                by_folder = entry.level == FOLDER_LEVEL
                if _same_kind(mask, self.scans[entry.number]) and (name or not by_folder):
                    rank = by_folder, step, near, entry.level, path[-1:] != entry.path[-1:]
                    ranked.setdefault(rank, ([], part))[0].append(entry.number)
        if not ranked:
            return self._of_bids(mask, brain), None
        numbers, part = ranked[min(ranked)]
        return list(dict.fromkeys(numbers)), part

    def _near(self, path: Words, reduced: Words) -> Iterator[tuple[int, "_Entry"]]:
        """Yield scans' names: 0 where the path is equal, 1 where it is but for words, 2 where one ends the other."""
        words = plain(reduced)
        equal = self._whole.get(words, []) if words or not path else []
        yield from ((int(plain(entry.path) != plain(path)), entry) for entry in equal)
        if words and not equal:
            shorter = [self._whole.get(words[start:], []) for start in range(1, len(words))]
            yield from ((2, entry) for found in (self._ends.get(words, []), *shorter) for entry in found)

    def _of_bids(self, mask: Named, brain: bool) -> list[int]:
        own = _entities(mask.stem)
        if not own or not re.fullmatch(BIDS_MASKS, own[""]):
            return []
        if not brain and {own.get("desc", "").lower(), own.get("label", "").lower()} & NO_LESIONS:
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
