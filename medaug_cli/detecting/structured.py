"""Detections as DICOM structured reports: TID 1500 with a planar region a box, one report a series (PS3.16).

A report names its patient and study as the images do that it is about: it belongs beside them, and nowhere else.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medaug_cli import __version__
from medaug_cli.errors import BadInput, MedaugError
from medaug_cli.preprocess.pseudonyms import renamed_scans
from medaug_cli.scans.reading import Scan, read_pixels
from medaug_cli.scans.survey import find_scans

if TYPE_CHECKING:
    from medaug_cli.detecting.finding import Found

NEAR = 0.1  # mm that a corner may lie off the plane of its image
SERIES_NUMBER = 9100


def write_reports(
    found: Sequence["Found"], names: Sequence[str], out: Path, scans: Path, detector: str, weights: str
) -> None:
    """Write NAME.dcm for every series in which something was found.

    Raises MedaugError without highdicom, BadInput where a scan is no DICOM series of axial slices.
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
        if name not in series or not series[name].files:
            raise BadInput(
                f"{scans} holds no DICOM series {name}; --scans is the folder that preprocess read, without a key"
            )
        report = _report(series[name], own, names, detector, weights)
        report.save_as(out / f"{series[name].id}.dcm")


def _report(scan: Scan, found: Sequence["Found"], names: Sequence[str], detector: str, weights: str) -> Any:
    import highdicom as hd
    import pydicom
    from pydicom.sr.codedict import codes

    images = [pydicom.dcmread(path, stop_before_pixels=True) for path in scan.files]
    places = _Places(scan, images)
    algorithm = hd.sr.AlgorithmIdentification(
        name=f"medaug {detector}", version=__version__, parameters=[f"weights SHA-256 {weights}"]
    )
    regions: list[Any] = []
    used: dict[str, Any] = {}
    for one in found:
        for box, score, label in zip(one.boxes, one.scores, one.labels, strict=True):
            image, corners = places.of(box, one.slice)
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


class _Places:
    """The way from boxes in axial slices, as preprocess reads a series, to the images of the series."""

    def __init__(self, scan: Scan, images: Sequence[Any]) -> None:
        grid = read_pixels(scan).grid
        if grid is None or not scan.files:
            raise BadInput(f"{scan.shown} is no DICOM series")
        self.name, self.images = scan.shown, images
        self.origin, self.spacing = np.array(grid.origin), np.array(grid.spacing)
        self.direction = np.array(grid.direction).reshape(3, 3)

    def of(self, box: np.ndarray, z: int | None) -> tuple[Any, np.ndarray]:
        """Return the image that a box (4,) of slice `z` lies in, and its corners there (4, 2) as column and row.

        The corner of an image is 0, 0, as DICOM counts (PS3.3, C.18.6.1).
        """
        left, top, right, bottom = box.astype(np.float64) - 0.5  # voxels are counted from their centres
        index = np.array([[x, y, z or 0] for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))])
        points = self.origin + (index * self.spacing) @ self.direction.T  # (4, 3) mm
        for image in self.images:
            row, column = np.array(image.ImageOrientationPatient, np.float64).reshape(2, 3)
            apart = points - np.array(image.ImagePositionPatient, np.float64)
            if np.abs(apart @ np.cross(row, column)).max() <= NEAR:
                rows, columns = (float(value) for value in image.PixelSpacing)
                return image, np.stack([apart @ row / columns, apart @ column / rows], 1) + 0.5
        raise BadInput(f"{self.name} was not taken in axial slices: no image of it holds slice {z}")
