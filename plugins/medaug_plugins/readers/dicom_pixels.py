"""The pixels of one DICOM file, after it is known that all of them are there."""

import warnings
from pathlib import Path

import numpy as np

from medaug_cli.plugin import BadInput, text_path
from medaug_plugins.readers.dicom_headers import Slice


def read_slice(each: Slice) -> np.ndarray:
    """Return values (h, w), or (h, w, 3) of colours, float32, rescaled as the header says, large where light.

    What is MONOCHROME1 is turned round, and may be below zero.
    """
    import SimpleITK as sitk

    _check_whole(each.path)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    kind = sitk.sitkVectorFloat32 if each.meaning == "RGB" else sitk.sitkFloat32
    try:
        with text_path(each.path) as name:
            image = sitk.ReadImage(name, kind, imageIO="GDCMImageIO")
    except RuntimeError as error:
        raise BadInput(f"{each.path} cannot be read, it is truncated or damaged") from error
    values = sitk.GetArrayFromImage(image)
    values = values[0] if image.GetDimension() == 3 else values
    if values.shape[:2] != each.form[:2]:
        raise BadInput(f"{each.path} gives {values.shape} pixels where its header says {each.form[:2]}")
    return values


def _check_whole(path: Path) -> None:
    """Raise BadInput where a file holds fewer or more bytes of pixels than its header says."""
    import pydicom

    try:
        with pydicom.config.disable_value_validation(), warnings.catch_warnings(action="ignore"):
            found = pydicom.dcmread(path, force=True)
            syntax = (getattr(found, "file_meta", None) or {}).get("TransferSyntaxUID")
            packed = syntax is not None and syntax.is_encapsulated  # nobody packs pixels without saying how
            wanted = found.Rows * found.Columns * found.get("SamplesPerPixel", 1) * found.BitsAllocated // 8
            held = len(found.PixelData)
    except Exception as error:  # whatever pydicom's parser raises on bytes that are not a data set
        raise BadInput(f"{path} cannot be read, it is truncated or damaged") from error
    if not packed and held != wanted + wanted % 2:
        raise BadInput(f"{path} holds {held} bytes of pixels where its header says {wanted}: it is truncated")
