"""Find the scans in a folder: which reader reads each file, which belong together, which modality is asked for."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medaug_cli.errors import BadInput, MissingPlugin, UsageError
from medaug_cli.plugin import ScanFiles
from medaug_cli.scans.mask_names import CHANNEL, CHANNEL_FOLDERS, MODALITY
from medaug_cli.scans.naming import plain_ids
from medaug_cli.scans.pairing import listed, masks_among
from medaug_cli.scans.reading import (
    PLAIN,
    Reading,
    Scan,
    broken_readers,
    claimed_by,
    is_flat,
    is_volume_reader,
    readers,
    stem_of,
    suffix_of,
    suffixes,
)

Say = Callable[[str], None]
CHANNELS = 10  # of a picture: a number from there on is that of a frame
ALL = "all"


@dataclass(frozen=True)
class LeftOut:
    """A file, or a series, that is not a scan to be used."""

    shown: str
    reason: str
    damaged: str = ""  # the whole sentence, with the file's path
    used: bool = False  # it is not left out: what is said of it is no more than a note


@dataclass(frozen=True)
class Found:
    """What a folder holds."""

    scans: list[Scan]
    left_out: list[LeftOut]
    masks: int = 0  # files that are masks, by their place or name


def find_scans(source: Path, say: Say = lambda sentence: None) -> list[Scan]:
    """Return the scans of a file or folder, sorted by path; raise BadInput if there is none or one is damaged."""
    return survey(source, say).scans


def survey(
    source: Path, say: Say = lambda sentence: None, reader: str | None = None, modality: str | None = None,
    keep_going: bool | None = None, marks: Sequence[Path] = (), reading: Reading = PLAIN,
) -> Found:  # fmt: skip
    """Return the scans of a file or folder, sorted by path, and what is left out; `say` hears of the latter too.

    `marks` are the files and folders of masks that are given; masks are never scans, see `masks_among`.
    Raises BadInput if there is no scan, and for a damaged file unless `keep_going`, which is None where nobody can
    choose it; UsageError where a choice of reader or modality is missing.
    """
    if not source.exists():
        raise BadInput(f"{source} does not exist")
    if reader is not None and reader not in readers():
        raise MissingPlugin(f"no reader {reader!r} is installed; installed: {', '.join(readers())}")
    for reason in broken_readers():
        say(reason)
    root = source if source.is_dir() else source.parent
    files, left_out = _walk(source) if source.is_dir() else ([source], [])
    for one in (one for one in left_out if not one.damaged):
        say(f"{one.shown} is {one.reason} and is left out")
    _say_links(files, root, say)
    masks = masks_among(files, root, marks) if source.is_dir() else set()
    if masks:
        names = [file.relative_to(root).as_posix() for file in files if file in masks]
        what = f"{len(names)} files are masks" if len(names) > 1 else "a file is a mask"
        say(f"{what} by folder or name, not scans: {listed(names)}")
        files = [file for file in files if file not in masks]
    by_reader = _by_reader(files, reader, say)
    scans: list[Scan] = []
    for name, own in by_reader.items():
        grouped, out = _grouped(name, own, root, say)
        scans += grouped
        left_out += out
    damaged = next((one for one in left_out if one.damaged), None)
    if damaged is not None and not keep_going:
        advice = "move it elsewhere" if keep_going is None else "--keep-going skips it and lists it"
        raise BadInput(f"{damaged.damaged}; {advice}")
    if not scans:
        raise BadInput(f"{source} holds no scan; {_nothing(left_out)}")
    scans, previews = _without_previews(scans, say)
    left_out += previews
    scans = sorted(scans, key=lambda scan: scan.relative)
    ids = plain_ids([scan.id for scan in scans])
    scans = [replace(scan, id=own, reading=reading) for scan, own in zip(scans, ids, strict=True)]
    _check_ids(source, scans)
    return Found(_of_modality(scans, modality, say), left_out, len(masks))


def _nothing(left_out: Sequence[LeftOut]) -> str:
    """Say why there is no scan: what files were left out for, or else what is read."""
    if not left_out:
        return f"the choices are {', '.join(suffixes())} and DICOM series"
    more = f" (and {len(left_out) - 1} more are left out)" if len(left_out) > 1 else ""
    return f"{left_out[0].shown} is {left_out[0].reason}{more}"


def _walk(folder: Path) -> tuple[list[Path], list[LeftOut]]:
    """Return the files below a folder in order, hidden ones left out, and what cannot or must not be looked into.

    Links to files that are not there are files too: whoever needs one names it.
    """
    files, left_out = [], []

    def refuse(error: OSError) -> None:
        path = Path(str(error.filename))
        reason = f"cannot be read ({error.strerror})"
        left_out.append(LeftOut(path.relative_to(folder).as_posix(), reason, f"{path} {reason}"))

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if (linked := Path(place) / name).is_symlink():
                left_out.append(LeftOut(linked.relative_to(folder).as_posix(), "a link to a folder"))
        for path in (Path(place) / name for name in names if not name.startswith(".")):
            if path.is_file() or path.is_symlink():
                files.append(path)
            else:
                left_out.append(LeftOut(path.relative_to(folder).as_posix(), "neither a file nor a folder"))
    return sorted(files), left_out


def _say_links(files: Sequence[Path], root: Path, say: Say) -> None:
    broken = [path.relative_to(root).as_posix() for path in files if path.is_symlink() and not path.exists()]
    if broken:
        what = f"{len(broken)} files are broken links" if len(broken) > 1 else "a file is a broken link"
        say(f"{what}: {listed(broken)}")


def _by_reader(files: Iterable[Path], chosen: str | None, say: Say) -> dict[str, list[Path]]:
    """Return the files of each reader: by suffix, else by content; say what is nobody's."""
    by_reader: dict[str, list[Path]] = defaultdict(list)
    others: Counter[str] = Counter()
    for path in files:
        name = claimed_by(path, chosen)
        if name is None:
            others[path.suffix.lower() or "no suffix"] += 1
        else:
            by_reader[name].append(path)
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(6))
        count = sum(others.values())
        what = "1 file is not a scan and is" if count == 1 else f"{count} files are not scans and are"
        say(f"{what} left out ({kinds})")
    return dict(sorted(by_reader.items()))


