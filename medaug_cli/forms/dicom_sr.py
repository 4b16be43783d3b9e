"""DICOM structured reports (TID 1500, PS3.16): a box around the regions of each measurement group, image by image.

A region names its image by that image's UID, so that neither file's name matters. Its points are columns and rows of
that image, whose top left corner is 0, 0 (PS3.3, C.18.6.1), as our half-open corners are.
"""

import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli.errors import BadInput
from medaug_cli.forms.annotations import Annotation, Note
from medaug_cli.forms.coordinates import around
from medaug_cli.forms.form import File, Form, Marks, text_or_none
from medaug_cli.forms.policy import add_box
from medaug_cli.scans.reading import Scan

NAME = "dicom-sr"
# Enhanced, Comprehensive, Comprehensive 3D and Extensible SR: those that may hold regions
KINDS = {f"1.2.840.10008.5.1.4.1.1.88.{number}" for number in (22, 33, 34, 35)}
GROUP, FINDING, TRACKING = "125007", "121071", "112039"  # codes of DCM
WITHOUT_REGION = "a finding without a region in an image, left out"
POINTS = {"POINT": 1, "CIRCLE": 2, "ELLIPSE": 4}  # how many a graphic has; other graphics have any number
TURN = re.compile(r" \d+$")  # what the writer puts behind a label, so that no two findings have one name
HEADER = ("SOPInstanceUID", "ImagePositionPatient", "ImageOrientationPatient")


@dataclass(frozen=True)
class _Place:
    """The scan that an image is of, and which of its slices it is; None for a picture."""

    scan: Scan
    slice: int | None


Places = dict[str, list[_Place]]  # by the UID of an image


def _sniff(file: File) -> bool:
    import pydicom

    try:
        if not file.path.is_file() or not pydicom.misc.is_dicom(file.path):
            return False
        return str(pydicom.dcmread(file.path, specific_tags=["SOPClassUID"]).get("SOPClassUID")) in KINDS
    except Exception:  # whatever pydicom's parser raises on bytes that are not a header
        return False


def _read(marks: Marks) -> dict[str, Annotation]:
    places = _places(marks.scans)
    found: dict[str, Annotation] = {}
    for file in marks.files:
        report = _report(file.path)
        ours = report.get("Manufacturer") == "medaug"
        groups = [item for item in _items(report) if _code(item) == GROUP]
        if not groups:
            raise BadInput(f"{file.path} is a structured report without measurement groups (TID 1500)")
        for number, group in enumerate(groups, 1):
            place = f"{file.path}, finding {number}"
            try:
                box = _box(place, group, places)
            except BadInput:
                raise
            except Exception as error:  # whatever pydicom raises where what the standard asks for is missing
                raise BadInput(f"{place}: its region is incomplete ({error})") from error
            if box is None:
                marks.notes.append(Note(WITHOUT_REGION, place, lost=True))
            else:
                scan, corners = box
                add_box(found.setdefault(scan.id, Annotation()), corners, _label(group, ours), place)
    return found


def _report(path: Path) -> Any:
    import pydicom

    try:
        with pydicom.config.disable_value_validation(), warnings.catch_warnings(action="ignore"):
            report = pydicom.dcmread(path)
            if any(_is_cut(report.get_item(tag)) for tag in report.keys()):  # noqa: SIM118, a data set's items differ
                raise EOFError
            report.walk(lambda data, element: None)  # parses all of it
            return report
    except Exception as error:  # whatever pydicom's parser raises on bytes that are not a data set
        raise BadInput(f"{path} cannot be read, it is truncated or damaged") from error


def _is_cut(element: Any) -> bool:
    """Tell whether a file ends within an element, which pydicom passes over."""
    return bool(element.is_raw and element.value is not None and len(element.value) < element.length)


def _items(item: Any) -> Iterator[Any]:
    """Yield the content items below one, at any depth."""
    for child in item.get("ContentSequence") or ():
        yield child
        yield from _items(child)


def _code(item: Any) -> str:
    """Return the code of what an item is about."""
    codes: Any = item.get("ConceptNameCodeSequence") or [{}]
    return str(codes[0].get("CodeValue", ""))


def _label(group: Any, ours: bool) -> str | None:
    """Return what was found: the label that we wrote into its name, or what another writer coded; None without."""
    children = {_code(item): item for item in group.ContentSequence}
    if ours and TRACKING in children:
        return text_or_none(TURN.sub("", str(children[TRACKING].get("TextValue", ""))))
    codes = children[FINDING].get("ConceptCodeSequence") if FINDING in children else None
    return text_or_none(codes[0].get("CodeMeaning")) if codes else None


