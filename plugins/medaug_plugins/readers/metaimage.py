"""MetaImage, whole (.mha) or with its data beside it (.mhd). https://itk.org/Wiki/ITK/MetaIO/Documentation"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np

from medaug_cli.plugin import BadInput, Capabilities, StoredImage
from medaug_plugins.readers.nrrd import beside
from medaug_plugins.readers.volumes import as_text, damaged, inflated, read_voxels, with_header_of_itk

LINES = 500  # of a header
PLACED = (
    ("ElementSpacing", "ElementSize"), ("TransformMatrix", "Rotation", "Orientation"), ("Offset", "Position", "Origin"),
)  # fmt: skip
KINDS = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # type of voxel -> NumPy's name  # fmt: skip


@dataclass
class MetaImage:
    """Volumes in MetaImage files."""

    capabilities: ClassVar[Capabilities] = Capabilities(dims=(3,), channels=(1,))
    suffixes: ClassVar[tuple[str, ...]] = (".mha", ".mhd")

    def read(self, files: Sequence[Path]) -> StoredImage:
        """Return the volume; raise BadInput where the file is not whole."""
        path = files[0]
        with path.open("rb") as file:
            fields = _fields(path, file)
            data = fields["ElementDataFile"]
            if data.upper() == "LOCAL":
                return with_header_of_itk(path, *_voxels(path, fields, file))
        with beside(path, data).open("rb") as file:
            return with_header_of_itk(path, *_voxels(path, fields, file))


def _fields(path: Path, file: BinaryIO) -> dict[str, str]:
    """Read a header up to its last field, ElementDataFile."""
    fields: dict[str, str] = {}
    for _ in range(LINES):
        line = file.readline(4096)
        name, equals, value = as_text(line).partition("=")
        if not equals or name.strip() in fields:
            raise damaged(path, f"its header has the line {line[:40]!r}")
        fields[name.strip()] = value.strip()
        if name.strip() == "ElementDataFile":
            return fields
    raise damaged(path, "its header does not end")


def _true(fields: dict[str, str], name: str) -> bool:
    return fields.get(name, "False").lower() in ("true", "1", "t")


def _voxels(path: Path, fields: dict[str, str], file: BinaryIO) -> tuple[bytearray, np.dtype]:
    """Return the bytes of all voxels and their type; raise BadInput unless the header is understood in full."""
    kind = KINDS.get(fields.get("ElementType", ""))
    try:
        sides = [int(text) for text in fields.get("DimSize", "").split()]
        axes = int(fields.get("NDims", ""))
        channels, skipped = (int(fields.get(name, what)) for name, what in (
            ("ElementNumberOfChannels", "1"), ("HeaderSize", "0")
        ))  # fmt: skip
    except ValueError as error:
        raise damaged(path, error) from error
    if kind is None or not sides or min(sides) < 1 or axes != len(sides) or channels < 1:
        raise damaged(path, f"its voxels are {fields.get('ElementType')!r} of the size {sides}")
    missing = [names[0] for names in PLACED if not set(names) & set(fields)]
    if missing:
        raise damaged(path, f"it does not say how its voxels lie ({', '.join(missing)})")
    if skipped or not _true(fields | {"BinaryData": fields.get("BinaryData", "True")}, "BinaryData"):
        raise BadInput(f"{path} has text for voxels, or bytes before them, which is not supported; rewrite it")
    order = ">" if _true(fields, "BinaryDataByteOrderMSB") or _true(fields, "ElementByteOrderMSB") else "<"
    packed = _true(fields, "CompressedData")
    content: BinaryIO = file
    if packed:
        content = io.BytesIO(file.read())
        size = fields.get("CompressedDataSize")
        if size != str(len(content.getbuffer())):  # type: ignore[attr-defined]
            raise damaged(path, f"it holds {len(content.getbuffer())} bytes where its header says {size}")  # type: ignore[attr-defined]
    stored = np.dtype(order + kind)
    wanted = math.prod(sides) * stored.itemsize * channels
    return read_voxels(path, inflated(content, "zlib" if packed else "raw"), wanted), stored
