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

import numpy as np

from medaug_cli.plugin import Capabilities, StoredImage
from medaug_plugins.readers.volumes import check_voxels, damaged, inflated, read_itk

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
    slope, shift = struct.unpack_from(f"{order}2{'f' if size == 348 else 'd'}", header, 112 if size == 348 else 176)
    if not (math.isfinite(slope) and math.isfinite(shift) and (slope == 0 or 1e-12 < abs(slope) < 1e12)):
        raise damaged(path, f"its values are to be multiplied by {slope} and shifted by {shift}")
    _check_places(path, order, size, header, np.array(widths))
    file.read(int(start) - size)
    kind = order + FLOATS[coded] if coded in FLOATS else None
    return _Header(math.prod(shape[:axes]) * bits // 8, int(start), kind)


def _check_places(path: Path, order: str, size: int, header: bytes, widths: np.ndarray) -> None:
    """Raise BadInput where qform and sform, which place voxels in the same space, contradict each other."""
    if size == 348:
        codes = struct.unpack_from(f"{order}2h", header, 252)
        numbers = np.array(struct.unpack_from(f"{order}18f", header, 256))
    else:
        codes = struct.unpack_from(f"{order}2i", header, 344)
        numbers = np.array(struct.unpack_from(f"{order}18d", header, 352))
    if codes[0] != codes[1] or codes[0] < 1:
        return
    b, c, d = numbers[:3]
    a = math.sqrt(max(0.0, 1 - b * b - c * c - d * d)) if np.isfinite(numbers[:3]).all() else math.nan
    turned = np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ])  # fmt: skip
    turned = turned * widths[1:4] * [1, 1, -1 if widths[0] < 0 else 1]
    rows = numbers[6:].reshape(3, 4)
    near = 0.01 * float(np.abs(widths[1:4]).max())
    same = np.abs(rows[:, :3] - turned).max() <= near and np.abs(rows[:, 3] - numbers[3:6]).max() <= 10 * near
    if not same:
        raise damaged(path, "its two ways to place its voxels, qform and sform, contradict each other")
