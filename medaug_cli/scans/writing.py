"""Write volumes as NIfTI, whole or not at all: ITK says nothing where a disk is full, and leaves half a file."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from medaug_cli.errors import MedaugError
from medaug_cli.files import sync, temporary_folder
from medaug_cli.plugin import text_path

if TYPE_CHECKING:
    import SimpleITK as sitk


def write_volume(image: "sitk.Image", path: Path) -> None:
    """Publish an image as .nii.gz; raise MedaugError unless what is read back is what was written."""
    with temporary_folder(path) as folder:
        unfinished = folder / path.name
        with text_path(folder) as name:
            whole = _written(image, f"{name}/{path.name}")
        if not whole:
            raise MedaugError(f"{path} cannot be written: what is read back is not what was written; is the disk full?")
        sync(unfinished)
        os.replace(unfinished, path)


def _written(image: "sitk.Image", name: str) -> bool:
    """Write a file; return whether it holds the image."""
    import numpy as np
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        sitk.WriteImage(image, name)
        found = sitk.ReadImage(name)
    except RuntimeError:
        return False
    return np.array_equal(sitk.GetArrayViewFromImage(found), sitk.GetArrayViewFromImage(image))
