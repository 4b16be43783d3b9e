"""Constructed heads as images and as DICOM series."""

import numpy as np
import pydicom
import SimpleITK as sitk

SPACING = (1.5, 1.5, 4.0)


def head(depth=6, size=40, seed=0):
    """Return a head (z, y, x) int16 with a bright lesion in its middle slices, and the lesion."""
    z, y, x = np.indices((depth, size, size), dtype=np.float32)
    skull = ((x - size / 2) / 15) ** 2 + ((y - size / 2) / 17) ** 2 < 1
    values = np.where(skull, 400 + 10 * z + 5 * np.sin(x / 3 + seed), 0)
    lesion = (np.abs(z - depth / 2) < 2) & (np.abs(x - 14) < 3) & (np.abs(y - 22) < 4)
    return (values + 500 * lesion).astype(np.int16), lesion.astype(np.uint8)


def as_image(values, direction=(1, 0, 0, 0, 1, 0, 0, 0, 1)):
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(SPACING)
    image.SetOrigin((-30.0, -30.0, 12.0))
    image.SetDirection(direction)
    return image


def write_series(folder, image, series="1.2.3", patient="Mustermann^Erika", names=None, **tags):
    """Write a volume as DICOM slices; `tags` maps tags, or functions of the slice's number, to values."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetImageIO("GDCMImageIO")
    direction = image.GetDirection()
    for z in range(image.GetDepth()):
        part = image[:, :, z]
        position = image.TransformIndexToPhysicalPoint((0, 0, z))
        own = {
            "0008|0060": "MR", "0010|0010": patient, "0010|0020": f"ID {patient}", "0020|000d": "1.2",
            "0020|000e": series, "0008|0018": f"{series}.{z + 1}", "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
            "0020|0013": str(z + 1), "0020|0011": "3",
            "0020|0032": "\\".join(f"{v:g}" for v in position),
            "0020|0037": "\\".join(f"{direction[i]:g}" for i in (0, 3, 6, 1, 4, 7)),
            "0028|0030": f"{SPACING[1]:g}\\{SPACING[0]:g}",
        }  # fmt: skip
        for tag, value in tags.items():
            own[tag] = value(z) if callable(value) else value
        for tag, value in own.items():
            if value is not None:
                part.SetMetaData(tag, value)
        writer.SetFileName(str(folder / (names(z) if names else f"IM{z:04d}.dcm")))
        writer.Execute(part)
    return folder


def places(number, kind):
    """Return where the first slices of a series lie (n,) mm, as scanners write it: rounded, or with a wider gap."""
    if kind == "a wider gap":
        return np.arange(number) * 5.0 + np.where(np.arange(number) > number // 2, 0.4, 0)
    step, decimals = {"0.625 mm": (0.625, 2), "1.25 mm": (1.25, 1), "3.3 mm": (3.3, 6)}[kind]
    return np.round(-101.37 + np.arange(number) * step, decimals)


def lying_at(along):
    """Return the tag that lets the slices of a series lie at places (n,) mm above each other."""
    return {"0020|0032": lambda z: f"-30\\-30\\{along[z]:g}"}


def changed(folder, change):
    """Change every file of a series as a writer that keeps the standard would not."""
    for z, file in enumerate(sorted(folder.iterdir())):
        found = pydicom.dcmread(file)
        change(z, found)
        found.save_as(file)
