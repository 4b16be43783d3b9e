"""Which slices make a volume, and in which order: by the planes that they lie in and their places along the normal."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from medaug_cli.plugin import BadInput
from medaug_plugins.readers.dicom_headers import Slice
from medaug_plugins.readers.dicom_pixels import read_slice

UNEVEN = 0.1  # of the median distance of slices, up to which distances count as even
DRIFT = 0.02  # of the distance of two slices, up to which they may be shifted in their plane
PARALLEL = 1e-3  # up to which direction cosines are the same
CLOSE = 1e-3  # mm between places that are the same


def in_planes(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Split slices by the planes that they lie in; direction cosines may differ in their last digits."""
    planes: list[list[Slice]] = []
    for each in slices:
        for plane in planes:
            known = plane[0].orientation
            alike = len(known) == len(each.orientation)
            if alike and np.abs(np.subtract(known, each.orientation)).max(initial=0) <= PARALLEL:
                plane.append(each)
                break
        else:
            planes.append([each])
    return planes


def without_copies(slices: list[Slice]) -> tuple[list[Slice], list[tuple[Slice, Slice]]]:
    """Return slices without copies of others in the same folder, and each copy with the one that is kept.

    A copy has the same place and either the same bytes, or the same instance number and the same pixels.
    """
    if not repeats(slices):
        return slices, []
    alike: dict[Any, list[int]] = {}  # of the slices that may be copies, a small part where a series was taken often
    for i in sorted(range(len(slices)), key=lambda i: (len(slices[i].path.name), slices[i].path.name)):
        each = slices[i]
        alike.setdefault((each.path.parent, each.instance, each.form), []).append(i)
    copies: dict[int, tuple[Slice, Slice]] = {}
    for own in alike.values():
        for i, j in itertools.combinations(own, 2):
            if i not in copies and j not in copies and _copied(slices[i], slices[j]):
                copies[j] = slices[j], slices[i]
    return [each for i, each in enumerate(slices) if i not in copies], list(copies.values())


def _copied(first: Slice, other: Slice) -> bool:
    """Tell whether one of two slices in one folder, with one instance number, is a copy of the other."""
    if not _same_place(first, other):
        return False
    if first.path.read_bytes() == other.path.read_bytes():
        return True
    if not first.instance:
        return False
    try:
        return bool(np.array_equal(read_slice(first), read_slice(other)))
    except BadInput:  # what is damaged is named when it is read
        return False


def apart(group: list[Slice]) -> list[list[Slice]]:
    """Split slices whose places repeat by acquisition and time; as they are where that does not settle it."""
    if not repeats(group):
        return [group]
    keys: tuple[Callable[[Slice], Any], ...] = (
        lambda each: each.acquisition,
        lambda each: each.time,
        lambda each: (each.acquisition, each.time),
    )
    for key in keys:
        parts: dict[Any, list[Slice]] = {}
        for each in group:
            parts.setdefault(key(each), []).append(each)
        if len(parts) > 1 and not any(map(repeats, parts.values())):
            return list(parts.values())
    return [group]


def repeats(group: Sequence[Slice]) -> bool:
    """Tell whether two slices lie at the same height above their plane, or any does not say where it lies."""
    if len(group) < 2:
        return False
    if any(len(each.position) != 3 or len(each.orientation) != 6 for each in group):
        return True
    normal = np.cross(group[0].orientation[:3], group[0].orientation[3:])
    along = np.sort([np.dot(each.position, normal) for each in group])
    return bool((np.diff(along) <= CLOSE).any())


def _same_place(first: Slice, other: Slice) -> bool:
    if len(first.position) != len(other.position):
        return False
    return bool(np.abs(np.subtract(first.position, other.position)).max(initial=0) <= CLOSE)


def even(slices: Sequence[Slice]) -> bool:
    """Tell whether slices lie one after the other in equal steps."""
    if len(slices) < 2 or repeats(slices):
        return False
    try:
        ordered(slices)
    except BadInput:
        return False
    return True


def ordered(slices: Sequence[Slice]) -> tuple[np.ndarray, np.ndarray]:
    """Return the places along the normal, ascending, and the order of the slices that gives them.

    Raises BadInput unless they lie in one plane, one after the other in equal steps, and above each other.
    """
    first = np.median([each.orientation for each in slices], axis=0)
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
    if (gaps <= CLOSE).any():
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
