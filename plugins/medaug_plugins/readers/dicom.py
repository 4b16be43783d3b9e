"""DICOM: group the files of a folder into series and pictures, order slices, and read them.

Slices are ordered by their positions along the normal of their plane (DICOM PS3.3, C.7.6.2.1.1), never by file name or
instance number. What cannot be a volume is refused by name. A patient's identity is used to tell patients apart and
does not leave these modules.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from medaug_cli.plugin import BadInput, Capabilities, Grid, MaskFile, ScanFiles, StoredImage
from medaug_plugins.readers.dicom_headers import Slice, is_dicom, read_header
from medaug_plugins.readers.dicom_pixels import read_slice
from medaug_plugins.readers.dicom_segmentations import describe, is_segmentation, read_segmentation
from medaug_plugins.readers.dicom_volumes import apart, even, in_planes, ordered, without_copies

GREY = ("MONOCHROME1", "MONOCHROME2")
ALIKE = 1e-3  # relative difference of spacings that differ in their last digits
Say = Callable[[str], None]


@dataclass
class Dicom:
    """Series of DICOM files, a volume each, and radiographs, a picture each."""

    capabilities: ClassVar[Capabilities] = Capabilities(dims=(2, 3), channels=(1, 3))
    suffixes: ClassVar[tuple[str, ...]] = (".dcm", ".ima", ".dicom")

    def claims(self, path: Path) -> bool:
        """Tell whether a file says that it is DICOM."""
        return is_dicom(path)

    def group(self, files: Sequence[Path], root: Path, say: Say) -> list[ScanFiles]:
        """Group files into volumes and pictures.

        Files belong together that share patient, series, plane, size and echo, and where places repeat also acquisition
        and time; `_volumes` says what becomes of series in several folders. Localisers, single slices, copies and what
        is not a picture are left out.
        """
        slices, out = _sorted_out(files, root)
        patients = _Patients(slices, say)
        groups: dict[tuple[Any, ...], list[Slice]] = {}
        for each in slices:
            if not each.picture:
                folder = each.path.parent if not each.series else ""
                key = folder, patients.key(each), each.series, each.form[:2], each.echo
                groups.setdefault(key, []).append(each)
        volumes = []
        for group in (plane for own in groups.values() for plane in in_planes(own)):
            kept, copies = without_copies(group)
            out += [_left_out(copy.path, root, f"a copy of {first.path.name}") for copy, first in copies]
            for volume in _volumes(kept, say):
                if len(volume) < 2 and volume[0].frames < 2:
                    out.append(_left_out(volume[0].path, root, "the only slice of its series; save it as a picture"))
                else:
                    volumes.append(volume)
        pictures = [_picture(each, root, patients) for each in slices if each.picture]
        return _named(volumes, root, patients) + pictures + out

    def describe_mask(self, path: Path) -> MaskFile | None:
        """Return what a segmentation says of itself; None for another file."""
        return describe(path) if is_segmentation(path) else None

    def read_labels(self, files: Sequence[Path]) -> StoredImage:
        """Return the label map of a segmentation, or the volume or picture of other files; see `read`."""
        return read_segmentation(files[0]) if is_segmentation(files[0]) else self.read(files)

    def read(self, files: Sequence[Path]) -> StoredImage:
        """Return the volume of some files, or the picture of one.

        Raises BadInput for several frames in a file, missing or repeated positions, gaps, a tilted gantry, colours,
        slices that are stored differently, what is neither a slice nor a picture, and files that are damaged.
        """
        known = [each for each in map(read_header, files) if each is not None]
        if not known:
            raise BadInput(f"{files[0]} is a DICOMDIR, not a scan")
        for each in known:
            if each.unusable and not each.localiser:
                raise BadInput(f"{each.path} is {each.unusable}")
            if each.frames > 1:
                raise BadInput(f"{each.path} holds {each.frames} frames in one file; convert it to NIfTI first")
        if len(known) == 1 and known[0].picture:
            return _read_picture(known[0])
        for each in known:
            _check(each, known[0])
        if len(known) == 1:
            raise BadInput(f"{files[0]} is a single slice of a volume; give its whole series, or save it as a picture")
        return _read_volume(known)


def _read_picture(each: Slice) -> StoredImage:
    if each.meaning not in (*GREY, "RGB"):
        raise BadInput(f"{each.path} is {each.meaning or 'of no known kind'}; expected {', '.join(GREY)} or RGB")
    values = read_slice(each)
    if each.meaning == GREY[0]:  # GDCM has turned it round, below zero
        values -= values.min()
    image = np.ascontiguousarray(values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0))
    said = len(each.spacing) == 2 and min(each.spacing) > 0
    return StoredImage(image, spacing=(each.spacing[0], each.spacing[1]) if said else None)


def _read_volume(known: list[Slice]) -> StoredImage:
    along, order = ordered(known)
    known = [known[i] for i in order]
    pixels = np.stack([read_slice(each) for each in known])
    if known[0].meaning == GREY[0]:
        pixels -= pixels.min()
    row, column = np.median([each.orientation for each in known], axis=0).reshape(2, 3)
    rows, columns = np.median([each.spacing for each in known], axis=0).tolist()
    direction = np.stack([row, column, np.cross(row, column)], 1).flatten().tolist()
    x, y, z = known[0].position
    step = float(along[-1] - along[0]) / (len(along) - 1)  # positions are rounded: one gap, if usual, would drift
    spacing = columns, rows, step
    off = float(np.abs(along - along[0] - step * np.arange(len(along))).max())  # gaps that differ a little add up
    notes = (f"its slices lie up to {off:.2g} mm beside the even steps of {step:.3g} mm in which they are read",)
    return StoredImage(pixels[None], Grid(spacing, (x, y, z), tuple(direction)), notes=notes if off > step / 2 else ())


def _left_out(path: Path, root: Path, reason: str, damaged: bool = False, private: bool = False) -> ScanFiles:
    return ScanFiles(
        path.relative_to(root).as_posix(), (path,), patient=None, left_out=reason, damaged=damaged, private=private
    )


def _sorted_out(files: Sequence[Path], root: Path) -> tuple[list[Slice], list[ScanFiles]]:
    """Return the slices and pictures among some files, and the others with the reason."""
    slices, out, missing = [], [], list[int]()
    for path in files:
        try:
            each = read_header(path)
        except BadInput as error:
            out.append(_left_out(path, root, str(error), damaged=True))
            missing += [len(out) - 1] if path.is_symlink() and not path.exists() else []
            continue
        if each is None:
            continue
        if each.unusable:
            private = _tells(path.relative_to(root).as_posix(), [each])
            out.append(_left_out(path, root, each.unusable, private=private))
        else:
            slices.append(each)
    there = {each.path.parent for each in slices}
    for i in missing:  # a series that was never fetched is not a damaged one
        if out[i].files[0].parent not in there:
            out[i] = replace(out[i], left_out="a broken link", damaged=False)
    return slices, out


class _Patients:
    """Who the patients of some files are: by their numbers, whose case and blanks do not matter."""

    def __init__(self, slices: Iterable[Slice], say: Say) -> None:
        spellings: dict[str, set[str]] = {}
        for each in slices:
            spellings.setdefault(self.key(each), set()).add(each.patient)
        spellings.pop("", None)
        several = sum(len(some) > 1 for some in spellings.values())
        if several:
            say(
                f"the ids of {several} patients are spelled in several ways (case or spaces); each is treated as one "
                f"patient"
            )
        self.identities = {key: min(some) for key, some in spellings.items()}
        self.numbers = {key: i for i, key in enumerate(sorted(spellings, key=self.identities.__getitem__), 1)}

    @staticmethod
    def key(each: Slice) -> str:
        return " ".join(each.patient.split()).casefold()

    def name(self, each: Slice) -> str | None:
        """Return a name that tells nobody who it is; None where the file does not say whose it is."""
        key = self.key(each)
        return f"patient{self.numbers[key]:04d}" if key else None

    def identity(self, each: Slice) -> str:
        return self.identities.get(self.key(each), "")


def _volumes(group: list[Slice], say: Say) -> list[list[Slice]]:
    """Return the volumes of one series.

    A series that lies in several folders is one volume where its slices are even together. Where they are not, but
    those of each folder are, each folder holds a volume of its own, as where a series was copied.
    """
    folders: dict[Path, list[Slice]] = {}
    for each in group:
        folders.setdefault(each.path.parent, []).append(each)
    whole = apart(group)
    if len(folders) == 1 or all(map(even, whole)):
        return whole
    own = [part for one in folders.values() for part in apart(one)]
    if not all(map(even, own)):
        return whole
    say(f"one series lies in {len(folders)} folders, such as {group[0].path.parent}, and each is read as a volume")
    return own


def _picture(each: Slice, root: Path, patients: _Patients) -> ScanFiles:
    name = each.path.relative_to(root).as_posix()
    private, identity = _tells(name, [each]), patients.identity(each)
    return ScanFiles(name, (each.path,), patients.name(each), private=private, identity=identity, picture=True)


def _named(volumes: Sequence[list[Slice]], root: Path, patients: _Patients) -> list[ScanFiles]:
    """Name each volume by the folder that holds all of it, and by its turn where a folder holds several."""
    per_folder: dict[Path, list[list[Slice]]] = {}
    for volume in volumes:
        folder = Path(os.path.commonpath([each.path.parent for each in volume]))
        per_folder.setdefault(folder, []).append(volume)
    series = []
    for folder, own in sorted(per_folder.items()):
        relative = folder.relative_to(root).as_posix()
        base = _name_of(root) if relative == "." else relative
        own.sort(key=lambda volume: (volume[0].number, str(volume[0].path)))
        for turn, volume in enumerate(own, 1):
            name = base if len(own) == 1 else f"{base}-{turn:02d}"
            files, first = tuple(sorted(each.path for each in volume)), volume[0]
            private, identity = _tells(name, volume[:1]), patients.identity(first)
            series.append(ScanFiles(name, files, patients.name(first), private=private, identity=identity))
    return series


def _name_of(folder: Path) -> str:
    """Return what a folder is called, also where it is given as `.` or `..`."""
    name = folder.name if folder.name != ".." else ""
    return name or folder.resolve().name or "series"


def _tells(name: str, slices: Sequence[Slice]) -> bool:
    """Tell whether a path holds the patient's name, number or date of birth."""
    return any(word in name.lower() for each in slices for word in each.identity)


def _check(each: Slice, first: Slice) -> None:
    if len(each.position) != 3 or len(each.orientation) != 6:
        raise BadInput(f"{each.path} does not say where its slice lies (ImagePositionPatient, ImageOrientationPatient)")
    if each.meaning not in GREY:
        raise BadInput(f"{each.path} is {each.meaning or 'of no known kind'}; expected {' or '.join(GREY)}")
    if len(each.spacing) != 2 or not min(each.spacing) > 0:
        raise BadInput(f"{each.path} does not say how large its pixels are (PixelSpacing)")
    axes = np.array(each.orientation).reshape(2, 3)
    if not np.allclose(axes @ axes.T, np.eye(2), atol=1e-2):
        raise BadInput(f"{each.path} has axes that are not orthogonal (ImageOrientationPatient)")
    same = (each.form, each.meaning) == (first.form, first.meaning)
    if not same or not np.allclose(each.spacing, first.spacing, rtol=ALIKE, atol=0):
        raise BadInput(f"{each.path} and {first.path} differ in the size, kind or spacing of their pixels")
