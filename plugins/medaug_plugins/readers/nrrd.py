"""NRRD, whole or with its data beside it. https://teem.sourceforge.net/nrrd/format.html"""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np

from medaug_cli.plugin import BadInput, Capabilities, StoredImage
from medaug_plugins.readers.volumes import as_text, damaged, inflated, read_voxels, with_header_of_itk

LINES = 500  # of a header
TYPES = {
    "i1": "signed char|int8|int8_t",
    "u1": "uchar|unsigned char|uint8|uint8_t",
    "i2": "short|short int|signed short|signed short int|int16|int16_t",
    "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "i4": "int|signed int|int32|int32_t",
    "u4": "uint|unsigned int|uint32|uint32_t",
    "i8": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
    "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "f4": "float",
    "f8": "double",
}  # NumPy's name -> NRRD's
KINDS = {name: kind for kind, names in TYPES.items() for name in names.split("|")}
WORDS = """dimension|type|block size|blocksize|encoding|endian|content|old min|oldmin|old max|oldmax|min|max|
    data file|datafile|line skip|lineskip|byte skip|byteskip|number|sample units|sampleunits|space|space dimension|
    space units|space origin|space directions|measurement frame|sizes|spacings|thicknesses|axis mins|axismins|axis maxs|
    axismaxs|centers|centerings|labels|units|kinds"""
FIELDS = {word.strip() for word in WORDS.split("|")}
ENCODINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}


@dataclass
class Nrrd:
    """Volumes in NRRD files."""

    capabilities: ClassVar[Capabilities] = Capabilities(dims=(3,), channels=(1,))
    suffixes: ClassVar[tuple[str, ...]] = (".nrrd", ".nhdr")

    def read(self, files: Sequence[Path]) -> StoredImage:
        """Return the volume; raise BadInput where the file is not whole."""
        path = files[0]
        with path.open("rb") as file:
            fields = _fields(path, file)
            data = fields.get("data file", fields.get("datafile"))
            if data is None:
                return with_header_of_itk(path, *_voxels(path, fields, file))
        with beside(path, data).open("rb") as file:
            voxels, kind = _voxels(path, fields, file)
        with tempfile.TemporaryDirectory() as folder:  # ITK would look for the data, by a name that it may misread
            alone = Path(folder) / "header.nrrd"
            alone.write_bytes(_alone(path.read_bytes()))
            return with_header_of_itk(path, voxels, kind, alone)


def _alone(header: bytes) -> bytes:
    """Return a header that does not say where its data are, as if they followed."""
    lines = header.replace(b"\r\n", b"\n").split(b"\n\n")[0].split(b"\n")
    return b"\n".join(line for line in lines if not line.lower().startswith((b"data file:", b"datafile:"))) + b"\n\n"


def beside(path: Path, name: str) -> Path:
    """Return a data file in a header's own folder; raise BadInput where it is not one file there."""
    data = path.parent / name
    if Path(name).name != name or not data.is_file():
        raise BadInput(f"{path} has its voxels in {name!r}, which is not a single file beside it")
    return data


def _fields(path: Path, file: BinaryIO) -> dict[str, str]:
    """Read a header up to its empty line: field -> value."""
    if not file.readline(16).startswith(b"NRRD000"):
        raise damaged(path, "it is not an NRRD file")
    fields: dict[str, str] = {}
    for _ in range(LINES):
        line = file.readline(4096)
        if line in (b"\n", b"\r\n"):
            return fields
        if not line:
            if {"data file", "datafile"} & set(fields):
                return fields
            break
        name, colon, value = as_text(line).partition(":")
        if line.startswith(b"#") or value.startswith("="):  # a comment, or a note of key and value
            continue
        if not colon or name.strip().lower() in fields or name.strip().lower() not in FIELDS:
            raise damaged(path, f"its header has the line {line[:40]!r}")
        fields[name.strip().lower()] = value.strip()
    raise damaged(path, "its header does not end")


def _voxels(path: Path, fields: dict[str, str], file: BinaryIO) -> tuple[bytearray, np.dtype]:
    """Return the bytes of all voxels and their type; raise BadInput unless the header is understood in full."""
    encoding = ENCODINGS.get(fields.get("encoding", "").lower())
    if encoding is None:
        raise BadInput(f"{path} is encoded as {fields.get('encoding')!r}; raw and gzip are read")
    if any(fields.get(name, "0") != "0" for name in ("line skip", "lineskip", "byte skip", "byteskip")):
        raise BadInput(f"{path} skips lines or bytes before its voxels, which is not supported; rewrite it")
    kind = KINDS.get(fields.get("type", "").lower())
    try:
        sides = [int(text) for text in fields.get("sizes", "").split()]
        axes = int(fields.get("dimension", ""))
    except ValueError as error:
        raise damaged(path, error) from error
    if kind is None or not sides or min(sides) < 1 or axes != len(sides):
        raise damaged(path, f"its voxels are {fields.get('type')!r} of the sizes {sides}")
    order = "<" if fields.get("endian", "little").lower() == "little" else ">"
    stored = np.dtype(order + kind)
    if stored.itemsize > 1 and fields.get("endian", "").lower() not in ("little", "big"):
        raise damaged(path, "it does not say in which order the bytes of a voxel are (endian)")
    return read_voxels(path, inflated(file, encoding), math.prod(sides) * stored.itemsize), stored
