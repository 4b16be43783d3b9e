"""Masks as DICOM segmentations (PS3.3, A.51): one a series, a segment a label, pixel for pixel on the series' images.

A segmentation names its patient and study as the images do that it is about: it belongs beside them, and nowhere else.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medaug_cli import __version__
from medaug_cli.errors import BadInput, MedaugError
from medaug_cli.plugin import Grid
from medaug_cli.preprocess.pseudonyms import renamed_scans
from medaug_cli.scans.reading import Scan
from medaug_cli.scans.series import in_order
from medaug_cli.scans.survey import find_scans

SEG = "dicom-seg"
SERIES_NUMBER = 9200
Masks = Mapping[str, tuple[np.ndarray, Grid | None]]  # file -> labels (z, y, x) in its stored voxels, and their grid


def check_dicom_seg() -> None:
    """Raise MedaugError where highdicom is not installed."""
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise MedaugError(f"--format {SEG} needs the extra packages of medaug[dicom-out] ({error})") from error


def write_dicom_seg(masks: Masks, names: Sequence[str], out: Path, scans: Path, network: str, weights: str) -> None:
    """Write NAME.dcm for every series in which something is marked; raise BadInput for scans that are not series."""
    series = {scan.shown: scan for scan in renamed_scans(find_scans(scans), None)}
    for file, (mask, grid) in masks.items():
        if file not in series or not series[file].files or grid is None:
            raise BadInput(f"--format {SEG} is for DICOM series, which {file} is not; leave it out for PNG and NIfTI")
        if not mask.any():
            continue
        try:
            made = _segmentation(series[file], mask, grid, names, network, weights)
        except (ValueError, AttributeError, KeyError, TypeError) as error:  # of images that lack what a SEG must say
            raise BadInput(f"{file}: highdicom makes no segmentation of its images ({error})") from error
        made.save_as(out / f"{series[file].id}.dcm")


def _segmentation(scan: Scan, mask: np.ndarray, grid: Grid, names: Sequence[str], network: str, weights: str) -> Any:
    import highdicom as hd
    import pydicom
    from pydicom.sr.codedict import codes

    images = [pydicom.dcmread(path, stop_before_pixels=True) for path in scan.files]
    for image in images:
        if image.get("SliceThickness") is None:  # which images may leave out, and a segmentation may not
            image.SliceThickness = grid.spacing[2]
    algorithm = hd.AlgorithmIdentificationSequence(
        name=f"medaug {network}", family=codes.DCM.ArtificialIntelligence, version=__version__,
        parameters={"weights SHA-256": weights},
    )  # fmt: skip
    segments = [
        hd.seg.SegmentDescription(
            number, name, codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Lesion,
            hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC, algorithm,
        )
        for number, name in enumerate(names, 1)
    ]  # fmt: skip
    order = in_order(images, grid, len(mask), scan.shown)
    return hd.seg.Segmentation(
        source_images=[images[number] for number in order], pixel_array=mask,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY, segment_descriptions=segments,
        series_instance_uid=hd.UID(), series_number=SERIES_NUMBER, sop_instance_uid=hd.UID(), instance_number=1,
        manufacturer="medaug", manufacturer_model_name=network, software_versions=__version__,
        device_serial_number="0", series_description=f"medaug {network}",
    )  # fmt: skip
