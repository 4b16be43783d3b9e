"""Detections as DICOM structured reports: TID 1500 with a planar region a box, one report a series or picture (PS3.16).

A report names its patient and study as the images do that it is about: it belongs beside them, and nowhere else.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medaug_cli import __version__
from medaug_cli.errors import BadInput, MedaugError
from medaug_cli.preprocess.pseudonyms import renamed_scans
from medaug_cli.scans.reading import Scan
from medaug_cli.scans.series import in_order
from medaug_cli.scans.survey import find_scans

if TYPE_CHECKING:
    from medaug_cli.detecting.finding import Found

SERIES_NUMBER = 9100


def write_reports(
    found: Sequence["Found"], names: Sequence[str], out: Path, scans: Path, detector: str, weights: str
) -> None:
    """Write NAME.dcm for every scan in which something was found; `forms.dicom_sr` reads it back.

    Raises MedaugError without highdicom, BadInput where a scan is neither a DICOM series of axial slices nor a DICOM
    picture.
    """
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise MedaugError(f"--format dicom-sr needs the extra packages of medaug[dicom-out] ({error})") from error
    series = {scan.shown: scan for scan in renamed_scans(find_scans(scans), None)}
    groups: dict[str, list[Found]] = {}
    for one in found:
        if len(one.boxes):
            groups.setdefault(one.file, []).append(one)
    for name, own in groups.items():
        if name not in series:
            raise BadInput(f"{scans} holds no scan {name}; --scans is the folder that preprocess read, without a key")
        images = _images(series[name])
        try:
            report = _report(images, own, names, detector, weights)
        except (ValueError, AttributeError, KeyError, TypeError) as error:  # of images that lack what a report must say
            raise BadInput(f"{name}: highdicom cannot make a report of its images ({error})") from error
        report.save_as(out / f"{series[name].id}.dcm")


def _images(scan: Scan) -> list[Any]:
    """Return the headers of a scan's images; raise BadInput where it is not DICOM."""
    import pydicom

    try:
        return [pydicom.dcmread(path, stop_before_pixels=True) for path in scan.all_files]
    except pydicom.errors.InvalidDicomError as error:
        raise BadInput(f"--format dicom-sr is for DICOM scans, which {scan.shown} is not; choose csv") from error


def _report(images: Sequence[Any], found: Sequence["Found"], names: Sequence[str], detector: str, weights: str) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    algorithm = hd.sr.AlgorithmIdentification(
        name=f"medaug {detector}", version=__version__, parameters=[f"weights SHA-256 {weights}"]
    )
    regions: list[Any] = []
    used: dict[str, Any] = {}
    for one, image in zip(found, _images_of(images, found), strict=True):
        for box, score, label in zip(one.flat, one.scores, one.labels, strict=True):
            corners = _corners(box)
            used[image.SOPInstanceUID] = image
            regions.append(_region(image, corners, f"{names[label]} {len(regions) + 1}", float(score), algorithm))
    device = hd.sr.DeviceObserverIdentifyingAttributes(uid=hd.UID(), name="medaug", model_name=detector)
    context = hd.sr.ObservationContext(
        observer_device_context=hd.sr.ObserverContext(
            observer_type=codes.DCM.Device, observer_identifying_attributes=device
        )
    )
    content = hd.sr.MeasurementReport(
        context, hd.sr.CodedConcept("363679005", "SCT", "Imaging procedure"), regions,
        title=codes.DCM.ImagingMeasurementReport,
    )  # fmt: skip
    return hd.sr.ComprehensiveSR(
        evidence=list(used.values()), content=content[0], series_instance_uid=hd.UID(), series_number=SERIES_NUMBER,
        sop_instance_uid=hd.UID(), instance_number=1, manufacturer="medaug", series_description=f"medaug {detector}",
    )  # fmt: skip


def _region(image: Any, corners: np.ndarray, name: str, score: float, algorithm: Any) -> Any:
    """Return a box, corners (4, 2) as column and row, with its score as the certainty of the finding."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    source = hd.sr.SourceImageForRegion.from_source_image(image)
    outline = np.concatenate([corners, corners[:1]])
    certainty = hd.sr.Measurement(codes.DCM.CertaintyOfFinding, round(100 * score, 3), codes.UCUM.Percent)
    return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=hd.UID(), identifier=name),
        referenced_region=hd.sr.ImageRegion(hd.sr.GraphicTypeValues.POLYLINE, outline, source),
        finding_type=codes.SCT.Lesion, algorithm_id=algorithm, measurements=[certainty],
        geometric_purpose=hd.sr.CodedConcept("75958009", "SCT", "Bounded by"),
    )  # fmt: skip


def _images_of(images: Sequence[Any], found: Sequence["Found"]) -> list[Any]:
    """Return the image of a scan that holds each slice or picture of it in which something was found."""
    if len(found[0].size) == 2:
        return [images[0]] * len(found)
    order, shown = list[int](), []
    for one in found:
        if one.slice is None or one.grid is None:
            raise BadInput(f"{one.file} was not taken in axial slices: {one.id} lies across them; choose csv or coco")
        order = order or in_order(images, one.grid, one.size[2], one.file)
        shown.append(images[order[one.slice]])
    return shown


def _corners(box: np.ndarray) -> np.ndarray:
    """Return the corners (4, 2) of a box (4,), column and row; an image's corner is 0, 0 (PS3.3, C.18.6.1)."""
    left, top, right, bottom = box.astype(np.float64)
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
