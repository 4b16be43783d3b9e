"""What the readers of volume files share: ITK's image as a stored image, and the check that all data are there."""

import bz2
import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from medaug_cli.plugin import BadInput, Grid, StoredImage, text_path

CHUNK = 1 << 20
FLAT = 1e-3  # volume that three axes of length one span, below which they lie in one plane


def damaged(path: Path, reason: object) -> BadInput:
    """Return the error that names a file which cannot be believed."""
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    said = lines[-1][:160] if lines else type(reason).__name__
    return BadInput(f"{path} cannot be read, it is truncated, damaged or something else ({said})")


def as_text(line: bytes) -> str:
    """Return a line of a header, in UTF-8 or else in Latin-1, which has a letter for every byte."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def with_header_of_itk(path: Path, voxels: bytearray, kind: np.dtype, header: Path | None = None) -> StoredImage:
    """Return a volume of one channel: its shape and place as ITK reads them of its header, and its voxels as given.

    The header is in the file itself if no other is named.
    """
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    with text_path(header or path) as name:
        reader.SetFileName(name)
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            raise damaged(path, error) from error
    if reader.GetNumberOfComponents() != 1:
        raise BadInput(f"{path} has {reader.GetNumberOfComponents()} channels; give one file per channel")
    d, shape = reader.GetDimension(), reader.GetSize()[::-1]
    if math.prod(shape) * kind.itemsize != len(voxels):
        raise damaged(path, f"its header is understood as {shape} in one place and otherwise in another")
    values = squeezed(path, np.frombuffer(voxels, kind).reshape(shape))
    direction = np.reshape(reader.GetDirection(), (d, d))[:3, :3]
    return StoredImage(
        values.astype(np.float32)[None],
        checked_grid(path, reader.GetSpacing()[:3], reader.GetOrigin()[:3], direction),
    )


def checked_grid(path: Path, spacing: Sequence[float], origin: Sequence[float], direction: np.ndarray) -> Grid:
    """Return a grid; raise BadInput unless its voxels have a width and its axes, columns of `direction`, fill space."""
    if not (np.isfinite([*spacing, *origin]).all() and min(spacing) > 0):
        raise damaged(path, f"its voxels are {'x'.join(map(str, spacing))} mm wide")
    if not (np.isfinite(direction).all() and abs(np.linalg.det(direction)) > FLAT):
        raise damaged(path, "its axes lie in one plane")
    (dx, dy, dz), (x, y, z) = map(float, spacing), map(float, origin)
    return Grid((dx, dy, dz), (x, y, z), tuple(direction.ravel().tolist()))


def squeezed(path: Path, values: np.ndarray) -> np.ndarray:
    """Return a volume (z, y, x) without further axes of one; raise BadInput for anything else."""
    size = "x".join(map(str, values.shape[::-1]))
    while values.ndim > 3 and len(values) == 1:
        values = values[0]
    if values.ndim != 3:
        raise BadInput(f"{path} is not a volume of one channel (its size is {size}); give one file per volume")
    return values


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


def read_voxels(path: Path, chunks: Iterator[bytes], wanted: int) -> bytearray:
    """Return exactly `wanted` bytes of voxels; raise BadInput where there are fewer or more."""
    voxels = bytearray()
    try:
        for chunk in chunks:
            voxels += chunk
            if len(voxels) > wanted:
                break
    except (EOFError, OSError, zlib.error) as error:
        raise damaged(path, error) from error
    if len(voxels) != wanted:
        found = "more" if len(voxels) > wanted else str(len(voxels))
        raise damaged(path, f"it holds {found} bytes of voxels where its header says {wanted}")
    return voxels
