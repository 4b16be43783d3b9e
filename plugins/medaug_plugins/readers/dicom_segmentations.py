"""DICOM segmentations (PS3.3, A.51 and C.8.20): frames of one segment each, as a label map that lies where they do.

Empty frames may be left out, so that slices are counted by their distance and not by their frames.
"""

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.plugin import BadInput, Grid, MaskFile, StoredImage
from medaug_plugins.readers.dicom_headers import read_header

NEAR = 0.05  # of the distance between slices, that a frame may be off
MOST = 16  # slices between two frames that lie side by side


@dataclass(frozen=True)
class _Frame:
    segment: int
    position: np.ndarray  # (3,) mm
    pixels: np.ndarray  # (h, w) bool


def is_segmentation(path: Path) -> bool:
    """Tell whether a DICOM file holds a segmentation."""
    found = read_header(path)
    return found is not None and found.is_segmentation


@functools.lru_cache(256)
def describe(path: Path) -> MaskFile:
    """Return the names of a segmentation's segments, and which scan it is of: that of the series that it names."""
    found = _read(path, pixels=False)
    names = {
        int(each.SegmentNumber): str(each.get("SegmentLabel") or f"segment{each.SegmentNumber}").strip()
        for each in found.get("SegmentSequence") or ()
    }
    series = {str(each.get("SeriesInstanceUID")) for each in found.get("ReferencedSeriesSequence") or ()}
    images = {
        str(image.get("ReferencedSOPInstanceUID"))
        for each in found.get("ReferencedSeriesSequence") or ()
        for image in each.get("ReferencedInstanceSequence") or ()
    }

    def is_of(files: Sequence[Path]) -> bool:
        first = _header(files[0])
        if first is None or first.series not in series:
            return False
        return not images or any(one is not None and one.instance in images for one in map(_header, files))

    return MaskFile(names, is_of)


@functools.lru_cache(1 << 14)
def _header(path: Path) -> Any:
    return read_header(path)


def read_segmentation(path: Path) -> StoredImage:
    """Return the numbers of segments (1, z, y, x), 0 outside; where two overlap, the smaller one.

    Raises BadInput where frames do not say where they lie, and for a soft segmentation.
    """
    found = _read(path, pixels=True)
    try:
        frames = _frames(path, found)
        axes, spacing = _plane(found)
    except BadInput:
        raise
    except Exception as error:  # whatever pydicom raises where what the standard asks for is missing
        raise BadInput(f"{path} is a segmentation that does not say where its frames lie ({error})") from error
    normal = np.cross(axes[0], axes[1])
    along = np.array([frame.position @ normal for frame in frames])
    step = _step(path, found, along)
    numbers = np.rint((along - along.min()) / step).astype(int)
    rows, columns = frames[0].pixels.shape
    values = np.zeros((numbers.max() + 1, rows, columns), np.float32)
    sizes = {one: sum(int(each.pixels.sum()) for each in frames if each.segment == one) for one in _segments(frames)}
    overlaps = 0
    for number, frame in sorted(zip(numbers, frames, strict=True), key=lambda one: -sizes[one[1].segment]):
        overlaps += int(np.count_nonzero(values[number][frame.pixels]))
        values[number][frame.pixels] = frame.segment
    x, y, z = map(float, frames[int(along.argmin())].position)
    grid = Grid((spacing[1], spacing[0], step), (x, y, z), tuple(np.stack([*axes, normal], 1).ravel().tolist()))
    notes = (f"{overlaps} voxels lie in two segments and count for the smaller one",) if overlaps else ()
    return StoredImage(values[None], grid, notes=notes)


def _segments(frames: Sequence[_Frame]) -> set[int]:
    return {frame.segment for frame in frames}


def _read(path: Path, pixels: bool) -> Any:
    import pydicom

    try:
        with pydicom.config.disable_value_validation(), warnings.catch_warnings(action="ignore"):
            return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except Exception as error:  # whatever pydicom's parser raises on bytes that are not a data set
        raise BadInput(f"{path} cannot be read, it is truncated or damaged") from error


