"""The masks in folders: which files they are, which scan each belongs to, and what is left over.

A mask is of the scan that it names itself, as DICOM segmentations do, or else of the one whose name it carries.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from medaug_cli.errors import BadInput, UsageError
from medaug_cli.files import files_below, real_path
from medaug_cli.scans.mask_names import (
    CHANNEL_FOLDERS,
    SEP,
    MaskIndex,
    Named,
    Words,
    is_image_folder,
    is_mask_folder,
    is_mask_name,
    lesion_of,
    plain,
)
from medaug_cli.scans.reading import Scan, is_volume_file, mask_file, stem_of, suffix_of, suffixes

SIDE_FILES = (".json", ".txt", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".md", ".html", ".raw", ".zraw")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Pairs:
    """The masks of scans, by scan id, the parts of one picture together; and what is left over, by its path."""

    masks: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    unclaimed: list[str] = field(default_factory=list)  # masks that carry the name of no scan
    unread: list[str] = field(default_factory=list)  # files that carry the name of a scan, in no format that is read


def masks_among(files: Sequence[Path], root: Path, marks: Sequence[Path] = ()) -> set[Path]:
    """Return which files below a folder of scans are masks: `marks` are the files and folders of masks that are given.

    Everything in a folder of masks below `root` is one. Otherwise names decide: a file with a word for masks, or in a
    folder for masks, is a mask where it carries the name of another file, and also, where masks are given, where it
    carries none but no mask has its whole name.
    """
    given = [_place(mark) if mark.is_file() else real_path(mark) for mark in marks if mark.exists()]
    named = {file: _named(file, root) for file in files if suffix_of(file) in suffixes()}
    certain = _given(named, root, given)
    if given:
        bare = [file for file in files if file not in named]  # of them, those are masks that say so in their content
        near = _given(bare, root, given) | {file for file in bare if _says_mask(_named(file, root))}
        certain |= {file for file in near if _is_mask_file(file)}
    likely = {file for file, one in named.items() if file not in certain and _says_mask(one)}
    others = [file for file in named if file not in certain and file not in likely]
    if not others and not certain:
        return set()  # all are called so: they are the scans
    index, elsewhere = MaskIndex([named[file] for file in others]), _names_elsewhere(root, given)
    for file in likely:
        if index.of(named[file])[0] or (given and plain([named[file].stem]) not in elsewhere):
            certain.add(file)
    for file in others:
        rest = lesion_of(named[file].stem)
        if rest is not None and index.of(replace(named[file], stem=rest))[0]:
            certain.add(file)
    return certain


def _given(files: Iterable[Path], root: Path, given: Sequence[Path]) -> set[Path]:
    """Return the files that are masks since they lie in a folder of masks below `root`, or are given themselves."""
    inside = {mark for mark in given if mark.is_file() or real_path(root) in mark.parents}
    return {file for file in files if inside & {(own := _place(file)), *own.parents}} if inside else set()


def _names_elsewhere(root: Path, given: Sequence[Path]) -> set[Words]:
    """Return the names of the masks in folders that neither hold `root` nor lie in it."""
    base = real_path(root)
    apart = [mark for mark in given if mark.is_dir() and base not in (mark, *mark.parents) and mark not in base.parents]
    return {plain([stem_of(file)]) for mark in apart for file in _files(mark)}


def _says_mask(one: Named) -> bool:
    return is_mask_name(one.stem) or any(map(is_mask_folder, one.folders))


def _named(file: Path, root: Path) -> Named:
    relative = PurePosixPath(file.relative_to(root).as_posix())
    channels = file.parent.name in CHANNEL_FOLDERS
    return Named(relative.parent.parts, stem_of(file), is_volume_file(file), relative.as_posix(), channels)


def _named_scan(scan: Scan) -> Named:
    relative = PurePosixPath(scan.name)
    channels = not scan.files and scan.path.parent.name in CHANNEL_FOLDERS
    return Named(
        relative.parent.parts, relative.name, volume=scan.volume, shown=scan.relative, channels=channels, key=scan.id
    )


def _place(file: Path) -> Path:
    """Return a path without links above a file, which may itself be one."""
    return real_path(file.parent) / file.name


def _files(folder: Path, scans: Collection[Path] = ()) -> list[Path]:
    """Return the pictures and volumes below a folder, hidden ones and `scans` left out, and what says it is a mask."""
    files = [file for file in files_below(folder) if _place(file) not in scans]
    return [file for file in files if suffix_of(file) in suffixes() or _is_mask_file(file)]


def _unread(folder: Path) -> list[Path]:
    """Return the files below a folder that are of no format that is read, and do not just describe another file."""
    return [
        file for file in files_below(folder)
        if file.is_file() and suffix_of(file) not in (*suffixes(), *SIDE_FILES, "")
    ]  # fmt: skip


def pair_masks(path: Path, scans: Sequence[Scan], say: Say = lambda sentence: None, brain: bool = False) -> Pairs:
    """Return the masks of scans, out of a folder or one file for one scan; say which scans have none.

    Raises BadInput where a mask fits two scans, a scan two masks, or none fits; UsageError for one file and many scans.
    """
    if path.is_file():
        if len(scans) != 1:
            raise UsageError(f"{path} is a single mask, but there are {len(scans)} scans; give a folder of masks")
        return Pairs({scans[0].id: (path,)})
    if not path.is_dir():
        raise BadInput(f"{path} does not exist")
    index = MaskIndex([_named_scan(scan) for scan in scans])
    claims: dict[int, list[tuple[Path, int | None]]] = defaultdict(list)
    unclaimed = []
    candidates = _candidates(path, scans)
    for file in candidates:
        own, part = _named_by_itself(file, scans), None
        if not own:
            own, part = index.of(_named(file, path), brain)
        if len(own) > 1 and not _one_case([index.scans[number] for number in own]):
            first, second = (index.scans[number].shown for number in own[:2])
            raise BadInput(f"{file} may belong to {first} or {second}; give it the whole name, or folder, of its scan")
        for number in own:
            claims[number].append((file, part))
        if not own:
            unclaimed.append(file)
    others = set(_unread(path)).difference(candidates)
    unread = [file for file in sorted(others) if index.of(_named(file, path), brain)[0]]
    if not claims:
        if unread:
            raise BadInput(f"{unread[0]} is a mask in an unknown format; the choices are {', '.join(suffixes())}")
        raise BadInput(
            f"{path} holds no mask with the name of a scan, such as {scans[0].relative}; "
            "give it the name of the scan, with or without _mask or _seg at the end"
        )
    pairs = {scans[number].id: _parts(scans[number], masks) for number, masks in sorted(claims.items())}
    bare = [scan.shown or scan.relative for scan in scans if scan.id not in pairs]
    if bare:
        say(f"{len(bare)} of {len(scans)} scans have no {'brain ' * brain}mask: {listed(bare)}")
    return Pairs(pairs, _below(path, unclaimed), _below(path, unread))


def _named_by_itself(file: Path, scans: Sequence[Scan]) -> list[int]:
    """Return the scans that a mask itself says it is of, as a DICOM segmentation names its series."""
    told = mask_file(file)
    if told is None:
        return []
    return [number for number, scan in enumerate(scans) if scan.files and told.is_of(scan.files)]


def _below(folder: Path, files: Iterable[Path]) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in files]


def _candidates(path: Path, scans: Sequence[Scan]) -> list[Path]:
    """Return the files below a folder that may be masks: no scans, and where scans lie there too, named as masks."""
    own = {_place(file) for scan in scans for file in scan.all_files}
    folder = path.resolve()
    shared = any(folder in file.parents for file in own)
    named = {file: _named(file, path) for file in _files(path, own)}
    if not shared:
        return [file for file, one in named.items() if not any(map(is_image_folder, one.folders))]
    return [
        file for file, one in named.items() if _says_mask(one) or lesion_of(one.stem) is not None or _is_mask_file(file)
    ]


def _is_mask_file(file: Path) -> bool:
    with suppress(BadInput):  # which nobody has named
        return mask_file(file) is not None
    return False


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
        if all(_is_mask_file(file) for file in (first, second)):
            raise BadInput(
                f"{scan.shown or scan.relative} has two segmentations, {first} and {second}; keep one, or put their "
                "segments into one segmentation"
            )
        raise BadInput(
            f"{scan.relative} has two masks, {first} and {second}; keep one, or number the parts of one picture as in "
            "a_mask.png, a_mask_1.png"
        )
    return tuple(file for file, _ in ordered)


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return the first names of a list, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