def _grouped(name: str, files: Sequence[Path], root: Path, say: Say) -> tuple[list[Scan], list[LeftOut]]:
    reader = readers()[name]
    volume = is_volume_reader(reader)
    if not hasattr(reader, "group"):
        return _single_files(name, files, root, volume), []
    scans, out, pictures = [], [], []
    groups: list[ScanFiles] = reader.group(files, root, say)
    for one in groups:
        if one.left_out:
            if not one.damaged:
                say(f"{one.files[0]} is {one.left_out} and is left out")
            shown = "a file" if one.private else one.name
            reason = one.left_out.replace(str(one.files[0]), shown)
            out.append(LeftOut(shown, reason, one.left_out if one.damaged else ""))
        elif one.picture and one.item is None:
            pictures.append(one)
        else:
            scans.append(
                Scan(
                    one.name,
                    one.files[0],
                    relative=one.name,
                    volume=volume and not one.picture,
                    files=one.files,
                    patient=one.patient,
                    reader=name,
                    private=one.private,
                    shown=one.name,
                    identity=one.identity,
                    item=one.item,
                    split=one.split,
                    image_class=one.image_class,
                )
            )
    paths = [one.files[0] for one in pictures]
    plain = _single_files(name, paths, root, volume=False)
    scans += [
        replace(scan, patient=one.patient, private=one.private, identity=one.identity)
        for scan, one in zip(plain, pictures, strict=True)
    ]
    return scans, out


def _single_files(reader: str, paths: Sequence[Path], root: Path, volume: bool) -> list[Scan]:
    stems = [stem_of(path) for path in paths]
    clash = len(set(stems)) < len(stems)
    scans = []
    for path, stem in zip(paths, stems, strict=True):
        relative = path.relative_to(root).as_posix()
        name = relative[: len(relative) - len(suffix_of(path))] if clash else stem
        own = volume and not is_flat(readers()[reader], path)
        scans.append(Scan(name, path, relative, own, reader=reader, shown=relative))
    return scans