def _box(place: str, group: Any, places: Places) -> tuple[Scan, tuple[float, ...]] | None:
    """Return the scan of a finding and the box (4,) or (6,) around its regions; None where it has no region."""
    kinds = [str(item.get("ValueType")) for item in _items(group)]
    if "SCOORD3D" in kinds:
        raise BadInput(f"{place}: regions in millimetres (SCOORD3D) are not supported; write them as regions of images")
    regions = [item for item, kind in zip(_items(group), kinds, strict=True) if kind == "SCOORD"]
    if not regions:
        return None
    own = [_image(place, region, places) for region in regions]
    if any(one.scan.id != own[0].scan.id for one in own):
        raise BadInput(f"{place}: its regions lie in two scans, {own[0].scan.relative} and {own[-1].scan.relative}")
    ends = [_ends(place, region) for region in regions]
    flat = around([*(box[:2] for box in ends), *(box[2:] for box in ends)])
    slices = [one.slice for one in own if one.slice is not None]
    if not slices:
        return own[0].scan, flat
    return own[0].scan, (*flat[:2], float(min(slices)), *flat[2:], float(max(slices) + 1))


def _image(place: str, region: Any, places: Places) -> _Place:
    """Return where the image lies that a region is selected from."""
    images = [item for item in _items(region) if item.get("ValueType") == "IMAGE"]
    if not images:
        raise BadInput(f"{place}: its region names no image")
    uid = str(images[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
    if uid not in places:
        raise BadInput(f"{place}: its image {uid} is not among the scans")
    first, *more = places[uid]
    if more:
        raise BadInput(f"{place}: its image {uid} is in two scans, {first.scan.relative} and {more[0].scan.relative}")
    return first


def _ends(place: str, region: Any) -> tuple[float, ...]:
    """Return the corners (4,) of the box around a region."""
    kind, data = str(region.get("GraphicType")), np.array(region.GraphicData, np.float64)
    if data.size % 2 or data.size != 2 * POINTS.get(kind, data.size // 2) or not data.size:
        raise BadInput(f"{place}: its {kind} has {data.size} coordinates")
    points = data.reshape(-1, 2)
    if kind == "CIRCLE":  # its centre, and a point on it
        reach = np.full(2, np.linalg.norm(points[1] - points[0]))
        return (*(points[0] - reach).tolist(), *(points[0] + reach).tolist())
    if kind == "ELLIPSE":  # the ends of its major and of its minor axis
        centre, halves = points[:2].mean(0), np.array([points[1] - points[0], points[3] - points[2]]) / 2
        reach = np.sqrt((halves**2).sum(0))
        return (*(centre - reach).tolist(), *(centre + reach).tolist())
    return around(points.tolist())


def _places(scans: Sequence[Scan]) -> Places:
    """Return where each image of DICOM scans lies, by its UID."""
    found: Places = defaultdict(list)
    for scan in scans:
        headers = [header for header in map(_header, scan.all_files) if header is not None]
        order: list[int | None] = [None] * len(headers)
        if scan.volume and headers:
            order = _along(scan, headers)
        for header, number in zip(headers, order, strict=True):
            found[str(header.SOPInstanceUID)].append(_Place(scan, number))
    return found


def _header(path: Path) -> Any:
    """Return what tells an image and its place; None for a file that is not DICOM."""
    import pydicom

    try:
        with pydicom.config.disable_value_validation(), warnings.catch_warnings(action="ignore"):
            found = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(HEADER))
            return found if "SOPInstanceUID" in found else None
    except Exception:  # whatever pydicom's parser raises on bytes that are not a header; reading the scan says so
        return None


def _along(scan: Scan, headers: Sequence[Any]) -> list[int | None]:
    """Return each image's number among the slices, which are ordered along the normal of their plane."""
    try:
        axes = np.array(headers[0].ImageOrientationPatient, np.float64).reshape(2, 3)
        far = np.array([each.ImagePositionPatient for each in headers], np.float64) @ np.cross(*axes)
    except (AttributeError, TypeError, ValueError) as error:
        raise BadInput(f"{scan.relative} does not say where its slices lie ({error})") from error
    return [int((far < one).sum()) for one in far]


FORM = Form(name=NAME, title="DICOM structured reports", sniff=_sniff, read=_read)
