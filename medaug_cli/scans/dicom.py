"""DICOM: group the files of a folder into series, order their slices, and read them as volumes.

Slices are ordered by their positions along the normal of their plane (DICOM PS3.3, C.7.6.2.1.1), never by file name or
instance number. What cannot be a volume is refused by name. A patient's identity is used to tell patients apart and
does not leave this module.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.errors import BadInput

PREAMBLE = 128  # bytes before the letters DICM
PATIENT, SERIES, NUMBER, ECHO = "0010|0020", "0020|000e", "0020|0011", "0018|0086"
ACQUISITION, TIME, INSTANCE = "0020|0012", "0020|0100", "0008|0018"
POSITION, ORIENTATION, FRAMES = "0020|0032", "0020|0037", "0028|0008"
IMAGE_TYPE, MEANING, MODALITY = "0008|0008", "0028|0004", "0008|0060"
UNEVEN = 0.1  # of the median distance of slices, up to which distances count as even
DRIFT = 0.02  # of the distance of two slices, up to which they may be shifted in their plane
PARALLEL = 1e-3  # up to which direction cosines are the same
Say = Callable[[str], None]


@dataclass(frozen=True)
class Slice:
    """One file: what its header says."""

    path: Path
    tags: dict[str, str]

    def get(self, tag: str) -> str:
        return self.tags.get(tag, "").strip()

    def numbers(self, tag: str) -> tuple[float, ...]:
        """Return a tag's numbers; raise BadInput where they are none."""
        try:
            return tuple(float(text) for text in self.get(tag).split("\\") if text.strip())
        except ValueError as error:
            raise BadInput(f"{self.path} has no numbers in tag ({tag.replace('|', ',')})") from error

    @property
    def localiser(self) -> bool:
        return "LOCALIZER" in self.get(IMAGE_TYPE).upper().split("\\")

    @property
    def plane(self) -> tuple[float, ...]:
        """Return the direction cosines, rounded so that equal ones are equal; none where there are none."""
        return tuple(round(value, 3) + 0.0 for value in self.numbers(ORIENTATION))


@dataclass(frozen=True)
class Series:
    """The slices of one volume, first to last."""

    name: str  # of its folder and, where there are several, its number
    patient: str  # a number that stands for the patient
    files: tuple[Path, ...]


def is_dicom(path: Path) -> bool:
    """Tell whether a file says that it is DICOM."""
    try:
        with path.open("rb") as file:
            return file.read(PREAMBLE + 4)[PREAMBLE:] == b"DICM"
    except OSError:
        return False


def find_series(paths: Iterable[Path], root: Path, say: Say = lambda sentence: None) -> list[Series]:
    """Group DICOM files into volumes.

    Files belong together that share patient, series, plane, size and echo, and where places repeat also acquisition
    and time. Localisers and single slices are left out, and said.
    """
    slices = [read_header(path) for path in paths]
    numbers = {patient: i for i, patient in enumerate(sorted({each.get(PATIENT) for each in slices}), 1)}
    groups: dict[tuple[Any, ...], list[Slice]] = {}
    for each in slices:
        if each.localiser:
            say(f"{each.path} is a localiser and is left out")
            continue
        key = each.path.parent, each.get(PATIENT), each.get(SERIES), each.plane, each.get("size"), each.get(ECHO)
        groups.setdefault(key, []).append(each)
    volumes = [part for group in groups.values() for part in _apart(group)]
    kept = []
    for volume in volumes:
        if len(volume) < 2 and not _frames(volume[0]):
            say(f"{volume[0].path} is the only slice of its series and is left out")
            continue
        kept.append(volume)
    return _named(kept, root, numbers)


def _apart(group: list[Slice]) -> list[list[Slice]]:
    """Split slices whose places repeat by acquisition and time; as they are where that does not settle it."""
    if not _repeats(group):
        return [group]
    for tags in ((ACQUISITION,), (TIME,), (ACQUISITION, TIME)):
        parts: dict[tuple[str, ...], list[Slice]] = {}
        for each in group:
            parts.setdefault(tuple(each.get(tag) for tag in tags), []).append(each)
        if len(parts) > 1 and not any(_repeats(part) for part in parts.values()):
            return list(parts.values())
    return [group]


def _repeats(group: Sequence[Slice]) -> bool:
    places = [each.get(POSITION) for each in group]
    return len(set(places)) < len(places)


def _named(volumes: Sequence[list[Slice]], root: Path, numbers: dict[str, int]) -> list[Series]:
    """Name each volume by its folder, and by series number and turn where a folder holds several."""
    per_folder: dict[Path, list[list[Slice]]] = {}
    for volume in volumes:
        per_folder.setdefault(volume[0].path.parent, []).append(volume)
    series = []
    for folder, own in sorted(per_folder.items()):
        relative = folder.relative_to(root).as_posix()
        base = root.name if relative == "." else relative
        own.sort(key=lambda volume: (int(volume[0].get(NUMBER) or 0), str(volume[0].path)))
        for turn, volume in enumerate(own, 1):
            name = base if len(own) == 1 else f"{base}-{turn:02d}"
            files = tuple(each.path for each in sorted(volume, key=lambda each: str(each.path)))
            series.append(Series(name, f"patient{numbers[volume[0].get(PATIENT)]:04d}", files))
    return series


def read_header(path: Path) -> Slice:
    """Read the tags of a DICOM file; raise BadInput where it is damaged."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise BadInput(f"{path} cannot be read, it is truncated, damaged or no DICOM image") from error
    tags = {key: reader.GetMetaData(key).encode("utf-8", "replace").decode() for key in reader.GetMetaDataKeys()}
    return Slice(path, tags | {"size": "x".join(map(str, reader.GetSize()[:2]))})


def _frames(each: Slice) -> bool:
    text = each.get(FRAMES)
    return text.isdigit() and int(text) > 1


def read_series(files: Sequence[Path]) -> Any:
    """Return the volume of some files as an image of SimpleITK in float32, positions and spacing in mm.

    Raises BadInput for several frames in a file, missing or repeated positions, gaps, a tilted gantry, colours, and for
    files that are damaged.
    """
    import SimpleITK as sitk

    slices = [read_header(path) for path in files]
    for each in slices:
        _check(each)
    along, order = _ordered(slices)
    slices = [slices[i] for i in order]
    pixels = np.stack([_pixels(each) for each in slices])
    if slices[0].get(MEANING) == "MONOCHROME1":  # GDCM has turned it round, below zero
        pixels -= pixels.min()
    volume = sitk.GetImageFromArray(pixels)
    row, column = np.array(slices[0].numbers(ORIENTATION)).reshape(2, 3)
    spacing = _spacing(slices[0])
    volume.SetSpacing((*spacing, float(np.median(np.diff(along)))))
    volume.SetOrigin(slices[0].numbers(POSITION))
    volume.SetDirection(np.stack([row, column, np.cross(row, column)], 1).flatten().tolist())
    return volume


def _check(each: Slice) -> None:
    if _frames(each):
        raise BadInput(f"{each.path} holds {each.get(FRAMES)} frames in one file; convert it to NIfTI first")
    if len(each.numbers(POSITION)) != 3 or len(each.numbers(ORIENTATION)) != 6:
        raise BadInput(f"{each.path} does not say where its slice lies (ImagePositionPatient, ImageOrientationPatient)")
    meaning = each.get(MEANING)
    if meaning not in ("MONOCHROME1", "MONOCHROME2"):
        raise BadInput(f"{each.path} is {meaning or 'of no known kind'}; MONOCHROME1 or MONOCHROME2 is wanted")


def _ordered(slices: Sequence[Slice]) -> tuple[np.ndarray, np.ndarray]:
    """Return the places along the normal, ascending, and the order of the slices that gives them."""
    first = np.array(slices[0].numbers(ORIENTATION))
    for each in slices:
        if np.abs(np.array(each.numbers(ORIENTATION)) - first).max() > PARALLEL:
            raise BadInput(f"{each.path} lies in another plane than {slices[0].path}")
    normal = np.cross(first[:3], first[3:])
    positions = np.array([each.numbers(POSITION) for each in slices])
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    along, positions = along[order], positions[order]
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    if (gaps <= 1e-3).any():
        at = int(np.argmin(gaps))
        raise BadInput(f"{slices[order[at]].path} and {slices[order[at + 1]].path} lie at the same place")
    worst = int(np.argmax(np.abs(gaps - usual)))
    if abs(gaps[worst] - usual) > UNEVEN * usual:
        raise BadInput(
            f"between {slices[order[worst]].path} and {slices[order[worst + 1]].path} lie {gaps[worst]:.2f} mm where "
            f"{usual:.2f} mm are usual: slices are missing, or of two series"
        )
    drift = np.diff(positions, axis=0) - gaps[:, None] * normal
    if (np.linalg.norm(drift, axis=1) > DRIFT * usual + 1e-3).any():
        raise BadInput(f"the slices beside {slices[0].path} are shifted against each other (a tilted gantry)")
    return along, order


def _spacing(each: Slice) -> tuple[float, float]:
    """Return the distance of columns and of rows, mm."""
    rows, columns = (*each.numbers("0028|0030"), math.nan, math.nan)[:2]
    if not (rows > 0 and columns > 0):
        raise BadInput(f"{each.path} does not say how large its pixels are (PixelSpacing)")
    return columns, rows


def _pixels(each: Slice) -> np.ndarray:
    """Return a slice's values (h, w) float32, rescaled as its header says, large where it is to be shown light."""
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(str(each.path), sitk.sitkFloat32, imageIO="GDCMImageIO")
    except RuntimeError as error:
        raise BadInput(f"{each.path} cannot be read, it is truncated or damaged") from error
    values = sitk.GetArrayFromImage(image)
    return values[0] if values.ndim == 3 else values