def of_one_kind(scans: Sequence[Scan], annotated: Container[str], say: Say) -> tuple[list[Scan], list[LeftOut]]:
    """Return volumes or pictures, whichever are annotated, by scan id, and the others, which are previews, left out.

    Raises UsageError where both are annotated, or neither.
    """
    kinds = {scan.volume for scan in scans}
    named = {scan.volume for scan in scans if scan.id in annotated}
    if len(kinds) == 1:
        return list(scans), []
    if len(named) != 1:
        first, second = (next(scan.relative for scan in scans if scan.volume == kind) for kind in (False, True))
        raise UsageError(f"{first} is a picture and {second} a volume; move one kind away, or choose it with --reader")
    wanted = named.pop()
    return _without(scans, lambda scan: scan.volume != wanted, wanted, say)


def _without_previews(scans: Sequence[Scan], say: Say) -> tuple[list[Scan], list[LeftOut]]:
    """Return scans without pictures that have the name of a volume beside them."""
    volumes = {scan.name for scan in scans if scan.volume}
    return _without(scans, lambda scan: not scan.volume and scan.name in volumes, True, say)


def _without(
    scans: Sequence[Scan], is_other: Callable[[Scan], bool], volumes: bool, say: Say
) -> tuple[list[Scan], list[LeftOut]]:
    others = [scan for scan in scans if is_other(scan)]
    kind, of = ("picture", "volumes") if volumes else ("volume", "pictures")
    if others:
        what = f"{len(others)} {kind}s beside {of} are" if len(others) > 1 else f"a {kind} beside {of} is"
        say(f"{what} left out: {listed([scan.shown or scan.relative for scan in others])}")
    left_out = [LeftOut(scan.shown or scan.relative, f"a {kind} beside {of}") for scan in others]
    return [scan for scan in scans if not is_other(scan)], left_out


def _check_ids(source: Path, scans: Sequence[Scan]) -> None:
    seen: dict[str, Scan] = {}
    for scan in scans:
        if scan.id in seen:
            raise BadInput(f"{source}: {seen[scan.id].relative} and {scan.relative} would both be called {scan.id}")
        seen[scan.id] = scan


def case_and_modality(scan: Scan) -> tuple[str, str | None]:
    """Split a scan's name as BraTS and nnU-Net form it, `case_t1ce` or `case_0000`, into case and modality."""
    found = None if scan.files else MODALITY.search(scan.name)
    if found is None and not scan.files and scan.path.parent.name in CHANNEL_FOLDERS:
        found = CHANNEL.search(scan.name)
        found = found if scan.volume or (found and int(found.group(1)) < CHANNELS) else None
    return (scan.name[: found.start()], found.group(1).lower()) if found else (scan.name, None)


def _of_modality(scans: list[Scan], wanted: str | None, say: Say) -> list[Scan]:
    """Return the scans of the modality that is asked for; raise UsageError where one must be chosen and was not."""
    named = {scan.id: case_and_modality(scan) for scan in scans}
    of_case: dict[str, set[str]] = defaultdict(set)
    for case, modality in named.values():
        if modality:
            of_case[case].add(modality)
    choices = sorted(set().union(*of_case.values()))
    if wanted == ALL or (wanted is None and all(len(some) < 2 for some in of_case.values())):
        return scans
    if wanted is None:
        case, some = next((case, some) for case, some in of_case.items() if len(some) > 1)
        raise UsageError(
            f"{case} has several modalities ({', '.join(sorted(some))}); choose one with --modality, or {ALL} to take "
            "each as a scan"
        )
    chosen = [scan for scan in scans if named[scan.id][1] == wanted.lower()]
    if not chosen:
        raise UsageError(f"--modality {wanted}: no scan has that name; the choices are {', '.join(choices) or 'none'}")
    if len(chosen) < len(scans):
        count = len(scans) - len(chosen)
        what = "1 file is of another modality" if count == 1 else f"{count} files are of other modalities"
        say(f"{what} than {wanted} and {'is' if count == 1 else 'are'} left out")
    return chosen
