"""NIfTI files written byte by byte, so that a test can have a header that no library would write."""

import gzip
import struct
from pathlib import Path

import numpy as np

TYPES = {"u1": 2, "i1": 256, "i2": 4, "u2": 512, "i4": 8, "u4": 768, "f4": 16, "f8": 64, "i8": 1024, "u8": 1280}
PLAIN = np.diag([0.9, 0.9, 3.0, 1.0])


def nifti_bytes(values, version=1, order="<", affine=PLAIN, codes=(0, 1), scale=(1.0, 0.0), qform=None):
    """Return a NIfTI file of a volume (z, y, x), its sform the affine; the qform is one of no turn, placed as it is."""
    size = 348 if version == 1 else 540
    real, whole = ("f", "h") if version == 1 else ("d", "q")
    header = bytearray(size + 4)
    struct.pack_into(f"{order}i", header, 0, size)
    widths = [1.0, *np.linalg.norm(affine[:3, :3], axis=0), 0, 0, 0, 0]
    dim = [values.ndim, *values.shape[::-1], *[1] * (7 - values.ndim)]
    places = [0, 0, 0, *(affine[:3, 3] if qform is None else qform), *affine[:3].ravel()]
    kind = np.dtype(values.dtype).str[1:]
    at = (
        {"dim": 40, "type": 70, "pixdim": 76, "start": 108, "scale": 112, "codes": 252, "places": 256, "magic": 344}
        if version == 1
        else {"dim": 16, "type": 12, "pixdim": 104, "start": 168, "scale": 176, "codes": 344, "places": 352, "magic": 4}
    )
    struct.pack_into(f"{order}8{whole}", header, at["dim"], *dim)
    struct.pack_into(f"{order}2h", header, at["type"], TYPES[kind], 8 * values.itemsize)
    struct.pack_into(f"{order}8{real}", header, at["pixdim"], *widths)
    struct.pack_into(f"{order}{'f' if version == 1 else 'q'}", header, at["start"], size + 4)
    struct.pack_into(f"{order}2{real}", header, at["scale"], *scale)
    struct.pack_into(f"{order}2{'h' if version == 1 else 'i'}", header, at["codes"], *codes)
    struct.pack_into(f"{order}18{real}", header, at["places"], *places)
    magic = b"n+1\0" if version == 1 else b"n+2\0\r\n\x1a\n"
    header[at["magic"] : at["magic"] + len(magic)] = magic
    return bytes(header) + values.astype(order + kind).tobytes()


def write_nifti(path, values, packed=False, **header):
    """Write a volume (z, y, x), compressed or not whatever the name says."""
    content = nifti_bytes(values, **header)
    Path(path).write_bytes(gzip.compress(content) if packed else content)
    return Path(path)