def _frames(path: Path, found: Any) -> list[_Frame]:
    shared, own = _shared(found), found.PerFrameFunctionalGroupsSequence
    pixels = _pixels(path, found, len(own))
    labels = str(found.get("SegmentationType", "BINARY")).upper() == "LABELMAP"
    frames = []
    for values, group in zip(pixels, own, strict=True):
        place = _group("PlanePositionSequence", group, shared).ImagePositionPatient
        position = np.array([float(one) for one in place])
        if labels:
            frames += [_Frame(int(one), position, values == one) for one in np.unique(values) if one]
            continue
        segment = int(_group("SegmentIdentificationSequence", group, shared).ReferencedSegmentNumber)
        frames.append(_Frame(segment, position, values > 0))
    if not frames:
        raise BadInput(f"{path} is a segmentation that marks nothing")
    return frames


def _pixels(path: Path, found: Any, count: int) -> np.ndarray:
    """Return the values (n, h, w) of all frames; raise BadInput where they are soft, or fewer than are described."""
    try:
        with warnings.catch_warnings(action="ignore"):
            values = np.asarray(found.pixel_array).reshape(count, int(found.Rows), int(found.Columns))
    except Exception as error:  # whatever pydicom and its decoders raise
        raise BadInput(f"{path} cannot be read, it is truncated or damaged") from error
    if str(found.get("SegmentationType", "")).upper() == "FRACTIONAL":
        most = int(found.get("MaximumFractionalValue") or values.max() or 1)
        if np.any((values > 0) & (values < most)):
            raise BadInput(f"{path} is a soft segmentation (FRACTIONAL); cut it at one half and save it as BINARY")
    return values


def _shared(found: Any) -> Any:
    groups = list(found.get("SharedFunctionalGroupsSequence") or ())
    return groups[0] if len(groups) else None


def _group(name: str, *groups: Any) -> Any:
    """Return the first item of a functional group, of the frame or else of all frames."""
    return next(group[name].value[0] for group in groups if group is not None and name in group)


def _plane(found: Any) -> tuple[np.ndarray, tuple[float, float]]:
    """Return the directions of a row and of a column (2, 3), and the distances between rows and between columns."""
    groups = found.PerFrameFunctionalGroupsSequence[0], _shared(found)
    orientation = _group("PlaneOrientationSequence", *groups).ImageOrientationPatient
    rows, columns = (float(one) for one in _group("PixelMeasuresSequence", *groups).PixelSpacing)
    return np.array([float(one) for one in orientation]).reshape(2, 3), (rows, columns)


def _step(path: Path, found: Any, along: np.ndarray) -> float:
    """Return a distance in mm that all frames lie at multiples of: as the file says, or else the least that fits.

    One that is too small does no harm, as slices between frames are empty; one that is too large would fill them.
    """
    measures = _group("PixelMeasuresSequence", found.PerFrameFunctionalGroupsSequence[0], _shared(found))
    told, thick = (float(measures.get(name) or 0) for name in ("SpacingBetweenSlices", "SliceThickness"))
    away = np.unique(np.round(along - along.min(), 3))
    if len(away) == 1:
        return told or thick / 4 or 1.0
    least = float(np.diff(away).min())
    for step in (told, *sorted((least, thick)), _fitted(away)):
        if step > least / MOST and (np.abs(away / step - np.rint(away / step)) <= NEAR).all():
            return step
    raise BadInput(f"{path} is a segmentation whose frames do not lie at even distances")


def _fitted(away: np.ndarray) -> float:
    """Return the distance between slices that places (n,) are multiples of, where each of them has been rounded."""
    gaps = np.diff(away)
    single = gaps[gaps < 1.5 * gaps.min()].mean()
    return float((away[-1] - away[0]) / np.rint(gaps / single).sum())
