"""NIfTI-1 and NIfTI-2 in one file, compressed or not.

ITK reads what is missing of a NIfTI file, and NaN, as zeros without a word; both are looked for first. A compressed
file is read to its end, where its checksum is. https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h
"""

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar, cast

from medaug_cli.plugin import Capabilities, StoredImage
from medaug_readers.volumes import check_voxels, damaged, inflated, read_itk

HEADERS = {348: (b"n+1\0", 344), 540: (b"n+2\0\r\n\x1a\n", 4)}  # size -> magic and where it stands
BITS = {2: 8, 256: 8, 4: 16, 512: 16, 8: 32, 768: 32, 16: 32, 64: 64, 1024: 64, 1280: 64}  # by type of voxel
FLOATS = {16: "f4", 64: "f8"}
SIDE = 1 << 16  # more voxels in a row are no scan
REACH = 1e4  # mm; a voxel wider than that is none


@dataclass
class Nifti:
    """Volumes in NIfTI files."""

    capabilities: ClassVar[Capabilities] = Capabilities(dims=(3,), channels=(1,))
    suffixes: ClassVar[tuple[str, ...]] = (".nii", ".nii.gz")

    def read(self, files: Sequence[Path]) -> StoredImage:
        """Return the volume; raise BadInput where the file is not whole."""
        _check(files[0])
        return read_itk(files[0])


@dataclass(frozen=True)
class _Header:
    wanted: int  # bytes of voxels
    start: int  # where they begin
    kind: str | None  # of floats


def _check(path: Path) -> None:
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else path.open("rb") as opened:
            file = cast(BinaryIO, opened)
            header = _header(path, file)
            check_voxels(path, inflated(file, "raw"), header.wanted, header.kind)
    except (EOFError, OSError, zlib.error) as error:
        raise damaged(path, error) from error


def _header(path: Path, file: BinaryIO) -> _Header:
    """Read up to the first voxel; raise BadInput unless the header makes sense."""
    begun = file.read(4)
    order = next((order for order in "<>" if len(begun) == 4 and struct.unpack(f"{order}i", begun)[0] in HEADERS), "")
    if not order:
        raise damaged(path, "it is no NIfTI file")
    size = struct.unpack(f"{order}i", begun)[0]
    header = begun + file.read(size - 4)
    magic, place = HEADERS[size]
    if len(header) < size or header[place : place + len(magic)] != magic:
        raise damaged(path, "its header is no NIfTI header of a single file")
    if size == 348:
        axes, *shape = struct.unpack_from(f"{order}8h", header, 40)
        coded, bits = struct.unpack_from(f"{order}2h", header, 70)
        widths = struct.unpack_from(f"{order}8f", header, 76)
        start = struct.unpack_from(f"{order}f", header, 108)[0]
    else:
        coded, bits = struct.unpack_from(f"{order}2h", header, 12)
        axes, *shape = struct.unpack_from(f"{order}8q", header, 16)
        widths = struct.unpack_from(f"{order}8d", header, 104)
        start = struct.unpack_from(f"{order}q", header, 168)[0]
    if coded not in BITS or bits != BITS[coded]:
        raise damaged(path, f"its voxels have the type {coded} in {bits} bits, which is no type of grey values")
    if not 1 <= axes <= 7 or not all(1 <= side <= SIDE for side in shape[:axes]):
        raise damaged(path, f"its shape {shape} of {axes} axes is none")
    if not all(math.isfinite(width) and 0 < abs(width) < REACH for width in widths[1 : min(axes, 3) + 1]):
        raise damaged(path, f"its voxels are {widths[1:4]} mm wide")
    if not (math.isfinite(start) and size <= start < 1 << 30 and start == int(start)):
        raise damaged(path, f"its voxels are said to begin at byte {start}")
    file.read(int(start) - size)
    kind = order + FLOATS[coded] if coded in FLOATS else None
    return _Header(math.prod(shape[:axes]) * bits // 8, int(start), kind)
