"""What the readers of volume files share: ITK's image as a stored image, and the check that all data are there."""

import bz2
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from medaug_cli.plugin import BadInput, Grid, StoredImage

CHUNK = 1 << 20


def damaged(path: Path, reason: object) -> BadInput:
    """Return the error that names a file which cannot be believed."""
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    said = lines[-1][:160] if lines else type(reason).__name__
    return BadInput(f"{path} cannot be read, it is truncated, damaged or something else ({said})")


def read_itk(path: Path) -> StoredImage:
    """Read a volume of one channel with ITK; raise BadInput for anything else."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        scan = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise damaged(path, error) from error
    size = "x".join(map(str, scan.GetSize()))
    while scan.GetDimension() > 3 and scan.GetSize()[-1] == 1:
        scan = scan[..., 0]
    if scan.GetDimension() != 3 or scan.GetNumberOfComponentsPerPixel() != 1:
        raise BadInput(f"{path} is no volume of one channel (its size is {size}); give one file a volume")
    if min(scan.GetSize()) < 2:
        raise BadInput(f"{path} is a volume of {size} voxels; give single slices as PNG")
    return stored(scan)


def stored(scan) -> StoredImage:  # type: ignore[no-untyped-def]
    """Return a volume of SimpleITK as it is."""
    import SimpleITK as sitk

    grid = Grid(scan.GetSpacing(), scan.GetOrigin(), scan.GetDirection())
    return StoredImage(sitk.GetArrayFromImage(scan).astype(np.float32)[None], grid)


def inflated(file: BinaryIO, encoding: str) -> Iterator[bytes]:
    """Yield the data from here to the end of a file: `raw`, `gzip`, `bzip2` or `zlib`.

    Raises EOFError, OSError or zlib.error where compressed data end too early or fail their checksum.
    """
    if encoding in ("gzip", "bzip2"):
        with gzip.GzipFile(fileobj=file) if encoding == "gzip" else bz2.BZ2File(file) as unpacked:
            while chunk := unpacked.read(CHUNK):
                yield chunk
        return
    unzip = zlib.decompressobj() if encoding == "zlib" else None
    while chunk := file.read(CHUNK):
        yield chunk if unzip is None else unzip.decompress(chunk)
    if unzip is not None and (not unzip.eof or unzip.unused_data):
        raise EOFError("its compressed data end too early or too late")


def check_voxels(path: Path, chunks: Iterator[bytes], wanted: int, kind: str | None) -> None:
    """Raise BadInput unless there are exactly `wanted` bytes of voxels, all finite where `kind` is a float type."""
    found = odd = 0
    rest = b""
    width = np.dtype(kind).itemsize if kind else 1
    try:
        for chunk in chunks:
            found += len(chunk)
            if kind:
                whole = rest + chunk
                rest = whole[len(whole) // width * width :]
                values = np.frombuffer(whole[: len(whole) - len(rest)], kind)
                odd += int(np.count_nonzero(~np.isfinite(values)))
    except (EOFError, OSError, zlib.error) as error:
        raise damaged(path, error) from error
    if found != wanted:
        raise damaged(path, f"it holds {found} bytes of voxels where its header says {wanted}")
    if odd:
        raise BadInput(f"{path} holds {odd} voxels that are NaN or infinite; give them a number first")
