"""NIfTI-1 and NIfTI-2 in one file, compressed or not, whatever its name says.

Read here and not by ITK, which takes missing voxels and NaN for zeros without a word, knows no NIfTI-2 and refuses axes
that are not quite at right angles. A compressed file is read to its end, where its checksum is.
https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h
"""

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar, cast

import numpy as np

from medaug_cli.plugin import BadInput, Capabilities, StoredImage
from medaug_plugins.readers.nifti_places import Places, places
from medaug_plugins.readers.volumes import damaged, inflated, read_voxels, squeezed

HEADERS = {348: (b"n+1\0", 344), 540: (b"n+2\0\r\n\x1a\n", 4)}  # size -> magic and where it stands
KINDS = {
    2: "u1", 256: "i1", 4: "i2", 512: "u2", 8: "i4", 768: "u4", 16: "f4", 64: "f8", 1024: "i8", 1280: "u8"
}  # type of voxel -> NumPy's name  # fmt: skip
FIELDS = {  # size -> field -> where it stands and how it is packed
    348: {
        "dim": (40, "8h"), "datatype": (70, "2h"), "pixdim": (76, "8f"), "vox_offset": (108, "f"), "scl": (112, "2f"),
        "xyzt_units": (123, "b"), "codes": (252, "2h"), "places": (256, "18f"),
    },
    540: {
        "datatype": (12, "2h"), "dim": (16, "8q"), "pixdim": (104, "8d"), "vox_offset": (168, "q"), "scl": (176, "2d"),
        "codes": (344, "2i"), "places": (352, "18d"), "xyzt_units": (500, "i"),
    },
}  # fmt: skip
SIDE = 1 << 16  # more voxels in a row are not a scan
REACH = 1e4  # mm; a voxel wider than that is none


@dataclass
class Nifti:
    """Volumes in NIfTI files, and pictures: files of two axes, which other tools and `medaug store export` write."""

    capabilities: ClassVar[Capabilities] = Capabilities(dims=(3,), channels=(1,))
    suffixes: ClassVar[tuple[str, ...]] = (".nii", ".nii.gz")

    def claims(self, path: Path) -> bool:
        """Tell whether a file without a known suffix holds a NIfTI header, compressed or not."""
        try:
            with _opened(path) as file:
                header = file.read(max(HEADERS))
        except (EOFError, OSError, zlib.error):
            return False
        return any(header[place : place + len(magic)] == magic for magic, place in HEADERS.values())

    def flat(self, path: Path) -> bool:
        """Tell whether a file holds a picture, of one or more channels, and no volume."""
        try:
            with _opened(path) as file:
                return len(_sides(_header(path, file).shape)[1]) == 2
        except (BadInput, EOFError, OSError, zlib.error):
            return False  # reading it says what is wrong

    def read(self, files: Sequence[Path]) -> StoredImage:
        """Return the volume or picture; raise BadInput where the file is not whole."""
        path = files[0]
        try:
            with _opened(path) as file:
                header = _header(path, file)
                voxels = read_voxels(path, inflated(file, "raw"), header.count * header.kind.itemsize)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:  # of a header that is cut off
            raise damaged(path, error) from error
        channels, sides = _sides(header.shape)
        values = np.frombuffer(voxels, header.kind).reshape(channels, *sides[::-1])
        if len(sides) == 2:
            columns, rows, _ = header.places.grid.spacing
            said = (rows, columns) != (1.0, 1.0)  # which writers put where they know none
            return StoredImage(_scaled(values, *header.scale), spacing=(rows, columns) if said else None)
        image = np.stack([_scaled(squeezed(path, each), *header.scale) for each in values])
        lie = header.places
        return StoredImage(image, lie.grid, other_grid=lie.other, notes=lie.notes)


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]  # x first
    kind: np.dtype
    scale: tuple[float, float]  # factor and shift
    places: Places

    @property
    def count(self) -> int:
        return math.prod(self.shape)


def _sides(shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Return the number of channels, which stand on the fifth axis, and the sides of a picture or volume, x first."""
    if len(shape) == 5 and shape[3] == 1 and shape[4] > 1:
        return shape[4], shape[:2] if shape[2] == 1 else shape[:3]
    return 1, shape


def _opened(path: Path) -> BinaryIO:
    """Open a file by what it holds: there are compressed ones whose name does not say so, and the other way round."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path)) if packed else path.open("rb")


def _scaled(values: np.ndarray, slope: float, shift: float) -> np.ndarray:
    """Return values as float32, multiplied and shifted in double precision, slice by slice."""
    if (slope, shift) == (1.0, 0.0):
        return values.astype(np.float32)
    scaled = np.empty(values.shape, np.float32)
    for part, own in zip(scaled, values, strict=True):
        part[...] = own * np.float64(slope) + np.float64(shift)
    return scaled


def _header(path: Path, file: BinaryIO) -> _Header:
    """Read up to the first voxel; raise BadInput unless the header makes sense."""
    begun = file.read(4)
    order = next((order for order in "<>" if len(begun) == 4 and struct.unpack(f"{order}i", begun)[0] in HEADERS), "")
    if not order:
        raise damaged(path, "it is not a NIfTI file")
    size = struct.unpack(f"{order}i", begun)[0]
    header = begun + file.read(size - 4)
    magic, place = HEADERS[size]
    if len(header) < size or header[place : place + len(magic)] != magic:
        raise damaged(path, "its header is not that of a single NIfTI file")
    fields = {
        name: struct.unpack_from(order + form, header, place) for name, (place, form) in FIELDS[size].items()
    }  # fmt: skip
    (axes, *shape), (coded, bits), (start,) = fields["dim"], fields["datatype"], fields["vox_offset"]
    if coded not in KINDS or bits != 8 * np.dtype(KINDS[coded]).itemsize:
        raise damaged(path, f"its voxels have the type {coded} in {bits} bits, which is not a type of grey values")
    if not 1 <= axes <= 7 or not all(1 <= side <= SIDE for side in shape[:axes]):
        raise damaged(path, f"its shape {shape} of {axes} axes is not valid")
    if not all(math.isfinite(width) and 0 < abs(width) < REACH for width in fields["pixdim"][1 : min(axes, 3) + 1]):
        raise damaged(path, f"its voxels are {fields['pixdim'][1:4]} mm wide")
    start = start or size + 4  # as others take what a writer left empty
    if not (math.isfinite(start) and size <= start < 1 << 30 and start == int(start)):
        raise damaged(path, f"its voxels are said to begin at byte {start}")
    file.read(int(start) - size)
    kind = np.dtype(order + KINDS[coded])
    return _Header(tuple(shape[:axes]), kind, _scale(path, *fields["scl"]), places(path, fields, shape[:axes]))


def _scale(path: Path, slope: float, shift: float) -> tuple[float, float]:
    """Return what values are multiplied by and shifted by; a slope that is 0, NaN or infinite means neither."""
    if slope == 0 or not math.isfinite(slope):
        return 1.0, 0.0
    if not (math.isfinite(shift) and 1e-12 < abs(slope) < 1e12):
        raise damaged(path, f"its values are to be multiplied by the slope {slope} and shifted by {shift}")
    return slope, shift
