"""TIFF and PNG files written byte by byte, in forms that Pillow and ITK do not write."""

import struct
import zlib

import numpy as np

LETTERS = {1: "u", 2: "i", 3: "f"}  # TIFF's sample format -> NumPy's


def tiff_bytes(values, bits, form=1, white=1, order="<", packed=False, rows=3, predictor=1):
    """Return a grey TIFF of values (h, w): sample format 1 unsigned, 2 signed, 3 float; white 0: white is zero."""
    h, w = values.shape
    if predictor == 2:
        values = np.diff(values.astype(np.int64), axis=1, prepend=0) % (1 << bits)
    lines = [_line(row, bits, form, order) for row in values]
    strips = [b"".join(lines[i : i + rows]) for i in range(0, h, rows)]
    strips = [zlib.compress(strip) for strip in strips] if packed else strips
    starts = np.cumsum([8, *map(len, strips)]).tolist()
    end = starts.pop()
    end += end % 2
    tags = [
        (256, "I", [w]), (257, "I", [h]), (258, "H", [bits]), (259, "H", [8 if packed else 1]), (262, "H", [white]),
        (273, "I", starts), (277, "H", [1]), (278, "I", [rows]), (279, "I", [len(strip) for strip in strips]),
        (317, "H", [predictor]), (339, "H", [form]),
    ]  # fmt: skip
    directory, more = struct.pack(f"{order}H", len(tags)), b""
    for tag, kind, own in tags:
        raw = struct.pack(f"{order}{len(own)}{kind}", *own)
        if len(raw) > 4:
            place, more = end + 6 + 12 * len(tags) + len(more), more + raw
            raw = struct.pack(f"{order}I", place)
        directory += struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[kind], len(own)) + raw.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", end)
    return (head + b"".join(strips)).ljust(end, b"\0") + directory + bytes(4) + more


def _line(row, bits, form, order):
    if bits in (8, 16, 32, 64):
        return row.astype(f"{order}{LETTERS[form]}{bits // 8}").tobytes()
    single = (row.astype(np.int64)[:, None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(single.astype(np.uint8).ravel()).tobytes()


def grey_alpha_png(values, alpha=65535, step=0):
    """Return a PNG of values (h, w) in 16 bits with alpha; `step` 1 stores differences to the pixel at the left."""
    pairs = np.stack([values, np.full_like(values, alpha)], -1).astype(">u2")
    rows = pairs.view(np.uint8).reshape(len(values), -1)
    if step:
        rows = rows - np.pad(rows, ((0, 0), (4, 0)))[:, :-4]  # modulo 256, a pixel is four bytes
    raw = b"".join(bytes([step]) + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 4, 0, 0, 0)
    parts = (b"IHDR", head), (b"tEXt", b"Software\0test"), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )
