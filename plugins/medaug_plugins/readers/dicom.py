"""DICOM: group the files of a folder into series, order their slices, and read them as volumes.

Slices are ordered by their positions along the normal of their plane (DICOM PS3.3, C.7.6.2.1.1), never by file name or
instance number. What cannot be a volume is refused by name. A patient's identity is used to tell patients apart and
does not leave these modules.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from medaug_cli.plugin import BadInput, Capabilities, Grid, ScanFiles, StoredImage
from medaug_plugins.readers.dicom_headers import Slice, is_dicom, read_header
from medaug_plugins.readers.dicom_pixels import read_slice

UNEVEN = 0.1  # of the median distance of slices, up to which distances count as even
DRIFT = 0.02  # of the distance of two slices, up to which they may be shifted in their plane
PARALLEL = 1e-3  # up to which direction cosines are the same
Say = Callable[[str], None]


@dataclass
class Dicom:
    """Series of DICOM files, a volume each."""

    capabilities: ClassVar[Capabilities] = Capabilities(dims=(3,), channels=(1,))
    suffixes: ClassVar[tuple[str, ...]] = (".dcm", ".ima", ".dicom")

    def claims(self, path: Path) -> bool:
        """Tell whether a file says that it is DICOM."""
        return is_dicom(path)

    def group(self, files: Sequence[Path], root: Path, say: Say) -> list[ScanFiles]:
        """Group files into volumes.

        Files belong together that share folder, patient, series, plane, size and echo, and where places repeat also
        acquisition and time. Localisers, single slices and what is no picture are left out.
        """
        slices, out = _sorted_out(files, root)
        numbers = {patient: i for i, patient in enumerate(sorted({each.patient for each in slices}), 1)}
        groups: dict[tuple[Any, ...], list[Slice]] = {}
        for each in slices:
            size = each.form[:2]
            key = each.path.parent, each.patient, each.series, each.plane, size, each.echo
            groups.setdefault(key, []).append(each)
        volumes = []
        for volume in (part for group in groups.values() for part in _apart(group)):
            if len(volume) < 2 and volume[0].frames < 2:
                out.append(_left_out(volume[0].path, root, "the only slice of its series"))
            else:
                volumes.append(volume)
        return _named(volumes, root, numbers) + out

    def read(self, files: Sequence[Path]) -> StoredImage:
        """Return the volume of some files.

        Raises BadInput for several frames in a file, missing or repeated positions, gaps, a tilted gantry, colours,
        slices that are stored differently, and files that are damaged.
        """
        slices = [read_header(path) for path in files]
        known = [each for each in slices if each is not None]
        for each in known:
            _check(each, known[0])
        along, order = _ordered(known)
        known = [known[i] for i in order]
        pixels = np.stack([read_slice(each) for each in known])
        if known[0].meaning == "MONOCHROME1":  # GDCM has turned it round, below zero
            pixels -= pixels.min()
        row, column = np.array(known[0].orientation).reshape(2, 3)
        rows, columns = known[0].spacing
        direction = np.stack([row, column, np.cross(row, column)], 1).flatten().tolist()
        x, y, z = known[0].position
        spacing = columns, rows, float(np.median(np.diff(along)))
        return StoredImage(pixels[None], Grid(spacing, (x, y, z), tuple(direction)))


def _left_out(path: Path, root: Path, reason: str, damaged: bool = False, private: bool = False) -> ScanFiles:
    return ScanFiles(path.relative_to(root).as_posix(), (path,), None, reason, damaged, private)


def _sorted_out(files: Sequence[Path], root: Path) -> tuple[list[Slice], list[ScanFiles]]:
    """Return the slices among some files, and the others with the reason."""
    slices, out = [], []
    for path in files:
        try:
            each = read_header(path)
        except BadInput as error:
            out.append(_left_out(path, root, str(error), damaged=True))
            continue
        if each is None:
            continue
        reason = "" if each.image else f"no picture ({each.kind})"
        reason = reason or ("a localiser" if each.localiser else "")
        if reason:
            out.append(_left_out(path, root, reason, private=_tells(path.relative_to(root).as_posix(), [each])))
        else:
            slices.append(each)
    return slices, out


def _apart(group: list[Slice]) -> list[list[Slice]]:
    """Split slices whose places repeat by acquisition and time; as they are where that does not settle it."""
    if not _repeats(group):
        return [group]
    keys: tuple[Callable[[Slice], Any], ...] = (
        lambda each: each.acquisition, lambda each: each.time, lambda each: (each.acquisition, each.time)
    )  # fmt: skip
    for key in keys:
        parts: dict[Any, list[Slice]] = {}
        for each in group:
            parts.setdefault(key(each), []).append(each)
        if len(parts) > 1 and not any(_repeats(part) for part in parts.values()):
            return list(parts.values())
    return [group]


def _repeats(group: Sequence[Slice]) -> bool:
    places = [each.position for each in group]
    return len(set(places)) < len(places)


def _named(volumes: Sequence[list[Slice]], root: Path, numbers: dict[str, int]) -> list[ScanFiles]:
    """Name each volume by its folder, and by its turn where a folder holds several."""
    per_folder: dict[Path, list[list[Slice]]] = {}
    for volume in volumes:
        per_folder.setdefault(volume[0].path.parent, []).append(volume)
    series = []
    for folder, own in sorted(per_folder.items()):
        relative = folder.relative_to(root).as_posix()
        base = root.name if relative == "." else relative
        own.sort(key=lambda volume: (volume[0].number, str(volume[0].path)))
        for turn, volume in enumerate(own, 1):
            name = base if len(own) == 1 else f"{base}-{turn:02d}"
            files = tuple(sorted(each.path for each in volume))
            patient = f"patient{numbers[volume[0].patient]:04d}"
            identity = volume[0].patient
            series.append(ScanFiles(name, files, patient, private=_tells(name, volume[:1]), identity=identity))
    return series


def _tells(name: str, slices: Sequence[Slice]) -> bool:
    """Tell whether a path holds the patient's name, number or date of birth."""
    return any(word in name.lower() for each in slices for word in each.identity)


def _check(each: Slice, first: Slice) -> None:
    if each.frames > 1:
        raise BadInput(f"{each.path} holds {each.frames} frames in one file; convert it to NIfTI first")
    if len(each.position) != 3 or len(each.orientation) != 6:
        raise BadInput(f"{each.path} does not say where its slice lies (ImagePositionPatient, ImageOrientationPatient)")
    if each.meaning not in ("MONOCHROME1", "MONOCHROME2"):
        meaning = each.meaning or "of no known kind"
        raise BadInput(f"{each.path} is {meaning}; MONOCHROME1 or MONOCHROME2 is wanted")
    if len(each.spacing) != 2 or not min(each.spacing) > 0:
        raise BadInput(f"{each.path} does not say how large its pixels are (PixelSpacing)")
    axes = np.array(each.orientation).reshape(2, 3)
    if not np.allclose(axes @ axes.T, np.eye(2), atol=1e-2):
        raise BadInput(f"{each.path} has axes that are not at right angles (ImageOrientationPatient)")
    if (each.form, each.meaning, each.spacing) != (first.form, first.meaning, first.spacing):
        raise BadInput(f"{each.path} and {first.path} differ in the size, kind or spacing of their pixels")


def _ordered(slices: Sequence[Slice]) -> tuple[np.ndarray, np.ndarray]:
    """Return the places along the normal, ascending, and the order of the slices that gives them."""
    first = np.array(slices[0].orientation)
    for each in slices:
        if np.abs(np.array(each.orientation) - first).max() > PARALLEL:
            raise BadInput(f"{each.path} lies in another plane than {slices[0].path}")
    normal = np.cross(first[:3], first[3:])
    positions = np.array([each.position for each in slices])
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
